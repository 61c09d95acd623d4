//! Traffic meter: many UDP flows between namespaces, every packet numbered and accounted for.
//!
//! In: pairs of [`Side`]s and a [`Plan`]. Out: a [`Report`] that says, per flow, what was lost, when,
//! and for how long nothing arrived. Beside it: [`tcp`] transfers and lasting connections, [`echo`]
//! (ICMP and ICMPv6), [`counters`] of interfaces, which prove the path that packets took, [`pulse`]s, which show
//! to a fraction of a millisecond when packets take another way, and [`kernel`],
//! which records what a kernel announces meanwhile. Used by `towpath lab test` and by every test of failures.
//! It knows nothing of BGP and depends on no other part of towpath.
//!
//! ```no_run
//! # use meter::{Meter, Pair, Plan, Side, netns::Netns};
//! # fn main() -> anyhow::Result<()> {
//! # let (a, b) = (Netns::fresh()?, Netns::fresh()?);
//! let pair = Pair {
//!     a: Side { netns: a, v4: Some("10.1.0.1".parse()?), v6: None },
//!     b: Side { netns: b, v4: Some("10.2.0.1".parse()?), v6: None },
//! };
//! let meter = Meter::start(&[pair], Plan::default())?;
//! // ... something breaks ...
//! let report = meter.stop()?;
//! assert!(report.longest_gap().as_millis() <= 50, "{report}");
//! # Ok(())
//! # }
//! ```

pub mod counters;
pub mod echo;
pub mod kernel;
pub mod netns;
pub mod pulse;
mod report;
mod syscall;
pub mod tcp;
#[cfg(test)]
mod tests;
mod udp;
pub mod wait;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;

pub use report::{FlowReport, LostRange, Report};

use crate::netns::Netns;
use udp::{Direction, Schedule};

/// One end of the traffic: where its sockets are made and the addresses they use.
#[derive(Debug, Clone)]
pub struct Side {
    /// The namespace of the sockets.
    pub netns: Netns,
    /// Its IPv4 address; without one on either side there are no IPv4 flows.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address; without one on either side there are no IPv6 flows.
    pub v6: Option<Ipv6Addr>,
}

/// Two ends that send to each other, both ways at once.
#[derive(Debug, Clone)]
pub struct Pair {
    /// One end.
    pub a: Side,
    /// The other.
    pub b: Side,
}

impl Pair {
    /// The address pairs of one direction, as (from, to).
    fn addresses(from: &Side, to: &Side) -> Vec<(IpAddr, IpAddr)> {
        let v4 = from.v4.zip(to.v4).map(|(from, to)| (IpAddr::V4(from), IpAddr::V4(to)));
        let v6 = from.v6.zip(to.v6).map(|(from, to)| (IpAddr::V6(from), IpAddr::V6(to)));
        v4.into_iter().chain(v6).collect()
    }
}

/// How much traffic.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Flows per direction and address family of each pair. Their source ports differ, so a multipath
    /// hash over ports spreads them: the chance that `n` flows share one of two paths is 2^(1-n).
    pub flows: usize,
    /// Packets per second of each flow, at most 100,000.
    pub rate: u32,
    /// Bytes of UDP payload, at least 32.
    pub payload_bytes: usize,
    /// The first source port; flow `i` uses this plus `i`.
    pub source_port: u16,
    /// The port the receivers bind.
    pub port: u16,
    /// How long to try, before the run, until a packet of every flow has arrived (this also fills the
    /// neighbour tables). Zero: start at once, whatever arrives.
    pub warm_up: Duration,
    /// Senders stop by themselves after this time, so that a forgotten meter ends.
    pub longest: Duration,
}

impl Default for Plan {
    /// 8 flows per direction and family at 1 kHz: 32 flows in all with both families.
    fn default() -> Self {
        Self {
            flows: 8,
            rate: 1000,
            payload_bytes: 64,
            source_port: 40_001,
            port: 9200,
            warm_up: Duration::from_secs(5),
            longest: Duration::from_secs(120),
        }
    }
}

/// Traffic that is running. Dropping it without [`Meter::stop`] ends the traffic too.
#[derive(Debug)]
pub struct Meter {
    stop: Arc<AtomicBool>,
    running: Vec<JoinHandle<anyhow::Result<udp::Outcome>>>,
    interval: Duration,
    started: Instant,
    started_ns: u64,
}

impl Meter {
    /// Makes the sockets, waits until every flow gets through, and starts all flows.
    ///
    /// # Errors
    /// When an address cannot be bound, or when a flow does not get through within `plan.warm_up`;
    /// the message names those flows.
    pub fn start(pairs: &[Pair], plan: Plan) -> anyhow::Result<Self> {
        if plan.payload_bytes < udp::HEADER || plan.rate == 0 || plan.rate > 100_000 || plan.flows == 0 {
            bail!(
                "a plan needs at least one flow, 1 to 100000 packets/s and {} bytes of payload",
                udp::HEADER
            );
        }
        let started_ns = now_ns();
        // Distinguishes this run's packets from late ones of the run before.
        let run = (started_ns as u32) ^ std::process::id();
        let mut directions = Vec::new();
        for pair in pairs {
            for (from, to) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
                directions.push(Direction::open(from, to, &Pair::addresses(from, to), &plan, run)?);
            }
        }
        if !plan.warm_up.is_zero() {
            warm_up(&mut directions, plan.warm_up)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) / plan.rate;
        let started = Instant::now();
        let started_ns = now_ns();
        let schedule = Schedule { started, rate: plan.rate, longest: plan.longest };
        let running = directions.into_iter().flat_map(|direction| direction.start(schedule, &stop)).collect();
        Ok(Self { stop, running, interval, started, started_ns })
    }

    /// Time since the first packet: the same clock as the times in the report.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Stops sending, gives packets under way 300 ms to arrive, and sums up.
    ///
    /// # Errors
    /// When a socket failed for good while running.
    pub fn stop(mut self) -> anyhow::Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let duration = self.started.elapsed();
        let mut flows: Vec<report::FlowLog> = Vec::new();
        let mut received = Vec::new();
        let mut sender_late = Duration::ZERO;
        for thread in self.running.drain(..) {
            let outcome =
                thread.join().map_err(|_| anyhow::anyhow!("a thread of the traffic meter panicked"))??;
            match outcome {
                udp::Outcome::Sent { flows: sent, late } => {
                    sender_late = sender_late.max(late);
                    flows.extend(sent);
                }
                udp::Outcome::Received(logs) => received.extend(logs),
            }
        }
        // Sender and receiver of a flow kept one half of its log each.
        for (log, mut arrived) in flows.iter_mut().zip(received) {
            arrived.sent = std::mem::take(&mut log.sent);
            arrived.send_errors = log.send_errors;
            *log = arrived;
        }
        let flows = flows.iter().map(|flow| flow.report(self.started_ns, self.interval)).collect();
        Ok(Report { flows, duration, sender_late })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn warm_up(directions: &mut [Direction], limit: Duration) -> anyhow::Result<()> {
    // Greetings still on their way when this ends are known by their number and ignored.
    crate::wait::until(limit, "a packet of every flow to arrive", || {
        let mut silent = Vec::new();
        for direction in directions.iter_mut() {
            silent.extend(direction.greet()?);
        }
        if silent.is_empty() {
            return Ok(Some(()));
        }
        bail!("nothing arrived of {} flows: {}", silent.len(), silent.join(", "));
    })
}

/// Nanoseconds since 1970, the clock of the kernel's arrival stamps.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
