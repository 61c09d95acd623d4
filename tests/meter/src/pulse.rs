//! Packets at short intervals to many destinations, from one place to a few: which of the places gets them, and from
//! when on another one.
//!
//! One socket sends a numbered packet to each destination in turn; the receivers sort by number. The kernel stamps
//! arrivals, so the receiving thread need not be quick: it looks every few milliseconds and leaves the processors to
//! what is measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::netns::Netns;
use crate::udp::{HEADER, fill, parse, prefer_this_thread, receiver};
use crate::{now_ns, syscall};

/// How often the receiving thread looks.
const LOOK: Duration = Duration::from_millis(2);
/// How long packets under way may take after the last was sent.
const LINGER: Duration = Duration::from_millis(20);
/// Nobody: no packet has arrived yet.
const NOBODY: usize = usize::MAX;

/// Packets that are being sent.
#[derive(Debug)]
pub struct Pulse {
    stop: Arc<AtomicBool>,
    latest: Arc<Vec<AtomicUsize>>,
    sending: Option<JoinHandle<Vec<u64>>>,
    receiving: Option<JoinHandle<anyhow::Result<Vec<Arrival>>>>,
}

/// One packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its destination, by place in the list.
    pub destination: usize,
    /// Which one to this destination.
    pub number: u64,
    /// Who got it, by place in the list.
    pub receiver: usize,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
}

/// All packets of a [`Pulse`].
#[derive(Debug, Clone, Default)]
pub struct Packets {
    /// When the packets of each number were sent, nanoseconds since 1970.
    pub sent_ns: Vec<u64>,
    /// What arrived, in the order of reading.
    pub arrivals: Vec<Arrival>,
}

/// How one destination's packets went over from one receiver to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The first arrival at the new receiver after the last one at any other, nanoseconds since 1970.
    pub at_ns: u64,
    /// Packets between both that nobody got.
    pub lost: u64,
}

impl Pulse {
    /// Starts to send a packet to each destination every `interval`, from `port` to `port`, so that the next pulse to
    /// it takes the same way. `receivers` are the places where packets may arrive; they take them for all addresses.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(
        sender: &Netns,
        destinations: &[IpAddr],
        receivers: &[&Netns],
        port: u16,
        interval: Duration,
    ) -> anyhow::Result<Self> {
        let first = *destinations.first().context("a pulse without destinations")?;
        let anywhere: IpAddr =
            if first.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let sockets = receivers
            .iter()
            .map(|netns| netns.run(|| receiver(SocketAddr::new(anywhere, port))))
            .collect::<anyhow::Result<Vec<_>>>()?;
        // A port of its own choice would make another flow of every pulse where the kernel hashes ports.
        let socket = sender.run(|| Ok(UdpSocket::bind(SocketAddr::new(anywhere, port))?));
        let socket = socket.with_context(|| format!("binding the sender to port {port}"))?;
        socket.set_nonblocking(true)?;
        let run = now_ns() as u32 ^ std::process::id();
        let stop = Arc::new(AtomicBool::new(false));
        let latest: Arc<Vec<AtomicUsize>> =
            Arc::new(destinations.iter().map(|_| AtomicUsize::new(NOBODY)).collect());
        let to: Vec<SocketAddr> = destinations.iter().map(|to| SocketAddr::new(*to, port)).collect();
        let stopping = Arc::clone(&stop);
        let sending = std::thread::spawn(move || send(&socket, &to, run, interval, &stopping));
        let (stopping, seen) = (Arc::clone(&stop), Arc::clone(&latest));
        let receiving = std::thread::spawn(move || receive(&sockets, run, &stopping, &seen));
        Ok(Self { stop, latest, sending: Some(sending), receiving: Some(receiving) })
    }

    /// Who got the latest packet to a destination; `None` before the first.
    pub fn latest(&self, destination: usize) -> Option<usize> {
        let latest = self.latest.get(destination)?.load(Ordering::Relaxed);
        (latest != NOBODY).then_some(latest)
    }

    /// Stops sending, gives packets under way a moment to arrive, and hands out everything.
    ///
    /// # Errors
    /// When a socket failed.
    pub fn stop(mut self) -> anyhow::Result<Packets> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.take().context("stopped twice")?;
        let sent_ns = sent.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?;
        let arrivals = self.receiving.take().context("stopped twice")?;
        let arrivals = arrivals.join().map_err(|_| anyhow::anyhow!("the receiving thread panicked"))??;
        Ok(Packets { sent_ns, arrivals })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Packets {
    /// How a destination's packets went over to `receiver`; `None` where the last ones went elsewhere, or none were
    /// ever elsewhere.
    pub fn moved(&self, destination: usize, receiver: usize) -> Option<Move> {
        let of = || self.arrivals.iter().filter(|arrival| arrival.destination == destination);
        let last =
            of().filter(|arrival| arrival.receiver != receiver).max_by_key(|arrival| arrival.number)?;
        let behind = of().filter(|arrival| arrival.receiver == receiver && arrival.number > last.number);
        let first = behind.min_by_key(|arrival| arrival.number)?;
        Some(Move { at_ns: first.at_ns, lost: first.number - last.number - 1 })
    }

    /// The longest time between two packets to one destination: what happens in between is seen that much too late.
    pub fn longest_interval(&self) -> Duration {
        let between = self.sent_ns.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        Duration::from_nanos(between.max().unwrap_or(0))
    }

    /// As [`Packets::longest_interval`], of the packets sent between two times (nanoseconds since 1970).
    pub fn longest_interval_within(&self, from_ns: u64, to_ns: u64) -> Duration {
        let within = |at: &&u64| **at >= from_ns && **at <= to_ns;
        let sent_ns = self.sent_ns.iter().filter(within).copied().collect();
        Self { sent_ns, arrivals: Vec::new() }.longest_interval()
    }
}

