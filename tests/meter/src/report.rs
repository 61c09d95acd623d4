//! What became of each packet: the accounting of the traffic meter, without any I/O.
//!
//! In: for each flow, when each sequence number was sent and when it arrived. Out: loss, gaps,
//! duplicates and reordering per flow and in total.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Raw records of one flow. Times are nanoseconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct FlowLog {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// By sequence number.
    pub(super) sent: Vec<u64>,
    /// By sequence number: first arrival, 0 where there was none.
    pub(super) arrived: Vec<u64>,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) send_errors: u64,
    highest: Option<u64>,
}

impl FlowLog {
    pub(super) fn new(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            from,
            to,
            sent: Vec::new(),
            arrived: Vec::new(),
            duplicates: 0,
            reordered: 0,
            send_errors: 0,
            highest: None,
        }
    }

    /// Notes an arrival. `limit` is the number of packets the run can have: what claims a higher
    /// sequence number is not ours. Returns whether it was the first of its number.
    pub(super) fn arrive(&mut self, sequence: u64, time: u64, limit: u64) -> bool {
        if sequence >= limit {
            return false;
        }
        let Ok(index) = usize::try_from(sequence) else { return false };
        if index >= self.arrived.len() {
            self.arrived.resize(index + 1, 0);
        }
        if self.arrived[index] != 0 {
            self.duplicates += 1;
            return false;
        }
        self.arrived[index] = time.max(1);
        if self.highest.is_some_and(|highest| highest > sequence) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(sequence));
        true
    }

    /// Sums up. `started` is the time zero of the report, `interval` the time between two packets.
    pub(super) fn report(&self, started: u64, interval: Duration) -> FlowReport {
        let since = |time: u64| Duration::from_nanos(time.saturating_sub(started));
        let arrival = |index: usize| self.arrived.get(index).copied().unwrap_or(0);
        let mut lost_ranges: Vec<LostRange> = Vec::new();
        let mut open: Option<usize> = None;
        for index in 0..=self.sent.len() {
            let lost = index < self.sent.len() && arrival(index) == 0;
            match (open, lost) {
                (None, true) => open = Some(index),
                (Some(first), false) => {
                    lost_ranges.push(LostRange {
                        first: first as u64,
                        last: index as u64 - 1,
                        sent_first: since(self.sent[first]),
                        sent_last: since(self.sent[index - 1]),
                        ended: self.sent.get(index).map(|&time| since(time)),
                    });
                    open = None;
                }
                _ => {}
            }
        }
        let received = self.sent.len() as u64 - lost_ranges.iter().map(LostRange::packets).sum::<u64>();
        FlowReport {
            from: self.from,
            to: self.to,
            sent: self.sent.len() as u64,
            received,
            duplicates: self.duplicates,
            reordered: self.reordered,
            send_errors: self.send_errors,
            longest_gap: self.longest_gap(interval),
            lost_ranges,
        }
    }

    fn longest_gap(&self, interval: Duration) -> Duration {
        let mut arrivals: Vec<u64> = self.arrived.iter().copied().filter(|&time| time != 0).collect();
        arrivals.sort_unstable();
        let longest = arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Duration::from_nanos(longest).saturating_sub(interval)
    }
}

/// Consecutive sequence numbers that never arrived. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// First lost sequence number.
    pub first: u64,
    /// Last lost sequence number.
    pub last: u64,
    /// When the first lost packet was sent.
    pub sent_first: Duration,
    /// When the last lost packet was sent.
    pub sent_last: Duration,
    /// When the packet was sent that got through again; `None` when the run ended before.
    pub ended: Option<Duration>,
}

impl LostRange {
    /// How many packets were lost.
    pub fn packets(&self) -> u64 {
        self.last - self.first + 1
    }

    /// From the sending of the first lost packet to the sending of the next that got through. The
    /// clock is the sender's, so a receiver that was slow to be scheduled does not show.
    pub fn outage(&self) -> Duration {
        self.ended.unwrap_or(self.sent_last).saturating_sub(self.sent_first)
    }
}

