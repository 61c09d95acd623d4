//! Records what the kernel announces about routes, nexthop objects, links, rules and addresses.
//!
//! The messages are read with a decoder of its own (rtnetlink(7)), so that it can disagree with ours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink, sockopt};

use super::routes::{Route, u16_at, u32_at};
use crate::netns::Netns;

/// Multicast groups of linux/rtnetlink.h as bits of a bind: link, IPv4 and IPv6 address, route and
/// rule, nexthop.
const GROUPS: u32 = bit(1) | bit(5) | bit(7) | bit(8) | bit(9) | bit(11) | bit(19) | bit(32);
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;

const fn bit(group: u32) -> u32 {
    1 << (group - 1)
}

/// What a message announces (its rtnetlink type).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of linux/rtnetlink.h")]
pub enum Kind {
    NewLink,
    DelLink,
    NewAddress,
    DelAddress,
    NewRoute,
    DelRoute,
    NewRule,
    DelRule,
    NewNexthop,
    DelNexthop,
}

impl Kind {
    fn from_type(number: u16) -> Option<Self> {
        Some(match number {
            16 => Self::NewLink,
            17 => Self::DelLink,
            20 => Self::NewAddress,
            21 => Self::DelAddress,
            24 => Self::NewRoute,
            25 => Self::DelRoute,
            32 => Self::NewRule,
            33 => Self::DelRule,
            104 => Self::NewNexthop,
            105 => Self::DelNexthop,
            _ => return None,
        })
    }
}

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it says.
    pub kind: Kind,
    /// When it was read, counted from the start of the recorder.
    pub at: Duration,
    /// Routes: destination and prefix length. `None` for other messages.
    pub destination: Option<(IpAddr, u8)>,
    /// Routes and nexthop objects: the protocol number (199 and 200 are ours).
    pub protocol: Option<u8>,
    /// Routes: table and metric.
    pub table: Option<(u32, u32)>,
    /// Whether it replaced something (NLM_F_REPLACE).
    pub replaced: bool,
}

/// How often each kind was announced.
pub type Tally = BTreeMap<Kind, usize>;

/// A recorder that is running.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Notice>>>,
}

impl Recorder {
    /// Starts to listen in a namespace; everything announced after the return is recorded.
    ///
    /// # Errors
    /// When the netlink socket cannot be made.
    pub fn start(netns: &Netns) -> anyhow::Result<Self> {
        Self::watch(netns, |_| {})
    }

    /// [`Recorder::start`] that also calls `seen` with what was just announced, and with nothing every 20 ms.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub fn watch(netns: &Netns, seen: impl FnMut(&[Notice]) + Send + 'static) -> anyhow::Result<Self> {
        let socket = netns.run(|| open().context("opening a netlink monitor"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let started = Instant::now();
        let thread = std::thread::spawn(move || record(&socket, &stopping, started, seen));
        Ok(Self { started, stop, thread })
    }

    /// From when on [`Notice::at`] counts.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Stops and gives everything announced up to now, in order.
    ///
    /// # Errors
    /// When the kernel dropped announcements because the reader was too slow: the record would lie.
    pub fn stop(self) -> anyhow::Result<Vec<Notice>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the monitor thread panicked"))?
    }
}

impl Notice {
    /// Counts announcements by kind.
    pub fn tally<'a>(notices: impl IntoIterator<Item = &'a Self>) -> Tally {
        let mut tally = Tally::new();
        for notice in notices {
            *tally.entry(notice.kind).or_default() += 1;
        }
        tally
    }

    /// The routes that were deleted and later added again: (destination, table, metric) of each. In a
    /// restart that keeps forwarding there are none.
    pub fn readded(notices: &[Self]) -> Vec<((IpAddr, u8), (u32, u32))> {
        let mut gone = std::collections::BTreeSet::new();
        let mut found = Vec::new();
        for notice in notices {
            let (Some(destination), Some(table)) = (notice.destination, notice.table) else { continue };
            match notice.kind {
                Kind::DelRoute => {
                    gone.insert((destination, table));
                }
                Kind::NewRoute if gone.remove(&(destination, table)) => found.push((destination, table)),
                _ => {}
            }
        }
        found
    }
}

fn open() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
    }
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

