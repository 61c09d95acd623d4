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

const EVERY_FIELD: &str = r#"
apiVersion: towpath.io/v1alpha1
kind: NetworkConfig
metadata: {name: default}
spec:
  asn: "65000.1"
  asnMode: Cluster
  routerID: 192.0.2.1
  transit: true
  listen: {port: 1179, addresses: [0.0.0.0, "2001:db8::1"]}
  install: {metric: 30, table: 100, maxPaths: 16, protocol: 210, advertiseAfterInstall: false}
  logLevel: Debug
---
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: {name: node-1}
spec:
  asn: 65010
  routerID: 192.0.2.2
  addresses: ["2001:db8::10", 10.0.0.10]
  podCIDRs: ["2001:db8:42:1::/64", 10.42.1.0/24]
  labels: {rack: a, "zone": "1"}
---
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: {name: node-2}
spec: {asn: 65020, labels: {rack: b}}
---
apiVersion: towpath.io/v1alpha1
kind: IPPool
metadata: {name: pods}
spec: {cidrs: ["2001:db8:42::/48", 10.42.0.0/16]}
---
apiVersion: v1
kind: Secret
metadata: {name: bgp, namespace: keys}
type: Opaque
data: {tor: czNjcmV0}
---
apiVersion: towpath.io/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec:
  nodeSelector:
    matchLabels: {rack: a}
    matchExpressions:
    - {key: rack, operator: In, values: [a, c]}
    - {key: gpu, operator: DoesNotExist}
    - {key: kubernetes.io/hostname, operator: Exists}
    - {key: zone, operator: NotIn, values: ["2"]}
  neighbor: {address: fe80::1%eth0, port: 1790}
  remoteASN: external
  localASN: 65011
  sourceAddress: fe80::2
  bindInterface: eth0
  auth: {md5SecretRef: {name: bgp, key: tor, namespace: keys}}
  timers: {hold: 9s, keepalive: 2s, connectRetry: 1s, idleHoldMax: 1m30s}
  ttl: {security: 1}
  passive: Always
  gracefulRestart: {mode: Restarter, restartTime: 1h, stalePathTime: 10m}
  families:
  - {afi: ipv6, safi: unicast, extendedNextHop: Auto}
  - {afi: ipv4, safi: unicast, extendedNextHop: Disabled, maxPrefix: {limit: 10, warnAt: 90, action: Block}}
  nextHop: Address
  nextHopAddress: 2001:db8::9
  allowLocalAS: 1
  enforceFirstAS: false
  paused: true
  pauseReason: moving racks
---
apiVersion: towpath.io/v1alpha1
kind: BGPPeer
metadata: {name: mesh}
spec:
  neighbor: {nodes: {selector: {matchLabels: {rack: b}}, topology: Mesh}}
---
apiVersion: towpath.io/v1alpha1
kind: Advertisement
metadata: {name: vips}
spec:
  source: {static: {cidrs: [0.0.0.0/0, 10.9.0.0/24], requireRoute: true}}
  peers: [tor]
  nodeSelector: {}
  attributes:
    communities: [no-export, "65001:100"]
    largeCommunities: ["65001:1:100"]
    localPref: 200
    med: 5
    prepend: {count: 2}
---
apiVersion: towpath.io/v1alpha1
kind: Advertisement
metadata: {name: loopback}
spec:
  source: {interfaces: {names: [lo]}}
  all: true
---
apiVersion: towpath.io/v1alpha1
kind: Advertisement
metadata: {name: blocks}
spec:
  source: {podBlocks: {}}
  all: false
"#;

