//! The packets of one direction: a sending and a receiving thread, and their sockets.
//!
//! The sender has one socket per flow (the source port makes the flow) and wakes at absolute times,
//! so that an oversleep does not add up. The receiver has one socket per address family; the kernel
//! stamps arrivals, so a receiver that was not scheduled in time does not lengthen a gap.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use super::report::FlowLog;
use super::{Plan, Side, now_ns, syscall};

/// Bytes every packet starts with: magic, run, flow (4 each, then 4 unused), number, time sent (8 each).
pub(super) const HEADER: usize = 32;
const MAGIC: u32 = 0x746f_7770;
/// The number of a packet of the warm-up.
const GREETING: u64 = u64::MAX;
/// How long packets under way may take after the last was sent.
const LINGER: Duration = Duration::from_millis(300);
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// When to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) started: Instant,
    pub(super) rate: u32,
    pub(super) longest: Duration,
}

/// What a thread hands back: its half of the flow logs.
#[derive(Debug)]
pub(super) enum Outcome {
    Sent { flows: Vec<FlowLog>, late: Duration },
    Received(Vec<FlowLog>),
}

struct Flow {
    socket: UdpSocket,
    from: SocketAddr,
    to: SocketAddr,
}

/// All flows from one side to the other.
pub(super) struct Direction {
    flows: Vec<Flow>,
    receivers: Vec<UdpSocket>,
    greeted: Vec<bool>,
    payload_bytes: usize,
    run: u32,
}

impl Direction {
    pub(super) fn open(
        from: &Side,
        to: &Side,
        addresses: &[(IpAddr, IpAddr)],
        plan: &Plan,
        run: u32,
    ) -> anyhow::Result<Self> {
        let receivers = to
            .netns
            .run(|| addresses.iter().map(|&(_, to)| receiver(SocketAddr::new(to, plan.port))).collect())?;
        let flows: Vec<Flow> = from.netns.run(|| {
            let mut flows = Vec::new();
            for &(from, to) in addresses {
                for number in 0..plan.flows {
                    let port = u16::try_from(usize::from(plan.source_port) + number)
                        .context("more flows than source ports")?;
                    let from = SocketAddr::new(from, port);
                    let socket = UdpSocket::bind(from).with_context(|| format!("binding {from}"))?;
                    socket.set_nonblocking(true)?;
                    flows.push(Flow { socket, from, to: SocketAddr::new(to, plan.port) });
                }
            }
            Ok(flows)
        })?;
        let greeted = vec![false; flows.len()];
        Ok(Self { flows, receivers, greeted, payload_bytes: plan.payload_bytes, run })
    }

    /// Sends a packet on every flow of which none arrived yet; names the flows still silent.
    pub(super) fn greet(&mut self) -> anyhow::Result<Vec<String>> {
        let mut packet = vec![0; self.payload_bytes];
        for (number, flow) in self.flows.iter().enumerate().filter(|(number, _)| !self.greeted[*number]) {
            fill(&mut packet, self.run, number, GREETING, 0);
            // No route yet is what the warm-up waits for.
            drop(flow.socket.send_to(&packet, flow.to));
        }
        for socket in &self.receivers {
            while syscall::receive(socket, |bytes, _| {
                if let Some((flow, GREETING)) = parse(bytes, self.run)
                    && let Some(greeted) = self.greeted.get_mut(flow)
                {
                    *greeted = true;
                }
            })? > 0
            {}
        }
        let silent = self.flows.iter().zip(&self.greeted).filter(|(_, greeted)| !**greeted);
        Ok(silent.map(|(flow, _)| format!("{} -> {}", flow.from, flow.to)).collect())
    }

    /// Starts both threads: the sender first in the list, then the receiver.
    pub(super) fn start(
        self,
        schedule: Schedule,
        stop: &Arc<AtomicBool>,
    ) -> [JoinHandle<anyhow::Result<Outcome>>; 2] {
        let Self { flows, receivers, payload_bytes, run, .. } = self;
        let logs: Vec<FlowLog> = flows.iter().map(|flow| FlowLog::new(flow.from, flow.to)).collect();
        // What the receiver waits for: MAX while packets are still being sent.
        let total = Arc::new(AtomicU64::new(u64::MAX));
        let sender = {
            let (stop, total, logs) = (Arc::clone(stop), Arc::clone(&total), logs.clone());
            std::thread::spawn(move || {
                let outcome = send(&flows, logs, schedule, payload_bytes, run, &stop);
                let Outcome::Sent { flows: logs, .. } = &outcome else { return Ok(outcome) };
                total.store(logs.iter().map(|log| log.sent.len() as u64).sum(), Ordering::Relaxed);
                Ok(outcome)
            })
        };
        let receiver = std::thread::spawn(move || receive(&receivers, logs, schedule, run, &total));
        [sender, receiver]
    }
}

pub(super) fn receiver(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("binding {address}"))?;
    // Without CAP_NET_ADMIN the system's limit has to do.
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
    }
    syscall::stamp_arrivals(&socket).context("asking for arrival times")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Tests load the machine; without this the measure would show the scheduler instead of the network.
