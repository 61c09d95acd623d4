//! The parts of a BGPPeer that end in the session: timers, TTL, Graceful Restart, families.

use std::net::IpAddr;
use std::time::Duration;

use crate::bgp;
use crate::build::Report;
use crate::build::values::{Limits, interval};
use crate::desired::{
    AfiSafi, Family, GracefulRestart, MaxPrefix, MaxPrefixAction, Neighbor, RestartMode, Timers, Ttl,
};
use crate::words::Interval;

const HOUR: u64 = 3600;
const MAX_PREFIX: u32 = 1_000_000;
const WARN_AT: u8 = 80;

/// Hold Time 90 s, keepalive a third of it, ConnectRetry 5 s, IdleHold up to 60 s.
pub(super) fn timers(report: &mut Report<'_>, spec: Option<&bgp::Timers>) -> Option<Timers> {
    let default = bgp::Timers::default();
    let spec = spec.unwrap_or(&default);
    let hold = hold(report, spec.hold.as_ref());
    let keepalive = match (&spec.keepalive, hold) {
        (Some(written), hold) => keepalive(report, written, hold),
        (None, hold) => hold.map(|hold| hold / 3),
    };
    let within_an_hour = Limits { least: 1, most: HOUR, remedy: "use 1s to 1h" };
    let mut other = |path, written: Option<&Interval>, default| match written {
        Some(written) => interval(report, path, written, &within_an_hour),
        None => Some(Duration::from_secs(default)),
    };
    let connect_retry = other("spec.timers.connectRetry", spec.connect_retry.as_ref(), 5);
    let idle_hold_max = other("spec.timers.idleHoldMax", spec.idle_hold_max.as_ref(), 60);
    Some(Timers {
        hold: hold?,
        keepalive: keepalive?,
        connect_retry: connect_retry?,
        idle_hold_max: idle_hold_max?,
    })
}

/// RFC 4271 section 4.2: zero or at least three seconds, in 16 bits.
fn hold(report: &mut Report<'_>, written: Option<&Interval>) -> Option<Duration> {
    const PATH: &str = "spec.timers.hold";
    let Some(written) = written else { return Some(Duration::from_secs(90)) };
    let limits = Limits { least: 0, most: 65535, remedy: "use 0s (off), or 3s to 65535s" };
    let hold = interval(report, PATH, written, &limits)?;
    if matches!(hold.as_secs(), 1 | 2) {
        return report.refuse(PATH, format!("{} is not allowed; use 0s (off) or at least 3s", written.0));
    }
    Some(hold)
}

fn keepalive(report: &mut Report<'_>, written: &Interval, hold: Option<Duration>) -> Option<Duration> {
    const PATH: &str = "spec.timers.keepalive";
    let limits = Limits { least: 0, most: 65535 / 3, remedy: "use at most a third of hold" };
    let keepalive = interval(report, PATH, written, &limits)?;
    let hold = hold?;
    if hold.is_zero() != keepalive.is_zero() {
        let message = if hold.is_zero() {
            format!("{} is not allowed with hold 0s, which turns it off; use 0s or remove it", written.0)
        } else {
            format!(
                "{} is not allowed; use 1s to {}s, or hold: 0s to turn both off",
                written.0,
                hold.as_secs() / 3
            )
        };
        return report.refuse(PATH, message);
    }
    if keepalive > hold / 3 {
        let message = format!(
            "{} is more than a third of hold, {}s; use at most {}s",
            written.0,
            hold.as_secs(),
            hold.as_secs() / 3
        );
        return report.refuse(PATH, message);
    }
    Some(keepalive)
}

/// Multihop 1 unless said otherwise.
pub(super) fn ttl(
    report: &mut Report<'_>,
    spec: Option<&bgp::Ttl>,
    neighbor: Option<&Neighbor>,
) -> Option<Ttl> {
    let ttl = match spec.map(|spec| (spec.multihop, spec.security)) {
        Some((Some(_), Some(_))) => {
            return report.refuse("spec.ttl", "multihop and security are both given; keep one");
        }
        Some((None, None)) => {
            return report.refuse("spec.ttl", "is empty; give multihop or security, or remove it");
        }
        Some((None, Some(hops))) => Ttl::Security(hops),
        Some((Some(hops), None)) => Ttl::Multihop(hops),
        None => Ttl::Multihop(1),
    };
    let link_local = matches!(neighbor, Some(Neighbor::Address { interface: Some(_), .. }));
    match ttl {
        Ttl::Multihop(hops @ 2..) if link_local => report.refuse(
            "spec.ttl.multihop",
            format!("{hops} is not allowed: a link-local neighbour is one hop away; remove it"),
        ),
        Ttl::Security(hops @ 2..) if link_local => report.refuse(
            "spec.ttl.security",
            format!("{hops} is not allowed: a link-local neighbour is one hop away; use 1"),
        ),
        ttl => Some(ttl),
    }
}

