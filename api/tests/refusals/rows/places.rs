//! The same rules in every place where they hold: one object each, as each place has a rule of its own in a CRD.

use super::{Row, advertisement, named, network, peer};

pub(crate) fn one_object() -> Vec<Row> {
    let mut rows = numbers_and_words();
    rows.extend(addresses());
    rows.extend(prefixes());
    rows.extend(intervals());
    rows
}

fn numbers_and_words() -> Vec<Row> {
    vec![
        (
            "AS numbers of a node and of a peer",
            named("NodeNetwork", "node-1", r#"asn: "1.65536""#),
            &[
                r#"5: NodeNetwork/node-1 spec.asn: 1.65536 is no AS number; use 1 to 4294967294, or dotted as "65000.1""#,
            ],
        ),
        (
            "a reserved AS number in dotted form, and one that is text",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {address: 10.0.1.1}\nremoteASN: \"65535.65535\"\nlocalASN: \"-1\"",
            ),
            &[
                "6: BGPPeer/tor spec.remoteASN: 4294967295 is reserved; use another AS number, such as 64512 to 65534 for private use",
                r#"7: BGPPeer/tor spec.localASN: -1 is no AS number; use 1 to 4294967294, or dotted as "65000.1""#,
            ],
        ),
        (
            "a remoteASN with too many digits, and a reserved localASN",
            named("BGPPeer", "tor", "neighbor: {address: 10.0.1.1}\nremoteASN: \"42949672960\"\nlocalASN: 0"),
            &[
                r#"6: BGPPeer/tor spec.remoteASN: 42949672960 is no AS number; use 1 to 4294967294, or dotted as "65000.1""#,
                "7: BGPPeer/tor spec.localASN: 0 is reserved; use another AS number, such as 64512 to 65534 for private use",
            ],
        ),
        (
            "a source by an interface that is none",
            peer("sourceInterface: \"a/b\""),
            &[
                "7: BGPPeer/tor spec.sourceInterface: a/b is no interface name; use 1 to 15 octets without spaces, / and :",
            ],
        ),
        (
            "interfaces to announce that are none",
            advertisement("source: {interfaces: {names: [lo, \"..\", \"e h\"]}}"),
            &[
                "5: Advertisement/adv spec.source.interfaces.names[1]: .. is no interface name; use 1 to 15 octets without spaces, / and :",
                "5: Advertisement/adv spec.source.interfaces.names[2]: e h is no interface name; use 1 to 15 octets without spaces, / and :",
            ],
        ),
        (
            "selector requirements of a peer, with nothing else wrong",
            peer(
                "nodeSelector:\n  matchExpressions:\n  - {key: rack, operator: In}\n  - {key: rack, operator: Exists, values: [a]}",
            ),
            &[
                "9: BGPPeer/tor spec.nodeSelector.matchExpressions[0]: In needs values; give at least one",
                "10: BGPPeer/tor spec.nodeSelector.matchExpressions[1]: Exists takes no values; remove them",
            ],
        ),
        (
            "IPv6 with IPv6 next hops by RFC 8950",
            peer("families:\n- {afi: ipv6, safi: unicast, extendedNextHop: Enabled}"),
            &[
                "8: BGPPeer/tor spec.families[0].extendedNextHop: Enabled is for afi ipv4 only (RFC 8950); use Auto or remove it",
            ],
        ),
        (
            "selector requirements of a mesh",
            named(
                "BGPPeer",
                "mesh",
                "neighbor:\n  nodes:\n    selector:\n      matchExpressions:\n      - {key: rack, operator: In, values: []}\n      - {key: rack, operator: Exists, values: [a]}",
            ),
            &[
                "9: BGPPeer/mesh spec.neighbor.nodes.selector.matchExpressions[0]: In needs values; give at least one",
                "10: BGPPeer/mesh spec.neighbor.nodes.selector.matchExpressions[1]: Exists takes no values; remove them",
            ],
        ),
        (
            "selector requirements of an Advertisement",
            advertisement(
                "source: {podBlocks: {}}\nnodeSelector:\n  matchExpressions:\n  - {key: rack, operator: NotIn}\n  - {key: rack, operator: DoesNotExist, values: [a]}",
            ),
            &[
                "8: Advertisement/adv spec.nodeSelector.matchExpressions[0]: NotIn needs values; give at least one",
                "9: Advertisement/adv spec.nodeSelector.matchExpressions[1]: DoesNotExist takes no values; remove them",
            ],
        ),
    ]
}

