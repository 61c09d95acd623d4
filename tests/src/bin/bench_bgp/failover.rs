//! Two switches announce the same table, the kernel spreads packets over both, and one of them goes: its TCP
//! connection is reset while it goes on forwarding, or its link fails.
//!
//! Packets to several prefixes, from every part of the table, that take the failing way are sent at short intervals
//! all the while; the time of a prefix is that of its first packet by the other way. A netlink monitor notes what the
//! kernel tells of routes and nexthop objects (of what it removes by itself on carrier loss it tells nothing).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ipnet::IpNet;
use netlink::{Batch, Socket};
use towpath_tests::feeder::load::{self, Group};
use towpath_tests::meter::kernel::{Kind, Notice, Recorder};
use towpath_tests::meter::now_ns;
use towpath_tests::meter::pulse::{Packets, Pulse};
use towpath_tests::netns::Netns;
use towpath_tests::wait;

use crate::compare;
use crate::contender::Contender;
use crate::converge::{SEED, milliseconds};
use crate::results::{Family, Sample};
use crate::rig::{self, Clocks, LIMIT, Rig};

/// The switch that goes.
const FAILING: u8 = 1;
/// The switch that stays.
const STAYING: u8 = 2;
/// Where packets come from.
const SOURCE: u8 = 3;
/// Prefixes that packets are sent to.
const FLOWS: usize = 8;
/// Addresses tried in each, of which about half take the failing way.
const TRIED: u32 = 24;
const PORT: u16 = 9300;
const INTERVAL: Duration = Duration::from_micros(200);
/// While looking which way a destination takes there is no hurry.
const SLOW: Duration = Duration::from_millis(10);
/// All is over when the kernel told nothing for this long.
const QUIET: Duration = Duration::from_millis(200);

/// How a switch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its BGP connection, by a TCP reset.
    Reset,
    /// Its link.
    Link,
}

