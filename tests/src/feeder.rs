//! A BGP peer for tests: feeds prepared bytes, right or wrong, and keeps what it is told.
//!
//! Blocking sockets and code of its own, so that it can contradict the speaker under test. No TCP MD5.
//! [`Connection`] is the bare exchange of messages; [`Feeder`] is an established session that answers
//! by itself, keeps the table it received and remembers how the session ended.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ipnet::IpNet;

use crate::meter::tcp;
use crate::netns::Netns;

pub mod load;
pub mod message;
pub mod path;
pub mod tape;

use message::{Message, Notification};

const EXTENDED_MESSAGE: u8 = 6;

/// How a feeder introduces itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// AS number, 4 octets.
    pub local_as: u32,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Hold time to offer; 0 for none.
    pub hold_time_seconds: u16,
    /// Capabilities (code, value). The default: IPv4 and IPv6 unicast, route refresh, 4-octet AS.
    pub capabilities: Vec<(u8, Vec<u8>)>,
}

impl Config {
    /// A peer with the usual capabilities and a hold time of 90 s.
    pub fn new(local_as: u32, router_id: Ipv4Addr) -> Self {
        let capabilities = vec![
            (1, vec![0, 1, 0, 1]),
            (1, vec![0, 2, 0, 1]),
            (2, vec![]),
            (65, local_as.to_be_bytes().to_vec()),
        ];
        Self { local_as, router_id, hold_time_seconds: 90, capabilities }
    }

    /// As [`Config::new`], with extended messages (RFC 8654) as well.
    pub fn extended(local_as: u32, router_id: Ipv4Addr) -> Self {
        let mut config = Self::new(local_as, router_id);
        config.capabilities.push((EXTENDED_MESSAGE, Vec::new()));
        config
    }

    /// The longest message a peer may send.
    fn longest(&self) -> usize {
        let extended = self.capabilities.iter().any(|(code, _)| *code == EXTENDED_MESSAGE);
        if extended { message::EXTENDED_MAX } else { message::MESSAGE_MAX }
    }

    /// The OPEN this makes.
    pub fn open(&self) -> Vec<u8> {
        message::open(self.local_as, self.hold_time_seconds, self.router_id, &self.capabilities)
    }
}

/// A TCP connection cut into BGP messages. Nothing is answered by itself.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    start: usize,
    longest: usize,
}

impl Connection {
    /// Connects from within a namespace, trying again while the other end refuses.
    ///
    /// # Errors
    /// When nobody answers within `limit`.
    pub fn dial(
        netns: &Netns,
        source: Option<IpAddr>,
        to: SocketAddr,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + limit;
        let stream = crate::wait::until(limit, "a BGP connection", || {
            tcp::connect(netns, source, to, deadline).map(Some)
        })?;
        Ok(Self::new(stream))
    }

    /// Takes the next connection of a listener made with [`listen`].
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub fn accept(listener: &TcpListener, limit: Duration) -> anyhow::Result<Self> {
        Ok(Self::new(tcp::accept(listener, Instant::now() + limit)?.0))
    }

    /// Takes a connection that is there already.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new(), start: 0, longest: message::MESSAGE_MAX }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone, or takes nothing for 30 s.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        self.stream.write_all(bytes).context("sending to the BGP peer")
    }

    /// The next message, waiting at most `limit` for it.
    ///
    /// # Errors
    /// When what comes is not BGP.
    pub fn receive(&mut self, limit: Duration) -> anyhow::Result<Received> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Received::Message(message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Received::Nothing);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buffer = [0; 1 << 16];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Received::Closed),
                Ok(length) => {
                    self.unread.drain(..std::mem::take(&mut self.start));
                    self.unread.extend(&buffer[..length]);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Ok(Received::Closed),
                    _ => return Err(error).context("receiving from the BGP peer"),
                },
            }
        }
    }

    /// Exchanges OPENs and KEEPALIVEs: the hold time both agree on, and the body of the peer's OPEN.
    ///
    /// # Errors
    /// When the peer closes, sends something else, or stays silent for `limit`; names its NOTIFICATION.
    pub fn introduce(&mut self, config: &Config, limit: Duration) -> anyhow::Result<(Duration, Vec<u8>)> {
        let deadline = Instant::now() + limit;
        self.send(&config.open())?;
        self.longest = config.longest();
        let left = || deadline.saturating_duration_since(Instant::now());
        let (hold_time_seconds, body) = match self.receive(left())? {
            Received::Message(Message::Open { hold_time_seconds, body }) => (hold_time_seconds, body),
            Received::Message(Message::Notification(n)) => {
                bail!("refused with NOTIFICATION {}/{}", n.code, n.subcode)
            }
            Received::Message(_) => bail!("the peer did not begin with OPEN"),
            Received::Closed => bail!("the peer closed the connection"),
            Received::Nothing => bail!("the peer stays silent"),
        };
        self.send(&message::keepalive())?;
        // RFC 4271 section 8.2.2: the KEEPALIVE confirms our OPEN.
        match self.receive(left())? {
            Received::Message(Message::Keepalive) => {}
            other => bail!("the peer answered the OPEN with {other:?}"),
        }
        let hold = config.hold_time_seconds.min(hold_time_seconds);
        Ok((Duration::from_secs(hold.into()), body))
    }

    fn buffered(&mut self) -> anyhow::Result<Option<Message>> {
        let waiting = self.unread.get(self.start..).unwrap_or_default();
        let Some(length) = message::length(waiting, self.longest)? else { return Ok(None) };
        let Some(whole) = waiting.get(..length) else { return Ok(None) };
        let message = message::decode(whole)?;
        self.start += length;
        Ok(Some(message))
    }
}

