//! What `towpath status` shows of the kernel's routes.

use std::collections::BTreeSet;
use std::time::Instant;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::groups::{Group, GroupState, Reach};
use super::table::{PLAIN, Pending, State};
use super::{Fib, Resend};
use crate::kernel::sysctl::SysctlChange;

/// Lines of each list; the counts are complete.
const LISTED: usize = 100;

/// A snapshot for people and for JSON. Ages are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FibStatus {
    /// IPv4 routes of ours in the kernel.
    pub routes_v4: u64,
    /// IPv6 routes of ours in the kernel.
    pub routes_v6: u64,
    /// Of both, those found at start and not claimed by the RIB yet.
    pub unclaimed: u64,
    /// Nexthop groups.
    pub groups: u64,
    /// Nexthop objects.
    pub nexthops: u64,
    /// Blackholes of originated aggregates.
    pub blackholes: u64,
    /// Prefixes with something still to do, refused and foreign ones not counted.
    pub pending: u64,
    /// Of the pending ones, those whose next hops lead nowhere.
    pub waiting: u64,
    /// Next hops that lead nowhere, also those that only the route that needs them would lead to.
    pub unreachable: Vec<String>,
    /// Number of refused prefixes and objects.
    pub failed_count: u64,
    /// The first of them.
    pub failed: Vec<FailedRoute>,
    /// Number of prefixes another's route is in the way of.
    pub foreign_count: u64,
    /// The first of them.
    pub foreign: Vec<ForeignRoute>,
    /// Objects of ours that others deleted or changed, put back since the start.
    pub repaired: u64,
    /// The last of them, with who did it.
    pub repairs: Vec<RepairLine>,
    /// Differences between kernel and what was thought to be there, at the last comparison.
    pub drift: u64,
    /// How often everything was read anew.
    pub resyncs: u64,
    /// Everything wanted is in the kernel, and nothing else of ours.
    pub converged: bool,
    /// Netlink requests written that change something.
    pub messages: u64,
    /// Sysctls changed at start, with their old values.
    pub sysctls: Vec<SysctlChange>,
    /// What could not be set up, in words.
    pub warnings: Vec<String>,
    /// Smallest MTU of the links that learned routes lead over, in octets; `None`: there are none.
    #[serde(default)]
    pub uplink_mtu: Option<u32>,
}

/// A request the kernel refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRoute {
    /// Prefix, or `nexthop N` / `group N`.
    pub what: String,
    /// Positive errno.
    pub errno: i32,
    /// The errno in words, with the kernel's own.
    pub error: String,
    /// Since when.
    pub age_ms: u64,
}

/// A prefix with a route of another protocol under our table and metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForeignRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// `rtm_protocol` of the other's route, if known.
    pub protocol: Option<u8>,
    /// Since when.
    pub age_ms: u64,
}

/// A repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairLine {
    /// What was deleted or changed.
    pub what: String,
    /// By whom, as far as known.
    pub who: String,
    /// When.
    pub age_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Repair {
    pub(super) at: Instant,
    pub(super) what: String,
    pub(super) who: String,
}

impl Fib {
    /// Interfaces that routes in the kernel lead over.
    pub fn links(&self) -> BTreeSet<u32> {
        let present = self.groups.hops.iter().filter(|(_, hop)| hop.present);
        present.map(|(_, hop)| hop.hop.ifindex).collect()
    }

