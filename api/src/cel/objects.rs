//! Rules between the fields of an object.

use serde_json::Value;

use super::values::{is_interval, is_link_local, without_zone};
use super::{Rule, text_of, validations};

/// NetworkConfig, whole: its name.
pub(crate) fn network_config() -> Value {
    validations([Rule::new(
        "self.metadata.name == 'default'",
        "is not allowed; a cluster has one NetworkConfig, named default",
    )
    .saying("self.metadata.name + ' is not allowed; a cluster has one NetworkConfig, named default'")
    .at(".metadata.name")])
}

/// NetworkConfig's spec.
pub(crate) fn network_config_spec() -> Value {
    validations([Rule::new(
        "!has(self.asn) || !has(self.asnMode) || self.asnMode != 'PerNode'",
        "is for all nodes, and asnMode PerNode gives each its own; remove one of both",
    )
    .at(".asn")
    .forbidden()])
}

/// BGPPeer's spec.
pub(crate) fn bgp_peer() -> Value {
    let neighbor = without_zone("self.neighbor.address");
    let link_local = format!("(has(self.neighbor.address) && {})", is_link_local(&neighbor));
    let source = "has(self.sourceAddress) && isIP(self.sourceAddress)";
    let other_family = format!(
        "{} + (ip(self.sourceAddress).family() == 4 ? ' is IPv4' : ' is IPv6') \
            + ', the neighbour is not; use an address of its family'",
        text_of("ip(self.sourceAddress)")
    );
    let one_hop = |field: &str, remedy: &str| {
        (
            format!("!{link_local} || !has(self.ttl) || !has(self.ttl.{field}) || self.ttl.{field} <= 1"),
            format!(
                "{} + ' is not allowed: a link-local neighbour is one hop away; {remedy}'",
                text_of(&format!("self.ttl.{field}"))
            ),
        )
    };
    let (multihop, multihop_says) = one_hop("multihop", "remove it");
    let (security, security_says) = one_hop("security", "use 1");
    validations([
        Rule::new(
            "!(has(self.sourceAddress) && has(self.sourceInterface))",
            "is given beside sourceAddress; keep one",
        )
        .at(".sourceInterface")
        .forbidden(),
        Rule::new(
            format!(
                "!({source}) || !has(self.neighbor.address) || !isIP({neighbor}) \
                    || ip({neighbor}).family() == ip(self.sourceAddress).family()"
            ),
            "must be of the neighbour's address family",
        )
        .saying(other_family.clone())
        .at(".sourceAddress"),
        Rule::new(
            format!(
                "!({source}) || !has(self.neighbor.listen) || self.neighbor.listen.ranges.all(range, \
                    !isCIDR(range) || cidr(range).ip().family() == ip(self.sourceAddress).family())"
            ),
            "must be of the address family of all ranges",
        )
        .saying(other_family.clone())
        .at(".sourceAddress"),
        Rule::new(multihop, "a link-local neighbour is one hop away; remove it")
            .saying(multihop_says)
            .at(".ttl.multihop"),
        Rule::new(security, "a link-local neighbour is one hop away; use 1")
            .saying(security_says)
            .at(".ttl.security"),
        Rule::new(
            "!has(self.neighbor.listen) || !has(self.passive) || self.passive != 'Never'",
            "Never is not allowed with neighbor.listen; use Auto",
        )
        .at(".passive"),
        Rule::new(
            "has(self.remoteASN) || has(self.neighbor.nodes)",
            "is missing; give a number, external, internal or any",
        )
        .at(".remoteASN")
        .required(),
        Rule::new(
            "!has(self.neighbor.nodes) || !has(self.sourceInterface)",
            "has no meaning with neighbor.nodes, where the nodes' addresses are the ends; remove it",
        )
        .at(".sourceInterface")
        .forbidden(),
        Rule::new(
            "!has(self.neighbor.nodes) || !has(self.sourceAddress) || self.sourceAddress in ['auto', 'kernel']",
            "is one node's with neighbor.nodes, and every node would take it; use auto or remove it",
        )
        .at(".sourceAddress"),
        Rule::new(
            "!has(self.neighbor.nodes) || !has(self.nextHop) || self.nextHop != 'Address'",
            "Address is one node's with neighbor.nodes, and every node would announce it; use Auto or Self",
        )
        .at(".nextHop"),
        Rule::new(
            "!has(self.neighbor.nodes) || !has(self.passive) || self.passive == 'Auto'",
            "is the same at both ends with neighbor.nodes, so nobody would answer; use Auto or remove it",
        )
        .at(".passive"),
        Rule::new(
            "!has(self.nextHop) || self.nextHop != 'Address' || has(self.nextHopAddress)",
            "Address needs an address; give nextHopAddress",
        )
        .at(".nextHop"),
        Rule::new(
            "!has(self.nextHopAddress) || has(self.nextHop) && self.nextHop == 'Address'",
            "is used only with nextHop: Address; add that, or remove this",
        )
        .at(".nextHopAddress")
        .forbidden(),
    ])
}

/// BGPPeer's neighbor: exactly one way to find it.
pub(crate) fn neighbor() -> Value {
    validations([
        Rule::new(
            "has(self.address) || has(self.listen) || has(self.nodes)",
            "names no neighbour; give address, listen or nodes",
        )
        .required(),
        Rule::new("!(has(self.address) && has(self.listen))", "address and listen are both given; keep one"),
        Rule::new(
            "!(has(self.address) && has(self.nodes)) || has(self.listen)",
            "address and nodes are both given; keep one",
        ),
        Rule::new(
            "!(has(self.listen) && has(self.nodes)) || has(self.address)",
            "listen and nodes are both given; keep one",
        ),
        Rule::new(
            "!(has(self.port) && has(self.listen))",
            "has no meaning with listen, where the neighbour connects; remove it",
        )
        .at(".port")
        .forbidden(),
    ])
}

