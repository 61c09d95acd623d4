//! The checked form of everything an operator said: complete, comparable, nothing left to validate.
//!
//! Built from the resources by `build`; consumed whole by the speaker and the agent, which diff it
//! against what they run. Defaults are already filled in and ranges already checked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

/// One node's whole configuration: level-triggered, replaced as a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredState {
    /// Who this node is.
    pub node: Node,
    /// `NetworkConfig.spec.transit`: accept every valid route and re-advertise the best ones.
    pub transit: bool,
    /// Where to accept BGP connections; `None` when `listen.port` is 0.
    pub listen: Option<Listen>,
    /// How learned routes go into the kernel.
    pub install: Install,
    /// `NetworkConfig.spec.logLevel`; `None` leaves it to the command line.
    pub log_level: Option<LogLevel>,
    /// Sessions, sorted by name; names are unique.
    pub peers: Vec<Peer>,
    /// What this node originates, sorted by name.
    pub advertisements: Vec<Advertisement>,
    /// This cluster's pod ranges (`IPPool.spec.cidrs`): imported by the safe default, `None` peers excepted.
    pub pod_ranges: Vec<IpNet>,
    /// What was found while building that is allowed and hardly meant: for [`DesiredState::doubts`] only.
    pub notes: Vec<String>,
}

impl DesiredState {
    /// What is allowed, and hardly meant or not yet as one would expect: one line each, with the remedy.
    pub fn doubts(&self) -> Vec<String> {
        let blocks = &self.node.pod_blocks;
        let announced = |block: &IpNet| {
            self.advertisements.iter().any(|advertisement| match &advertisement.source {
                AdvertisementSource::PodBlocks => true,
                AdvertisementSource::Static { cidrs, .. } => cidrs.iter().any(|cidr| cidr.contains(block)),
                AdvertisementSource::Interfaces { .. } => false,
            })
        };
        let unheard = blocks.iter().filter(|block| !announced(block)).map(|block| {
            format!(
                "pod block {block} is announced to nobody, so its pods cannot be reached: no Advertisement with source: {{podBlocks: {{}}}} selects {}; let one select it, or remove them all to announce every block",
                self.node.name
            )
        });
        let outside = blocks.iter().filter(|block| {
            !self.pod_ranges.is_empty() && !self.pod_ranges.iter().any(|range| range.contains(*block))
        });
        let unaccepted = outside.map(|block| {
            format!(
                "pod block {block} is in no IPPool, so other nodes take no route to it; give an IPPool that contains it"
            )
        });
        let unmasked = (!blocks.is_empty())
            .then(|| "there is no masquerading yet: pods reach what routes back to them".to_owned());
        self.notes.iter().cloned().chain(unheard).chain(unaccepted).chain(unmasked).collect()
    }
}

/// This node's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `--node`, default the host name.
    pub name: String,
    /// The node's AS number (RFC 6793), never 0, 23456 or 65535 (RFC 7607, RFC 7300).
    pub asn: u32,
    /// BGP Identifier (RFC 6286), never 0.
    pub router_id: Ipv4Addr,
    /// `NodeNetwork.spec.addresses`.
    pub addresses: Vec<IpAddr>,
    /// `NodeNetwork.spec.podCIDRs`: sorted, none inside another.
    pub pod_blocks: Vec<IpNet>,
}

/// `NetworkConfig.spec.listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// TCP port, never 0.
    pub port: u16,
    /// Addresses to bind; empty means every address of both families.
    pub addresses: Vec<IpAddr>,
}

/// `NetworkConfig.spec.install`: the kernel routes of what BGP learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Route priority (`metric` of iproute2).
    pub metric: u32,
    /// Routing table number; `main` is 254.
    pub table: u32,
    /// Largest ECMP width, 1 to 256.
    pub max_paths: u16,
    /// `rtm_protocol` of routes BGP installs. The next number marks our blackholes and pod routes.
    pub protocol: u8,
    /// `rtm_protocol` of pod routes and the blackholes of originated aggregates.
    pub local_protocol: u8,
    /// `advertiseAfterInstall`: announce a learned route only once the kernel has it.
    pub advertise_after_install: bool,
}

/// `NetworkConfig.spec.logLevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Service is degraded, and handled.
    Warn,
    /// Something changed that an operator would tell a colleague.
    Info,
    /// Every prefix and pod.
    Debug,
    /// Every message.
    Trace,
}

/// One `BGPPeer`: a session, or a range that accepts sessions. One with `neighbor.nodes` is a peer for each node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `metadata.name`; with `neighbor.nodes` followed by the other node's: `mesh/node-2`.
    pub name: String,
    /// How the neighbour is found.
    pub neighbor: Neighbor,
    /// The neighbour's TCP port.
    pub port: u16,
    /// Our AS number on this session (`localASN`, default the node's).
    pub local_asn: u32,
    /// What the neighbour's OPEN must say.
    pub remote_asn: RemoteAsn,
    /// Our end of the TCP connection.
    pub source: Source,
    /// `bindInterface`: the socket is bound to this device.
    pub bind_interface: Option<String>,
    /// TCP MD5 key (RFC 2385), 1 to 80 octets.
    pub md5: Option<Secret>,
    /// Session timers.
    pub timers: Timers,
    /// TTL rules of the TCP connection.
    pub ttl: Ttl,
    /// Who opens the connection.
    pub passive: Passive,
    /// RFC 4724, with `Auto` already resolved.
    pub graceful_restart: GracefulRestart,
    /// Families offered, at least one, no duplicates.
    pub families: Vec<Family>,
    /// Next hop we advertise.
    pub next_hop: NextHopMode,
    /// How often our own AS may stand in a received AS_PATH.
    pub allow_local_as: u8,
    /// eBGP: the first AS of a received AS_PATH must be the neighbour's (RFC 4271 section 6.3).
    pub enforce_first_as: bool,
    /// `paused: true`: administratively down, with `pauseReason` as RFC 9003 text (may be empty).
    pub paused: Option<String>,
}

