//! The table `inet towpath-cni`: its maps, chains and rules, made when first needed and found in one question later.
//!
//! Two parts, because each has a price: the guard costs a route lookup per packet of a pod; host ports bring in
//! connection tracking for the whole node, so a node that publishes none goes without.
//!
//! Each chain's comment names the layout. Where it is missing, another version's, or short of rules, the part is
//! made anew in one transaction; the elements of the maps stay.

use std::net::Ipv6Addr;

use netlink::nft::expression::{Fib, Header, Meta, name16};
use netlink::nft::set::{Set, Type};
use netlink::nft::{Base, Expressions, Family, Hook, Register, Table, Verdict};
use netlink::{Batch, Error, Socket};

use super::RulesError;

pub(super) const TABLE: Table = Table { family: Family::Inet, name: "towpath-cni" };

/// Another number whenever a chain below changes, so that an upgraded plugin replaces what its predecessor made.
const LAYOUT: &str = "layout 1";

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// No pod sends under another's address; nothing from outside reaches 127.0.0.0/8.
    Guard,
    /// Ports of the node lead into pods.
    HostPorts,
}

use Type::{InetProto, InetService};
const V4: Type = Type::Ipv4Addr;
const V6: Type = Type::Ipv6Addr;

/// The sets, by the number that `elements` calls them.
pub(super) const SETS: [Set; 6] = [
    Set { name: "host-ports-v4", key: &[InetProto, InetService], data: &[V4, InetService] },
    Set { name: "host-ports-v6", key: &[InetProto, InetService], data: &[V6, InetService] },
    Set { name: "host-address-ports-v4", key: &[V4, InetProto, InetService], data: &[V4, InetService] },
    Set { name: "host-address-ports-v6", key: &[V6, InetProto, InetService], data: &[V6, InetService] },
    Set { name: "hairpin-v4", key: &[V4, V4], data: &[] },
    Set { name: "hairpin-v6", key: &[V6, V6], data: &[] },
];

const GUARD: &str = "guard";
const HOST_PORTS: &str = "host-ports";

/// Before connection tracking (-200), as `raw`: what is dropped leaves no trace.
const RAW: i32 = -300;
/// `dstnat - 5`, for the output hook too: the first rule that translates a packet decides, and a pod that asks for
/// a port of this very node is more particular than a Service's node port, which kube-proxy and others lead away at
/// `dstnat`. What our maps do not hold goes on to them untouched.
const DSTNAT: i32 = -105;
/// `srcnat - 5`: likewise before the masquerading of others, which would otherwise see a hairpin as pod traffic.
const SRCNAT: i32 = 95;

/// How a chain comes about.
struct Chain {
    name: &'static str,
    base: Option<Base>,
    rules: &'static [fn(&mut Expressions<'_, '_>)],
    /// Rules plus jumps to the chain, as the kernel counts its users.
    uses: u32,
}

const GUARD_CHAINS: [Chain; 1] = [Chain {
    name: GUARD,
    base: Some(Base { kind: "filter", hook: Hook::Prerouting, priority: RAW }),
    rules: &[
        from_itself,
        to_loopback,
        from_loopback,
        not_named_like_ours,
        not_veth,
        from_link_local,
        from_nowhere,
        spoofed,
    ],
    uses: 8,
}];

/// In the order in which they are made: what is jumped to comes first.
const HOST_PORT_CHAINS: [Chain; 4] = [
    Chain {
        name: HOST_PORTS,
        base: None,
        rules: &[at_address_v4, anywhere_v4, at_address_v6, anywhere_v6],
        uses: 6,
    },
    Chain {
        name: "prerouting",
        base: Some(Base { kind: "nat", hook: Hook::Prerouting, priority: DSTNAT }),
        rules: &[to_this_node],
        uses: 1,
    },
    Chain {
        name: "output",
        base: Some(Base { kind: "nat", hook: Hook::Output, priority: DSTNAT }),
        rules: &[to_itself_v6, to_this_node],
        uses: 2,
    },
    Chain {
        name: "postrouting",
        base: Some(Base { kind: "nat", hook: Hook::Postrouting, priority: SRCNAT }),
        rules: &[hairpin_v4, hairpin_v6, loopback_to_pod],
        uses: 3,
    },
];

impl Part {
    const fn chains(self) -> &'static [Chain] {
        match self {
            Self::Guard => &GUARD_CHAINS,
            Self::HostPorts => &HOST_PORT_CHAINS,
        }
    }
}