/// A list of addresses, none of them twice in another spelling (the same text twice is what a set refuses).
pub(crate) fn once() -> Value {
    let again = "one != other && isIP(other) && ip(one) == ip(other)";
    validations([Rule::new(
        format!("self.all(one, !isIP(one) || !self.exists(other, {again}))"),
        "holds an address twice",
    )
    .saying(format!(
        "{} + ' is given twice; remove one'",
        text_of(&format!("ip(self.filter(one, isIP(one) && self.exists(other, {again}))[0])"))
    ))])
}

/// A list of prefixes of which none may contain another. `remedy`: `; keep one`.
pub(crate) fn apart(remedy: &str) -> Value {
    // One that is no range at all is refused by itself.
    let contains = "outer != inner && isCIDR(outer) && cidr(outer).prefixLength() > 0 && cidr(outer).containsCIDR(inner)";
    validations([Rule::new(
        format!("self.all(inner, !isCIDR(inner) || !self.exists(outer, {contains}))"),
        "holds a prefix that is inside another",
    )
    .saying(format!(
        "self.filter(inner, isCIDR(inner) && self.exists(outer, {contains}))\
            .map(inner, inner + ' overlaps ' + self.filter(outer, {contains})[0])[0] + '{remedy}'"
    ))])
}

/// BGPPeer's timers: keepalive against hold.
pub(crate) fn timers() -> Value {
    // Seconds of both, and whether there is anything to compare: what is wrong with one alone is said there.
    let hold = "(has(self.hold) ? duration(self.hold).getSeconds() : 90)";
    let keepalive = "duration(self.keepalive).getSeconds()";
    let both = format!(
        "has(self.keepalive) && {} && (!has(self.hold) || {} && !({hold} in [1, 2]))",
        is_interval("self.keepalive"),
        is_interval("self.hold"),
    );
    validations([
        Rule::new(
            format!("!({both}) || {hold} != 0 || {keepalive} == 0"),
            "must be 0s or absent with hold 0s, which turns it off",
        )
        .saying("self.keepalive + ' is not allowed with hold 0s, which turns it off; use 0s or remove it'")
        .at(".keepalive"),
        Rule::new(format!("!({both}) || {hold} == 0 || {keepalive} != 0"), "must not be 0s unless hold is")
            .saying(format!(
                "self.keepalive + ' is not allowed; use 1s to ' + {} + 's, or hold: 0s to turn both off'",
                text_of(&format!("{hold} / 3"))
            ))
            .at(".keepalive"),
        Rule::new(
            format!("!({both}) || {hold} == 0 || {keepalive} <= {hold} / 3"),
            "must be at most a third of hold",
        )
        .saying(format!(
            "self.keepalive + ' is more than a third of hold, ' + {} + 's; use at most ' + {} + 's'",
            text_of(hold),
            text_of(&format!("{hold} / 3"))
        ))
        .at(".keepalive"),
    ])
}

/// BGPPeer's ttl: one of two ways.
pub(crate) fn ttl() -> Value {
    validations([
        Rule::new(
            "has(self.multihop) || has(self.security)",
            "is empty; give multihop or security, or remove it",
        )
        .required(),
        Rule::new(
            "!(has(self.multihop) && has(self.security))",
            "multihop and security are both given; keep one",
        ),
    ])
}

/// One of BGPPeer's families.
pub(crate) fn family() -> Value {
    validations([Rule::new(
        "self.afi == 'ipv4' || !has(self.extendedNextHop) || self.extendedNextHop != 'Enabled'",
        "Enabled is for afi ipv4 only (RFC 8950); use Auto or remove it",
    )
    .at(".extendedNextHop")])
}

/// A requirement of a label selector.
pub(crate) fn selector_requirement() -> Value {
    validations([
        Rule::new(
            "!(self.operator in ['In', 'NotIn']) || has(self.values) && self.values.size() > 0",
            "In and NotIn need values; give at least one",
        )
        .saying("self.operator + ' needs values; give at least one'"),
        Rule::new(
            "self.operator in ['In', 'NotIn'] || !has(self.values) || self.values.size() == 0",
            "Exists and DoesNotExist take no values; remove them",
        )
        .saying("self.operator + ' takes no values; remove them'"),
    ])
}

/// Advertisement's spec.
pub(crate) fn advertisement() -> Value {
    validations([Rule::new("!(has(self.all) && has(self.peers))", "is given beside peers; keep one")
        .at(".all")
        .forbidden()])
}

/// Advertisement's source: exactly one.
pub(crate) fn source() -> Value {
    let several =
        "(has(self.static) ? 1 : 0) + (has(self.interfaces) ? 1 : 0) + (has(self.podBlocks) ? 1 : 0) > 1";
    validations([
        Rule::new(
            "has(self.static) || has(self.interfaces) || has(self.podBlocks)",
            "names no source; give static, interfaces or podBlocks",
        )
        .required(),
        Rule::new(
            format!("!({several})"),
            "several sources are given together; make an Advertisement of each",
        )
        .saying(
            "(has(self.static) ? 'static and ' : '') + (!has(self.interfaces) ? '' \
                : has(self.podBlocks) ? 'interfaces and ' : 'interfaces') \
                + (has(self.podBlocks) ? 'podBlocks' : '') + ' are given together; make an Advertisement of each'",
        ),
    ])
}