fn record(
    socket: &OwnedFd,
    stop: &AtomicBool,
    started: Instant,
    mut seen: impl FnMut(&[Notice]),
) -> anyhow::Result<Vec<Notice>> {
    let mut notices = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        // Read before it is used: what was announced before the stop is still collected.
        let last = stop.load(Ordering::Relaxed);
        let known = notices.len();
        loop {
            match rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => {
                    decode(&buffer[..length.min(buffer.len())], started.elapsed(), &mut notices)
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => bail!("the netlink monitor was overrun: announcements are missing"),
                Err(error) => return Err(error).context("reading the netlink monitor"),
            }
        }
        seen(notices.get(known..).unwrap_or_default());
        if last {
            return Ok(notices);
        }
        let mut ready = [PollFd::new(socket, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        // A signal ends the wait early, which is as good as a time-out.
        let _ = poll(&mut ready, Some(&wait));
    }
}

/// Walks the messages of one datagram.
fn decode(mut bytes: &[u8], at: Duration, notices: &mut Vec<Notice>) {
    while let (Some(length), Some(number), Some(flags)) =
        (u32_at(bytes, 0), u16_at(bytes, 4), u16_at(bytes, 6))
    {
        let length = length as usize;
        let Some(body) = bytes.get(16..length) else { return };
        if let Some(kind) = Kind::from_type(number) {
            let mut notice = Notice {
                kind,
                at,
                destination: None,
                protocol: None,
                table: None,
                replaced: flags & 0x100 != 0,
            };
            match kind {
                Kind::NewRoute | Kind::DelRoute => {
                    if let Some(route) = Route::decode(body) {
                        notice.destination = Some(route.destination);
                        notice.protocol = Some(route.protocol);
                        notice.table = Some((route.table, route.metric));
                    }
                }
                Kind::NewNexthop | Kind::DelNexthop => notice.protocol = body.get(2).copied(),
                _ => {}
            }
            notices.push(notice);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_deleted_and_added_again_are_found_and_replaced_ones_are_not() {
        let netns = Netns::fresh().unwrap();
        let recorder = Recorder::start(&netns).unwrap();
        for command in [
            "route add blackhole 10.1.0.0/16 proto 199 metric 20",
            "route replace unreachable 10.1.0.0/16 proto 199 metric 20",
            "route add blackhole 10.2.0.0/16 proto 199 metric 20",
            "route del blackhole 10.2.0.0/16 proto 199 metric 20",
            "route add blackhole 10.2.0.0/16 proto 199 metric 20",
            "-6 route add blackhole fd00:2::/32 proto 200 table 1000",
            "nexthop add id 5 blackhole proto 199",
            "nexthop del id 5",
        ] {
            netns.ip(command).unwrap();
        }
        let notices = recorder.stop().unwrap();
        let again = (IpAddr::from([10, 2, 0, 0]), 16);
        assert_eq!(Notice::readded(&notices), [(again, (254, 20))]);
        let ours: Vec<_> =
            notices.iter().filter(|notice| matches!(notice.protocol, Some(199 | 200))).collect();
        let tally = Notice::tally(ours.iter().copied());
        assert_eq!(tally[&Kind::NewRoute], 5, "{ours:?}");
        assert_eq!(tally[&Kind::DelRoute], 1, "{ours:?}");
        assert_eq!((tally[&Kind::NewNexthop], tally[&Kind::DelNexthop]), (1, 1), "{ours:?}");
        assert_eq!(ours.iter().filter(|notice| notice.replaced).count(), 1, "{ours:?}");
        let v6 = ours.iter().find(|notice| notice.protocol == Some(200)).unwrap();
        assert_eq!(v6.destination, Some(("fd00:2::".parse().unwrap(), 32)));
        assert_eq!(v6.table.unwrap().0, 1000);
    }

    #[test]
    fn cut_messages_end_the_walk_without_a_panic() {
        let mut notices = Vec::new();
        let whole: Vec<u8> = {
            let mut bytes = vec![0; 36];
            bytes[0] = 36;
            bytes[4] = 24;
            bytes[16] = 2;
            bytes[28] = 8;
            bytes[30] = 1;
            bytes
        };
        for length in 0..whole.len() {
            decode(&whole[..length], Duration::ZERO, &mut notices);
        }
        assert!(notices.is_empty());
        decode(&whole, Duration::ZERO, &mut notices);
        assert_eq!(notices.len(), 1);
        decode(&[0; 64], Duration::ZERO, &mut notices);
    }
}
