//! `bench-bgp`: routes from one peer into the kernel and to another peer, beside FRR and BIRD.
//!
//! For each round and each daemon in turn: fresh namespaces, the daemon with two passive sessions, a
//! feeder that announces the table and later withdraws it, a receiver that counts. Times start with the
//! first byte sent. CP ends when the receiver holds what it should, FIB when the kernel's trie does
//! (read from /proc/net/fib_triestat, sparsely: a reading walks the trie). Rounds are interleaved, so
//! that a busy minute of the machine hits all daemons; compare within one table only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use towpath_tests::feeder::{Config, Feeder, load};
use towpath_tests::netns::Netns;
use towpath_tests::sandbox::Sandbox;
use towpath_tests::speakers::{Neighbor, Router};
use towpath_tests::tables;

const LIMIT: Duration = Duration::from_secs(120);
const DAEMON_AS: u32 = 65_000;
const FEEDER_AS: u32 = 65_001;
const RECEIVER_AS: u32 = 65_002;

/// Measures how fast routes go from one peer into the kernel and to another peer.
#[derive(Debug, Parser)]
struct Arguments {
    /// Prefixes in the table.
    #[arg(long, default_value_t = 100_000)]
    routes: usize,
    /// Runs of each daemon.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Daemons to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Daemon::Frr, Daemon::Bird, Daemon::Towpath])]
    daemons: Vec<Daemon>,
    /// The towpath binary. Default: beside this program.
    #[arg(long)]
    towpath: Option<PathBuf>,
    /// Puts the table into this file, in place of the one there, as well as on the screen.
    #[arg(long)]
    write: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Daemon {
    Frr,
    Bird,
    Towpath,
}

impl Daemon {
    fn start(self, netns: &Netns, towpath: &Path) -> anyhow::Result<Sandbox> {
        let mut router = Router::new(DAEMON_AS, Ipv4Addr::new(9, 9, 9, 9));
        router.graceful_restart = false;
        for (address, remote_as) in [("10.0.1.1", FEEDER_AS), ("10.0.2.1", RECEIVER_AS)] {
            let mut neighbor = Neighbor::new(address.parse()?, remote_as);
            neighbor.passive = true;
            router.neighbors.push(neighbor);
        }
        match self {
            Self::Frr => Sandbox::frr(netns, &router),
            Self::Bird => Sandbox::bird(netns, &router),
            Self::Towpath => {
                let name = towpath
                    .file_name()
                    .and_then(|name| name.to_str())
                    .context("the towpath binary's name")?;
                let program = format!("/usr/local/bin/{name}");
                let argv = [
                    program.as_str(),
                    "agent",
                    "-f",
                    "/etc/towpath",
                    "--socket",
                    "/run/towpath.sock",
                    "--state-dir",
                    "/run/towpath-state",
                ];
                Sandbox::start(netns, &[("etc/towpath/bench.yaml", towpath_yaml(&router))], &[towpath], &argv)
            }
        }
    }

    fn version(self, sandbox: &Sandbox, towpath: &Path) -> anyhow::Result<String> {
        let program = towpath.file_name().and_then(|name| name.to_str()).unwrap_or("towpath");
        let argv: &[&str] = match self {
            Self::Frr => &["/usr/lib/frr/bgpd", "--version"],
            Self::Bird => &["bird", "--version"],
            Self::Towpath => &[&format!("/usr/local/bin/{program}"), "--version"],
        };
        let output = sandbox.exec(argv)?;
        // BIRD writes it to stderr.
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned())
    }
}

fn towpath_yaml(router: &Router) -> String {
    let mut text = format!(
        "apiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {{name: default}}\n\
         spec: {{asn: {}, routerID: {}, transit: true, install: {{advertiseAfterInstall: false}}}}\n",
        router.local_as, router.router_id
    );
    for (number, neighbor) in router.neighbors.iter().enumerate() {
        write!(
            text,
            "---\napiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {{name: peer{number}}}\n\
             spec: {{neighbor: {{address: {}}}, remoteASN: {}, passive: Always, gracefulRestart: {{mode: Disabled}}}}\n",
            neighbor.address, neighbor.remote_as
        )
        .expect("a String takes everything");
    }
    text
}

/// One run of one daemon.
#[derive(Debug, Clone, Copy)]
struct Sample {
    announce_peer: Duration,
    announce_fib: Duration,
    withdraw_peer: Duration,
    withdraw_fib: Duration,
    announce_cpu: Duration,
    withdraw_cpu: Duration,
    idle_bytes: u64,
    peak_bytes: u64,
    /// What neither the daemon nor this program used, over both phases: a busy machine spoils a run.
    other_cpu: Duration,
}