    /// A snapshot; the driver adds what only it knows.
    pub fn status(&self, now: Instant) -> FibStatus {
        let age = |since: Instant| {
            u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
        };
        let live = || self.groups.groups.iter().filter(|(_, group)| group.state == GroupState::Live);
        let plain_v6 =
            self.adopted.iter().filter(|(prefix, g)| **g == PLAIN && matches!(prefix, IpNet::V6(_))).count();
        let routes = |family: usize| live().map(|(_, group)| u64::from(group.users[family])).sum::<u64>();
        let mut failed = Vec::new();
        let mut foreign = Vec::new();
        for (slot, failure) in &self.failures {
            // Refused until the kernel has taken it: also while it is tried once more.
            let tried = |entry: &&Pending| !matches!(entry.state, State::Waiting | State::Deferred);
            let Some(entry) = self.table.pending(*slot).filter(tried) else { continue };
            let (prefix, age_ms) = (entry.prefix, age(failure.since));
            match failure.foreign {
                Some(protocol) => foreign.push(ForeignRoute { prefix, protocol, age_ms }),
                None => failed.push(FailedRoute {
                    what: prefix.to_string(),
                    errno: failure.refusal.errno,
                    error: failure.refusal.to_string(),
                    age_ms,
                }),
            }
        }
        let parked = failed.len() + foreign.len();
        failed.extend(self.failed_objects(age));
        let (failed_count, foreign_count) = (failed.len(), foreign.len());
        failed.sort_by(|a, b| a.what.cmp(&b.what));
        foreign.sort_by_key(|foreign| foreign.prefix);
        failed.truncate(LISTED);
        foreign.truncate(LISTED);
        let pending =
            self.table.pending_len().saturating_sub(parked) + self.strays.len() + self.stray_retry.len();
        FibStatus {
            routes_v4: routes(0) + u64::from(self.plain_users) - plain_v6 as u64,
            routes_v6: routes(1) + plain_v6 as u64,
            unclaimed: (self.adopted.len() + self.former.len()) as u64,
            groups: live().count() as u64,
            nexthops: self.groups.hops.iter().filter(|(_, hop)| hop.present).count() as u64,
            blackholes: self.blackholes.len() as u64,
            pending: pending as u64,
            waiting: self.waiting() as u64,
            unreachable: self.unreachable(),
            failed_count: failed_count as u64,
            failed,
            foreign_count: foreign_count as u64,
            foreign,
            repaired: self.repaired,
            repairs: self
                .repairs
                .iter()
                .map(|repair| RepairLine {
                    what: repair.what.clone(),
                    who: repair.who.clone(),
                    age_ms: age(repair.at),
                })
                .collect(),
            drift: self.drift,
            resyncs: self.resyncs,
            converged: self.complete(),
            ..FibStatus::default()
        }
    }

    /// Everything wanted is in the kernel, as far as is known, and nothing else of ours.
    fn complete(&self) -> bool {
        let as_wanted = |group: &Group| group.state == GroupState::Live || group.users() == 0;
        self.swept()
            && self.is_quiet()
            && self.table.pending_len() == 0
            && self.resend == Resend::No
            && self.groups.dirty.is_empty()
            && self.groups.groups.iter().all(|(_, group)| as_wanted(group))
    }

    fn failed_objects(&self, age: impl Fn(Instant) -> u64) -> Vec<FailedRoute> {
        let line = |what: String, refusal: &super::Refusal, since: Instant| FailedRoute {
            what,
            errno: refusal.errno,
            error: refusal.to_string(),
            age_ms: age(since),
        };
        let hops = self.groups.hops.iter().filter_map(|(_, hop)| {
            let blocked = hop.blocked.as_ref()?;
            let what = format!("nexthop {} on interface {}", hop.hop.gateway, hop.hop.ifindex);
            Some(line(what, &blocked.refusal, blocked.since))
        });
        let groups = self.groups.groups.iter().filter_map(|(_, group)| {
            let blocked = group.blocked.as_ref()?;
            Some(line(format!("nexthop group {}", group.id), &blocked.refusal, blocked.since))
        });
        let blackholes = self
            .blackholes
            .refused()
            .map(|(prefix, refusal, since)| line(format!("blackhole {prefix}"), refusal, since));
        hops.chain(groups).chain(blackholes).collect()
    }

    fn unreachable(&self) -> Vec<String> {
        let nowhere = self.groups.nexthops.iter().filter(|(_, state)| state.reach == Reach::Nowhere);
        let mut names: Vec<String> = nowhere.map(|(nexthop, _)| nexthop.address.to_string()).collect();
        let waiting = self.table.all_pending().filter(|(_, entry)| entry.state == State::Waiting);
        let circular = waiting.filter_map(|(_, entry)| {
            let nexthop = self.groups.within_itself(entry.want, &entry.prefix)?;
            Some(format!("{} of {}, reached by that route only,", nexthop.address, entry.prefix))
        });
        names.extend(circular);
        names.sort();
        names.truncate(LISTED);
        names
    }
}