pub(crate) fn run(
    contender: Contender,
    family: Family,
    routes: usize,
    event: Event,
) -> anyhow::Result<(Sample, String)> {
    let tables = [FAILING, STAYING].map(|i| rig::table(family, i, routes, SEED));
    let [failing, staying] = [FAILING, STAYING].map(|i| rig::neighbor(family, i));
    let rig = Rig::new(contender, family, 3, 2)?;
    let daemon = &rig.links.daemon;
    for (i, table) in [FAILING, STAYING].into_iter().zip(&tables) {
        rig.tape(i).send(&load::announcements(table))?;
    }
    wait::until(LIMIT, "all routes by both switches", || {
        compare::kernel(&tables[0], daemon, &[failing, staying]).map(Some)
    })?;
    let prefixes = chosen(&tables[0]);
    roads(&rig, &prefixes)?;
    let to = by_failing(&rig, &prefixes)?;

    let places = [rig.links.neighbor(FAILING), rig.links.neighbor(STAYING)];
    let told = Arc::new(Mutex::new(Instant::now()));
    let telling = Arc::clone(&told);
    let recorder = Recorder::watch(daemon, move |notices| {
        if !notices.is_empty() {
            *telling.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    })?;
    let pulse = Pulse::start(rig.links.neighbor(SOURCE), &to, &places, PORT, INTERVAL)?;
    until_all(&pulse, 0, "packets by the failing switch")?;
    let link = Link::open(rig.links.neighbor(FAILING))?;
    let clocks = Clocks::read(rig.processes())?;
    let (at, at_ns) = (Instant::now(), now_ns());
    match event {
        Event::Reset => rig.tape(FAILING).reset()?,
        Event::Link => link.down()?,
    }
    until_all(&pulse, 1, "packets by the other switch")?;
    wait::until(LIMIT, "the kernel to be quiet", || {
        let last = *told.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((last.max(at).elapsed() > QUIET).then_some(()))
    })?;
    let spent = clocks.spent(rig.processes())?;
    let (packets, started) = (pulse.stop()?, recorder.started());
    let notices = recorder.stop()?;
    wait::until(LIMIT, "all routes by the other switch", || {
        compare::kernel(&tables[1], daemon, &[staying]).map(Some)
    })?;
    let mut sample = by_packets(&packets, at_ns)?;
    sample.extend(by_notices(&notices, at.saturating_duration_since(started)));
    sample.extend([("CPU s", spent.daemon.as_secs_f64()), ("others' CPU s", spent.others.as_secs_f64())]);
    Ok((sample, rig.version))
}

/// Prefixes from all parts of the table, none of them within another.
fn chosen(table: &[Group]) -> Vec<IpNet> {
    let all = rig::prefixes(table);
    let longest = all.iter().map(IpNet::prefix_len).max().unwrap_or(0);
    let long: Vec<IpNet> = all.into_iter().filter(|prefix| prefix.prefix_len() == longest).collect();
    (0..FLOWS).filter_map(|n| long.get(n * long.len().saturating_sub(1) / (FLOWS - 1)).copied()).collect()
}

/// Lets the daemon's namespace forward, and both switches take what comes to the prefixes.
fn roads(rig: &Rig, prefixes: &[IpNet]) -> anyhow::Result<()> {
    let sysctl =
        if rig.family == Family::V4 { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" };
    rig.links.daemon.sysctl(sysctl, "1")?;
    let family = if rig.family == Family::V4 { "-4" } else { "-6" };
    for i in [FAILING, STAYING, SOURCE] {
        let gateway = rig::daemon(rig.family, i);
        rig.links.neighbor(i).ip(&format!("{family} route add default via {gateway}"))?;
    }
    for i in [FAILING, STAYING] {
        for prefix in prefixes {
            rig.links.neighbor(i).ip(&format!("{family} route add local {prefix} dev lo"))?;
        }
    }
    Ok(())
}

/// An address in each prefix to which packets take the failing way.
fn by_failing(rig: &Rig, prefixes: &[IpNet]) -> anyhow::Result<Vec<IpAddr>> {
    let tried: Vec<IpAddr> = prefixes.iter().flat_map(|prefix| hosts(*prefix)).collect();
    let places = [rig.links.neighbor(FAILING), rig.links.neighbor(STAYING)];
    let pulse = Pulse::start(rig.links.neighbor(SOURCE), &tried, &places, PORT, SLOW)?;
    wait::until(LIMIT, "packets to every prefix", || {
        let missing = (0..tried.len()).filter(|number| pulse.latest(*number).is_none()).count();
        ensure!(missing == 0, "{missing} of {} destinations get none", tried.len());
        Ok(Some(()))
    })?;
    let found = tried.chunks(TRIED as usize).enumerate().map(|(prefix, hosts)| {
        let first = prefix * TRIED as usize;
        let by_failing = (0..hosts.len()).find(|host| pulse.latest(first + host) == Some(0));
        by_failing.and_then(|host| hosts.get(host).copied()).with_context(|| {
            format!("{TRIED} destinations in {}, and none by the failing switch", prefixes[prefix])
        })
    });
    let found = found.collect::<anyhow::Result<Vec<IpAddr>>>()?;
    pulse.stop()?;
    Ok(found)
}

/// The first addresses of a prefix.
fn hosts(prefix: IpNet) -> Vec<IpAddr> {
    (1..=TRIED)
        .map(|host| match prefix.network() {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + host).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + u128::from(host)).into()),
        })
        .collect()
}

fn until_all(pulse: &Pulse, receiver: usize, what: &str) -> anyhow::Result<()> {
    wait::until(LIMIT, what, || {
        let there = (0..FLOWS).filter(|flow| pulse.latest(*flow) == Some(receiver)).count();
        if there == FLOWS { Ok(Some(())) } else { bail!("{there} of {FLOWS} destinations") }
    })
}