/// Makes the part unless its first chain is as it should be.
pub(super) fn ensure(socket: &mut Socket, part: Part) -> Result<(), RulesError> {
    if part.chains().first().is_some_and(|chain| matches!(difference(socket, chain), Ok(None))) {
        return Ok(());
    }
    // A chain of another layout is made anew, so that hook, priority and comment are ours; the rules of all go first,
    // because a chain that is jumped to cannot be deleted.
    let mut present = Vec::new();
    for chain in part.chains() {
        if TABLE.chain(socket, chain.name).map_err(unsupported)?.is_some() {
            present.push(chain.name);
        }
    }
    for present in [&present[..], &[]] {
        let mut batch = Batch::new();
        batch.transaction(|batch| make(batch, part, present));
        match socket.exchange(batch) {
            Ok(()) => return Ok(()),
            // Somebody deleted what was there a moment ago; what somebody else made meanwhile is no hindrance.
            Err(error) if error.errno() == Some(libc::ENOENT) && !present.is_empty() => {}
            Err(error)
                if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::ENOENT)) =>
            {
                return Err(RulesError::Unsupported(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The kernel's answers where it lacks nf_tables, and where it lacks a family, an expression or a kind of chain.
fn unsupported(error: Error) -> RulesError {
    match error.errno() {
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EINVAL) => RulesError::Unsupported(error),
        _ => error.into(),
    }
}

fn make(batch: &mut Batch, part: Part, present: &[&str]) {
    TABLE.add(batch);
    for chain in present.iter().rev() {
        TABLE.flush_chain(batch, chain);
        TABLE.delete_chain(batch, chain);
    }
    if part == Part::HostPorts {
        for (set, id) in SETS.iter().zip(1..) {
            TABLE.add_set(batch, set, id);
        }
    }
    for chain in part.chains() {
        TABLE.add_chain(batch, chain.name, chain.base, LAYOUT);
        // Another process may have made the chain and its rules since we looked.
        TABLE.flush_chain(batch, chain.name);
        for rule in chain.rules {
            TABLE.add_rule(batch, chain.name, rule);
        }
    }
}

/// What of the part is missing or changed, in words.
pub(super) fn differences(socket: &mut Socket, part: Part) -> Result<Vec<String>, RulesError> {
    let mut differences = Vec::new();
    for chain in part.chains() {
        differences.extend(difference(socket, chain)?);
    }
    Ok(differences)
}

fn difference(socket: &mut Socket, wanted: &Chain) -> Result<Option<String>, RulesError> {
    let place = || format!("chain {} of table inet {}", wanted.name, TABLE.name);
    Ok(match TABLE.chain(socket, wanted.name)? {
        None => Some(format!("{} is missing", place())),
        Some(chain) if chain.comment != LAYOUT => {
            Some(format!("{} has the comment {:?} instead of {LAYOUT:?}", place(), chain.comment))
        }
        Some(chain) if chain.uses != wanted.uses => {
            Some(format!("{} has {} rules and jumps to it instead of {}", place(), chain.uses, wanted.uses))
        }
        Some(_) => None,
    })
}

const R0: Register = Register(0);
const R1: Register = Register(1);
const R2: Register = Register(2);
/// Behind an IPv6 address in registers 0 to 3.
const R4: Register = Register(4);
const R5: Register = Register(5);

/// What every host interface of a pod begins with (`pod::names`).
const OURS: &[u8] = b"tw";
const ICMPV6: u8 = 58;

/// `iifname "lo" accept`
fn from_itself(e: &mut Expressions<'_, '_>) {
    e.meta(Meta::Iifname, R0).equals(R0, &name16("lo")).verdict(Verdict::Accept);
}

/// `ip daddr 127.0.0.0/8 counter drop`: route_localnet on a pod's interface must not open the node's loopback to
/// anybody (CVE-2020-8558).
fn to_loopback(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv4)
        .payload(Header::Network, 16, 1, R0)
        .equals(R0, &[127])
        .counter()
        .verdict(Verdict::Drop);
}

/// `ip saddr 127.0.0.0/8 counter drop`
fn from_loopback(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv4)
        .payload(Header::Network, 12, 1, R0)
        .equals(R0, &[127])
        .counter()
        .verdict(Verdict::Drop);
}

/// `iifname != "tw*" accept`
fn not_named_like_ours(e: &mut Expressions<'_, '_>) {
    e.meta(Meta::Iifname, R0).differs(R0, OURS).verdict(Verdict::Accept);
}

/// `meta iifkind != "veth" accept`: an uplink that happens to be called tw0 is none of ours.
fn not_veth(e: &mut Expressions<'_, '_>) {
    e.meta(Meta::Iifkind, R0).differs(R0, &name16("veth")).verdict(Verdict::Accept);
}

/// `ip6 saddr fe80::/10 meta l4proto ipv6-icmp accept`: neighbour discovery on the pod's own wire.
fn from_link_local(e: &mut Expressions<'_, '_>) {
    let mut mask = [0; 16];
    let mut prefix = [0; 16];
    (mask[0], mask[1]) = (0xff, 0xc0);
    (prefix[0], prefix[1]) = (0xfe, 0x80);
    e.family(Family::Ipv6).source(Family::Ipv6, R0).mask(R0, &mask).equals(R0, &prefix);
    e.meta(Meta::L4proto, R0).equals(R0, &[ICMPV6]).verdict(Verdict::Accept);
}

/// `ip6 saddr :: meta l4proto ipv6-icmp accept`: duplicate address detection.
fn from_nowhere(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv6).source(Family::Ipv6, R0).equals(R0, &[0; 16]);
    e.meta(Meta::L4proto, R0).equals(R0, &[ICMPV6]).verdict(Verdict::Accept);
}

