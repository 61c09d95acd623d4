//! What of the Loc-RIB a peer may be told, and what its messages say (RFC 4271 sections 5.1 and 9.1.3).
//!
//! In: a best path and the kind of peer. Out: whether it is announced, and with which next hop. Rewriting the
//! octets is the encoder's work: [`PeerExport`] says how, once for all routes of a peer.

use std::net::IpAddr;
use std::sync::Arc;

use api::desired::NextHopMode;
use ipnet::IpNet;

use super::intern::{AttrId, AttributeTable, Scope};
use super::path::{LOCAL, Path};
use super::peer::{FamilySet, PeerSession, PeerState};
use crate::wire::{AfiSafi, Nexthop, OwnNexthops, PathAttributes};

/// How routes are written for one peer. Equal for all peers of an update group but for the own next hops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerExport {
    /// To another AS: our AS is prepended, LOCAL_PREF is left out (RFC 4271 sections 5.1.2, 5.1.5).
    pub ebgp: bool,
    /// Our AS on this session.
    pub local_asn: u32,
    /// LOCAL_PREF of an iBGP route that has none.
    pub default_local_pref: u32,
    /// Our own next hops.
    pub own: OwnNexthops,
}

impl PeerExport {
    /// The next hop to write; `None` never occurs for an update pulled for the same peer.
    pub fn nexthop(&self, family: AfiSafi, nexthop: OutboundNexthop) -> Option<Nexthop> {
        match nexthop {
            OutboundNexthop::Given(given) => Some(given),
            OutboundNexthop::Own => self.own.of(family),
        }
    }
}

/// Next hop of an announcement: what differs between the peers of a group is left to [`PeerExport::nexthop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutboundNexthop {
    /// The address of ours that this peer can reach.
    Own,
    /// This one.
    Given(Nexthop),
}

/// One thing to tell a peer. Prefixes of one update are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundUpdate {
    /// Announce.
    Reach {
        /// Attributes as received or built here.
        attributes: Arc<PathAttributes>,
        /// Next hop.
        nexthop: OutboundNexthop,
        /// MED is ours, or the peer is of our AS: it is sent (RFC 4271 section 5.1.4).
        keep_med: bool,
        /// Our AS this many more times (eBGP only).
        prepend: u8,
        /// Not empty.
        prefixes: Vec<IpNet>,
    },
    /// Withdraw.
    Unreach {
        /// Family of the prefixes.
        family: AfiSafi,
        /// Not empty.
        prefixes: Vec<IpNet>,
    },
    /// Everything that was there when the session came up has been sent (RFC 4724 section 2).
    EndOfRib(AfiSafi),
    /// Bracket of a requested refresh (RFC 7313).
    RefreshMark {
        /// Family.
        family: AfiSafi,
        /// Beginning or end.
        begin: bool,
    },
}

/// Peers with equal keys are told the same: they share an update group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupKey {
    ebgp: bool,
    local_asn: u32,
    families: FamilySet,
    /// Families for which we have a next hop of our own.
    own: FamilySet,
    next_hop: NextHopMode,
    extended_nexthop_v4: bool,
    four_octet_as: bool,
    max_message: usize,
}

impl GroupKey {
    pub(crate) fn new(state: &PeerState, session: &PeerSession) -> Self {
        let own = [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast];
        Self {
            ebgp: session.ebgp,
            local_asn: session.local_asn,
            families: session.families.iter().collect(),
            own: own.iter().filter(|family| own_nexthop(session, **family).is_some()).collect(),
            next_hop: state.settings.next_hop,
            extended_nexthop_v4: session.extended_nexthop_v4,
            four_octet_as: session.four_octet_as,
            max_message: session.max_message,
        }
    }
    pub(crate) fn families(&self) -> FamilySet {
        self.families
    }
    pub(crate) fn has_own(&self, family: AfiSafi) -> bool {
        self.own.contains(family)
    }
}

/// How one best path is announced to the peers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Announcement {
    pub(crate) attributes: AttrId,
    pub(crate) nexthop: OutboundNexthop,
    pub(crate) keep_med: bool,
    pub(crate) family: AfiSafi,
}

/// Everything export looks at.
pub(crate) struct Exporter<'a> {
    pub(crate) attributes: &'a AttributeTable,
    pub(crate) peers: &'a [Option<PeerState>],
    pub(crate) transit: bool,
}

impl Exporter<'_> {
    /// May this best path be announced to the group, and how? Not yet: who it came from, and who it is meant for.
    pub(crate) fn announce(&self, key: &GroupKey, family: AfiSafi, best: Path) -> Option<Announcement> {
        let local = best.peer == LOCAL;
        if !key.families.contains(family) || !local && !self.may_pass_on(key, best) {
            return None;
        }
        let nexthop = self.nexthop(key, family, best);
        if nexthop == OutboundNexthop::Own && !key.has_own(family) {
            return None;
        }
        let keep_med = local || !key.ebgp;
        Some(Announcement { attributes: best.attributes, nexthop, keep_med, family })
    }

    /// Learned routes: only by a router, never from iBGP to iBGP, within the scope of RFC 1997.
    fn may_pass_on(&self, key: &GroupKey, best: Path) -> bool {
        let source = self.peers.get(usize::from(best.peer)).and_then(Option::as_ref);
        let from_ebgp = source.and_then(|peer| peer.session.as_ref()).is_some_and(|session| session.ebgp);
        let in_scope = match self.attributes.scope(best.attributes) {
            Scope::Free => true,
            Scope::InsideAs => !key.ebgp,
            Scope::Nowhere => false,
        };
        self.transit && in_scope && (from_ebgp || key.ebgp)
    }

    fn nexthop(&self, key: &GroupKey, family: AfiSafi, best: Path) -> OutboundNexthop {
        let local = best.peer == LOCAL;
        let given = match key.next_hop {
            NextHopMode::SelfAddress => None,
            NextHopMode::Address(address) => Some(address),
            NextHopMode::Keep if !local => Some(self.attributes.nexthop(best.attributes).address),
            NextHopMode::Auto if !local && !key.ebgp => {
                Some(self.attributes.nexthop(best.attributes).address)
            }
            NextHopMode::Keep | NextHopMode::Auto => None,
        };
        let carried = |address: &IpAddr| match (family, address) {
            (AfiSafi::Ipv4Unicast, IpAddr::V4(_)) => true,
            (AfiSafi::Ipv4Unicast, IpAddr::V6(address)) => {
                key.extended_nexthop_v4 && !address.is_unicast_link_local()
            }
            // Another node cannot use a link-local address of our link.
            (AfiSafi::Ipv6Unicast, IpAddr::V6(address)) => !address.is_unicast_link_local(),
            (AfiSafi::Ipv6Unicast, IpAddr::V4(_)) => false,
        };
        match given.filter(carried) {
            Some(address) => OutboundNexthop::Given(Nexthop { address, link_local: None }),
            None => OutboundNexthop::Own,
        }
    }
}