fn send(socket: &UdpSocket, to: &[SocketAddr], run: u32, interval: Duration, stop: &AtomicBool) -> Vec<u64> {
    prefer_this_thread();
    let mut sent = Vec::new();
    let mut packet = [0; HEADER];
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now_ns = now_ns();
        for (place, to) in to.iter().enumerate() {
            fill(&mut packet, run, place, sent.len() as u64, now_ns);
            // What cannot be sent is missing at the receivers, which is what is looked at.
            drop(socket.send_to(&packet, to));
        }
        sent.push(now_ns);
        next += interval;
        let now = Instant::now();
        match next.checked_duration_since(now) {
            Some(wait) => std::thread::sleep(wait),
            // Late: packets sent twice as fast afterwards would tell nothing more.
            None => next = now,
        }
    }
    sent
}

fn receive(
    sockets: &[UdpSocket],
    run: u32,
    stop: &AtomicBool,
    latest: &[AtomicUsize],
) -> anyhow::Result<Vec<Arrival>> {
    prefer_this_thread();
    let mut arrivals = Vec::new();
    let mut stopped_at: Option<Instant> = None;
    loop {
        for (receiver, socket) in sockets.iter().enumerate() {
            let mut each = |bytes: &[u8], time: u64| {
                let Some((destination, number)) = parse(bytes, run) else { return };
                let at_ns = if time == 0 { now_ns() } else { time };
                arrivals.push(Arrival { destination, number, receiver, at_ns });
                if let Some(latest) = latest.get(destination) {
                    latest.store(receiver, Ordering::Relaxed);
                }
            };
            while syscall::receive(socket, &mut each).context("receiving")? > 0 {}
        }
        if stop.load(Ordering::Relaxed) && stopped_at.get_or_insert_with(Instant::now).elapsed() > LINGER {
            return Ok(arrivals);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_seen_by_the_packets_around_it() {
        let arrival = |destination, number, receiver| Arrival {
            destination,
            number,
            receiver,
            at_ns: 1000 + number * 10,
        };
        let mut packets = Packets { sent_ns: vec![1000, 1010, 1060, 1070], arrivals: Vec::new() };
        packets.arrivals.extend((0..3).map(|number| arrival(0, number, 0)));
        packets.arrivals.extend((5..9).map(|number| arrival(0, number, 1)));
        packets.arrivals.extend((0..9).map(|number| arrival(1, number, 1)));
        packets.arrivals.extend((0..9).map(|number| arrival(2, number, 0)));
        assert_eq!(packets.moved(0, 1), Some(Move { at_ns: 1050, lost: 2 }));
        assert_eq!(packets.moved(1, 1), None, "was never elsewhere");
        assert_eq!(packets.moved(2, 1), None, "never went over");
        packets.arrivals.push(arrival(0, 9, 0));
        assert_eq!(packets.moved(0, 1), None, "went back");
        assert_eq!(packets.longest_interval(), Duration::from_nanos(50));
        assert_eq!(packets.longest_interval_within(1000, 1010), Duration::from_nanos(10));
    }

    #[test]
    fn packets_are_followed_from_one_place_to_another() {
        let [router, left, right, sender] = [(); 4].map(|()| Netns::fresh().unwrap());
        for (number, netns) in [&left, &right, &sender].into_iter().enumerate() {
            let i = number + 1;
            let (ours, theirs) = (format!("10.0.{i}.2/24"), format!("10.0.{i}.1/24"));
            router.link((&format!("peer{i}"), &[&ours]), netns, ("eth0", &[&theirs])).unwrap();
            netns.ip(&format!("route add default via 10.0.{i}.2")).unwrap();
        }
        router.sysctl("net/ipv4/ip_forward", "1").unwrap();
        for place in [&left, &right] {
            place.ip("route add local 20.0.0.0/24 dev lo").unwrap();
        }
        router.ip("route add 20.0.0.0/24 via 10.0.1.1").unwrap();
        let to: Vec<IpAddr> = ["20.0.0.1", "20.0.0.2"].map(|to| to.parse().unwrap()).to_vec();
        let pulse = Pulse::start(&sender, &to, &[&left, &right], 9300, Duration::from_micros(200)).unwrap();
        let until = |receiver| {
            crate::wait::until(Duration::from_secs(5), "packets", || {
                Ok((0..2).all(|to| pulse.latest(to) == Some(receiver)).then_some(()))
            })
            .unwrap();
        };
        until(0);
        let before = now_ns();
        router.ip("route replace 20.0.0.0/24 via 10.0.2.1").unwrap();
        until(1);
        let packets = pulse.stop().unwrap();
        for destination in 0..2 {
            let moved = packets.moved(destination, 1).unwrap();
            assert!(moved.at_ns > before && moved.at_ns < now_ns());
            assert!(packets.moved(destination, 0).is_none());
        }
        assert!(packets.sent_ns.len() > 10);
    }
}