impl Peer {
    /// `metadata.name` of the BGPPeer, in which `/` cannot stand.
    pub fn resource(&self) -> &str {
        self.name.split_once('/').map_or(&self.name, |(resource, _)| resource)
    }
}

/// How the neighbour is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Neighbor {
    /// `neighbor.address`, with the zone of a link-local address (`fe80::1%eth0`).
    Address {
        /// The address.
        address: IpAddr,
        /// Zone: required for link-local addresses, else absent.
        interface: Option<String>,
    },
    /// `neighbor.listen`: accept up to `max` neighbours from these ranges.
    Listen {
        /// Source ranges, not empty.
        ranges: Vec<IpNet>,
        /// Sessions at the same time.
        max: u32,
    },
}

/// `remoteASN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAsn {
    /// Exactly this one.
    Number(u32),
    /// Any but our own.
    External,
    /// Our own.
    Internal,
    /// Either.
    Any,
}

/// `sourceAddress`, `sourceInterface`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel chooses by route (`auto` and `kernel`).
    Kernel,
    /// A literal address.
    Address(IpAddr),
    /// The first address of this interface in the neighbour's family.
    Interface(String),
}

/// `timers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Hold Time we offer: 0 (off) or 3 to 65535 seconds.
    pub hold: Duration,
    /// Keepalive interval, at most a third of the negotiated Hold Time.
    pub keepalive: Duration,
    /// ConnectRetryTime.
    pub connect_retry: Duration,
    /// Cap of the IdleHold back-off.
    pub idle_hold_max: Duration,
}

/// `ttl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Packets are sent with this TTL (1: directly connected; iBGP always uses 255).
    Multihop(u8),
    /// GTSM (RFC 5082): sent with 255, accepted when at most this many hops away (1: directly connected).
    Security(u8),
}

/// `passive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passive {
    /// Connect and listen.
    Auto,
    /// Only listen.
    Always,
    /// Only connect: incoming connections are refused.
    Never,
}

/// `gracefulRestart`, with `Auto` resolved to what this node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// Which roles.
    pub mode: RestartMode,
    /// Restart Time we advertise, at most 4095 s.
    pub restart_time: Duration,
    /// How long stale paths are kept after the session is back and End-of-RIB is missing.
    pub stale_path_time: Duration,
}

/// Roles in Graceful Restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMode {
    /// No capability.
    Disabled,
    /// Keep a restarting neighbour's routes; the capability is sent without families.
    Helper,
    /// Both: also ask neighbours to keep ours.
    Restarter,
}

/// Address families of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AfiSafi {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

/// One entry of `families`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Which family.
    pub afi_safi: AfiSafi,
    /// RFC 8950: offer IPv4 prefixes with IPv6 next hops (IPv4 family only). `Auto` is resolved: true.
    pub extended_next_hop: bool,
    /// Limit of received prefixes.
    pub max_prefix: MaxPrefix,
}

/// `maxPrefix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPrefix {
    /// Prefixes accepted from the peer in this family, default 1,000,000.
    pub limit: u32,
    /// Per cent of the limit at which a warning is logged, 1 to 100.
    pub warn_at: u8,
    /// What happens above the limit.
    pub action: MaxPrefixAction,
}

/// `maxPrefix.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxPrefixAction {
    /// Log, take the route.
    Warn,
    /// Keep what is there, take no new prefix.
    Block,
    /// Cease 6/1, then start again after the IdleHold time.
    Restart,
    /// Cease 6/1, stay down until reset.
    Down,
}

/// `nextHop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopMode {
    /// eBGP: self. iBGP: keep what was learned, self for what we originate.
    Auto,
    /// Always our own address.
    SelfAddress,
    /// Never changed.
    Keep,
    /// A literal address (`nextHopAddress`).
    Address(IpAddr),
}

/// One `Advertisement`: what this node originates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// `metadata.name`.
    pub name: String,
    /// Where the prefixes come from.
    pub source: AdvertisementSource,
    /// Peers it goes to, by name; `None` means all.
    pub peers: Option<Vec<String>>,
    /// Attributes put on it.
    pub attributes: Attributes,
}

/// Where an advertisement's prefixes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdvertisementSource {
    /// `static`: these prefixes; unless `require_route`, with a blackhole behind each that no other route equals.
    Static {
        /// Prefixes, masked, no duplicates.
        cidrs: Vec<IpNet>,
        /// Announce only while the kernel has a route to it (not ours).
        require_route: bool,
    },
    /// `interfaces`: the addresses of these interfaces as host routes.
    Interfaces {
        /// Interface names.
        names: Vec<String>,
    },
    /// `podBlocks`: this node's pod blocks, each with a blackhole behind it, and the addresses of its pods outside
    /// them as host routes.
    PodBlocks,
}

/// `Advertisement.spec.attributes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// RFC 1997.
    pub communities: Vec<u32>,
    /// RFC 8092.
    pub large_communities: Vec<(u32, u32, u32)>,
    /// LOCAL_PREF, sent on iBGP sessions.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Our AS this many more times.
    pub prepend: u8,
}

/// A key or password. `Debug` and `Display` hide it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the octets of a key.
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(octets.into())
    }
    /// The key itself: for the kernel only, never for a log.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl fmt::Display for AfiSafi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
        })
    }
}
