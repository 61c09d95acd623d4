//! The thread that owns the request socket: one job after the other, answers in the same order.
//!
//! Its own thread because a batch of routes keeps the kernel busy for milliseconds inside `send`, which
//! must not hold up the tasks of an async runtime. It ends when the sender of jobs is dropped.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::fib::{Refusal, Request};

use super::dump::{self, Lookup, Snapshot};
use super::socket::Netlink;
use super::writer::Writer;
use super::{KernelError, KernelRoute, NexthopObject};

/// Jobs waiting: the driver has at most two of each kind under way, so this is never full.
const JOBS: usize = 8;

/// What the thread is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Write these in order; nexthop objects are marked with `protocol`.
    Write {
        /// Requests.
        requests: Vec<Request>,
        /// `nh_protocol`.
        protocol: u8,
    },
    /// Read everything, with the routes of these protocols.
    Snapshot {
        /// `rtm_protocol` numbers.
        protocols: Vec<u8>,
    },
    /// Read nexthop objects only.
    Nexthops,
    /// Read our routes, to compare them with what should be there.
    Routes {
        /// `rtm_protocol` numbers.
        protocols: Vec<u8>,
    },
    /// How would the kernel reach these?
    Lookup(Vec<IpAddr>),
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// The refused requests, by index; an error: unknown which took effect.
    Written(Result<Vec<(usize, Refusal)>, KernelError>),
    /// Everything.
    Snapshot(Result<Snapshot, KernelError>),
    /// Nexthop objects.
    Nexthops(Result<Vec<NexthopObject>, KernelError>),
    /// Routes of the protocols asked for.
    Routes(Result<Vec<KernelRoute>, KernelError>),
    /// One result per address, in order of the job.
    Lookup(Vec<(IpAddr, Result<Option<Lookup>, KernelError>)>),
}

/// The running thread.
#[derive(Debug)]
pub struct Worker {
    /// Jobs in.
    pub jobs: SyncSender<Job>,
    /// Answers out.
    pub answers: mpsc::Receiver<Answer>,
    /// To be joined after `jobs` is dropped.
    pub thread: JoinHandle<()>,
}

/// Starts the thread on `netlink`; `sent` counts the requests written.
///
/// # Errors
/// When the system has no thread left.
pub fn start(netlink: Netlink, sent: Arc<AtomicU64>) -> io::Result<Worker> {
    let (jobs, inbox) = sync_channel(JOBS);
    // As many answers as jobs: the thread never waits for the driver.
    let (outbox, answers) = mpsc::channel(JOBS);
    let thread = thread::Builder::new()
        .name("fib-netlink".into())
        .spawn(move || run(netlink, &inbox, &outbox, &sent))?;
    Ok(Worker { jobs, answers, thread })
}

fn run(mut netlink: Netlink, inbox: &Receiver<Job>, outbox: &mpsc::Sender<Answer>, sent: &Arc<AtomicU64>) {
    while let Ok(job) = inbox.recv() {
        let answer = match job {
            Job::Write { requests, protocol } => {
                Answer::Written(Writer::new(protocol, Arc::clone(sent)).write(&mut netlink, &requests))
            }
            Job::Snapshot { protocols } => Answer::Snapshot(dump::snapshot(&mut netlink, &protocols)),
            Job::Nexthops => Answer::Nexthops(dump::nexthops(&mut netlink)),
            Job::Routes { protocols } => {
                Answer::Routes(protocols.iter().try_fold(Vec::new(), |mut routes, protocol| {
                    routes.extend(dump::routes(&mut netlink, *protocol)?);
                    Ok(routes)
                }))
            }
            Job::Lookup(addresses) => Answer::Lookup(
                addresses.into_iter().map(|address| (address, dump::lookup(&mut netlink, address))).collect(),
            ),
        };
        if outbox.blocking_send(answer).is_err() {
            return;
        }
    }
}
