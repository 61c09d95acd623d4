//! Fields and resources that contradict the rules, themselves or each other.

use super::{Row, advertisement, documents, named, network, peer, peer_named, secret};

pub(crate) fn network_and_node() -> Vec<Row> {
    vec![
        (
            "a reserved ASN",
            network("asn: 23456"),
            &[
                "5: NetworkConfig/default spec.asn: 23456 is reserved; use another AS number, such as 64512 to 65534 for private use",
            ],
        ),
        (
            "ASN 0",
            network("asn: 0"),
            &[
                "5: NetworkConfig/default spec.asn: 0 is reserved; use another AS number, such as 64512 to 65534 for private use",
            ],
        ),
        (
            "an ASN too large",
            network("asn: 4294967296"),
            &[
                r#"5: NetworkConfig/default spec.asn: 4294967296 is no AS number; use 1 to 4294967294, or dotted as "65000.1""#,
            ],
        ),
        (
            "an ASN with a fraction",
            network("asn: 65000.10"),
            &[
                r#"5: NetworkConfig/default spec.asn: 65000.10 is read as a decimal fraction; write "65000.10" in quotes"#,
            ],
        ),
        (
            "a bad dotted ASN",
            network(r#"asn: "65000.70000""#),
            &[
                r#"5: NetworkConfig/default spec.asn: 65000.70000 is no AS number; use 1 to 4294967294, or dotted as "65000.1""#,
            ],
        ),
        (
            "two NetworkConfigs",
            documents(&[&network("asn: 65000"), &network("asn: 65001")]),
            &[
                "9: NetworkConfig/default metadata.name: a NetworkConfig named default is given twice; rename or remove one (first in fabric.yaml:3)",
            ],
        ),
        (
            "a NetworkConfig with another name",
            named("NetworkConfig", "cluster", "asn: 65000"),
            &[
                "3: NetworkConfig/cluster metadata.name: cluster is not allowed; a cluster has one NetworkConfig, named default",
            ],
        ),
        (
            "router id 0.0.0.0",
            network("routerID: 0.0.0.0"),
            &[
                "5: NetworkConfig/default spec.routerID: 0.0.0.0 is not allowed; use a dotted quad other than 0.0.0.0",
            ],
        ),
        (
            "an IPv6 router id",
            network(r#"routerID: "2001:db8::1""#),
            &[
                "5: NetworkConfig/default spec.routerID: 2001:db8::1 is not allowed; use a dotted quad other than 0.0.0.0",
            ],
        ),
        (
            "a bad listen address",
            network("listen: {addresses: [10.0.0.1/24, 10.0.0.1, 10.0.0.1]}"),
            &[
                "5: NetworkConfig/default spec.listen.addresses[0]: 10.0.0.1/24 is no address; leave out the prefix length",
                "5: NetworkConfig/default spec.listen.addresses[2]: 10.0.0.1 is given twice; remove one",
            ],
        ),
        (
            "the kernel's own table",
            network("install: {table: 255}"),
            &[
                "5: NetworkConfig/default spec.install.table: 255 is not allowed; use main or a number from 1 to 4294967295, but not 255",
            ],
        ),
        (
            "a table by another name",
            network("install: {table: local}"),
            &[
                "5: NetworkConfig/default spec.install.table: local is not allowed; use main or a number from 1 to 4294967295, but not 255",
            ],
        ),
        (
            "the route protocol of BIRD",
            network("install: {protocol: 12}"),
            &[
                "5: NetworkConfig/default spec.install.protocol: 12 is not allowed: 12 is BIRD's, whose routes we would remove; use 199 or another pair of free numbers",
            ],
        ),
        (
            "the route protocol before FRR's",
            network("install: {protocol: 185}"),
            &[
                "5: NetworkConfig/default spec.install.protocol: 185 is not allowed: 186 is FRR's, whose routes we would remove; use 199 or another pair of free numbers",
            ],
        ),
        (
            "an AS number for all beside one for each",
            network("asn: 65000\nasnMode: PerNode"),
            &[
                "5: NetworkConfig/default spec.asn: is for all nodes, and asnMode PerNode gives each its own; remove one of both",
            ],
        ),
        (
            "node addresses",
            named(
                "NodeNetwork",
                "node-2",
                "asn: 65535\nrouterID: node\naddresses: [224.0.0.1, \"::ffff:10.0.0.1\"]",
            ),
            &[
                "5: NodeNetwork/node-2 spec.asn: 65535 is reserved; use another AS number, such as 64512 to 65534 for private use",
                "6: NodeNetwork/node-2 spec.routerID: node is not allowed; use a dotted quad other than 0.0.0.0",
                "7: NodeNetwork/node-2 spec.addresses[0]: 224.0.0.1 is not allowed; use the address of one host",
                "7: NodeNetwork/node-2 spec.addresses[1]: ::ffff:10.0.0.1 is not allowed; write 10.0.0.1",
            ],
        ),
        (
            "pod blocks that cannot be",
            named(
                "NodeNetwork",
                "node-2",
                "podCIDRs: [10.42.0.1/24, 10.42.1.0, 169.254.0.0/24, 0.0.0.0/0, \"2000::/3\"]",
            ),
            &[
                "5: NodeNetwork/node-2 spec.podCIDRs[0]: 10.42.0.1/24 has bits set behind its length; write 10.42.0.0/24",
                "5: NodeNetwork/node-2 spec.podCIDRs[1]: 10.42.1.0 has no prefix length; write 10.42.1.0/32",
                "5: NodeNetwork/node-2 spec.podCIDRs[2]: 169.254.0.0/24 is not allowed; 169.254.0.0/16 is never routed between hosts",
                "5: NodeNetwork/node-2 spec.podCIDRs[3]: 0.0.0.0/0 is too large for the pods of one node; use a /8 or longer",
                "5: NodeNetwork/node-2 spec.podCIDRs[4]: 2000::/3 is too large for the pods of one node; use a /8 or longer",
            ],
        ),
        (
            "pod blocks that two nodes share, and one twice",
            documents(&[
                &named("NodeNetwork", "node-1", "podCIDRs: [10.42.0.0/24, \"fd00:42::/64\", 10.42.0.0/26]"),
                &named("NodeNetwork", "node-2", "podCIDRs: [10.42.0.128/25]"),
            ]),
            &[
                "5: NodeNetwork/node-1 spec.podCIDRs[2]: 10.42.0.0/26 overlaps 10.42.0.0/24; give each node blocks of its own",
                "11: NodeNetwork/node-2 spec.podCIDRs[0]: 10.42.0.128/25 overlaps 10.42.0.0/24; give each node blocks of its own (first in fabric.yaml:5)",
            ],
        ),
    ]
}

pub(crate) fn peers() -> Vec<Row> {
    vec![
        (
            "no neighbour",
            named("BGPPeer", "tor", "remoteASN: 65000"),
            &[
                "4: BGPPeer/tor spec.neighbor: is missing; give neighbor: {address: ADDRESS} or {listen: {ranges: [PREFIX]}}",
            ],
        ),
        (
            "no remoteASN",
            named("BGPPeer", "tor", "neighbor: {address: 10.0.1.1}"),
            &["4: BGPPeer/tor spec.remoteASN: is missing; give a number, external, internal or any"],
        ),
        (
            "an empty neighbour",
            named("BGPPeer", "tor", "neighbor: {}\nremoteASN: 65000"),
            &["5: BGPPeer/tor spec.neighbor: names no neighbour; give address, listen or nodes"],
        ),
        (
            "two ways to the neighbour",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {address: 10.0.1.1, listen: {ranges: [10.0.0.0/16]}}\nremoteASN: 65000",
            ),
            &["5: BGPPeer/tor spec.neighbor: address and listen are both given; keep one"],
        ),
        (
            "three ways to the neighbour",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {address: 10.0.1.1, listen: {ranges: [10.0.0.0/16]}, nodes: {}}\nremoteASN: 65000",
            ),
            &["5: BGPPeer/tor spec.neighbor: address and listen are both given; keep one"],
        ),
        (
            "an address and nodes",
            named("BGPPeer", "tor", "neighbor: {address: 10.0.1.1, nodes: {}}\nremoteASN: 65000"),
            &["5: BGPPeer/tor spec.neighbor: address and nodes are both given; keep one"],
        ),
        (
            "ranges and nodes",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {listen: {ranges: [10.0.0.0/16]}, nodes: {}}\nremoteASN: 65000",
            ),
            &["5: BGPPeer/tor spec.neighbor: listen and nodes are both given; keep one"],
        ),
        (
            "topologies that come later, and one that does not",
            documents(&[
                &named("BGPPeer", "a", "neighbor: {nodes: {topology: Reflector}}"),
                &named("BGPPeer", "b", "neighbor: {nodes: {topology: Mash}}"),
            ]),
            &[
                "5: BGPPeer/a spec.neighbor.nodes.topology: Reflector is not implemented yet; use Mesh",
                "11: BGPPeer/b spec.neighbor.nodes.topology: Mash is not allowed; use Mesh",
            ],
        ),
        (
            "what is one node's, said of sessions between nodes",
            named(
                "BGPPeer",
                "mesh",
                "neighbor: {nodes: {}}\nsourceAddress: 10.0.0.1\nnextHop: Address\nnextHopAddress: 10.0.0.1\npassive: Always",
            ),
            &[
                "6: BGPPeer/mesh spec.sourceAddress: is one node's with neighbor.nodes, and every node would take it; use auto or remove it",
                "7: BGPPeer/mesh spec.nextHop: Address is one node's with neighbor.nodes, and every node would announce it; use Auto or Self",
                "9: BGPPeer/mesh spec.passive: is the same at both ends with neighbor.nodes, so nobody would answer; use Auto or remove it",
            ],
        ),
        (
            "a source interface of sessions between nodes",
            named("BGPPeer", "mesh", "neighbor: {nodes: {}}\nsourceInterface: lo"),
            &[
                "6: BGPPeer/mesh spec.sourceInterface: has no meaning with neighbor.nodes, where the nodes' addresses are the ends; remove it",
            ],
        ),
        (
            "two meshes that overlap in several nodes",
            documents(&[
                &named("NodeNetwork", "node-1", "addresses: [10.0.0.1]"),
                &named("NodeNetwork", "node-2", "addresses: [10.0.0.2]"),
                &named("NodeNetwork", "node-3", "addresses: [10.0.0.3]"),
                &named("BGPPeer", "one", "neighbor: {nodes: {}}"),
                &named(
                    "BGPPeer",
                    "two",
                    "neighbor: {nodes: {selector: {matchLabels: {kubernetes.io/hostname: node-1}}}}",
                ),
            ]),
            &[
                "29: BGPPeer/two spec.neighbor.nodes: 10.0.0.2 is the neighbour of BGPPeer/one too; keep one (first in fabric.yaml:23)",
            ],
        ),
        (
            "a neighbour that is a prefix",
            named("BGPPeer", "tor", "neighbor: {address: 10.0.1.1/24}\nremoteASN: 65000"),
            &["5: BGPPeer/tor spec.neighbor.address: 10.0.1.1/24 is no address; leave out the prefix length"],
        ),
        (
            "a neighbour by name",
            named("BGPPeer", "tor", "neighbor: {address: tor-1}\nremoteASN: 65000"),
            &["5: BGPPeer/tor spec.neighbor.address: tor-1 is no address; use an IPv4 or IPv6 address"],
        ),
        (
            "a link-local neighbour without interface",
            named("BGPPeer", "tor", "neighbor: {address: fe80::1}\nremoteASN: 65000"),
            &[
                "5: BGPPeer/tor spec.neighbor.address: fe80::1 is link-local; add its interface, as fe80::1%eth0",
            ],
        ),
        (
            "a zone on a global address",
            named("BGPPeer", "tor", "neighbor: {address: 2001:db8::1%eth0}\nremoteASN: 65000"),
            &["5: BGPPeer/tor spec.neighbor.address: 2001:db8::1 is not link-local; write it without %eth0"],
        ),
        (
            "a zone too long for an interface",
            named("BGPPeer", "tor", "neighbor: {address: fe80::1%a-name-much-too-long}\nremoteASN: 65000"),
            &[
                "5: BGPPeer/tor spec.neighbor.address: a-name-much-too-long is no interface name; use 1 to 15 octets without spaces, / and :",
            ],
        ),
        (
            "listen ranges that overlap, with a port",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {listen: {ranges: [10.0.0.0/16, 10.0.1.0/24, 10.1.0.1/24]}, port: 179}\nremoteASN: 65000",
            ),
            &[
                "5: BGPPeer/tor spec.neighbor.listen.ranges[1]: 10.0.1.0/24 overlaps 10.0.0.0/16; keep the larger one",
                "5: BGPPeer/tor spec.neighbor.listen.ranges[2]: 10.1.0.1/24 has bits set behind its length; write 10.1.0.0/24",
                "5: BGPPeer/tor spec.neighbor.port: has no meaning with listen, where the neighbour connects; remove it",
            ],
        ),
        (
            "empty listen ranges",
            named("BGPPeer", "tor", "neighbor: {listen: {ranges: []}}\nremoteASN: 65000"),
            &[
                "5: BGPPeer/tor spec.neighbor.listen.ranges: an empty list is not allowed; give at least one entry",
            ],
        ),
        (
            "a remoteASN with a typo",
            named("BGPPeer", "tor", "neighbor: {address: 10.0.1.1}\nremoteASN: exernal"),
            &["6: BGPPeer/tor spec.remoteASN: exernal is not allowed; did you mean external?"],
        ),
        (
            "a remoteASN that is a word",
            named("BGPPeer", "tor", "neighbor: {address: 10.0.1.1}\nremoteASN: theirs"),
            &[
                "6: BGPPeer/tor spec.remoteASN: theirs is not allowed; use a number, external, internal or any",
            ],
        ),
        (
            "a hold time of 2s",
            peer("timers: {hold: 2s}"),
            &["7: BGPPeer/tor spec.timers.hold: 2s is not allowed; use 0s (off) or at least 3s"],
        ),
        (
            "a hold time beyond 16 bits",
            peer("timers: {hold: 20h}"),
            &["7: BGPPeer/tor spec.timers.hold: 20h is not allowed; use 0s (off), or 3s to 65535s"],
        ),
        (
            "a hold time of part of a second",
            peer("timers: {hold: 90s500ms}"),
            &["7: BGPPeer/tor spec.timers.hold: 90s500ms is not allowed; use whole seconds"],
        ),
        (
            "intervals that are none",
            peer(
                "timers: {hold: 90 s, keepalive: 5s1h, connectRetry: fast, idleHoldMax: 99999999999999999999s}",
            ),
            &[
                "7: BGPPeer/tor spec.timers.hold: 90 s is no interval; write numbers with h, m, s such as 90s or 1h30m",
                "7: BGPPeer/tor spec.timers.keepalive: 5s1h is no interval; write numbers with h, m, s such as 90s or 1h30m",
                "7: BGPPeer/tor spec.timers.connectRetry: fast is no interval; write numbers with h, m, s such as 90s or 1h30m",
                "7: BGPPeer/tor spec.timers.idleHoldMax: 99999999999999999999s is no interval; write numbers with h, m, s such as 90s or 1h30m",
            ],
        ),
        (
            "a keepalive above a third of hold",
            peer("timers: {hold: 9s, keepalive: 4s}"),
            &["7: BGPPeer/tor spec.timers.keepalive: 4s is more than a third of hold, 9s; use at most 3s"],
        ),
        (
            "a keepalive without hold",
            peer("timers: {hold: 0s, keepalive: 30s}"),
            &[
                "7: BGPPeer/tor spec.timers.keepalive: 30s is not allowed with hold 0s, which turns it off; use 0s or remove it",
            ],
        ),
        (
            "a keepalive of 0s with hold",
            peer("timers: {keepalive: 0s}"),
            &[
                "7: BGPPeer/tor spec.timers.keepalive: 0s is not allowed; use 1s to 30s, or hold: 0s to turn both off",
            ],
        ),
        (
            "retry timers out of range",
            peer("timers: {connectRetry: 0s, idleHoldMax: 2h}"),
            &[
                "7: BGPPeer/tor spec.timers.connectRetry: 0s is not allowed; use 1s to 1h",
                "7: BGPPeer/tor spec.timers.idleHoldMax: 2h is not allowed; use 1s to 1h",
            ],
        ),
        (
            "multihop with GTSM",
            peer("ttl: {multihop: 2, security: 1}"),
            &["7: BGPPeer/tor spec.ttl: multihop and security are both given; keep one"],
        ),
        (
            "multihop to a link-local neighbour",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {address: fe80::1%eth0}\nremoteASN: 65000\nttl: {multihop: 2}",
            ),
            &[
                "7: BGPPeer/tor spec.ttl.multihop: 2 is not allowed: a link-local neighbour is one hop away; remove it",
            ],
        ),
        (
            "an empty ttl",
            peer("ttl: {}"),
            &["7: BGPPeer/tor spec.ttl: is empty; give multihop or security, or remove it"],
        ),
        (
            "multihop 0",
            peer("ttl: {multihop: 0}"),
            &["7: BGPPeer/tor spec.ttl.multihop: 0 is not allowed; use 1 to 255"],
        ),
        (
            "a restart time beyond 12 bits",
            peer("gracefulRestart: {mode: Off, restartTime: 4096s, stalePathTime: 2h}"),
            &[
                "7: BGPPeer/tor spec.gracefulRestart.mode: Off is not allowed; use Auto, Helper, Restarter, Disabled",
                "7: BGPPeer/tor spec.gracefulRestart.restartTime: 4096s is not allowed; use 1s to 4095s",
                "7: BGPPeer/tor spec.gracefulRestart.stalePathTime: 2h is not allowed; use 1s to 1h",
            ],
        ),
        (
            "families",
            peer(
                "families:\n- {afi: ipv4, safi: multicast}\n- {afi: ipv6}\n- {afi: ipv6, safi: unicast, extendedNextHop: Enabled}\n- {afi: ipv6, safi: unicast}\n- {afi: ipv4, safi: unicast, maxPrefix: {limit: 0, warnAt: 101, action: Restar}}",
            ),
            &[
                "8: BGPPeer/tor spec.families[0].safi: multicast is not allowed; use unicast",
                "9: BGPPeer/tor spec.families[1].safi: is missing; use unicast",
                "10: BGPPeer/tor spec.families[2]: ipv6-unicast is given twice; keep one",
                "10: BGPPeer/tor spec.families[2].extendedNextHop: Enabled is for afi ipv4 only (RFC 8950); use Auto or remove it",
                "11: BGPPeer/tor spec.families[3]: ipv6-unicast is given twice; keep one",
                "12: BGPPeer/tor spec.families[4].maxPrefix.limit: 0 is not allowed; use 1 to 4294967295",
                "12: BGPPeer/tor spec.families[4].maxPrefix.warnAt: 101 is not allowed; use 1 to 100",
                "12: BGPPeer/tor spec.families[4].maxPrefix.action: Restar is not allowed; did you mean Restart? Known: Warn, Block, Restart, Down",
            ],
        ),
        (
            "nextHop without its address",
            peer("nextHop: Address"),
            &["7: BGPPeer/tor spec.nextHop: Address needs an address; give nextHopAddress"],
        ),
        (
            "nextHopAddress without nextHop",
            peer("nextHopAddress: 10.0.0.9"),
            &[
                "7: BGPPeer/tor spec.nextHopAddress: is used only with nextHop: Address; add that, or remove this",
            ],
        ),
        (
            "two sources",
            peer("sourceAddress: 10.0.0.1\nsourceInterface: lo"),
            &["8: BGPPeer/tor spec.sourceInterface: is given beside sourceAddress; keep one"],
        ),
        (
            "a source of the other family",
            peer("sourceAddress: 2001:db8::1"),
            &[
                "7: BGPPeer/tor spec.sourceAddress: 2001:db8::1 is IPv6, the neighbour is not; use an address of its family",
            ],
        ),
        (
            "a source that is no word",
            peer("sourceAddress: lo"),
            &["7: BGPPeer/tor spec.sourceAddress: lo is not allowed; use auto, kernel or an address"],
        ),
        (
            "an interface name too long",
            peer("bindInterface: ethernet-uplink-0"),
            &[
                "7: BGPPeer/tor spec.bindInterface: ethernet-uplink-0 is no interface name; use 1 to 15 octets without spaces, / and :",
            ],
        ),
        (
            "Never with listen",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {listen: {ranges: [10.0.0.0/16]}}\nremoteASN: 65000\npassive: Never",
            ),
            &["7: BGPPeer/tor spec.passive: Never is not allowed with neighbor.listen; use Auto"],
        ),
        (
            "listen on a node that does not",
            documents(&[
                &network("listen: {port: 0}"),
                &peer("passive: Always"),
                &named("BGPPeer", "leaves", "neighbor: {listen: {ranges: [10.0.0.0/16]}}\nremoteASN: 65000"),
            ]),
            &[
                "13: BGPPeer/tor spec.passive: waits for connections, but NetworkConfig's listen.port is 0; give it a port",
                "19: BGPPeer/leaves spec.neighbor.listen: waits for connections, but NetworkConfig's listen.port is 0; give it a port",
            ],
        ),
        (
            "the node's own address as neighbour",
            documents(&[&named("NodeNetwork", "node-1", "addresses: [10.0.1.1]"), &peer("")]),
            &[
                "11: BGPPeer/tor spec.neighbor.address: 10.0.1.1 is this node's own; leave the node out with nodeSelector",
            ],
        ),
        (
            "a pause reason too long",
            peer(
                "paused: true\npauseReason: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            ),
            &["8: BGPPeer/tor spec.pauseReason: 256 octets are too many; RFC 9003 carries at most 255"],
        ),
        (
            "the same neighbour twice",
            documents(&[&peer(""), &peer_named("tor-2", "")]),
            &[
                "12: BGPPeer/tor-2 spec.neighbor.address: 10.0.1.1 is the neighbour of BGPPeer/tor too; keep one (first in fabric.yaml:5)",
            ],
        ),
        (
            "the same name twice",
            documents(&[
                &peer(""),
                &named("BGPPeer", "tor", "neighbor: {address: 10.0.1.2}\nremoteASN: 65000"),
            ]),
            &[
                "10: BGPPeer/tor metadata.name: a BGPPeer named tor is given twice; rename or remove one (first in fabric.yaml:3)",
            ],
        ),
        (
            "listen ranges of two peers that overlap",
            documents(&[
                &named("BGPPeer", "tor", "neighbor: {listen: {ranges: [10.0.0.0/16]}}\nremoteASN: 65000"),
                &named(
                    "BGPPeer",
                    "other",
                    "neighbor: {listen: {ranges: [10.1.0.0/16, 10.0.1.0/24]}}\nremoteASN: 65000",
                ),
            ]),
            &[
                "12: BGPPeer/other spec.neighbor.listen.ranges[1]: 10.0.1.0/24 overlaps 10.0.0.0/16 of BGPPeer/tor; make them apart (first in fabric.yaml:5)",
            ],
        ),
        (
            "selector requirements",
            peer(
                "nodeSelector:\n  matchExpressions:\n  - {key: rack, operator: In}\n  - {key: rack, operator: Exists, values: [a]}\n  - {key: rack, operator: Near}\n  - {operator: Exists}",
            ),
            &[
                "9: BGPPeer/tor spec.nodeSelector.matchExpressions[0]: In needs values; give at least one",
                "10: BGPPeer/tor spec.nodeSelector.matchExpressions[1]: Exists takes no values; remove them",
                "11: BGPPeer/tor spec.nodeSelector.matchExpressions[2].operator: Near is not allowed; use In, NotIn, Exists, DoesNotExist",
                "12: BGPPeer/tor spec.nodeSelector.matchExpressions[3].key: is missing; give a value",
            ],
        ),
    ]
}