/// Refused without privilege, which only makes the measure coarser.
pub(super) fn prefer_this_thread() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -15);
}

fn send(
    flows: &[Flow],
    mut logs: Vec<FlowLog>,
    schedule: Schedule,
    payload_bytes: usize,
    run: u32,
    stop: &AtomicBool,
) -> Outcome {
    prefer_this_thread();
    let tick = Duration::from_secs(1) / schedule.rate.min(1000);
    let mut packet = vec![0; payload_bytes];
    let mut late = Duration::ZERO;
    let mut next = schedule.started + tick;
    while !stop.load(Ordering::Relaxed) && schedule.started.elapsed() < schedule.longest {
        let now = Instant::now();
        if let Some(wait) = next.checked_duration_since(now) {
            std::thread::sleep(wait);
        }
        let now = Instant::now();
        late = late.max(now.saturating_duration_since(next));
        // A late sender catches up: the number of packets depends on the time alone.
        let due = packets_due(now - schedule.started, schedule.rate);
        for (number, (flow, log)) in flows.iter().zip(&mut logs).enumerate() {
            while (log.sent.len() as u64) < due {
                let time = now_ns();
                fill(&mut packet, run, number, log.sent.len() as u64, time);
                log.sent.push(time);
                if send_once(flow, &packet).is_err() {
                    log.send_errors += 1;
                }
            }
        }
        while next <= now {
            next += tick;
        }
    }
    Outcome::Sent { flows: logs, late }
}

/// An error that an earlier packet caused (an ICMP answer) is reported once in place of sending, so a
/// second try tells it from one of this packet.
fn send_once(flow: &Flow, packet: &[u8]) -> io::Result<usize> {
    flow.socket.send_to(packet, flow.to).or_else(|_| flow.socket.send_to(packet, flow.to))
}

fn packets_due(elapsed: Duration, rate: u32) -> u64 {
    (elapsed.as_nanos() * u128::from(rate) / 1_000_000_000) as u64
}

fn receive(
    sockets: &[UdpSocket],
    mut logs: Vec<FlowLog>,
    schedule: Schedule,
    run: u32,
    total: &AtomicU64,
) -> anyhow::Result<Outcome> {
    prefer_this_thread();
    let limit = packets_due(schedule.longest + LINGER, schedule.rate) + u64::from(schedule.rate);
    let mut arrived: u64 = 0;
    let mut ended: Option<Instant> = None;
    loop {
        let sent = total.load(Ordering::Relaxed);
        if sent != u64::MAX && ended.is_none() {
            ended = Some(Instant::now());
        }
        if arrived >= sent || ended.is_some_and(|ended| ended.elapsed() > LINGER) {
            return Ok(Outcome::Received(logs));
        }
        let mut ready: Vec<PollFd<'_>> =
            sockets.iter().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        match poll(&mut ready, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for packets"),
        }
        for socket in sockets {
            while syscall::receive(socket, |bytes, time| {
                let Some((flow, number)) = parse(bytes, run) else { return };
                let time = if time == 0 { now_ns() } else { time };
                if logs.get_mut(flow).is_some_and(|log| log.arrive(number, time, limit)) {
                    arrived += 1;
                }
            })
            .context("receiving")?
                > 0
            {}
        }
    }
}

pub(super) fn fill(packet: &mut [u8], run: u32, flow: usize, number: u64, time: u64) {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4..8].copy_from_slice(&run.to_be_bytes());
    header[8..12].copy_from_slice(&(flow as u32).to_be_bytes());
    header[16..24].copy_from_slice(&number.to_be_bytes());
    header[24..].copy_from_slice(&time.to_be_bytes());
    packet[..HEADER].copy_from_slice(&header);
}

/// Flow and number of a packet of this run.
pub(super) fn parse(bytes: &[u8], run: u32) -> Option<(usize, u64)> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let number = u64::from_be_bytes(bytes.get(16..24)?.try_into().ok()?);
    (word(0)? == MAGIC && word(4)? == run).then_some((word(8)? as usize, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_carries_its_flow_and_number_and_strangers_are_refused() {
        let mut packet = vec![0; 64];
        fill(&mut packet, 7, 3, 1 << 40, 99);
        assert_eq!(parse(&packet, 7), Some((3, 1 << 40)));
        assert_eq!(parse(&packet, 8), None, "another run");
        assert_eq!(parse(&packet[..20], 7), None, "cut short");
        packet[0] ^= 1;
        assert_eq!(parse(&packet, 7), None, "wrong magic");
    }

    #[test]
    fn the_number_of_packets_follows_from_the_time_alone() {
        assert_eq!(packets_due(Duration::from_micros(999), 1000), 0);
        assert_eq!(packets_due(Duration::from_millis(1), 1000), 1);
        assert_eq!(packets_due(Duration::from_secs(3600), 100_000), 360_000_000);
    }
}
