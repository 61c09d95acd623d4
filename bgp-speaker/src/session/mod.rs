//! The BGP finite state machine of one peer (RFC 4271 section 8), as a value.
//!
//! In: [`Event`]s with the time they happened. Out: [`Action`]s for the driver to perform, in order. Holds at
//! most two TCP connections at a time (collision, RFC 4271 section 6.8). No I/O, no clock, no runtime.

mod capabilities;
mod cease;
mod collision;
mod config;
mod connection;
mod deadlines;
mod establish;
mod explain;
mod negotiate;
mod restart;
mod state;
mod teardown;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use smallvec::SmallVec;

use crate::wire::{AfiSafi, Capability, Codec, Message, MessageError, Notification, RouteRefresh, Update};

pub use config::{ConfigEffect, needs_reset};
pub use explain::explain_notification;
pub use state::Session;

/// What one event asks of the driver, in order.
pub type Actions = SmallVec<[Action; 4]>;

/// Names of RFC 4271 section 8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is attempted; the IdleHold timer may be running.
    Idle,
    /// Waiting for our own connect.
    Connect,
    /// Waiting for the next try, or for the peer to connect.
    Active,
    /// OPEN sent.
    OpenSent,
    /// OPEN accepted, waiting for KEEPALIVE.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// One TCP connection of this peer, numbered by the driver, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub u64);

/// Who opened the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}

/// The two ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The interface the connection runs over when the peer is directly connected.
    pub ifindex: Option<u32>,
}

/// What the session says about this speaker, beyond the peer's own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSpeaker {
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Sent in the FQDN capability; empty: the capability is not sent.
    pub host_name: String,
    /// R bit: this speaker has just restarted and its peers may still hold our routes (RFC 4724 section 4.1).
    pub restarting: bool,
    /// F bit: families whose routes were found in the kernel at start.
    pub forwarding_preserved: Vec<AfiSafi>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Configured, unpaused, or the link came back: connect now. No effect on a session that is under way, on a
    /// paused one, and on one that is down for its prefix limit (that waits for [`StopReason::AdminReset`]).
    Start,
    /// To be taken down.
    Stop(StopReason),
    /// A TCP connection is open (RFC 4271 events 16 and 17).
    Connected(ConnId, Direction, Endpoints),
    /// Our connect failed; the text says why.
    ConnectFailed(String),
    /// A connection ended; the text says how.
    Closed(ConnId, String),
    /// A well-formed message (an UPDATE may carry RFC 7606 faults).
    Message(ConnId, Message),
    /// Octets that are no message: becomes a NOTIFICATION.
    Malformed(ConnId, MessageError),
    /// Octets left our socket buffer: restarts the Send Hold Timer (RFC 9687).
    Wrote(ConnId),
    /// Ask the peer to send everything again (RFC 2918), every negotiated family.
    RequestRefresh,
    /// [`Session::deadline`] has passed.
    Deadline,
}

/// Why a session is taken down from our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `paused: true` or `bgp shutdown`: Cease 6/2 with RFC 9003 text; stays down until `Start`.
    AdminShutdown(String),
    /// Removed from the configuration: Cease 6/3.
    Deconfigured,
    /// `bgp reset`: Cease 6/4 with text; starts again at once.
    AdminReset(String),
    /// A changed field needs a new session: Cease 6/6; starts again at once.
    ConfigurationChange,
    /// More prefixes than allowed: Cease 6/1 with AFI, SAFI, limit (RFC 4486).
    MaxPrefix {
        /// Family.
        family: AfiSafi,
        /// The limit.
        limit: u32,
        /// Start again after the IdleHold time, or stay down.
        restart: bool,
    },
    /// We are full: Cease 6/8.
    OutOfResources,
    /// SIGTERM: with Graceful Restart negotiated as restarter the connection is closed without NOTIFICATION, else 6/2.
    ProcessStops,
    /// The interface lost its carrier: closed without NOTIFICATION; tried again when `Start` comes or by timer.
    LinkDown(String),
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection; an earlier attempt still under way is dropped.
    Connect,
    /// Give up the attempt under way.
    AbortConnect,
    /// Close this connection after what was queued on it is written. A peer that does not read (Send Hold Timer)
    /// must not keep it open: the driver bounds the wait. No event of it is expected any more.
    Close(ConnId),
    /// Queue a message.
    Send(ConnId, Message),
    /// From now on decode and encode on this connection with this codec.
    UseCodec(ConnId, Codec),
    /// Hand to the RIB.
    Deliver(Update),
    /// Hand to the RIB: the peer asked for a refresh or marks one.
    Refresh(RouteRefresh),
    /// Established, on this connection.
    Up(ConnId, Box<Negotiated>),
    /// No longer Established. Paths of `retain` become stale, all others go.
    Down(Down),
    /// Stale paths of this family go.
    SweepStale(AfiSafi),
}

/// The end of an Established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Why.
    pub reason: DownReason,
    /// Families whose paths are kept as stale because the peer restarts gracefully (RFC 4724 section 4.2).
    pub retain: Vec<AfiSafi>,
}

/// Why a session is not Established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// We stopped it.
    Stopped(StopReason),
    /// The peer sent this.
    NotificationReceived(Notification),
    /// We sent this.
    NotificationSent(Notification),
    /// TCP ended.
    ConnectionClosed(String),
    /// TCP did not open.
    ConnectFailed(String),
    /// Another connection of the same peer replaced it (collision, or a restarted peer).
    Replaced,
}

/// What both OPENs agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// How bytes are read and written.
    pub codec: Codec,
    /// Both ends of the connection.
    pub endpoints: Endpoints,
    /// Our AS on this session.
    pub local_asn: u32,
    /// The peer's AS.
    pub remote_asn: u32,
    /// The peer's BGP Identifier.
    pub remote_router_id: Ipv4Addr,
    /// Hold Time in force; zero: off.
    pub hold_time: Duration,
    /// Keepalive interval in force; zero: off.
    pub keepalive: Duration,
    /// RFC 2918 both ways.
    pub route_refresh: bool,
    /// RFC 7313 both ways.
    pub enhanced_refresh: bool,
    /// The peer's RFC 4724 capability when both sides have it.
    pub graceful_restart: Option<PeerRestart>,
    /// Our capabilities, as sent.
    pub sent: Vec<Capability>,
    /// The peer's, as received.
    pub received: Vec<Capability>,
}

/// The peer's side of Graceful Restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRestart {
    /// R bit.
    pub restarting: bool,
    /// Its Restart Time.
    pub restart_time: Duration,
    /// Families it can preserve, with the F bit.
    pub families: Vec<(AfiSafi, bool)>,
    /// Families of ours it will keep when we restart.
    pub helps_us: bool,
}