/// `Auto`: a router helps and does not ask, so that a dead one is not kept for two minutes.
pub(super) fn graceful_restart(
    report: &mut Report<'_>,
    spec: Option<&bgp::GracefulRestart>,
    transit: bool,
) -> Option<GracefulRestart> {
    let default = bgp::GracefulRestart::default();
    let spec = spec.unwrap_or(&default);
    let mode = match spec.mode.unwrap_or(bgp::GracefulRestartMode::Auto) {
        bgp::GracefulRestartMode::Auto if transit => RestartMode::Helper,
        bgp::GracefulRestartMode::Auto | bgp::GracefulRestartMode::Restarter => RestartMode::Restarter,
        bgp::GracefulRestartMode::Helper => RestartMode::Helper,
        bgp::GracefulRestartMode::Disabled => RestartMode::Disabled,
    };
    // 12 bits on the wire (RFC 4724 section 3).
    let limits = Limits { least: 1, most: 4095, remedy: "use 1s to 4095s" };
    let restart_time = match &spec.restart_time {
        Some(written) => interval(report, "spec.gracefulRestart.restartTime", written, &limits),
        None => Some(Duration::from_secs(120)),
    };
    let limits = Limits { least: 1, most: HOUR, remedy: "use 1s to 1h" };
    let stale_path_time = match &spec.stale_path_time {
        Some(written) => interval(report, "spec.gracefulRestart.stalePathTime", written, &limits),
        None => Some(Duration::from_secs(360)),
    };
    Some(GracefulRestart { mode, restart_time: restart_time?, stale_path_time: stale_path_time? })
}

/// Without a list: the family of the neighbour's address, or those of the ranges.
pub(super) fn families(
    report: &mut Report<'_>,
    written: &[bgp::Family],
    neighbor: Option<&Neighbor>,
) -> Option<Vec<Family>> {
    if written.is_empty() {
        return Some(default_families(neighbor?));
    }
    let mut families: Vec<Family> = Vec::new();
    for (index, spec) in written.iter().enumerate() {
        let path = format!("spec.families[{index}]");
        let (bgp::Afi::Ipv4 | bgp::Afi::Ipv6, bgp::Safi::Unicast) = (spec.afi, spec.safi);
        let afi_safi = match spec.afi {
            bgp::Afi::Ipv4 => AfiSafi::Ipv4Unicast,
            bgp::Afi::Ipv6 => AfiSafi::Ipv6Unicast,
        };
        if families.iter().any(|family| family.afi_safi == afi_safi) {
            report.refuse::<()>(&path, format!("{afi_safi} is given twice; keep one"));
        }
        let ipv4 = afi_safi == AfiSafi::Ipv4Unicast;
        if !ipv4 && spec.extended_next_hop == Some(bgp::ExtendedNextHop::Enabled) {
            let message = "Enabled is for afi ipv4 only (RFC 8950); use Auto or remove it";
            report.refuse::<()>(&format!("{path}.extendedNextHop"), message);
        }
        let extended_next_hop = ipv4 && spec.extended_next_hop != Some(bgp::ExtendedNextHop::Disabled);
        families.push(Family {
            afi_safi,
            extended_next_hop,
            max_prefix: max_prefix(spec.max_prefix.as_ref()),
        });
    }
    Some(families)
}

fn default_families(neighbor: &Neighbor) -> Vec<Family> {
    let addresses: Vec<IpAddr> = match neighbor {
        Neighbor::Address { address, .. } => vec![*address],
        Neighbor::Listen { ranges, .. } => ranges.iter().map(|range| range.addr()).collect(),
    };
    let family =
        |afi_safi, extended_next_hop| Family { afi_safi, extended_next_hop, max_prefix: max_prefix(None) };
    let ipv4 = addresses.iter().any(IpAddr::is_ipv4).then(|| family(AfiSafi::Ipv4Unicast, true));
    let ipv6 = addresses.iter().any(IpAddr::is_ipv6).then(|| family(AfiSafi::Ipv6Unicast, false));
    ipv4.into_iter().chain(ipv6).collect()
}

fn max_prefix(spec: Option<&bgp::MaxPrefix>) -> MaxPrefix {
    let default = bgp::MaxPrefix::default();
    let spec = spec.unwrap_or(&default);
    MaxPrefix {
        limit: spec.limit.unwrap_or(MAX_PREFIX),
        warn_at: spec.warn_at.unwrap_or(WARN_AT),
        action: match spec.action.unwrap_or(bgp::MaxPrefixAction::Restart) {
            bgp::MaxPrefixAction::Warn => MaxPrefixAction::Warn,
            bgp::MaxPrefixAction::Block => MaxPrefixAction::Block,
            bgp::MaxPrefixAction::Restart => MaxPrefixAction::Restart,
            bgp::MaxPrefixAction::Down => MaxPrefixAction::Down,
        },
    }
}
