//! Sessions whose bytes are kept as they come, with the time of each reading, and understood when time no longer
//! counts: what receives must not use the processor that the daemon under measurement needs.
//!
//! One thread serves all sessions of a [`Recorder`]. While bytes come it only counts prefixes; [`Tape::until`] reads
//! them route by route once the count says that they may all be there, and gives the time of the reading that
//! brought the last change.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::message::{self, Message};
use super::{Config, Connection, Heard, lock};
use crate::netns::Netns;

/// Room for one reading.
const READING_BYTES: usize = 256 << 10;
/// How long the thread waits before it looks whether it should end.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Silence after which the bytes are looked at though the count says that some are missing: a speaker may skip
/// what it takes back at once.
const SILENCE: Duration = Duration::from_millis(50);

/// The thread that reads, and its sessions.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    sessions: Mutex<Vec<Arc<Session>>>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Session {
    stream: TcpStream,
    writing: Mutex<()>,
    reel: Mutex<Reel>,
    announced: AtomicU64,
    withdrawn: AtomicU64,
    keepalive_every: Duration,
}

/// What was received and not yet understood.
#[derive(Debug)]
struct Reel {
    bytes: Vec<u8>,
    /// How much of `bytes` is whole messages, counted.
    counted: usize,
    /// Bytes of the session before `bytes`.
    before: usize,
    /// Bytes of the session, and when there were that many.
    marks: VecDeque<(usize, Instant)>,
    keepalive_at: Instant,
    /// Why nothing more comes.
    end: Option<String>,
}

/// One session of a [`Recorder`].
#[derive(Debug)]
pub struct Tape {
    session: Arc<Session>,
    heard: Mutex<Heard>,
}

/// Prefixes announced and withdrawn since the session came up, repeats included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Announced.
    pub announced: u64,
    /// Withdrawn.
    pub withdrawn: u64,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sessions: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serving.serve());
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Connects from within a namespace and brings a session up, trying again until `limit`.
    ///
    /// # Errors
    /// When the session is not Established in time; names the NOTIFICATION where one came.
    pub fn connect(
        &self,
        netns: &Netns,
        source: Option<IpAddr>,
        to: SocketAddr,
        config: &Config,
        limit: Duration,
    ) -> anyhow::Result<Tape> {
        let deadline = Instant::now() + limit;
        let (connection, hold) = crate::wait::until(limit, &format!("a BGP session with {to}"), || {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let mut connection = Connection::dial(netns, source, to, left)?;
            let (hold, _) = connection.introduce(config, left)?;
            Ok(Some((connection, hold)))
        })?;
        self.take(connection, hold)
    }

    /// Goes on with a session that [`Connection::introduce`] has brought up.
    ///
    /// # Errors
    /// When the system refuses to watch it.
    pub fn take(&self, connection: Connection, hold: Duration) -> anyhow::Result<Tape> {
        let keepalive_every = if hold.is_zero() { Duration::from_secs(3600) } else { hold / 3 };
        connection.stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        let mut bytes = connection.unread;
        bytes.drain(..connection.start);
        let length = bytes.len();
        let session = Arc::new(Session {
            stream: connection.stream,
            writing: Mutex::new(()),
            reel: Mutex::new(Reel {
                bytes,
                counted: 0,
                before: 0,
                marks: VecDeque::from([(length, Instant::now())]),
                keepalive_at: Instant::now() + keepalive_every,
                end: None,
            }),
            announced: AtomicU64::new(0),
            withdrawn: AtomicU64::new(0),
            keepalive_every,
        });
        let mut sessions = lock(&self.shared.sessions);
        let number = sessions.len();
        sessions.push(Arc::clone(&session));
        drop(sessions);
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.shared.epoll, &session.stream, data, epoll::EventFlags::IN)?;
        Ok(Tape { session, heard: Mutex::default() })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for session in lock(&self.shared.sessions).iter() {
            // The peer may have closed first.
            drop(session.stream.shutdown(std::net::Shutdown::Both));
        }
        if let Some(thread) = self.thread.take()
            && let Ok(Err(error)) = thread.join()
        {
            eprintln!("the receiving thread ended: {error:#}");
        }
    }
}

impl Shared {
    fn serve(&self) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(128);
        while !self.stop.load(Ordering::Relaxed) {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&TURN)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for BGP messages"),
            }
            let sessions = lock(&self.sessions).clone();
            for event in &events {
                let Some(session) = sessions.get(event.data.u64() as usize) else { continue };
                if !session.read() {
                    epoll::delete(&self.epoll, &session.stream)?;
                }
            }
            let now = Instant::now();
            sessions.iter().for_each(|session| session.keep_alive(now));
        }
        Ok(())
    }
}

