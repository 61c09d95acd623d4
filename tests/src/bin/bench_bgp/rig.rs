//! The daemon between a feeder and a receiver, each in a namespace of its own on a link of its own, and the clocks of
//! a phase.
//!
//! Link `i` is `peer<i>` at the daemon and `eth0` at the neighbour, with 10.0.i.2 and 10.0.i.1, fd00:i::2 and
//! fd00:i::1. Neighbour `i` is AS 65000 + i.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use towpath_tests::feeder::load::{self, Group};
use towpath_tests::feeder::tape::{Counts, Recorder, Tape};
use towpath_tests::feeder::{Config, Heard};
use towpath_tests::installed::Installed;
use towpath_tests::netns::Netns;
use towpath_tests::sandbox::Sandbox;
use towpath_tests::usage::{self, Usage};

use crate::contender::{Contender, DAEMON_AS};
use crate::results::Family;

/// Nothing takes longer; GoBGP needs 60 ms for a thousand routes.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// The first neighbour feeds.
pub(crate) const FEEDER: u8 = 1;
/// The second one receives.
pub(crate) const RECEIVER: u8 = 2;

/// Neighbour `i`'s address.
pub(crate) fn neighbor(family: Family, i: u8) -> IpAddr {
    address(family, i, 1)
}

/// The daemon's address on link `i`.
pub(crate) fn daemon(family: Family, i: u8) -> IpAddr {
    address(family, i, 2)
}

fn address(family: Family, i: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, i, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, i.into(), 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// AS number of neighbour `i`.
pub(crate) fn asn(i: u8) -> u32 {
    DAEMON_AS + u32::from(i)
}

/// The table that neighbour `i` feeds.
pub(crate) fn table(family: Family, i: u8, routes: usize, seed: u64) -> Vec<Group> {
    load::internet(routes, seed, asn(i), neighbor(family, i))
}

/// The prefixes of a table, in its order.
pub(crate) fn prefixes(table: &[Group]) -> Vec<IpNet> {
    table.iter().flat_map(|group| group.prefixes.iter().copied()).collect()
}

/// Namespaces of a daemon and its neighbours.
pub(crate) struct Links {
    pub(crate) daemon: Netns,
    pub(crate) neighbors: Vec<Netns>,
}

impl Links {
    pub(crate) fn new(count: u8) -> anyhow::Result<Self> {
        let daemon_ns = Netns::fresh()?;
        // Link-local addresses that come up a second later bring routes of their own, which would be counted.
        daemon_ns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        let mut neighbors = Vec::new();
        for i in 1..=count {
            let netns = Netns::fresh()?;
            let both = |of: fn(Family, u8) -> IpAddr| {
                [format!("{}/24", of(Family::V4, i)), format!("{}/64", of(Family::V6, i))]
            };
            let (ours, theirs) = (both(daemon), both(neighbor));
            let name = format!("peer{i}");
            daemon_ns.link((&name, &[&ours[0], &ours[1]]), &netns, ("eth0", &[&theirs[0], &theirs[1]]))?;
            neighbors.push(netns);
        }
        Ok(Self { daemon: daemon_ns, neighbors })
    }

    pub(crate) fn neighbor(&self, i: u8) -> &Netns {
        &self.neighbors[usize::from(i) - 1]
    }
}

/// A running daemon with all its sessions up.
pub(crate) struct Rig {
    pub(crate) links: Links,
    pub(crate) family: Family,
    pub(crate) contender: Contender,
    pub(crate) sandbox: Sandbox,
    pub(crate) version: String,
    processes: Vec<u32>,
    tapes: Vec<Tape>,
    _recorder: Recorder,
}

/// What a phase took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// First byte sent until the receiver had it all.
    pub(crate) receiver: Duration,
    /// First byte sent until the kernel had it all.
    pub(crate) kernel: Option<Duration>,
    pub(crate) spent: Spent,
}

/// Processor time of a phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) daemon: Duration,
    /// This program's.
    pub(crate) bench: Duration,
    /// What neither used: on a busy machine a run is spoilt.
    pub(crate) others: Duration,
}

/// The clocks at the begin of a phase.
pub(crate) struct Clocks {
    daemon: Duration,
    bench: Duration,
    machine: Duration,
}

impl Clocks {
    /// `processes`: the daemon's.
    pub(crate) fn read(processes: &[u32]) -> anyhow::Result<Self> {
        let bench = usage::of(&[std::process::id()]).cpu;
        Ok(Self { daemon: usage::of(processes).cpu, bench, machine: usage::machine()? })
    }