/// When the first and the last destination went over, what was lost, and how finely that is seen.
fn by_packets(packets: &Packets, at_ns: u64) -> anyhow::Result<Sample> {
    let moves = (0..FLOWS)
        .map(|flow| {
            packets.moved(flow, 1).with_context(|| format!("destination {flow} did not go over for good"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let since = |time: u64| time.saturating_sub(at_ns) as f64 / 1e6;
    let times = || moves.iter().map(|moved| moved.at_ns);
    let (first, last) = times().min().zip(times().max()).context("no destinations")?;
    let lost: u64 = moves.iter().map(|moved| moved.lost).sum();
    Ok(vec![
        ("first prefix ms", since(first)),
        ("last prefix ms", since(last)),
        ("packets lost", lost as f64),
        ("probe ms", milliseconds(packets.longest_interval_within(at_ns.saturating_sub(1_000_000), last))),
    ])
}

/// When the kernel told first and last of a change, and how often. `at`: the event, as notices count.
fn by_notices(notices: &[Notice], at: Duration) -> Sample {
    let kinds = [Kind::NewRoute, Kind::DelRoute, Kind::NewNexthop, Kind::DelNexthop];
    let told = || notices.iter().filter(|notice| kinds.contains(&notice.kind) && notice.at >= at);
    let since = |notice: &Notice| milliseconds(notice.at - at);
    let mut sample = vec![("notices", told().count() as f64)];
    sample.extend(told().next().map(|notice| ("first notice ms", since(notice))));
    sample.extend(told().next_back().map(|notice| ("last notice ms", since(notice))));
    sample
}

/// One end of a link, ready to be set down without starting a program.
struct Link {
    socket: std::cell::RefCell<Socket>,
    index: u32,
}

const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;

impl Link {
    fn open(netns: &Netns) -> anyhow::Result<Self> {
        let (socket, index) = netns.run(|| Ok((Socket::route()?, nix::net::if_::if_nametoindex("eth0")?)))?;
        Ok(Self { socket: socket.into(), index })
    }

    fn down(&self) -> anyhow::Result<()> {
        // struct ifinfomsg: family, type, index, flags, which of the flags count.
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&self.index.to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        let mut batch = Batch::new();
        batch.request("setting a link down", RTM_NEWLINK, 0, |body| body.header(&header));
        Ok(self.socket.borrow_mut().exchange(batch)?)
    }
}

#[cfg(test)]
mod tests {
    use towpath_tests::meter::pulse::Arrival;

    use super::*;

    #[test]
    fn destinations_are_of_every_part_of_the_table_and_within_their_prefix() {
        for family in [Family::V4, Family::V6] {
            let table = rig::table(family, 1, 5000, 1);
            let all = rig::prefixes(&table);
            let chosen = chosen(&table);
            let places: Vec<usize> =
                chosen.iter().filter_map(|prefix| all.iter().position(|other| other == prefix)).collect();
            assert!(
                places.len() == FLOWS && places.is_sorted() && places[0] < 50 && places[FLOWS - 1] > 4950
            );
            for prefix in chosen {
                assert!(hosts(prefix).iter().all(|host| prefix.contains(host)), "{prefix}");
                assert!(
                    all.iter()
                        .filter(|other| other.contains(&prefix.network()))
                        .all(|other| { other.prefix_len() <= prefix.prefix_len() })
                );
            }
        }
    }

    #[test]
    fn times_are_those_of_the_first_and_the_last_destination() {
        let ms = 1_000_000;
        let mut packets = Packets::default();
        for number in 0..20 {
            let at_ns = (10 + number) * ms;
            packets.sent_ns.push(at_ns);
            for destination in 0..FLOWS {
                // Destination d goes over with packet 5 + d, and loses packet 4 + d.
                let over = 5 + destination as u64;
                if number + 1 != over {
                    let receiver = usize::from(number >= over);
                    packets.arrivals.push(Arrival { destination, number, receiver, at_ns });
                }
            }
        }
        let sample = by_packets(&packets, 11 * ms).unwrap();
        assert_eq!(sample[..3], [("first prefix ms", 4.0), ("last prefix ms", 11.0), ("packets lost", 8.0)]);
        packets.arrivals.retain(|arrival| arrival.destination != 3 || arrival.receiver == 0);
        assert!(by_packets(&packets, 11 * ms).is_err());
    }

    #[test]
    fn only_what_is_told_after_the_event_counts() {
        let notice = |kind, at| Notice {
            kind,
            at: Duration::from_millis(at),
            destination: None,
            protocol: None,
            table: None,
            replaced: false,
        };
        let notices = [
            notice(Kind::NewRoute, 1),
            notice(Kind::DelLink, 6),
            notice(Kind::NewNexthop, 7),
            notice(Kind::DelRoute, 9),
        ];
        let sample = by_notices(&notices, Duration::from_millis(5));
        assert_eq!(sample, [("notices", 2.0), ("first notice ms", 2.0), ("last notice ms", 4.0)]);
        assert_eq!(by_notices(&notices, Duration::from_millis(50)), [("notices", 0.0)]);
    }

    #[test]
    fn a_link_that_is_set_down_loses_its_carrier() {
        let (one, other) = (Netns::fresh().unwrap(), Netns::fresh().unwrap());
        one.link(("peer1", &[]), &other, ("eth0", &[])).unwrap();
        Link::open(&other).unwrap().down().unwrap();
        wait::until(Duration::from_secs(5), "no carrier", || {
            Ok(one.ip("link show peer1")?.contains("NO-CARRIER").then_some(()))
        })
        .unwrap();
    }
}