/// What one flow saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowReport {
    /// Sender's address and port.
    pub from: SocketAddr,
    /// Receiver's address and port.
    pub to: SocketAddr,
    /// Packets handed to the kernel, those it refused included.
    pub sent: u64,
    /// Sequence numbers that arrived at least once.
    pub received: u64,
    /// Further arrivals of a sequence number.
    pub duplicates: u64,
    /// Arrivals after one with a higher number.
    pub reordered: u64,
    /// Packets the sender's own kernel refused (no route); they count as lost.
    pub send_errors: u64,
    /// Longest time between two arrivals, less the interval at which packets are sent. Includes pauses
    /// without loss: packets that waited, a sender that was not scheduled.
    pub longest_gap: Duration,
    /// Where packets were lost.
    pub lost_ranges: Vec<LostRange>,
}

impl FlowReport {
    /// Packets that never arrived.
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }

    /// The longest [`LostRange::outage`]; zero without loss.
    pub fn longest_outage(&self) -> Duration {
        self.lost_ranges.iter().map(LostRange::outage).max().unwrap_or_default()
    }
}

/// What all flows of a run saw.
#[derive(Debug, Clone)]
pub struct Report {
    /// One entry per flow: IPv4 and IPv6, both directions.
    pub flows: Vec<FlowReport>,
    /// How long packets were sent.
    pub duration: Duration,
    /// The furthest a sender fell behind its schedule: how busy the machine was.
    pub sender_late: Duration,
}

impl Report {
    /// Packets sent by all flows.
    pub fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    /// Packets that arrived, of all flows.
    pub fn received(&self) -> u64 {
        self.flows.iter().map(|flow| flow.received).sum()
    }

    /// Packets lost by all flows.
    pub fn lost(&self) -> u64 {
        self.flows.iter().map(FlowReport::lost).sum()
    }

    /// Duplicates of all flows.
    pub fn duplicates(&self) -> u64 {
        self.flows.iter().map(|flow| flow.duplicates).sum()
    }

    /// The longest gap of any flow.
    pub fn longest_gap(&self) -> Duration {
        self.flows.iter().map(|flow| flow.longest_gap).max().unwrap_or_default()
    }

    /// The longest outage of any flow.
    pub fn longest_outage(&self) -> Duration {
        self.flows.iter().map(FlowReport::longest_outage).max().unwrap_or_default()
    }

    /// Flows that lost at least one packet.
    pub fn hit(&self) -> impl Iterator<Item = &FlowReport> {
        self.flows.iter().filter(|flow| flow.lost() > 0)
    }
}

