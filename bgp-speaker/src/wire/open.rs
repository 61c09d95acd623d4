//! OPEN and its capabilities (RFC 4271 section 4.2, RFC 5492, RFC 9072).

use std::net::Ipv4Addr;

/// OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The real AS number: from the 4-octet AS capability when present, else My Autonomous System.
    pub asn: u32,
    /// Hold Time offered, seconds, as received: 1 and 2 are refused by the session.
    pub hold_time: u16,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities in order, unknown ones kept.
    pub capabilities: Vec<Capability>,
}

/// One capability. `afi`/`safi` are raw numbers: peers offer families we do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// 1 (RFC 4760)
    MultiProtocol {
        /// AFI
        afi: u16,
        /// SAFI
        safi: u8,
    },
    /// 2 (RFC 2918)
    RouteRefresh,
    /// 5 (RFC 8950): (NLRI AFI, NLRI SAFI, next hop AFI)
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// 6 (RFC 8654)
    ExtendedMessage,
    /// 64 (RFC 4724)
    GracefulRestart(GracefulRestartCapability),
    /// 65 (RFC 6793)
    FourOctetAs(u32),
    /// 70 (RFC 7313)
    EnhancedRouteRefresh,
    /// 73 (draft-walton-bgp-hostname-capability): host name, domain
    Fqdn {
        /// Host name.
        host: String,
        /// Domain, may be empty.
        domain: String,
    },
    /// Any other, kept for display.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

/// Capability 64 (RFC 4724 section 3, RFC 8538 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GracefulRestartCapability {
    /// R bit: the sender has restarted.
    pub restarting: bool,
    /// N bit (RFC 8538).
    pub notification: bool,
    /// Restart Time, seconds, 12 bits.
    pub restart_time: u16,
    /// (AFI, SAFI, F bit: forwarding state was preserved)
    pub families: Vec<(u16, u8, bool)>,
}