fn run(daemon: Daemon, towpath: &Path, routes: usize) -> anyhow::Result<(Sample, String)> {
    let [daemon_ns, feeder_ns, receiver_ns] = [Netns::fresh()?, Netns::fresh()?, Netns::fresh()?];
    feeder_ns.link(("eth0", &["10.0.1.1/24"]), &daemon_ns, ("feed", &["10.0.1.2/24"]))?;
    receiver_ns.link(("eth0", &["10.0.2.1/24"]), &daemon_ns, ("receive", &["10.0.2.2/24"]))?;
    let sandbox = daemon.start(&daemon_ns, towpath)?;
    let version = daemon.version(&sandbox, towpath)?;
    let connect = |netns: &Netns, to: &str, local_as: u32| {
        let id = Ipv4Addr::from(local_as);
        Feeder::connect(netns, None, to.parse()?, &Config::new(local_as, id), LIMIT)
    };
    let receiver = connect(&receiver_ns, "10.0.2.2:179", RECEIVER_AS)?;
    let feeder = connect(&feeder_ns, "10.0.1.2:179", FEEDER_AS)?;
    let next_hop: IpAddr = "10.0.1.1".parse()?;

    // A first route shows that both sessions are past their start-up timers.
    let empty = fib_routes(&daemon_ns)?;
    let probe = load::internet(1, 1, FEEDER_AS, next_hop);
    feeder.send(&load::announcements(&probe))?;
    receiver.until_routes(1, LIMIT)?;
    until_fib(&daemon_ns, empty + 1)?;
    feeder.send(&load::withdrawals(&probe))?;
    receiver.until_routes(0, LIMIT)?;
    until_fib(&daemon_ns, empty)?;

    let table = load::internet(routes, 0x7077_7061_7468, FEEDER_AS, next_hop);
    let others = || -> anyhow::Result<Duration> { Ok(machine_cpu()?.saturating_sub(own_cpu()?)) };
    let (others_before, idle) = (others()?, sandbox.usage()?);
    let phase = |bytes: &[u8], expected: usize| -> anyhow::Result<(Duration, Duration)> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| feeder.send(bytes));
            let fib = scope.spawn(|| until_fib(&daemon_ns, empty + expected));
            let peer = receiver.until_routes(expected, LIMIT);
            sending.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))??;
            let fib = fib.join().map_err(|_| anyhow::anyhow!("the polling thread panicked"))??;
            Ok((peer?.saturating_duration_since(started), fib.saturating_duration_since(started)))
        })
    };
    let (announce_peer, announce_fib) = phase(&load::announcements(&table), routes)?;
    let full = sandbox.usage()?;
    let (withdraw_peer, withdraw_fib) = phase(&load::withdrawals(&table), 0)?;
    let (end, others_after) = (sandbox.usage()?, others()?);
    let daemon_cpu = end.cpu.saturating_sub(idle.cpu);
    let sample = Sample {
        announce_peer,
        announce_fib,
        withdraw_peer,
        withdraw_fib,
        announce_cpu: full.cpu.saturating_sub(idle.cpu),
        withdraw_cpu: end.cpu.saturating_sub(full.cpu),
        idle_bytes: idle.resident_bytes,
        peak_bytes: full.peak_bytes,
        other_cpu: others_after.saturating_sub(others_before).saturating_sub(daemon_cpu),
    };
    Ok((sample, version))
}

/// Time that all processors were busy since boot: user, nice and system of proc(5)'s stat, in hundredths
/// of a second.
fn machine_cpu() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: u64 =
        line.split_whitespace().skip(1).take(3).filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Time this process used, the feeder and the receiver.
fn own_cpu() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// IPv4 routes in the namespace's trie.
fn fib_routes(netns: &Netns) -> anyhow::Result<usize> {
    let text = netns.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/fib_triestat")?))?;
    let main = text.split("Main:").nth(1).unwrap_or_default();
    let line = main.lines().find_map(|line| line.trim().strip_prefix("Prefixes:"));
    line.and_then(|number| number.trim().parse().ok()).context("fib_triestat has no count of prefixes")
}

/// Waits until the trie holds exactly `count` routes.
fn until_fib(netns: &Netns, count: usize) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let asked = Instant::now();
        let found = fib_routes(netns)?;
        let answered = Instant::now();
        if found == count {
            return Ok(answered);
        }
        if answered >= deadline {
            bail!("{found} of {count} routes in the kernel after {LIMIT:?}");
        }
        // Five times the walk: what is measured shares the two cores with the measuring.
        std::thread::sleep(((answered - asked) * 5).max(Duration::from_millis(1)));
    }
}