/// What [`Connection::receive`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Message),
    /// The other end closed or reset the connection.
    Closed,
    /// The time passed.
    Nothing,
}

/// Makes a listening socket in a namespace, for [`Connection::accept`].
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(netns: &Netns, address: SocketAddr) -> anyhow::Result<TcpListener> {
    tcp::listen(netns, address)
}

/// What the peer told a [`Feeder`] so far.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Prefixes held now, each with the digest of its attributes.
    pub routes: HashMap<IpNet, u64>,
    /// Attributes by their digest, for [`Heard::attribute`].
    attributes: HashMap<u64, Vec<u8>>,
    /// Prefixes announced in all, repeats included.
    pub announced: u64,
    /// Prefixes withdrawn in all.
    pub withdrawn: u64,
    /// UPDATE messages.
    pub updates: u64,
    /// UPDATEs that say nothing: End-of-RIB markers.
    pub end_of_ribs: u64,
    /// When the last UPDATE was read.
    pub last_update: Option<Instant>,
    /// The NOTIFICATION that ended the session.
    pub notification: Option<Notification>,
    /// Whether the connection is closed.
    pub closed: bool,
    /// What went wrong on the feeder's side: bytes that are not BGP, a lost connection.
    pub error: Option<String>,
}

/// An established session. Dropping it closes the connection without a word.
#[derive(Debug)]
pub struct Feeder {
    stream: TcpStream,
    // Shared with the reader, which sends KEEPALIVEs between our messages.
    writing: Arc<Mutex<()>>,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
    /// The body of the OPEN the peer sent.
    pub peer_open: Vec<u8>,
}

impl Feeder {
    /// Connects and brings the session up, trying again until `limit` (a peer may close a connection
    /// while it is starting).
    ///
    /// # Errors
    /// When the session is not Established in time; names the NOTIFICATION where one came.
    pub fn connect(
        netns: &Netns,
        source: Option<IpAddr>,
        to: SocketAddr,
        config: &Config,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + limit;
        crate::wait::until(limit, &format!("a BGP session with {to}"), || {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            Self::establish(Connection::dial(netns, source, to, left)?, config, left).map(Some)
        })
    }

    /// Exchanges OPENs and KEEPALIVEs on a connection.
    ///
    /// # Errors
    /// When the peer closes, sends something else, or stays silent for `limit`.
    pub fn establish(mut connection: Connection, config: &Config, limit: Duration) -> anyhow::Result<Self> {
        let (hold, body) = connection.introduce(config, limit)?;
        let writing = Arc::new(Mutex::new(()));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stream = connection.stream.try_clone()?;
        let reader = {
            let (writing, heard) = (Arc::clone(&writing), Arc::clone(&heard));
            std::thread::spawn(move || listen_on(connection, hold, &writing, &heard))
        };
        Ok(Self { stream, writing, heard, reader: Some(reader), peer_open: body })
    }

