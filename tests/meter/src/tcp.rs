//! TCP between namespaces: a checked transfer, and connections that are watched for a while.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// What a transfer saw.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// From the first byte to the server's confirmation.
    pub duration: Duration,
    /// The client as the server saw it: shows whether something translated the address.
    pub source: SocketAddr,
    /// Bytes moved.
    pub bytes: u64,
}

/// Sends `bytes` from one namespace to a server in another and lets the server confirm a checksum.
///
/// `server` is where the server listens (port 0: any), `source` what the client binds.
///
/// # Errors
/// When the connection fails, the data differ, or `limit` passes.
pub fn transfer(
    client: &Netns,
    source: Option<IpAddr>,
    server: &Netns,
    address: SocketAddr,
    bytes: u64,
    limit: Duration,
) -> anyhow::Result<Transfer> {
    let deadline = Instant::now() + limit;
    let listener = listen(server, address)?;
    let address = listener.local_addr()?;
    let receiving = std::thread::spawn(move || -> anyhow::Result<SocketAddr> {
        let (mut stream, source) = accept(&listener, deadline)?;
        let mut sum = Checksum::default();
        let mut buffer = vec![0; 1 << 16];
        let mut left = bytes;
        while left > 0 {
            bound(&stream, deadline)?;
            let length = stream.read(&mut buffer).context("server: reading")?;
            if length == 0 {
                bail!("server: the connection ended with {left} of {bytes} bytes missing");
            }
            sum.add(&buffer[..length]);
            left = left.saturating_sub(length as u64);
        }
        stream.write_all(&sum.0.to_be_bytes()).context("server: confirming")?;
        Ok(source)
    });
    let mut stream = connect(client, source, address, deadline)?;
    let started = Instant::now();
    let mut sum = Checksum::default();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut chunk = vec![0; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(chunk.len() as u64) as usize;
        noise.fill(&mut chunk[..length]);
        sum.add(&chunk[..length]);
        bound(&stream, deadline)?;
        stream.write_all(&chunk[..length]).context("client: writing")?;
        left -= length as u64;
    }
    let mut confirmed = [0; 8];
    bound(&stream, deadline)?;
    stream.read_exact(&mut confirmed).context("client: waiting for the checksum")?;
    let duration = started.elapsed();
    let source = receiving.join().map_err(|_| anyhow::anyhow!("the server thread panicked"))??;
    if u64::from_be_bytes(confirmed) != sum.0 {
        bail!("{bytes} bytes arrived, but not the ones that were sent");
    }
    Ok(Transfer { duration, source, bytes })
}

/// What became of one watched connection.
#[derive(Debug, Clone)]
pub struct ConnectionReport {
    /// The client's end.
    pub local: SocketAddr,
    /// Round trips of one small message.
    pub round_trips: u64,
    /// The longest a round trip took.
    pub longest: Duration,
    /// Why it ended early; `None` when it survived.
    pub failure: Option<String>,
}

/// TCP connections that exchange a small message all the time, to see that they survive an event.
#[derive(Debug)]
pub struct Connections {
    stop: Arc<AtomicBool>,
    /// The server ends after the clients, so that none sees its connection close.
    stop_server: Arc<AtomicBool>,
    clients: Vec<JoinHandle<ConnectionReport>>,
    server: JoinHandle<()>,
}

impl Connections {
    /// Opens `count` connections; each asks and is answered every `interval`.
    ///
    /// A round trip that takes longer than `patience` counts as the death of its connection.
    ///
    /// # Errors
    /// When a connection cannot be opened within five seconds.
    pub fn start(
        client: &Netns,
        server: &Netns,
        address: SocketAddr,
        count: usize,
        interval: Duration,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let listener = listen(server, address)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut ends = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(connect(client, None, address, deadline)?);
            let (end, _) = accept(&listener, deadline)?;
            end.set_nonblocking(true)?;
            ends.push(end);
        }
        let stop_server = Arc::new(AtomicBool::new(false));
        let answering = Arc::clone(&stop_server);
        let server = std::thread::spawn(move || answer(&mut ends, &answering));
        let clients = streams
            .into_iter()
            .map(|stream| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || ask(stream, interval, patience, &stop))
            })
            .collect();
        Ok(Self { stop, stop_server, clients, server })
    }

    /// Ends the exchange and says what each connection saw.
    ///
    /// # Errors
    /// When a thread panicked.
    pub fn stop(self) -> anyhow::Result<Vec<ConnectionReport>> {
        self.stop.store(true, Ordering::Relaxed);
        let reports = self
            .clients
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked")))
            .collect();
        self.stop_server.store(true, Ordering::Relaxed);
        self.server.join().map_err(|_| anyhow::anyhow!("the server thread panicked"))?;
        reports
    }
}

fn ask(mut stream: TcpStream, interval: Duration, patience: Duration, stop: &AtomicBool) -> ConnectionReport {
    let local = stream.local_addr().unwrap_or(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0));
    let mut report = ConnectionReport { local, round_trips: 0, longest: Duration::ZERO, failure: None };
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let message = report.round_trips.to_be_bytes();
        let mut answer = [0; 8];
        let exchanged = bound(&stream, started + patience)
            .and_then(|()| stream.write_all(&message))
            .and_then(|()| stream.read_exact(&mut answer));
        report.longest = report.longest.max(started.elapsed());
        match exchanged {
            Ok(()) if answer == message => report.round_trips += 1,
            Ok(()) => report.failure = Some("a wrong answer".to_owned()),
            Err(error) => report.failure = Some(error.to_string()),
        }
        if report.failure.is_some() {
            break;
        }
        std::thread::sleep(interval.saturating_sub(started.elapsed()));
    }
    report
}

/// Sends back whatever comes, on all connections, until told to stop.
fn answer(ends: &mut Vec<TcpStream>, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) && !ends.is_empty() {
        let mut ready: Vec<PollFd<'_>> =
            ends.iter().map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        // A signal ends the wait early, which is as good as a time-out.
        let _ = poll(&mut ready, Some(&wait));
        ends.retain_mut(|end| match end.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => end.write_all(&buffer[..length]).is_ok(),
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        });
    }
}

/// A listening socket in `netns`; it stays in there whichever thread uses it.
///
/// # Errors
/// When the address is taken or not one of the namespace.
pub fn listen(netns: &Netns, address: SocketAddr) -> anyhow::Result<TcpListener> {
    netns.run(|| TcpListener::bind(address).with_context(|| format!("listening on {address}")))
}

/// The next connection to `listener`, until `deadline`.
///
/// # Errors
/// When none comes.
pub fn accept(listener: &TcpListener, deadline: Instant) -> anyhow::Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let left = deadline.saturating_duration_since(Instant::now());
    let (stream, source) = crate::wait::until(left, "a TCP connection", || match listener.accept() {
        Ok(accepted) => Ok(Some(accepted)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok((stream, source))
}

/// Connects from within `netns`, from `source` where given, until `deadline`.
///
/// # Errors
/// When the server does not answer or refuses.
pub fn connect(
    netns: &Netns,
    source: Option<IpAddr>,
    to: SocketAddr,
    deadline: Instant,
) -> anyhow::Result<TcpStream> {
    netns.run(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into()).with_context(|| format!("binding {source}"))?;
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        socket.connect_timeout(&to.into(), left).with_context(|| format!("connecting to {to}"))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

/// No single read or write may go past the deadline.
fn bound(stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the time is over"));
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

/// FNV-1a over 64 bits: order matters, so swapped or repeated data show.
struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// xorshift64: bytes that do not repeat, the same in every run.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_ne_bytes()[..word.len()]);
        }
    }
}