pub(crate) fn secrets() -> Vec<Row> {
    vec![
        (
            "a secret that is not there",
            peer("auth: {md5SecretRef: {name: bgp}}"),
            &[
                "7: BGPPeer/tor spec.auth.md5SecretRef.name: there is no Secret bgp in namespace towpath-system; add it beside this resource",
            ],
        ),
        (
            "a secret in another namespace",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp}}"),
                &secret("{name: bgp, namespace: default}", "stringData: {password: s3cret}"),
            ]),
            &[
                "7: BGPPeer/tor spec.auth.md5SecretRef.name: there is no Secret bgp in namespace towpath-system; one is in default: name that",
            ],
        ),
        (
            "a secret without the key",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp, key: tor}}"),
                &secret("{name: bgp}", "stringData: {password: s3cret}"),
            ]),
            &["7: BGPPeer/tor spec.auth.md5SecretRef.key: Secret bgp has no key tor; it has password"],
        ),
        (
            "a secret without keys",
            documents(&[&peer("auth: {md5SecretRef: {name: bgp}}"), &secret("{name: bgp}", "type: Opaque")]),
            &["7: BGPPeer/tor spec.auth.md5SecretRef.key: Secret bgp has no key password; it has none"],
        ),
        (
            "an empty password",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp}}"),
                &secret("{name: bgp}", r#"stringData: {password: ""}"#),
            ]),
            &[
                "7: BGPPeer/tor spec.auth.md5SecretRef.key: password of Secret bgp is empty; give 1 to 80 octets",
            ],
        ),
        (
            "a password with a line break",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp}}"),
                &secret("{name: bgp}", "data: {password: czNjcmV0Cg==}"),
            ]),
            &[
                "7: BGPPeer/tor spec.auth.md5SecretRef.key: password of Secret bgp ends with a line break, which would be part of the password; remove it (printf instead of echo)",
            ],
        ),
        (
            "a password too long",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp}}"),
                &secret(
                    "{name: bgp}",
                    "stringData: {password: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}",
                ),
            ]),
            &[
                "7: BGPPeer/tor spec.auth.md5SecretRef.key: password of Secret bgp is too long for TCP MD5; give at most 80 octets",
            ],
        ),
        (
            "a password that is no base64",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp}}"),
                &secret("{name: bgp}", "data: {password: s3cret!}"),
            ]),
            &["12: Secret/bgp data.password: is not base64; encode it, or put the text under stringData"],
        ),
        (
            "a password that is a number",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp}}"),
                &secret("{name: bgp}", "stringData: {password: 12345}"),
            ]),
            &["12: Secret/bgp stringData.password: it is a number; write it in quotes"],
        ),
        (
            "a password that is a list",
            documents(&[
                &peer("auth: {md5SecretRef: {name: bgp}}"),
                &secret("{name: bgp}", "stringData: {password: [s3cret], other: {a: s3cret}}"),
            ]),
            &[
                "12: Secret/bgp stringData.password: a list is not allowed; give text",
                "12: Secret/bgp stringData.other: a map is not allowed; give text",
            ],
        ),
        (
            "a reference without name",
            peer("auth: {md5SecretRef: {key: password}}"),
            &["7: BGPPeer/tor spec.auth.md5SecretRef.name: is missing; give a value"],
        ),
    ]
}