/// `fib saddr . iif oif missing counter drop`: what would not be routed back to where it comes from.
fn spoofed(e: &mut Expressions<'_, '_>) {
    e.fib(Fib::SourceThroughIif, R0).equals(R0, &[0; 4]).counter().verdict(Verdict::Drop);
}

/// `ip6 daddr ::1 accept`: no packet from ::1 can leave the node, whatever it is translated to. Left alone, a client that
/// tries localhost's two addresses is refused here at once and goes on to 127.0.0.1.
fn to_itself_v6(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv6).destination(Family::Ipv6, R0);
    e.equals(R0, &Ipv6Addr::LOCALHOST.octets()).verdict(Verdict::Accept);
}

/// `fib daddr type local jump host-ports`
fn to_this_node(e: &mut Expressions<'_, '_>) {
    const RTN_LOCAL: u32 = 2;
    e.fib(Fib::DestinationType, R0).equals(R0, &RTN_LOCAL.to_ne_bytes()).verdict(Verdict::Jump(HOST_PORTS));
}

/// Protocol and destination port, the end of every key.
fn port(e: &mut Expressions<'_, '_>, protocol: Register, port: Register) {
    e.meta(Meta::L4proto, protocol).payload(Header::Transport, 2, 2, port);
}

/// `dnat ip to ip daddr . meta l4proto . th dport map @host-address-ports-v4`
fn at_address_v4(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv4).destination(Family::Ipv4, R0);
    port(e, R1, R2);
    e.lookup(SETS[2].name, R0, Some(R0)).dnat(Family::Ipv4, R0, R1);
}

/// `dnat ip to meta l4proto . th dport map @host-ports-v4`
fn anywhere_v4(e: &mut Expressions<'_, '_>) {
    port(e, R0, R1);
    e.lookup(SETS[0].name, R0, Some(R0)).dnat(Family::Ipv4, R0, R1);
}

/// `dnat ip6 to ip6 daddr . meta l4proto . th dport map @host-address-ports-v6`
fn at_address_v6(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv6).destination(Family::Ipv6, R0);
    port(e, R4, R5);
    e.lookup(SETS[3].name, R0, Some(R0)).dnat(Family::Ipv6, R0, R4);
}

/// `dnat ip6 to meta l4proto . th dport map @host-ports-v6`
fn anywhere_v6(e: &mut Expressions<'_, '_>) {
    port(e, R0, R1);
    e.lookup(SETS[1].name, R0, Some(R0)).dnat(Family::Ipv6, R0, R4);
}

/// `ct status dnat masquerade`
fn masquerade_if_translated(e: &mut Expressions<'_, '_>) {
    const IPS_DST_NAT: u32 = 1 << 5;
    e.ct_status(R0).mask(R0, &IPS_DST_NAT.to_ne_bytes()).differs(R0, &[0; 4]).masquerade();
}

/// `ip saddr . ip daddr @hairpin-v4 ct status dnat masquerade`: a pod that reaches itself by its own host port would
/// answer itself directly, without the translation back.
fn hairpin_v4(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv4).source(Family::Ipv4, R0).destination(Family::Ipv4, R1).lookup(
        SETS[4].name,
        R0,
        None,
    );
    masquerade_if_translated(e);
}

/// `ip6 saddr . ip6 daddr @hairpin-v6 ct status dnat masquerade`
fn hairpin_v6(e: &mut Expressions<'_, '_>) {
    e.family(Family::Ipv6).source(Family::Ipv6, R0).destination(Family::Ipv6, R4).lookup(
        SETS[5].name,
        R0,
        None,
    );
    masquerade_if_translated(e);
}

/// `oifname "tw*" ip saddr 127.0.0.0/8 ct status dnat masquerade`: the pod could not answer 127.0.0.1.
fn loopback_to_pod(e: &mut Expressions<'_, '_>) {
    e.meta(Meta::Oifname, R0).equals(R0, OURS);
    e.family(Family::Ipv4).payload(Header::Network, 12, 1, R0).equals(R0, &[127]);
    masquerade_if_translated(e);
}