#[test]
fn every_field_reaches_the_desired_state() {
    let state = built(EVERY_FIELD);
    let tor = Peer {
        name: "tor".into(),
        neighbor: Neighbor::Address { address: "fe80::1".parse().unwrap(), interface: Some("eth0".into()) },
        port: 1790,
        local_asn: 65011,
        remote_asn: RemoteAsn::External,
        source: Source::Address("fe80::2".parse().unwrap()),
        bind_interface: Some("eth0".into()),
        md5: Some(Secret::new("s3cret")),
        timers: Timers {
            hold: Duration::from_secs(9),
            keepalive: Duration::from_secs(2),
            connect_retry: Duration::from_secs(1),
            idle_hold_max: Duration::from_secs(90),
        },
        ttl: Ttl::Security(1),
        passive: Passive::Always,
        graceful_restart: GracefulRestart {
            mode: RestartMode::Restarter,
            restart_time: Duration::from_secs(3600),
            stale_path_time: Duration::from_secs(600),
        },
        families: vec![
            default_family(AfiSafi::Ipv6Unicast),
            Family {
                afi_safi: AfiSafi::Ipv4Unicast,
                extended_next_hop: false,
                max_prefix: MaxPrefix { limit: 10, warn_at: 90, action: MaxPrefixAction::Block },
            },
        ],
        next_hop: NextHopMode::Address("2001:db8::9".parse().unwrap()),
        allow_local_as: 1,
        enforce_first_as: false,
        paused: Some("moving racks".into()),
    };
    let expected = DesiredState {
        node: Node {
            name: "node-1".into(),
            asn: 65010,
            router_id: "192.0.2.2".parse().unwrap(),
            addresses: vec!["2001:db8::10".parse().unwrap(), "10.0.0.10".parse().unwrap()],
            pod_blocks: vec!["10.42.1.0/24".parse().unwrap(), "2001:db8:42:1::/64".parse().unwrap()],
        },
        transit: true,
        listen: Some(Listen {
            port: 1179,
            addresses: vec!["0.0.0.0".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        }),
        install: Install {
            metric: 30,
            table: 100,
            max_paths: 16,
            protocol: 210,
            local_protocol: 211,
            advertise_after_install: false,
        },
        log_level: Some(LogLevel::Debug),
        peers: vec![tor],
        advertisements: vec![
            Advertisement {
                name: "blocks".into(),
                source: AdvertisementSource::PodBlocks,
                peers: Some(Vec::new()),
                attributes: Attributes::default(),
            },
            Advertisement {
                name: "loopback".into(),
                source: AdvertisementSource::Interfaces { names: vec!["lo".into()] },
                peers: None,
                attributes: Attributes::default(),
            },
            Advertisement {
                name: "vips".into(),
                source: AdvertisementSource::Static {
                    cidrs: vec!["0.0.0.0/0".parse().unwrap(), "10.9.0.0/24".parse().unwrap()],
                    require_route: true,
                },
                peers: Some(vec!["tor".into()]),
                attributes: Attributes {
                    communities: vec![65001 << 16 | 100, 0xFFFF_FF01],
                    large_communities: vec![(65001, 1, 100)],
                    local_pref: Some(200),
                    med: Some(5),
                    prepend: 2,
                },
            },
        ],
        notes: vec![],
        pod_ranges: vec!["10.42.0.0/16".parse().unwrap(), "2001:db8:42::/48".parse().unwrap()],
    };
    assert_eq!(state, expected);
}

#[test]
fn every_field_of_the_schemas_is_in_that_document() {
    fn fields(schema: &serde_json::Value, found: &mut Vec<String>) {
        for (name, inner) in
            schema.get("properties").and_then(|known| known.as_object()).into_iter().flatten()
        {
            found.push(name.clone());
            fields(inner, found);
        }
        if let Some(items) = schema.get("items") {
            fields(items, found);
        }
    }
    for definition in api::crd::definitions() {
        let mut found = Vec::new();
        fields(
            definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap(),
            &mut found,
        );
        for field in found {
            // Each is one of two ways; the other one is in the document, and these have tests of their own.
            let other_way =
                ["listen", "ranges", "max", "sourceInterface", "multihop"].contains(&field.as_str());
            assert!(other_way || EVERY_FIELD.contains(&format!("{field}:")), "{field} is not in EVERY_FIELD");
        }
    }
}

#[test]
fn a_node_gets_only_what_selects_it() {
    let other = built_for(EVERY_FIELD, "node-2");
    assert_eq!(other.node.asn, 65020);
    assert_eq!(other.node.router_id, Ipv4Addr::new(192, 0, 2, 1), "NetworkConfig's");
    assert!(other.peers.is_empty());
    assert_eq!(built_for(EVERY_FIELD, "node-3").node.asn, 65000 << 16 | 1);
}

#[test]
fn the_router_id_comes_from_the_nearest_word() {
    let node = |spec: &str| {
        format!(
            "apiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {{name: node-1}}\nspec: {spec}\n"
        )
    };
    let id = |text: &str| built(text).node.router_id;
    assert_eq!(id(&node("{routerID: 192.0.2.7, addresses: [10.0.0.7]}")), Ipv4Addr::new(192, 0, 2, 7));
    assert_eq!(id(&node("{addresses: ['2001:db8::7', 10.0.0.7]}")), Ipv4Addr::new(10, 0, 0, 7));
    // The hash of a name must never change: peers know nodes by it.
    assert_eq!(id(&node("{addresses: ['2001:db8::7']}")), Ipv4Addr::new(84, 196, 51, 131));
    assert_ne!(built_for("", "node-1").node.router_id, built_for("", "node-2").node.router_id);
}

/// What one more line in a peer's spec makes of it.
fn peer_with(line: &str) -> Peer {
    built(&format!("{PEER}  {line}\n")).peers.remove(0)
}

#[test]
fn words_and_short_forms_mean_what_they_say() {
    let remote = |written: &str| {
        built(&PEER.replace("remoteASN: 65000", &format!("remoteASN: {written}"))).peers[0].remote_asn
    };
    assert_eq!(remote("internal"), RemoteAsn::Internal);
    assert_eq!(remote("any"), RemoteAsn::Any);
    assert_eq!(remote("\"65000\""), RemoteAsn::Number(65000));
    assert_eq!(remote("\"1.0\""), RemoteAsn::Number(65536));
    assert_eq!(peer_with("sourceAddress: auto").source, Source::Kernel);
    assert_eq!(peer_with("sourceAddress: kernel").source, Source::Kernel);
    assert_eq!(peer_with("sourceAddress: 10.0.1.9").source, Source::Address("10.0.1.9".parse().unwrap()));
    assert_eq!(peer_with("sourceInterface: lo").source, Source::Interface("lo".into()));
    assert_eq!(peer_with("ttl: {multihop: 255}").ttl, Ttl::Multihop(255));
    assert_eq!(peer_with("nextHop: Self").next_hop, NextHopMode::SelfAddress);
    assert_eq!(peer_with("nextHop: Keep").next_hop, NextHopMode::Keep);
    assert_eq!(peer_with("passive: Never").passive, Passive::Never);
    assert_eq!(peer_with("paused: true").paused.as_deref(), Some(""));
    assert_eq!(peer_with("pauseReason: not now").paused, None);
    assert_eq!(peer_with("nodeSelector:").name, "tor");
}

#[test]
fn intervals_add_up_and_off_is_zero() {
    let hold = |written: &str| peer_with(&format!("timers: {{hold: {written}}}")).timers;
    assert_eq!(hold("0s").hold, Duration::ZERO);
    assert_eq!(hold("0s").keepalive, Duration::ZERO);
    assert_eq!(hold("3s").keepalive, Duration::from_secs(1));
    assert_eq!(hold("1h30m").hold, Duration::from_secs(5400));
    assert_eq!(hold("90000ms").hold, Duration::from_secs(90));
    assert_eq!(hold("18h12m15s").hold, Duration::from_secs(65535));
}

#[test]
fn families_default_to_those_of_the_neighbour() {
    let families = |neighbor: &str| {
        let peer = built(&PEER.replace("{address: 10.0.1.1}", neighbor)).peers.remove(0);
        peer.families.into_iter().map(|family| family.afi_safi).collect::<Vec<_>>()
    };
    assert_eq!(families("{address: 10.0.1.1}"), [AfiSafi::Ipv4Unicast]);
    assert_eq!(families("{address: '2001:db8::1'}"), [AfiSafi::Ipv6Unicast]);
    assert_eq!(families("{listen: {ranges: ['2001:db8::/64']}}"), [AfiSafi::Ipv6Unicast]);
    assert_eq!(
        families("{listen: {ranges: ['2001:db8::/64', 10.0.0.0/24]}}"),
        [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast]
    );
}

#[test]
fn a_range_waits_for_its_neighbours() {
    let peer = built(&PEER.replace("{address: 10.0.1.1}", "{listen: {ranges: [10.0.0.0/16], max: 2}}"))
        .peers
        .remove(0);
    assert_eq!(peer.neighbor, Neighbor::Listen { ranges: vec!["10.0.0.0/16".parse().unwrap()], max: 2 });
    assert_eq!(peer.passive, Passive::Always);
}

#[test]
fn a_router_helps_announces_after_install_and_may_be_told_otherwise() {
    let network = |spec: &str| {
        format!(
            "apiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {{name: default}}\nspec: {spec}\n---\n{PEER}"
        )
    };
    let router = built(&network("{transit: true}"));
    assert!(router.transit && router.install.advertise_after_install);
    assert_eq!(router.peers[0].graceful_restart.mode, RestartMode::Helper);
    assert!(
        !built(&network("{transit: true, install: {advertiseAfterInstall: false}}"))
            .install
            .advertise_after_install
    );
    assert!(built(&network("{install: {advertiseAfterInstall: true}}")).install.advertise_after_install);
    assert_eq!(built(&network("{listen: {port: 0}}")).listen, None);
    assert_eq!(built(&network("{install: {table: main}}")).install.table, 254);
}

#[test]
fn nobody_is_spelled_out() {
    let text = "apiVersion: towpath.io/v1alpha1\nkind: Advertisement\nmetadata: {name: a}\nspec:\n  source: {interfaces: {names: [lo]}}\n";
    assert_eq!(built(text).advertisements[0].peers, None);
    assert_eq!(built(&format!("{text}  all: false\n")).advertisements[0].peers, Some(vec![]));
}

#[test]
fn the_same_words_in_another_order_are_the_same_state() {
    let documents: Vec<&str> = EVERY_FIELD.split("---\n").collect();
    let reversed: Vec<&str> = documents.iter().rev().copied().collect();
    assert_eq!(built(EVERY_FIELD), built(&reversed.join("\n---\n")));
}

#[test]
fn a_change_of_one_peer_leaves_the_others_equal() {
    let second = PEER.replace("tor", "tor-2").replace("10.0.1.1", "10.0.1.2");
    let before = built(&format!("{PEER}---\n{second}"));
    let after = built(&format!("{PEER}---\n{second}  timers: {{hold: 9s}}\n"));
    assert_eq!(before.peers[0], after.peers[0]);
    assert_ne!(before.peers[1], after.peers[1]);
    assert_eq!((before.node, before.install, before.listen), (after.node, after.install, after.listen));
}

#[test]
fn a_password_is_never_shown() {
    let state = built(EVERY_FIELD);
    assert!(!format!("{state:?}").contains("s3cret"));
}

/// What is said of every node with pods, until there is masquerading.
const UNMASKED: &str = "there is no masquerading yet: pods reach what routes back to them";

#[test]
fn pod_blocks_that_others_will_not_reach_are_doubted() {
    let node = |more: &str| {
        let blocks = r#"podCIDRs: [10.42.1.0/24, "fd00:42:1::/64"]"#;
        let mut doubts = built(&format!(
            "{PEER}---\napiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {{name: node-1}}\nspec: {{{blocks}}}\n{more}"
        ))
        .doubts();
        assert_eq!(doubts.pop().as_deref(), Some(UNMASKED));
        doubts
    };
    let object = |kind: &str, spec: &str| {
        format!("---\napiVersion: towpath.io/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n")
    };
    assert_eq!(node(""), Vec::<String>::new(), "announced without a word");
    let blocks = object("Advertisement", "{source: {podBlocks: {}}}");
    assert_eq!(node(&blocks), Vec::<String>::new());
    let elsewhere = "{source: {podBlocks: {}}, nodeSelector: {matchLabels: {rack: b}}}";
    let silent = node(&object("Advertisement", elsewhere));
    assert_eq!(silent.len(), 2, "{silent:?}");
    assert!(silent.iter().all(|line| line.contains("announced to nobody")), "{silent:?}");
    let pool = node(&(blocks + &object("IPPool", "{cidrs: [10.42.0.0/16]}")));
    assert!(pool.len() == 1 && pool[0].contains("fd00:42:1::/64 is in no IPPool"), "{pool:?}");
}

#[test]
fn pod_blocks_are_announced_to_everybody_unless_an_advertisement_says_how() {
    let node = "apiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {name: node-1}\nspec: {podCIDRs: [10.42.1.0/24]}\n";
    let with = |spec: &str| {
        let metadata = "apiVersion: towpath.io/v1alpha1\nkind: Advertisement\nmetadata: {name: a}";
        built(&format!("{node}---\n{metadata}\nspec: {spec}\n")).advertisements
    };
    let implied = built(node).advertisements;
    assert_eq!(implied.len(), 1);
    assert_eq!((&implied[0].source, &implied[0].peers), (&AdvertisementSource::PodBlocks, &None));
    let beside = with("{source: {static: {cidrs: [192.0.2.1/32]}}}");
    assert_eq!(beside[0], implied[0], "one of another kind changes nothing, and stands behind it");
    assert_eq!(beside.len(), 2);
    let elsewhere = with("{source: {podBlocks: {}}, nodeSelector: {matchLabels: {rack: b}}}");
    assert_eq!(elsewhere, [], "one for other nodes is a word about all");
    assert_eq!(with("{source: {podBlocks: {}}, all: false}")[0].peers, Some(vec![]));
    assert_eq!(built(PEER).advertisements, [], "no blocks, nothing to announce");
}

#[test]
fn a_node_with_pods_and_no_session_says_so() {
    let node = "apiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {name: node-1}\nspec: {podCIDRs: [10.42.1.0/24]}\n";
    let alone = "no BGPPeer selects this node: its pods reach only pods of this node";
    assert_eq!(built(node).doubts(), [alone, UNMASKED]);
    assert_eq!(built(&format!("{node}---\n{PEER}")).doubts(), [UNMASKED]);
    assert_eq!(built("").doubts(), Vec::<String>::new(), "a router has no pods");
}

#[test]
fn each_node_has_an_as_number_of_its_own_when_asked() {
    let text = "apiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {name: default}\nspec: {asnMode: PerNode}\n";
    let asn = |node: &str| built_for(text, node).node.asn;
    assert_eq!(asn("node-1"), 4_212_858_243, "never another in a later release");
    assert_ne!(asn("node-1"), asn("node-2"));
    let own = format!(
        "{text}---\napiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {{name: node-1}}\nspec: {{asn: 65001}}\n"
    );
    assert_eq!(built(&own).node.asn, 65001);
}