/// Median, smallest and largest of some figure of the samples.
fn spread(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = samples.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let middle = values.len() / 2;
    let median = if values.len().is_multiple_of(2) {
        (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
    } else {
        at(middle)
    };
    (median, at(0), at(values.len().wrapping_sub(1)))
}

type Figure = (&'static str, fn(&Sample) -> f64);

const FIGURES: &[Figure] = &[
    ("CP ms", |s| s.announce_peer.as_secs_f64() * 1e3),
    ("FIB ms", |s| s.announce_fib.as_secs_f64() * 1e3),
    ("withdraw CP ms", |s| s.withdraw_peer.as_secs_f64() * 1e3),
    ("withdraw FIB ms", |s| s.withdraw_fib.as_secs_f64() * 1e3),
    ("CPU s up", |s| s.announce_cpu.as_secs_f64()),
    ("CPU s down", |s| s.withdraw_cpu.as_secs_f64()),
    ("RSS idle MB", |s| s.idle_bytes as f64 / 1e6),
    ("RSS peak MB", |s| s.peak_bytes as f64 / 1e6),
    ("other CPU s", |s| s.other_cpu.as_secs_f64()),
];

fn table(routes: usize, results: &BTreeMap<Daemon, (Vec<Sample>, String)>) -> String {
    let mut text =
        format!("### {routes} IPv4 routes: median (smallest-largest), ratio to FRR\n\n| daemon | runs |");
    for (name, _) in FIGURES {
        text.push_str(&format!(" {name} |"));
    }
    text.push_str(&format!("\n|---|---|{}\n", "---|".repeat(FIGURES.len())));
    for (daemon, (samples, version)) in results {
        text.push_str(&format!("| {daemon:?} ({version}) | {} |", samples.len()));
        for (_, figure) in FIGURES {
            let (median, least, most) = spread(samples, figure);
            let digits = if median < 10.0 { 2 } else { 0 };
            text.push_str(&format!(" {median:.digits$} ({least:.digits$}-{most:.digits$})"));
            if let Some((reference, _)) = results.get(&Daemon::Frr).filter(|_| *daemon != Daemon::Frr) {
                text.push_str(&format!(" {:.2}x", median / spread(reference, figure).0));
            }
            text.push_str(" |");
        }
        text.push('\n');
    }
    text
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let towpath = match &arguments.towpath {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("towpath"),
    };
    if arguments.daemons.contains(&Daemon::Towpath) && !towpath.exists() {
        bail!("{} is not there; build it with: cargo build --release", towpath.display());
    }
    let mut results: BTreeMap<Daemon, (Vec<Sample>, String)> = BTreeMap::new();
    for round in 1..=arguments.rounds {
        for &daemon in &arguments.daemons {
            let (sample, version) = run(daemon, &towpath, arguments.routes)
                .with_context(|| format!("{daemon:?}, round {round}"))?;
            eprintln!("round {round}: {daemon:?}: {sample:?}");
            let (samples, known) = results.entry(daemon).or_default();
            samples.push(sample);
            *known = version;
        }
    }
    let text = table(arguments.routes, &results);
    println!("{text}");
    if let Some(path) = &arguments.write {
        tables::replace(path, "bench-bgp", &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(milliseconds: u64) -> Sample {
        let time = Duration::from_millis(milliseconds);
        Sample {
            announce_peer: time,
            announce_fib: time,
            withdraw_peer: time,
            withdraw_fib: time,
            announce_cpu: time,
            withdraw_cpu: time,
            idle_bytes: 1,
            peak_bytes: 2,
            other_cpu: time,
        }
    }

    #[test]
    fn the_table_has_medians_ranges_and_ratios() {
        let figure = FIGURES[0].1;
        assert_eq!(spread(&[sample(5), sample(1), sample(3)], figure), (3.0, 1.0, 5.0));
        assert_eq!(spread(&[sample(4), sample(2)], figure), (3.0, 2.0, 4.0));
        let results = BTreeMap::from([
            (Daemon::Frr, (vec![sample(100)], "8".to_owned())),
            (Daemon::Towpath, (vec![sample(10), sample(20), sample(30)], "0".to_owned())),
        ]);
        let text = table(1000, &results);
        assert!(text.contains("| Towpath (0) | 3 | 20 (10-30) 0.20x |"), "{text}");
    }

    #[test]
    fn routes_of_the_kernel_are_counted() {
        let netns = Netns::fresh().unwrap();
        let before = fib_routes(&netns).unwrap();
        netns.ip("route add blackhole 10.0.0.0/8").unwrap();
        assert_eq!(fib_routes(&netns).unwrap(), before + 1);
    }
}
