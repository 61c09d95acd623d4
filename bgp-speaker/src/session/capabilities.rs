//! The OPEN we send: which capabilities are offered, and which are left out for a peer that refused them.

use std::time::{Duration, Instant};

use api::desired::{Peer, RestartMode};

use super::LocalSpeaker;
use super::deadlines::after;
use crate::wire::open::GracefulRestartCapability;
use crate::wire::{AfiSafi, Capability, ErrorCode, Notification, Open, numbers};

/// How long a refused capability is left out before it is offered again.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// OPEN error subcodes that mean "not with these options" (RFC 4271 section 6.2, RFC 5492 section 5).
const UNSUPPORTED_PARAMETER: u8 = 4;
const UNSUPPORTED_CAPABILITY: u8 = 7;

/// The OPEN for a new connection. `carried`: families whose forwarding state survived the loss of the
/// previous session because this process never stopped, which is what the F bit says too.
pub(super) fn open(config: &Peer, local: &LocalSpeaker, carried: &[AfiSafi], refused: &Refused) -> Open {
    let mut capabilities = offered(config, local, carried);
    capabilities.retain(|capability| !refused.contains(capability));
    Open {
        asn: config.local_asn,
        hold_time: u16::try_from(config.timers.hold.as_secs()).unwrap_or(u16::MAX),
        router_id: local.router_id,
        capabilities,
    }
}

fn offered(config: &Peer, local: &LocalSpeaker, carried: &[AfiSafi]) -> Vec<Capability> {
    let families = config.families.iter().map(|family| family.afi_safi);
    let mut offer: Vec<_> = families
        .clone()
        .map(|family| {
            let (afi, safi) = numbers(family);
            Capability::MultiProtocol { afi, safi }
        })
        .collect();
    offer.push(Capability::RouteRefresh);
    offer.push(Capability::EnhancedRouteRefresh);
    if config.families.iter().any(|f| f.extended_next_hop && f.afi_safi == AfiSafi::Ipv4Unicast) {
        offer.push(Capability::ExtendedNextHop(vec![(1, 1, 2)]));
    }
    offer.push(Capability::ExtendedMessage);
    if config.graceful_restart.mode != RestartMode::Disabled {
        let preserved = |family| local.forwarding_preserved.contains(&family) || carried.contains(&family);
        let ours = families.map(|family| {
            let (afi, safi) = numbers(family);
            (afi, safi, preserved(family))
        });
        offer.push(Capability::GracefulRestart(GracefulRestartCapability {
            restarting: local.restarting,
            notification: false,
            restart_time: u16::try_from(config.graceful_restart.restart_time.as_secs().min(4095))
                .unwrap_or(4095),
            families: match config.graceful_restart.mode {
                RestartMode::Restarter => ours.collect(),
                RestartMode::Helper | RestartMode::Disabled => Vec::new(),
            },
        }));
    }
    offer.push(Capability::FourOctetAs(config.local_asn));
    if !local.host_name.is_empty() {
        offer.push(Capability::Fqdn { host: local.host_name.clone(), domain: String::new() });
    }
    offer
}

/// What the peer refused, for a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    /// It does not know the Capabilities parameter at all.
    everything: bool,
    /// It refused capabilities without naming one we can spare.
    optional: bool,
    /// Capability codes it named.
    codes: Vec<u8>,
    /// Families it named.
    families: Vec<(u16, u8)>,
    /// Leaving out did not help either: everything is offered, so that a session that comes up because
    /// somebody repaired the other end comes up whole.
    useless: bool,
    until: Option<Instant>,
}

impl Refused {
    /// Learns from a NOTIFICATION that answered `sent`. True when the next OPEN will be a different one.
    pub(super) fn learn(&mut self, now: Instant, notification: &Notification, sent: &Open) -> bool {
        if self.useless {
            return false;
        }
        let before = self.left_out();
        match (notification.code, notification.subcode) {
            // Without any capability only IPv4 is left to speak: pointless where it is not configured.
            (ErrorCode::Open, UNSUPPORTED_PARAMETER) if offers_ipv4(sent) => self.everything = true,
            (ErrorCode::Open, UNSUPPORTED_CAPABILITY) => self.learn_named(&notification.data, sent),
            _ => return false,
        }
        self.until.get_or_insert(after(now, REFUSED_FOR));
        let different = before != self.left_out();
        if !different {
            *self = Self { useless: true, until: self.until, ..Self::default() };
        }
        different
    }

    fn left_out(&self) -> (bool, bool, usize, usize) {
        (self.everything, self.optional, self.codes.len(), self.families.len())
    }

    /// RFC 5492 section 5: the data lists capabilities as they stand in an OPEN.
    fn learn_named(&mut self, mut data: &[u8], sent: &Open) {
        let mut named = false;
        while let [code, length, rest @ ..] = data {
            let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
            data = rest;
            named |= match (*code, value) {
                (1, [high, low, _, safi]) => {
                    self.spare_family((u16::from_be_bytes([*high, *low]), *safi), sent)
                }
                // AS numbers and a family are what no session can do without.
                (1 | 65, _) => false,
                (code, _) if sent.capabilities.iter().any(|c| code_of(c) == code) => {
                    self.codes.push(code);
                    true
                }
                _ => false,
            };
        }
        self.optional |= !named;
    }

    fn spare_family(&mut self, family: (u16, u8), sent: &Open) -> bool {
        let left: Vec<_> = families_of(sent).filter(|f| !self.families.contains(f)).collect();
        let spare = left.len() > 1 && left.contains(&family);
        if spare {
            self.families.push(family);
        }
        spare
    }

    /// Offers everything again once the time is over.
    pub(super) fn lapse(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
    }

    fn contains(&self, capability: &Capability) -> bool {
        self.everything
            || match capability {
                Capability::MultiProtocol { afi, safi } => self.families.contains(&(*afi, *safi)),
                Capability::FourOctetAs(_) => false,
                other => self.optional || self.codes.contains(&code_of(other)),
            }
    }
}

fn families_of(open: &Open) -> impl Iterator<Item = (u16, u8)> {
    open.capabilities.iter().filter_map(|c| match c {
        Capability::MultiProtocol { afi, safi } => Some((*afi, *safi)),
        _ => None,
    })
}

fn offers_ipv4(sent: &Open) -> bool {
    families_of(sent).any(|family| family == numbers(AfiSafi::Ipv4Unicast))
}

fn code_of(capability: &Capability) -> u8 {
    match capability {
        Capability::MultiProtocol { .. } => 1,
        Capability::RouteRefresh => 2,
        Capability::ExtendedNextHop(_) => 5,
        Capability::ExtendedMessage => 6,
        Capability::GracefulRestart(_) => 64,
        Capability::FourOctetAs(_) => 65,
        Capability::EnhancedRouteRefresh => 70,
        Capability::Fqdn { .. } => 73,
        Capability::Unknown { code, .. } => *code,
    }
}
