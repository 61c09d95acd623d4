//! FRR: `frr.conf` and the `daemons` file.

use std::fmt::Write;

use super::{Neighbor, Router};

/// `/etc/frr/daemons`: zebra and bgpd.
pub fn daemons() -> String {
    "bgpd=yes\nvtysh_enable=yes\nzebra_options=\"-A 127.0.0.1 -s 90000000\"\nbgpd_options=\"-A 127.0.0.1\"\n"
        .to_owned()
}

pub(super) fn conf(router: &Router) -> String {
    let mut text = String::from("frr defaults datacenter\nlog stdout\nip forwarding\nipv6 forwarding\n");
    write_router(&mut text, router).expect("a String takes everything");
    text
}

fn write_router(text: &mut String, router: &Router) -> std::fmt::Result {
    // Not a command of the router: below it, it would end the section.
    if !router.kernel {
        writeln!(text, "bgp no-rib")?;
    }
    writeln!(text, "router bgp {}", router.local_as)?;
    writeln!(text, " bgp router-id {}", router.router_id)?;
    writeln!(text, " no bgp ebgp-requires-policy\n no bgp network import-check")?;
    writeln!(text, " no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax")?;
    if router.graceful_restart {
        writeln!(text, " bgp graceful-restart\n bgp graceful-restart preserve-fw-state")?;
    } else {
        writeln!(text, " bgp graceful-restart-disable")?;
    }
    for neighbor in &router.neighbors {
        write_neighbor(text, neighbor)?;
    }
    for (v6, family) in [(false, "ipv4"), (true, "ipv6")] {
        writeln!(text, " address-family {family} unicast")?;
        for network in router.networks(v6) {
            writeln!(text, "  network {network}")?;
        }
        for neighbor in router.neighbors.iter().filter(|n| if v6 { n.v6 } else { n.v4 }) {
            writeln!(text, "  neighbor {} activate", neighbor.address)?;
            if let Some(limit) = neighbor.max_prefixes {
                writeln!(text, "  neighbor {} maximum-prefix {limit}", neighbor.address)?;
            }
            if neighbor.community.is_some() {
                writeln!(text, "  neighbor {0} route-map to-{0} out", neighbor.address)?;
            }
        }
        writeln!(text, "  maximum-paths 8\n exit-address-family")?;
    }
    for neighbor in &router.neighbors {
        if let Some((high, low)) = neighbor.community {
            writeln!(
                text,
                "route-map to-{} permit 10\n set community {high}:{low} additive",
                neighbor.address
            )?;
        }
    }
    Ok(())
}

fn write_neighbor(text: &mut String, neighbor: &Neighbor) -> std::fmt::Result {
    let address = neighbor.address;
    writeln!(text, " neighbor {address} remote-as {}", neighbor.remote_as)?;
    // The program waits 10 s with this profile before it tries again; tests have no time for that.
    writeln!(text, " neighbor {address} timers connect {}", neighbor.connect_retry)?;
    if let Some((keepalive, hold)) = neighbor.timers {
        writeln!(text, " neighbor {address} timers {keepalive} {hold}")?;
    }
    if let Some(interface) = &neighbor.interface {
        writeln!(text, " neighbor {address} interface {interface}")?;
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, " neighbor {address} password {password}")?;
    }
    if neighbor.gtsm {
        writeln!(text, " neighbor {address} ttl-security hops 1")?;
    }
    if let Some(hops) = neighbor.multihop {
        writeln!(text, " neighbor {address} ebgp-multihop {hops}")?;
    }
    if neighbor.passive {
        writeln!(text, " neighbor {address} passive")?;
    }
    if let Some(source) = neighbor.source {
        writeln!(text, " neighbor {address} update-source {source}")?;
    }
    if neighbor.two_octet_as {
        writeln!(text, " neighbor {address} dont-capability-negotiate")?;
    }
    if address.is_ipv6() && neighbor.v4 {
        writeln!(text, " neighbor {address} capability extended-nexthop")?;
    }
    Ok(())
}