    /// Sends bytes as they are: whole messages, or what a test wants the peer to choke on.
    ///
    /// # Errors
    /// When the connection is gone, or takes nothing for 30 s.
    pub fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let _turn = lock(&self.writing);
        let mut stream = &self.stream;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(bytes).context("sending to the BGP peer")
    }

    /// What the peer has said so far; holds up the reader while it is kept.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }

    /// Waits until exactly `count` prefixes are held, and gives the time of the UPDATE that made it so.
    ///
    /// # Errors
    /// When the session ends or `limit` passes; says how many there are.
    pub fn until_routes(&self, count: usize, limit: Duration) -> anyhow::Result<Instant> {
        crate::wait::until(limit, &format!("{count} prefixes at the receiver"), || {
            let heard = self.heard();
            if heard.routes.len() == count {
                return Ok(Some(heard.last_update.unwrap_or_else(Instant::now)));
            }
            bail!(
                "{} there, closed: {}, {:?}, {:?}",
                heard.routes.len(),
                heard.closed,
                heard.notification,
                heard.error
            );
        })
    }

    /// Waits until the peer has ended the session, and gives the NOTIFICATION if it sent one.
    ///
    /// # Errors
    /// When the session is still up after `limit`.
    pub fn until_closed(&self, limit: Duration) -> anyhow::Result<Option<Notification>> {
        crate::wait::until(limit, "the end of the session", || {
            let heard = self.heard();
            Ok(heard.closed.then(|| heard.notification.clone()))
        })
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // The peer may have closed first; either way the reader sees the end and stops.
        drop(self.stream.shutdown(std::net::Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

/// A panic elsewhere must not hide what was heard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen_on(mut connection: Connection, hold: Duration, writing: &Mutex<()>, heard: &Mutex<Heard>) {
    let every = if hold.is_zero() { Duration::from_secs(3600) } else { hold / 3 };
    let mut keepalive_at = Instant::now() + every;
    loop {
        let now = Instant::now();
        if now >= keepalive_at {
            // Whoever writes just now keeps the session alive as well; waiting for the turn could
            // leave both ends writing and nobody reading.
            if let Ok(_turn) = writing.try_lock()
                && connection.send(&message::keepalive()).is_err()
            {
                lock(heard).closed = true;
                return;
            }
            keepalive_at = now + every;
        }
        let received = connection.receive(keepalive_at.saturating_duration_since(now));
        let mut heard = lock(heard);
        match received {
            Ok(Received::Message(message)) => heard.note(message, Instant::now()),
            Ok(Received::Nothing) => {}
            Ok(Received::Closed) => {
                heard.closed = true;
                return;
            }
            Err(error) => {
                heard.closed = true;
                heard.error = Some(format!("{error:#}"));
                return;
            }
        }
    }
}

impl Heard {
    /// Flags and value of an attribute of a prefix that is held now.
    pub fn attribute(&self, prefix: &IpNet, kind: u8) -> Option<(u8, &[u8])> {
        message::attribute_of(self.attributes.get(self.routes.get(prefix)?)?, kind)
    }

    /// All attributes of a prefix that is held now, as they came.
    pub fn attributes(&self, prefix: &IpNet) -> Option<&[u8]> {
        self.attributes.get(self.routes.get(prefix)?).map(Vec::as_slice)
    }

    /// Takes in the next message, read at this time.
    pub fn note(&mut self, message: Message, at: Instant) {
        match message {
            Message::Update(update) => {
                self.updates += 1;
                self.withdrawn += update.withdrawn.len() as u64;
                self.announced += update.announced.len() as u64;
                if update.withdrawn.is_empty() && update.announced.is_empty() {
                    // Not an event of the table: the time of the last change stays.
                    self.end_of_ribs += 1;
                    return;
                }
                for prefix in update.withdrawn {
                    self.routes.remove(&prefix);
                }
                if !update.attributes.is_empty() {
                    self.attributes.entry(update.digest).or_insert(update.attributes);
                }
                for prefix in update.announced {
                    self.routes.insert(prefix, update.digest);
                }
                self.last_update = Some(at);
            }
            Message::Notification(notification) => self.notification = Some(notification),
            Message::Open { .. } | Message::Keepalive | Message::RouteRefresh(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Duration = Duration::from_secs(10);

    /// A feeder that waits for a connection to this address of this namespace.
    pub(super) fn passive() -> (Netns, SocketAddr, JoinHandle<Feeder>) {
        let netns = Netns::fresh().unwrap();
        let listener = listen(&netns, "127.0.0.1:179".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let passive = std::thread::spawn(move || {
            let config = Config::new(65_002, Ipv4Addr::new(2, 2, 2, 2));
            Feeder::establish(Connection::accept(&listener, SECONDS).unwrap(), &config, SECONDS).unwrap()
        });
        (netns, address, passive)
    }

    fn two() -> (Feeder, Feeder) {
        let (netns, address, passive) = passive();
        let config = Config::new(65_001, Ipv4Addr::new(1, 1, 1, 1));
        let active = Feeder::connect(&netns, None, address, &config, SECONDS).unwrap();
        (active, passive.join().unwrap())
    }

    #[test]
    fn two_feeders_exchange_a_table_and_take_it_back() {
        let (active, passive) = two();
        let table = load::internet(3000, 1, 65_001, "10.0.0.1".parse().unwrap());
        active.send(&load::announcements(&table)).unwrap();
        active.send(&message::end_of_rib(false)).unwrap();
        passive.until_routes(3000, SECONDS).unwrap();
        passive
            .send(&load::announcements(&load::internet(500, 2, 65_002, "fd00::2".parse().unwrap())))
            .unwrap();
        active.until_routes(500, SECONDS).unwrap();
        active.send(&load::withdrawals(&table)).unwrap();
        passive.until_routes(0, SECONDS).unwrap();
        let heard = passive.heard();
        assert_eq!((heard.announced, heard.withdrawn, heard.end_of_ribs), (3000, 3000, 1));
    }

    #[test]
    fn the_notification_that_ends_a_session_is_kept() {
        let (active, passive) = two();
        active.send(&message::notification(6, 2, b"\x03bye")).unwrap();
        let expected = Notification { code: 6, subcode: 2, data: b"\x03bye".to_vec() };
        drop(active);
        assert_eq!(passive.until_closed(SECONDS).unwrap(), Some(expected));
    }

    #[test]
    fn what_is_not_bgp_is_reported() {
        let (active, passive) = two();
        active.send(&[0; 19]).unwrap();
        assert_eq!(passive.until_closed(SECONDS).unwrap(), None);
        assert!(passive.heard().error.as_ref().unwrap().contains("marker"));
    }
}