/// What a peer's messages say, from its session.
pub(crate) fn peer_export(session: &PeerSession) -> PeerExport {
    PeerExport {
        ebgp: session.ebgp,
        local_asn: session.local_asn,
        default_local_pref: 100,
        own: OwnNexthops {
            v4: own_nexthop(session, AfiSafi::Ipv4Unicast),
            v6: own_nexthop(session, AfiSafi::Ipv6Unicast),
        },
    }
}

/// Our own next hop towards a peer: our end of the session, or an address of the same interface where the
/// session runs over the other family (RFC 2545 section 3, RFC 8950 section 4).
fn own_nexthop(session: &PeerSession, family: AfiSafi) -> Option<Nexthop> {
    let all = || std::iter::once(&session.local_address).chain(&session.local_addresses);
    let v4 = all().find(|address| address.is_ipv4());
    let global = all().find_map(|address| match address {
        IpAddr::V6(address) if !address.is_unicast_link_local() => Some(*address),
        _ => None,
    });
    let link_local = all().find_map(|address| match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => Some(*address),
        _ => None,
    });
    let session_is_link_local =
        matches!(session.remote_address, IpAddr::V6(address) if address.is_unicast_link_local());
    let v6 = match (global, link_local) {
        (Some(global), link_local) => {
            let link_local = link_local.filter(|_| session_is_link_local);
            Some(Nexthop { address: IpAddr::V6(global), link_local })
        }
        // A peer on another link could not reach it.
        (None, Some(link_local)) if session.ifindex.is_some() => {
            Some(Nexthop { address: IpAddr::V6(link_local), link_local: None })
        }
        (None, _) => None,
    };
    match family {
        AfiSafi::Ipv6Unicast => v6,
        AfiSafi::Ipv4Unicast if session.remote_address.is_ipv6() && session.extended_nexthop_v4 => v6,
        AfiSafi::Ipv4Unicast => v4.map(|address| Nexthop { address: *address, link_local: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::tests::session;
    use super::*;

    #[test]
    fn own_next_hops_follow_the_session() {
        let with = |local: &str, remote: &str, also: &[&str], extended| PeerSession {
            local_addresses: also.iter().map(|text| text.parse().unwrap()).collect(),
            extended_nexthop_v4: extended,
            ..session(local, remote)
        };
        let cases = [
            ("IPv4 alone", with("10.0.0.1", "10.0.0.2", &[], false), Some("10.0.0.1"), None),
            (
                "dual",
                with("10.0.0.1", "10.0.0.2", &["2001:db8::1"], false),
                Some("10.0.0.1"),
                Some("2001:db8::1"),
            ),
            (
                "IPv4, link-local v6",
                with("10.0.0.1", "10.0.0.2", &["fe80::1"], false),
                Some("10.0.0.1"),
                Some("fe80::1"),
            ),
            (
                "IPv6 without RFC 8950",
                with("2001:db8::1", "2001:db8::2", &[], false),
                None,
                Some("2001:db8::1"),
            ),
            (
                "IPv6, an IPv4 address there",
                with("2001:db8::1", "2001:db8::2", &["10.0.0.1"], false),
                Some("10.0.0.1"),
                Some("2001:db8::1"),
            ),
            (
                "IPv6 with RFC 8950",
                with("2001:db8::1", "2001:db8::2", &[], true),
                Some("2001:db8::1"),
                Some("2001:db8::1"),
            ),
            ("unnumbered", with("fe80::1", "fe80::2", &[], true), Some("fe80::1"), Some("fe80::1")),
            (
                "IPv4 with RFC 8950",
                with("10.0.0.1", "10.0.0.2", &["2001:db8::1"], true),
                Some("10.0.0.1"),
                Some("2001:db8::1"),
            ),
        ];
        for (name, session, v4, v6) in cases {
            let export = peer_export(&session);
            let text = |nexthop: Option<Nexthop>| nexthop.map(|nexthop| nexthop.address.to_string());
            assert_eq!((text(export.own.v4).as_deref(), text(export.own.v6).as_deref()), (v4, v6), "{name}");
        }
        let both = peer_export(&with("fe80::1", "fe80::2", &["2001:db8::1"], true)).own.v6.unwrap();
        assert_eq!(both.address, "2001:db8::1".parse::<IpAddr>().unwrap());
        assert_eq!(both.link_local, Some("fe80::1".parse().unwrap()), "a link-local session carries both");
    }
}
