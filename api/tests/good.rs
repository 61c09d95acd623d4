//! Valid documents become the complete desired state: defaults filled in, this node's share only.

use std::net::Ipv4Addr;
use std::time::Duration;

use api::desired::*;
use api::{DesiredState, Documents};

fn built(text: &str) -> DesiredState {
    built_for(text, "node-1")
}

fn built_for(text: &str, node: &str) -> DesiredState {
    let mut documents = Documents::default();
    documents.add("fabric.yaml", text.as_bytes());
    documents.build(node).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

const PEER: &str = "apiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor}\nspec:\n  neighbor: {address: 10.0.1.1}\n  remoteASN: 65000\n";

fn default_family(afi_safi: AfiSafi) -> Family {
    let max_prefix = MaxPrefix { limit: 1_000_000, warn_at: 80, action: MaxPrefixAction::Restart };
    Family { afi_safi, extended_next_hop: afi_safi == AfiSafi::Ipv4Unicast, max_prefix }
}

#[test]
fn nothing_at_all_is_a_node_with_defaults() {
    let state = built("");
    assert_eq!(state.node.name, "node-1");
    assert_eq!(state.node.asn, 64512);
    assert_ne!(state.node.router_id, Ipv4Addr::UNSPECIFIED);
    assert_eq!(state.listen, Some(Listen { port: 179, addresses: vec![] }));
    assert_eq!(
        state.install,
        Install {
            metric: 20,
            table: 254,
            max_paths: 8,
            protocol: 199,
            local_protocol: 200,
            advertise_after_install: false
        }
    );
    assert!(
        !state.transit
            && state.peers.is_empty()
            && state.advertisements.is_empty()
            && state.pod_ranges.is_empty()
    );
}

#[test]
fn six_lines_make_a_session_with_every_default() {
    let state = built(PEER);
    assert_eq!(
        state.peers,
        [Peer {
            name: "tor".into(),
            neighbor: Neighbor::Address { address: "10.0.1.1".parse().unwrap(), interface: None },
            port: 179,
            local_asn: 64512,
            remote_asn: RemoteAsn::Number(65000),
            source: Source::Kernel,
            bind_interface: None,
            md5: None,
            timers: Timers {
                hold: Duration::from_secs(90),
                keepalive: Duration::from_secs(30),
                connect_retry: Duration::from_secs(5),
                idle_hold_max: Duration::from_secs(60),
            },
            ttl: Ttl::Multihop(1),
            passive: Passive::Auto,
            graceful_restart: GracefulRestart {
                mode: RestartMode::Restarter,
                restart_time: Duration::from_secs(120),
                stale_path_time: Duration::from_secs(360),
            },
            families: vec![default_family(AfiSafi::Ipv4Unicast)],
            next_hop: NextHopMode::Auto,
            allow_local_as: 0,
            enforce_first_as: true,
            paused: None,
        }]
    );
}
