//! What a route costs in memory (docs/adr/0006-data-layout.md). Alone in its process: it reads its own RSS.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Instant;

use api::desired::{AfiSafi, NextHopMode};
use bgp_speaker::rib::{Output, PeerId, PeerSession, PeerSettings, Rib, RibConfig, RibEvent};
use bgp_speaker::wire::{AttributesBuilder, Nexthop, Nlri, Reach, Update};
use ipnet::Ipv4Net;

const ROUTES: u32 = 500_000;
/// Prefixes per attribute set in an Internet table.
const PER_SET: u32 = 8;

fn resident_octets() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn session(number: u8) -> PeerSession {
    PeerSession {
        ebgp: true,
        local_asn: 65000,
        remote_asn: 65001 + u32::from(number),
        router_id: Ipv4Addr::new(192, 0, 2, number),
        local_address: IpAddr::from([10, 0, number, 1]),
        remote_address: IpAddr::from([10, 0, number, 2]),
        ifindex: Some(100),
        local_addresses: Vec::new(),
        families: vec![AfiSafi::Ipv4Unicast],
        extended_nexthop_v4: false,
        four_octet_as: true,
        max_message: 4096,
        enhanced_refresh: true,
    }
}

fn nets(set: u32) -> Vec<Ipv4Net> {
    let net = |number: u32| Ipv4Net::new(Ipv4Addr::from_bits(0x0b00_0000 + number * 256), 24).unwrap();
    (set * PER_SET..(set + 1) * PER_SET).map(net).collect()
}

/// As the router task does: hand in, take what the FIB and the peers are to be told, confirm.
fn pump(rib: &mut Rib, peers: &[PeerId]) {
    while let Some(event) = rib.next_event(4096) {
        if let RibEvent::Changes { seq, .. } = event {
            rib.installed(seq, &[]);
        }
    }
    for peer in peers {
        while rib.next_updates(*peer, 1024).is_some() {}
    }
}

/// glibc keeps more of what was freed the larger a freed block was, up to tens of megabytes. With fixed thresholds
/// the RSS shows what is in use, so the measurement runs in a child that has them from its start.
#[test]
fn a_route_costs_at_most_83_octets_and_gives_them_back() {
    const CHILD: &str = "TOWPATH_MEASURES_MEMORY";
    if std::env::var_os(CHILD).is_some() {
        return measure();
    }
    let name = "a_route_costs_at_most_83_octets_and_gives_them_back";
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    println!(
        "{}",
        text.lines().find(|line| line.contains("octets a route")).unwrap_or("nothing was measured")
    );
    assert!(child.status.success(), "{text}{}", String::from_utf8_lossy(&child.stderr));
}

fn measure() {
    let config = RibConfig {
        max_paths: 8,
        local_asn: 65000,
        router_id: Ipv4Addr::new(192, 0, 2, 100),
        advertise_after_install: true,
        transit: true,
        pod_ranges: Vec::new(),
        fib: true,
    };
    let mut rib = Rib::new(config);
    let peers: Vec<PeerId> = (0..2)
        .map(|number| {
            let settings = PeerSettings {
                name: format!("peer-{number}"),
                allow_local_as: 0,
                enforce_first_as: true,
                next_hop: NextHopMode::Auto,
                families: Vec::new(),
            };
            let peer = rib.add_peer(settings).unwrap();
            rib.peer_up(peer, session(number));
            peer
        })
        .collect();
    pump(&mut rib, &peers);
    let idle = resident_octets();
    let start = Instant::now();
    let nexthop = Nexthop { address: session(0).remote_address, link_local: None };
    for set in 0..ROUTES / PER_SET {
        let attributes = AttributesBuilder::default()
            .as_path(&[65001, 3356, 1299, 64000 + set % 999, 100_000 + set])
            .communities(&[set, 7, 9]);
        let update = Update {
            reach: vec![Reach { nexthop, nlri: Nlri::V4(nets(set)) }],
            attributes: Some(attributes.build().unwrap()),
            ..Update::default()
        };
        rib.apply(peers[0], update, &mut Output::default());
        if set % 64 == 0 {
            pump(&mut rib, &peers);
        }
    }
    pump(&mut rib, &peers);
    let loaded = start.elapsed();
    let full = resident_octets() - idle;
    assert_eq!(rib.sizes(), (500_000, 62_500, 1));
    for set in 0..ROUTES / PER_SET {
        let update = Update { unreach: vec![Nlri::V4(nets(set))], ..Update::default() };
        rib.apply(peers[0], update, &mut Output::default());
        if set % 64 == 0 {
            pump(&mut rib, &peers);
        }
    }
    pump(&mut rib, &peers);
    assert_eq!(rib.sizes(), (0, 0, 0));
    let withdrawn = start.elapsed() - loaded;
    bgp_speaker::memory::give_back(); // as the router task does
    let left = resident_octets().saturating_sub(idle);
    let (per_route, left_percent) = (full / u64::from(ROUTES), 100.0 * left as f64 / full as f64);
    println!(
        "{per_route} octets a route, {left_percent:.1} % left after withdrawing all; {} ns a route in, {} ns out",
        loaded.as_nanos() / u128::from(ROUTES),
        withdrawn.as_nanos() / u128::from(ROUTES)
    );
    assert!(per_route <= 83, "{per_route} octets a route");
    assert!(left < full * 3 / 10, "{left} of {full} octets are still held");
}
