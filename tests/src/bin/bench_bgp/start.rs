//! From the start of a daemon to a session, and to the first route in the kernel.
//!
//! The neighbour tries to connect every millisecond from before the start on. The route's time is that of the kernel's
//! own notice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use towpath_tests::feeder::{Config, Connection, load};
use towpath_tests::installed::Installed;
use towpath_tests::meter::kernel::{Kind, Recorder};
use towpath_tests::meter::tcp;
use towpath_tests::netns::Netns;

use crate::contender::Contender;
use crate::converge::milliseconds;
use crate::results::{Family, Sample};
use crate::rig::{self, FEEDER, LIMIT, Links};

const RETRY: Duration = Duration::from_millis(1);
/// A daemon that takes a connection and then says nothing is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(contender: Contender, family: Family) -> anyhow::Result<(Sample, String)> {
    let links = Links::new(1)?;
    let table = rig::table(family, FEEDER, 1, 1);
    let prefix = *rig::prefixes(&table).first().context("an empty table")?;
    let installed = Installed::new(&links.daemon, &[prefix])?;
    let recorder = Recorder::start(&links.daemon)?;
    let stop = AtomicBool::new(false);
    let to = SocketAddr::new(rig::daemon(family, FEEDER), 179);
    let (sandbox, established, _connection) = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let (mut connection, at) = connect(links.neighbor(FEEDER), to, &stop)?;
            connection.send(&load::announcements(&table))?;
            anyhow::Ok((connection, at))
        });
        let sandbox = contender.start(&links.daemon, &[(rig::neighbor(family, FEEDER), rig::asn(FEEDER))]);
        if sandbox.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let connected = rig::join(connecting);
        let sandbox = sandbox?;
        let (connection, at) = connected?;
        anyhow::Ok((sandbox, at, connection))
    })?;
    let since = |at: Instant| milliseconds(at.saturating_duration_since(sandbox.started));
    let mut sample = vec![("Established ms", since(established))];
    if contender.installs() {
        installed.until(true, LIMIT)?;
        let started = recorder.started();
        let notices = recorder.stop()?;
        let first = notices.iter().find(|notice| {
            notice.kind == Kind::NewRoute
                && notice.destination == Some((prefix.network(), prefix.prefix_len()))
        });
        let first = first.context("the kernel has a route that it never told of")?;
        sample.push(("first kernel route ms", since(started + first.at)));
    }
    let version = contender.version(&sandbox)?;
    Ok((sample, version))
}

/// A session, and when it was Established.
fn connect(netns: &Netns, to: SocketAddr, stop: &AtomicBool) -> anyhow::Result<(Connection, Instant)> {
    let config = Config::new(rig::asn(FEEDER), Ipv4Addr::new(10, 0, FEEDER, 1));
    let deadline = Instant::now() + LIMIT;
    while !stop.load(Ordering::Relaxed) {
        let attempt = || -> anyhow::Result<Connection> {
            let mut connection = Connection::new(tcp::connect(netns, None, to, Instant::now() + PATIENCE)?);
            connection.introduce(&config, PATIENCE)?;
            Ok(connection)
        };
        match attempt() {
            Ok(connection) => return Ok((connection, Instant::now())),
            Err(error) if Instant::now() > deadline => return Err(error.context("no session in time")),
            // Not started yet, or not ready: refused connections are what is expected here.
            Err(_) => std::thread::sleep(RETRY),
        }
    }
    bail!("the daemon did not start")
}