/// A total line, then one line for each flow that lost something.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hit = self.hit().count();
        writeln!(
            f,
            "{} flows, {} packets in {:.2} s: {} lost ({hit} flows), {} duplicates, longest gap {:.1} ms, longest outage {:.1} ms, sender late {:.1} ms",
            self.flows.len(),
            self.sent(),
            self.duration.as_secs_f64(),
            self.lost(),
            self.duplicates(),
            milliseconds(self.longest_gap()),
            milliseconds(self.longest_outage()),
            milliseconds(self.sender_late),
        )?;
        for flow in self.hit() {
            let worst = flow.lost_ranges.iter().max_by_key(|range| range.packets());
            let at = worst.map_or(0.0, |range| milliseconds(range.sent_first));
            writeln!(
                f,
                "  {} -> {}: {} of {} lost in {} ranges, gap {:.1} ms, worst at {at:.1} ms",
                flow.from,
                flow.to,
                flow.lost(),
                flow.sent,
                flow.lost_ranges.len(),
                milliseconds(flow.longest_gap),
            )?;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn log(sent: u64, arrivals: &[u64]) -> FlowLog {
        let end = "127.0.0.1:9".parse().unwrap();
        let mut log = FlowLog::new(end, end);
        log.sent = (0..sent).map(|n| (100 + n) * MS).collect();
        // Each arrives 0.1 ms after it was sent, or, when overtaken, together with the one before it.
        let mut clock = 0;
        for &sequence in arrivals {
            clock = clock.max((100 + sequence.min(999)) * MS + MS / 10);
            log.arrive(sequence, clock, 1000);
        }
        log
    }

    #[test]
    fn losses_duplicates_and_reordering_are_told_apart() {
        // name, arrivals of 8 packets sent 1 ms apart, lost, ranges, duplicates, reordered, gap in ms
        type Row = (&'static str, &'static [u64], u64, &'static [(u64, u64)], u64, u64, u64);
        let rows: &[Row] = &[
            ("all arrive", &[0, 1, 2, 3, 4, 5, 6, 7], 0, &[], 0, 0, 0),
            ("hole of three", &[0, 1, 5, 6, 7], 3, &[(2, 4)], 0, 0, 3),
            ("first lost", &[1, 2, 3, 4, 5, 6, 7], 1, &[(0, 0)], 0, 0, 0),
            ("last two lost", &[0, 1, 2, 3, 4, 5], 2, &[(6, 7)], 0, 0, 0),
            ("two holes", &[0, 2, 3, 6, 7], 3, &[(1, 1), (4, 5)], 0, 0, 2),
            ("twice the same", &[0, 1, 1, 2, 3, 4, 5, 6, 7], 0, &[], 1, 0, 0),
            ("one overtaken", &[0, 2, 1, 3, 4, 5, 6, 7], 0, &[], 0, 1, 1),
            ("none", &[], 8, &[(0, 7)], 0, 0, 0),
            ("numbers never sent", &[0, 1, 2, 3, 4, 5, 6, 7, 5000], 0, &[], 0, 0, 0),
        ];
        for (name, arrivals, lost, ranges, duplicates, reordered, gap) in rows {
            let report = log(8, arrivals).report(100 * MS, Duration::from_millis(1));
            assert_eq!(report.lost(), *lost, "{name}: lost");
            let found: Vec<_> = report.lost_ranges.iter().map(|range| (range.first, range.last)).collect();
            assert_eq!(found, *ranges, "{name}: ranges");
            assert_eq!(report.duplicates, *duplicates, "{name}: duplicates");
            assert_eq!(report.reordered, *reordered, "{name}: reordered");
            assert_eq!(report.longest_gap.as_millis(), u128::from(*gap), "{name}: gap");
        }
    }

    #[test]
    fn an_outage_lasts_from_the_first_lost_to_the_next_that_got_through() {
        let report = log(8, &[0, 1, 5, 6, 7]).report(100 * MS, Duration::from_millis(1));
        assert_eq!(report.longest_outage(), Duration::from_millis(3));
        assert_eq!(report.lost_ranges[0].sent_first, Duration::from_millis(2));
        let unended = log(8, &[0, 1, 2]).report(100 * MS, Duration::from_millis(1));
        assert_eq!(unended.longest_outage(), Duration::from_millis(4));
    }

    proptest! {
        #[test]
        fn every_packet_sent_is_either_received_or_in_one_lost_range(
            arrivals in proptest::collection::vec(0u64..60, 0..120), sent in 0u64..60
        ) {
            let arrivals: Vec<u64> = arrivals.into_iter().filter(|&n| n < sent).collect();
            let report = log(sent, &arrivals).report(100 * MS, Duration::from_millis(1));
            let distinct: std::collections::BTreeSet<u64> = arrivals.iter().copied().collect();
            prop_assert_eq!(report.received, distinct.len() as u64);
            prop_assert_eq!(report.duplicates, (arrivals.len() - distinct.len()) as u64);
            for number in 0..sent {
                let ranges = report.lost_ranges.iter().filter(|r| (r.first..=r.last).contains(&number)).count();
                prop_assert_eq!(ranges, usize::from(!distinct.contains(&number)));
            }
        }
    }
}