impl Session {
    /// Takes what is there; false when nothing will come any more.
    fn read(&self) -> bool {
        let mut reel = lock(&self.reel);
        let reel = &mut *reel;
        reel.bytes.reserve(READING_BYTES);
        // Writing stays blocking, so it is each reading that must not wait.
        let result = recv(&self.stream, spare_capacity(&mut reel.bytes), RecvFlags::DONTWAIT);
        match result {
            Ok((0, _)) | Ok((_, 0)) => reel.end = Some("the peer closed the connection".to_owned()),
            Ok(_) => {
                reel.marks.push_back((reel.before + reel.bytes.len(), Instant::now()));
                match reel.count() {
                    Ok(counts) => {
                        self.announced.fetch_add(counts.announced, Ordering::Relaxed);
                        self.withdrawn.fetch_add(counts.withdrawn, Ordering::Relaxed);
                    }
                    Err(error) => reel.end = Some(format!("{error:#}")),
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => reel.end = Some(error.to_string()),
        }
        reel.end.is_none()
    }

    fn keep_alive(&self, now: Instant) {
        let mut reel = lock(&self.reel);
        if now < reel.keepalive_at || reel.end.is_some() {
            return;
        }
        reel.keepalive_at = now + self.keepalive_every;
        drop(reel);
        // Whoever writes just now keeps the session alive as well.
        if let Ok(_turn) = self.writing.try_lock()
            && let Err(error) = std::io::Write::write_all(&mut &self.stream, &message::keepalive())
        {
            lock(&self.reel).end.get_or_insert(error.to_string());
        }
    }
}

impl Reel {
    /// Counts the prefixes of the messages that are whole by now.
    fn count(&mut self) -> anyhow::Result<Counts> {
        let mut counts = Counts::default();
        loop {
            let waiting = self.bytes.get(self.counted..).unwrap_or_default();
            let Some(length) = message::length(waiting, message::EXTENDED_MAX)? else { return Ok(counts) };
            let Some(whole) = waiting.get(..length) else { return Ok(counts) };
            let (announced, withdrawn) = message::count(whole);
            counts.announced += announced;
            counts.withdrawn += withdrawn;
            self.counted += length;
        }
    }
}

impl Tape {
    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone, or takes nothing for 30 s.
    pub fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let _turn = lock(&self.session.writing);
        std::io::Write::write_all(&mut &self.session.stream, bytes).context("sending to the BGP peer")
    }

    /// Ends the connection with a TCP reset.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn reset(&self) -> anyhow::Result<()> {
        // Closing would wait for the thread's own handle; this resets at once (tcp(7) knows it as the way to
        // dissolve a connection).
        rustix::net::connect_unspec(&self.session.stream).context("resetting a BGP connection")
    }

    /// What came so far.
    pub fn counts(&self) -> Counts {
        Counts {
            announced: self.session.announced.load(Ordering::Relaxed),
            withdrawn: self.session.withdrawn.load(Ordering::Relaxed),
        }
    }

    /// Everything heard and understood: up to the last [`Tape::until`] that looked.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }

    /// Waits until at least `counts` have come and `whole` says that what is held is all, and gives the time of the
    /// last change. Looks without the counts as well, after a silence.
    ///
    /// # Errors
    /// When the session ends or `limit` passes; says what is there.
    pub fn until(
        &self,
        counts: Counts,
        limit: Duration,
        whole: impl Fn(&Heard) -> bool,
    ) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            let (now, end) = (self.counts(), self.end());
            if self.looks_whole(counts) {
                let mut heard = lock(&self.heard);
                self.understand(&mut heard)?;
                if whole(&heard) {
                    return Ok(heard.last_update.unwrap_or_else(Instant::now));
                }
                let held = heard.routes.len();
                if let Some(end) = end {
                    bail!(
                        "{held} routes at the receiver, {now:?} of {counts:?}; {end}, {:?}",
                        heard.notification
                    );
                }
                if Instant::now() >= deadline {
                    bail!("{held} routes at the receiver after {limit:?}, {now:?} of {counts:?}");
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until at least `counts` have come, without understanding any of it.
    ///
    /// # Errors
    /// When `limit` passes.
    pub fn until_looks_whole(&self, counts: Counts, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !self.looks_whole(counts) {
            if Instant::now() >= deadline {
                bail!("{:?} of {counts:?} at the receiver after {limit:?}", self.counts());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether at least `counts` have come, or nothing comes just now: time to look closely.
    pub fn looks_whole(&self, counts: Counts) -> bool {
        let now = self.counts();
        if now.announced >= counts.announced && now.withdrawn >= counts.withdrawn {
            return true;
        }
        let reel = lock(&self.session.reel);
        reel.end.is_some() || reel.marks.back().is_some_and(|(_, at)| at.elapsed() > SILENCE)
    }

    /// Why nothing will come any more.
    fn end(&self) -> Option<String> {
        lock(&self.session.reel).end.clone()
    }

    fn understand(&self, heard: &mut Heard) -> anyhow::Result<()> {
        let mut reel = lock(&self.session.reel);
        let counted = std::mem::take(&mut reel.counted);
        let rest = reel.bytes.split_off(counted);
        let whole = std::mem::replace(&mut reel.bytes, rest);
        let mut end = reel.before;
        reel.before += counted;
        let marks = reel.marks.clone();
        let known = reel.before;
        reel.marks.retain(|(bytes, _)| *bytes > known);
        // The time of the last reading stays for `silence`.
        if reel.marks.is_empty() {
            reel.marks.extend(marks.back().copied());
        }
        drop(reel);
        let mut marks = marks.into_iter().peekable();
        let mut bytes = whole.as_slice();
        while let Some(length) = message::length(bytes, message::EXTENDED_MAX)? {
            let (message, rest) = bytes.split_at_checked(length).context("a message that is cut short")?;
            (bytes, end) = (rest, end + length);
            while marks.next_if(|(read, _)| *read < end).is_some() {}
            let at = marks.peek().map_or_else(Instant::now, |(_, at)| *at);
            let message = message::decode(message)?;
            if !matches!(message, Message::Keepalive) {
                heard.note(message, at);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::feeder::tests::passive;
    use crate::feeder::{Feeder, load};

    const SECONDS: Duration = Duration::from_secs(10);

    /// A tape and the session at its other end.
    fn pair(recorder: &Recorder) -> (Tape, Feeder) {
        let (netns, address, passive) = passive();
        let config = Config::new(65_001, Ipv4Addr::new(1, 1, 1, 1));
        let tape = recorder.connect(&netns, None, address, &config, SECONDS).unwrap();
        (tape, passive.join().unwrap())
    }

    #[test]
    fn a_table_is_whole_at_the_time_of_its_last_route() {
        let recorder = Recorder::start().unwrap();
        let (tape, feeder) = pair(&recorder);
        let (second, other) = pair(&recorder);
        let table = load::internet(3000, 1, 65_001, "10.0.0.1".parse().unwrap());
        let bytes = load::announcements(&table);
        let (some, last) = bytes.split_at(bytes.len() - 1);
        feeder.send(some).unwrap();
        other.send(&bytes).unwrap();
        let all = Counts { announced: 3000, withdrawn: 0 };
        second.until(all, SECONDS, |heard| heard.routes.len() == 3000).unwrap();
        let early = tape.until(all, Duration::from_millis(200), |heard| heard.routes.len() == 3000);
        assert!(early.is_err(), "{early:?}");
        let before = Instant::now();
        feeder.send(last).unwrap();
        let at = tape.until(all, SECONDS, |heard| heard.routes.len() == 3000).unwrap();
        assert!(at > before && at < Instant::now());
        assert_eq!(tape.counts(), all);
        // Taken back and told again, with a silence in between that shows an empty table.
        feeder.send(&load::withdrawals(&table)).unwrap();
        let gone = Counts { announced: 3000, withdrawn: 3000 };
        tape.until(gone, SECONDS, |heard| heard.routes.is_empty()).unwrap();
        tape.send(&bytes).unwrap();
        feeder.until_routes(3000, SECONDS).unwrap();
    }

    #[test]
    fn a_reset_and_a_close_are_told_from_silence() {
        let recorder = Recorder::start().unwrap();
        let (tape, feeder) = pair(&recorder);
        tape.reset().unwrap();
        assert_eq!(feeder.until_closed(SECONDS).unwrap(), None);
        let (tape, feeder) = pair(&recorder);
        drop(feeder);
        let error = tape.until(Counts { announced: 1, withdrawn: 0 }, SECONDS, |_| false).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    }
}