pub(crate) fn advertisements_and_pools() -> Vec<Row> {
    vec![
        (
            "no source",
            advertisement("all: true"),
            &[
                "4: Advertisement/adv spec.source: is missing; give source: {static: {cidrs: [PREFIX]}}, {interfaces: {names: [NAME]}} or {podBlocks: {}}",
            ],
        ),
        (
            "an empty source",
            advertisement("source: {}"),
            &["5: Advertisement/adv spec.source: names no source; give static, interfaces or podBlocks"],
        ),
        (
            "two sources of prefixes",
            advertisement("source: {static: {cidrs: [10.1.0.0/24]}, interfaces: {names: [lo]}}"),
            &[
                "5: Advertisement/adv spec.source: static and interfaces are given together; make an Advertisement of each",
            ],
        ),
        (
            "a pod block that is a static prefix too",
            documents(&[
                &named("NodeNetwork", "node-1", "podCIDRs: [10.42.1.0/24]"),
                &advertisement("source: {static: {cidrs: [10.42.1.0/24]}}"),
                &named("Advertisement", "blocks", "source: {podBlocks: {}}"),
            ]),
            &[
                "17: Advertisement/blocks spec.source.podBlocks: 10.42.1.0/24 is originated on this node twice; keep one (first in fabric.yaml:11)",
            ],
        ),
        (
            "something in podBlocks",
            advertisement("source: {podBlocks: {cidrs: [10.42.1.0/24]}}"),
            &[
                "5: Advertisement/adv spec.source.podBlocks.cidrs: unknown field; nothing is to be written here: remove it",
            ],
        ),
        (
            "bits behind the prefix length",
            advertisement("source: {static: {cidrs: [10.1.0.1/24, 2001:db8::1/32]}}"),
            &[
                "5: Advertisement/adv spec.source.static.cidrs[0]: 10.1.0.1/24 has bits set behind its length; write 10.1.0.0/24",
                "5: Advertisement/adv spec.source.static.cidrs[1]: 2001:db8::1/32 has bits set behind its length; write 2001:db8::/32",
            ],
        ),
        (
            "prefixes that are none",
            advertisement("source: {static: {cidrs: [10.1.0.1, 10.1.0.0/33, pods, 2001:db8::1]}}"),
            &[
                "5: Advertisement/adv spec.source.static.cidrs[0]: 10.1.0.1 has no prefix length; write 10.1.0.1/32",
                "5: Advertisement/adv spec.source.static.cidrs[1]: 10.1.0.0/33 is no prefix; use ADDRESS/LENGTH",
                "5: Advertisement/adv spec.source.static.cidrs[2]: pods is no prefix; use ADDRESS/LENGTH",
                "5: Advertisement/adv spec.source.static.cidrs[3]: 2001:db8::1 has no prefix length; write 2001:db8::1/128",
            ],
        ),
        (
            "prefixes that are never routed",
            advertisement("source: {static: {cidrs: [127.0.0.0/8, 224.0.0.0/4, fe80::/64, 169.254.1.0/24]}}"),
            &[
                "5: Advertisement/adv spec.source.static.cidrs[0]: 127.0.0.0/8 is not allowed; 127.0.0.0/8 is never routed between hosts",
                "5: Advertisement/adv spec.source.static.cidrs[1]: 224.0.0.0/4 is not allowed; 224.0.0.0/3 is never routed between hosts",
                "5: Advertisement/adv spec.source.static.cidrs[2]: fe80::/64 is not allowed; fe80::/10 is never routed between hosts",
                "5: Advertisement/adv spec.source.static.cidrs[3]: 169.254.1.0/24 is not allowed; 169.254.0.0/16 is never routed between hosts",
            ],
        ),
        (
            "no prefixes",
            advertisement("source: {static: {cidrs: []}}"),
            &[
                "5: Advertisement/adv spec.source.static.cidrs: an empty list is not allowed; give at least one entry",
            ],
        ),
        (
            "a prefix twice",
            documents(&[
                &advertisement("source: {static: {cidrs: [10.1.0.0/24]}}"),
                &named("Advertisement", "again", "source: {static: {cidrs: [10.2.0.0/24, 10.1.0.0/24]}}"),
            ]),
            &[
                "11: Advertisement/again spec.source.static.cidrs[1]: 10.1.0.0/24 is originated on this node twice; keep one (first in fabric.yaml:5)",
            ],
        ),
        (
            "an unknown peer",
            documents(&[
                &advertisement("source: {static: {cidrs: [10.1.0.0/24]}}\npeers: [tro, spine]"),
                &peer(""),
            ]),
            &[
                "6: Advertisement/adv spec.peers[0]: there is no BGPPeer tro; did you mean tor?",
                "6: Advertisement/adv spec.peers[1]: there is no BGPPeer spine; name a BGPPeer that is given",
            ],
        ),
        (
            "all and peers",
            documents(&[
                &advertisement("source: {static: {cidrs: [10.1.0.0/24]}}\nall: true\npeers: [tor]"),
                &peer(""),
            ]),
            &["6: Advertisement/adv spec.all: is given beside peers; keep one"],
        ),
        (
            "no peers",
            advertisement("source: {static: {cidrs: [10.1.0.0/24]}}\npeers: []"),
            &["6: Advertisement/adv spec.peers: an empty list is not allowed; give at least one entry"],
        ),
        (
            "communities that are none",
            advertisement(
                "source: {static: {cidrs: [10.1.0.0/24]}}\nattributes: {communities: [\"65536:1\", no-exprot, \"1:2:3\", \"-1:2\"], largeCommunities: [\"1:2\", \"1:2:4294967296\"], prepend: {count: 0}}",
            ),
            &[
                r#"6: Advertisement/adv spec.attributes.communities[0]: 65536:1 is no community; use "0:0" to "65535:65535" or a name such as no-export"#,
                "6: Advertisement/adv spec.attributes.communities[1]: no-exprot is no community; did you mean no-export?",
                "6: Advertisement/adv spec.attributes.communities[2]: 1:2:3 is a large community; put it under largeCommunities",
                r#"6: Advertisement/adv spec.attributes.communities[3]: -1:2 is no community; use "0:0" to "65535:65535" or a name such as no-export"#,
                r#"6: Advertisement/adv spec.attributes.largeCommunities[0]: 1:2 is no large community; use three numbers up to 4294967295, "65001:1:100""#,
                r#"6: Advertisement/adv spec.attributes.largeCommunities[1]: 1:2:4294967296 is no large community; use three numbers up to 4294967295, "65001:1:100""#,
                "6: Advertisement/adv spec.attributes.prepend.count: 0 is not allowed; use 1 to 20",
            ],
        ),
        (
            "a prepend by another AS",
            advertisement(
                "source: {static: {cidrs: [10.1.0.0/24]}}\nattributes: {prepend: {asn: 65001, count: 2}, linkBandwidth: 10}",
            ),
            &[
                "6: Advertisement/adv spec.attributes.prepend.asn: is not implemented yet; remove it",
                "6: Advertisement/adv spec.attributes.linkBandwidth: is not implemented yet; remove it",
            ],
        ),
        (
            "a pool without ranges",
            named("IPPool", "pods", "cidrs: []"),
            &["5: IPPool/pods spec.cidrs: an empty list is not allowed; give at least one entry"],
        ),
        (
            "ranges that overlap",
            documents(&[
                &named("IPPool", "pods", "cidrs: [10.42.0.0/16]"),
                &named("IPPool", "more", "cidrs: [10.42.8.0/24, 0.0.0.0/0, 10.43.0.1/16]"),
            ]),
            &[
                "11: IPPool/more spec.cidrs[0]: 10.42.8.0/24 overlaps 10.42.0.0/16; keep one (first in fabric.yaml:5)",
                "11: IPPool/more spec.cidrs[1]: 0.0.0.0/0 is not allowed; a pool is not the whole Internet",
                "11: IPPool/more spec.cidrs[2]: 10.43.0.1/16 has bits set behind its length; write 10.43.0.0/16",
            ],
        ),
    ]
}