fn addresses() -> Vec<Row> {
    vec![
        (
            "addresses to listen on",
            network(
                "listen: {addresses: [\"::ffff:10.0.0.1\", 224.0.0.1, \"2001:db8::1\", \"2001:DB8::1\"]}",
            ),
            &[
                "5: NetworkConfig/default spec.listen.addresses[0]: ::ffff:10.0.0.1 is not allowed; write 10.0.0.1",
                "5: NetworkConfig/default spec.listen.addresses[1]: 224.0.0.1 is not allowed; use the address of one host",
                "5: NetworkConfig/default spec.listen.addresses[3]: 2001:db8::1 is given twice; remove one",
            ],
        ),
        (
            "addresses of a node",
            named("NodeNetwork", "node-1", "addresses: [node-1, \"fd00::1\", \"FD00::1\"]"),
            &[
                "5: NodeNetwork/node-1 spec.addresses[0]: node-1 is no address; use an IPv4 or IPv6 address",
                "5: NodeNetwork/node-1 spec.addresses[2]: fd00::1 is given twice; remove one",
            ],
        ),
        (
            "an IPv4 neighbour in IPv6 clothes",
            named("BGPPeer", "tor", "neighbor: {address: \"::ffff:10.0.1.1\"}\nremoteASN: 65000"),
            &["5: BGPPeer/tor spec.neighbor.address: ::ffff:10.0.1.1 is not allowed; write 10.0.1.1"],
        ),
        (
            "a multicast neighbour, with a next hop that is a prefix",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {address: \"ff02::1\"}\nremoteASN: 65000\nnextHop: Address\nnextHopAddress: 10.0.0.0/24",
            ),
            &[
                "5: BGPPeer/tor spec.neighbor.address: ff02::1 is not allowed; use the address of one host",
                "8: BGPPeer/tor spec.nextHopAddress: 10.0.0.0/24 is no address; leave out the prefix length",
            ],
        ),
        (
            "a next hop in IPv6 clothes, and a source of many hosts",
            peer("nextHop: Address\nnextHopAddress: \"::ffff:10.0.1.9\"\nsourceAddress: 255.255.255.255"),
            &[
                "8: BGPPeer/tor spec.nextHopAddress: ::ffff:10.0.1.9 is not allowed; write 10.0.1.9",
                "9: BGPPeer/tor spec.sourceAddress: 255.255.255.255 is not allowed; use the address of one host",
            ],
        ),
        (
            "the unspecified address as next hop, and a source in IPv6 clothes",
            peer("nextHop: Address\nnextHopAddress: \"::\"\nsourceAddress: \"::ffff:10.0.1.9\""),
            &[
                "8: BGPPeer/tor spec.nextHopAddress: :: is not allowed; use the address of one host",
                "9: BGPPeer/tor spec.sourceAddress: ::ffff:10.0.1.9 is not allowed; write 10.0.1.9",
            ],
        ),
        (
            "a source of the other family than the ranges",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {listen: {ranges: [\"2001:db8::/64\", 10.0.0.0/16]}}\nremoteASN: 65000\nsourceAddress: \"2001:db8::1\"",
            ),
            &[
                "7: BGPPeer/tor spec.sourceAddress: 2001:db8::1 is IPv6, the neighbour is not; use an address of its family",
            ],
        ),
        (
            "GTSM over more than a hop to a link-local neighbour",
            named(
                "BGPPeer",
                "tor",
                "neighbor: {address: \"fe80::1%eth0\"}\nremoteASN: 65000\nttl: {security: 2}",
            ),
            &[
                "7: BGPPeer/tor spec.ttl.security: 2 is not allowed: a link-local neighbour is one hop away; use 1",
            ],
        ),
    ]
}

fn prefixes() -> Vec<Row> {
    vec![
        (
            "ranges to listen on that are none",
            named("BGPPeer", "tor", "neighbor: {listen: {ranges: [10.0.0.1, rack]}}\nremoteASN: 65000"),
            &[
                "5: BGPPeer/tor spec.neighbor.listen.ranges[0]: 10.0.0.1 has no prefix length; write 10.0.0.1/32",
                "5: BGPPeer/tor spec.neighbor.listen.ranges[1]: rack is no prefix; use ADDRESS/LENGTH",
            ],
        ),
        (
            "ranges of a pool",
            named("IPPool", "pods", "cidrs: [\"fd00:42::\", 10.42.0.0/16, 10.42.8.0/24, \"::/0\"]"),
            &[
                "5: IPPool/pods spec.cidrs[0]: fd00:42:: has no prefix length; write fd00:42::/128",
                "5: IPPool/pods spec.cidrs[2]: 10.42.8.0/24 overlaps 10.42.0.0/16; keep one",
                "5: IPPool/pods spec.cidrs[3]: ::/0 is not allowed; a pool is not the whole Internet",
            ],
        ),
    ]
}

fn intervals() -> Vec<Row> {
    vec![
        (
            "intervals with parts of a second",
            peer("timers: {keepalive: 1500ms, connectRetry: 1s1ms, idleHoldMax: 60s60ms}"),
            &[
                "7: BGPPeer/tor spec.timers.keepalive: 1500ms is not allowed; use whole seconds",
                "7: BGPPeer/tor spec.timers.connectRetry: 1s1ms is not allowed; use whole seconds",
                "7: BGPPeer/tor spec.timers.idleHoldMax: 60s60ms is not allowed; use whole seconds",
            ],
        ),
        (
            "a keepalive beyond every hold",
            peer("timers: {keepalive: 22000s}"),
            &["7: BGPPeer/tor spec.timers.keepalive: 22000s is not allowed; use at most a third of hold"],
        ),
        (
            "times of Graceful Restart that are none",
            peer("gracefulRestart: {restartTime: \"-5s\", stalePathTime: 1.5h}"),
            &[
                "7: BGPPeer/tor spec.gracefulRestart.restartTime: -5s is no interval; write numbers with h, m, s such as 90s or 1h30m",
                "7: BGPPeer/tor spec.gracefulRestart.stalePathTime: 1.5h is no interval; write numbers with h, m, s such as 90s or 1h30m",
            ],
        ),
        (
            "times of Graceful Restart out of range, with nothing else wrong",
            peer("gracefulRestart: {restartTime: 4096s, stalePathTime: 2h}"),
            &[
                "7: BGPPeer/tor spec.gracefulRestart.restartTime: 4096s is not allowed; use 1s to 4095s",
                "7: BGPPeer/tor spec.gracefulRestart.stalePathTime: 2h is not allowed; use 1s to 1h",
            ],
        ),
        (
            "times of Graceful Restart with parts of a second",
            peer("gracefulRestart: {restartTime: 1ms, stalePathTime: 999ms}"),
            &[
                "7: BGPPeer/tor spec.gracefulRestart.restartTime: 1ms is not allowed; use whole seconds",
                "7: BGPPeer/tor spec.gracefulRestart.stalePathTime: 999ms is not allowed; use whole seconds",
            ],
        ),
    ]
}