    /// What was spent since.
    pub(crate) fn spent(&self, processes: &[u32]) -> anyhow::Result<Spent> {
        let now = Self::read(processes)?;
        let (daemon, bench) = (now.daemon.saturating_sub(self.daemon), now.bench.saturating_sub(self.bench));
        let machine = now.machine.saturating_sub(self.machine);
        Ok(Spent { daemon, bench, others: machine.saturating_sub(daemon + bench) })
    }
}

impl Rig {
    /// Starts the daemon with as many links and brings the sessions with the first `sessions` neighbours up. A route
    /// has gone through and is gone again, so that start-up timers are past.
    pub(crate) fn new(contender: Contender, family: Family, links: u8, sessions: u8) -> anyhow::Result<Self> {
        let links = Links::new(links)?;
        let neighbors: Vec<(IpAddr, u32)> = (1..=sessions).map(|i| (neighbor(family, i), asn(i))).collect();
        let sandbox = contender.start(&links.daemon, &neighbors)?;
        let version = contender.version(&sandbox)?;
        let recorder = Recorder::start()?;
        let mut tapes = Vec::new();
        for i in (1..=sessions).rev() {
            let to = SocketAddr::new(daemon(family, i), 179);
            let config = Config::new(asn(i), Ipv4Addr::new(10, 0, i, 1));
            tapes.insert(0, recorder.connect(links.neighbor(i), None, to, &config, LIMIT)?);
        }
        let processes = sandbox.processes()?;
        let rig = Self { links, family, contender, sandbox, version, processes, tapes, _recorder: recorder };
        rig.probe()?;
        Ok(rig)
    }

    fn probe(&self) -> anyhow::Result<()> {
        let table = table(self.family, FEEDER, 1, 1);
        let installed = self.installed(&table)?;
        for (bytes, announced) in [(load::announcements(&table), 1), (load::withdrawals(&table), 0)] {
            let counts = Counts { announced, withdrawn: 1 - announced };
            let whole = |heard: &Heard| heard.routes.len() as u64 == announced;
            self.phase(FEEDER, &bytes, counts, installed.as_ref(), whole)?;
        }
        Ok(())
    }

    pub(crate) fn tape(&self, i: u8) -> &Tape {
        &self.tapes[usize::from(i) - 1]
    }

    pub(crate) fn tapes(&self) -> &[Tape] {
        &self.tapes
    }

    pub(crate) fn processes(&self) -> &[u32] {
        &self.processes
    }

    pub(crate) fn usage(&self) -> Usage {
        usage::of(&self.processes)
    }

    /// What waits for a table in the kernel, where the daemon installs.
    pub(crate) fn installed(&self, table: &[Group]) -> anyhow::Result<Option<Installed>> {
        let wanted = self.contender.installs();
        wanted.then(|| Installed::new(&self.links.daemon, &prefixes(table))).transpose()
    }

    /// Lets neighbour `from` send and waits until the receiver has heard `more` and what it holds is `whole`, and
    /// until the kernel has all routes, or none where more go than come.
    pub(crate) fn phase(
        &self,
        from: u8,
        bytes: &[u8],
        more: Counts,
        installed: Option<&Installed>,
        whole: impl Fn(&Heard) -> bool,
    ) -> anyhow::Result<Phase> {
        let receiver = self.tape(RECEIVER);
        let before = receiver.counts();
        let counts = Counts {
            announced: before.announced + more.announced,
            withdrawn: before.withdrawn + more.withdrawn,
        };
        let present = more.announced > more.withdrawn;
        let clocks = Clocks::read(&self.processes)?;
        std::thread::scope(|scope| {
            let kernel = installed.map(|installed| scope.spawn(move || installed.until(present, LIMIT)));
            let began = Instant::now();
            let sending = scope.spawn(|| self.tape(from).send(bytes));
            // To understand what was heard costs time of the processor: last, when all is over.
            let counted = receiver.until_looks_whole(counts, LIMIT);
            let kernel = kernel.map(join).transpose();
            join(sending)?;
            counted?;
            let (kernel, over) = (kernel?, Instant::now());
            let mut spent = clocks.spent(&self.processes)?;
            let heard = receiver.until(counts, LIMIT, whole)?;
            if heard > over {
                // It only paused.
                spent = clocks.spent(&self.processes)?;
            }
            let since = |at: Instant| at.saturating_duration_since(began);
            Ok(Phase { receiver: since(heard), kernel: kernel.map(since), spent })
        })
    }
}

/// The result of a thread; its panic goes on here.
pub(crate) fn join<T>(thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
