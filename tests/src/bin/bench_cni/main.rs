//! `bench-cni`: towpath-cni beside Debian's reference plugins and beside the least that such a program can cost.
//!
//! Every contender has a node of its own (a network namespace with an uplink and a default route) in the same run and
//! takes its turn again and again, so that a busy minute of the machine hits all of them; compare within one run only.
//! Namespaces of pods are made beforehand and shared by the contenders, one at a time. A time is that of the plugins'
//! processes as a runtime waits for them, from the first one's start to the last one's end. CPU is that of these
//! processes (`getrusage`), taken while they run one at a time. Everybody's state is on the same disk, which must not
//! be a memory file system: ours waits for it.
//!
//! The floor is `floor-attach`, which makes the same wire with the same code and keeps no account of addresses, and
//! `floor-empty`, which does nothing; both are built as the plugin is.

mod contender;
mod load;
mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use towpath_tests::cni::{Node, Pod, plugin};
use towpath_tests::netns::Netns;
use towpath_tests::{tables, tools};

use contender::{Contender, Who};
use load::{Samples, all_at_once, commits, one_by_one, own_and_all_cpu, starts};
use report::Results;

/// Measures how fast pods get and lose their network.
#[derive(Debug, Parser)]
struct Arguments {
    /// Turns of each contender.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Pods on the crowded node.
    #[arg(long, default_value_t = 1000)]
    crowd: usize,
    /// A few turns and a small crowd, to try it out; its verdicts mean little.
    #[arg(long)]
    quick: bool,
    /// Where the contenders keep their state. Default: beside this program.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Puts the tables into this file, in place of those there, as well as on the screen.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Pods added one after the other in one turn, before they are deleted.
const TURN: usize = 10;
/// Calls in flight at once, and pods of each caller, where many work at once.
const AT_ONCE: usize = 32;
const EACH: usize = 2;

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.crowd) = (2, 50);
    }
    let folder = std::env::current_exe()?.parent().context("this program's folder")?.to_owned();
    let state = arguments.state.clone().unwrap_or(folder);
    ensure_disk(&state)?;
    let results = measure(&arguments, &state)?;
    let text = results.table(&machine(&arguments)?, std::fs::metadata(plugin()?)?.len());
    println!("{text}");
    if let Some(path) = &arguments.write {
        tables::replace(path, "bench-cni", &text)?;
    }
    Ok(())
}

fn measure(arguments: &Arguments, state: &Path) -> anyhow::Result<Results> {
    let pool = (0..AT_ONCE * EACH).map(|_| Netns::fresh()).collect::<anyhow::Result<Vec<_>>>()?;
    let contenders =
        Who::ALL.iter().map(|who| Contender::new(*who, state)).collect::<anyhow::Result<Vec<_>>>()?;
    let crowd = gather(&contenders, arguments.crowd)?;
    let mut results = Results::default();
    for contender in &contenders {
        // Tables, folders and caches that the first pod makes are made.
        one_by_one(contender, &pool[..1], &mut Samples::default())?;
    }
    let (began, before) = (Instant::now(), own_and_all_cpu()?);
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for contender in &contenders {
            // Those that take seconds get fewer.
            let pods = match contender.who {
                Who::PtpDual => usize::from(round % 2 == 0),
                Who::PtpFull | Who::OursFull => 2,
                _ => TURN,
            };
            one_by_one(contender, &pool[..pods], results.one_by_one(contender.who))?;
        }
        if round % 3 == 0 {
            for contender in contenders.iter().filter(|contender| contender.who.runs_at_once()) {
                all_at_once(contender, AT_ONCE, &pool, results.all_at_once(contender.who))?;
            }
        }
        starts(TURN, &mut results)?;
        commits(state, TURN, &mut results.commit)?;
    }
    let (own, all) = own_and_all_cpu()?;
    let others = (all - before.1).saturating_sub(own - before.0);
    let processors = std::thread::available_parallelism()?.get() as f64;
    results.others = others.as_secs_f64() / (began.elapsed().as_secs_f64() * processors);
    disperse(&contenders, &crowd)?;
    Ok(results)
}

/// The crowded node's pods.
fn gather(contenders: &[Contender], count: usize) -> anyhow::Result<Vec<(Netns, Pod)>> {
    eprintln!("{count} pods on the crowded node");
    let node = crowded(contenders)?;
    (0..count)
        .map(|number| {
            let netns = Netns::fresh()?;
            let pod = Pod::new(format!("crowd-{number}"), &netns.path());
            node.node.netns.run(|| node.add(&pod))?;
            Ok((netns, pod))
        })
        .collect()
}

fn disperse(contenders: &[Contender], crowd: &[(Netns, Pod)]) -> anyhow::Result<()> {
    let node = crowded(contenders)?;
    let pods: Vec<&Pod> = crowd.iter().map(|(_, pod)| pod).collect();
    std::thread::scope(|scope| {
        let part = pods.len().div_ceil(AT_ONCE).max(1);
        let threads: Vec<_> = pods
            .chunks(part)
            .map(|pods| {
                scope.spawn(|| node.node.netns.run(|| pods.iter().try_for_each(|pod| node.del(pod, None))))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(deleted) => deleted,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn crowded(contenders: &[Contender]) -> anyhow::Result<&Contender> {
    contenders.iter().find(|contender| contender.who == Who::OursCrowded).context("no crowded node")
}

fn ensure_disk(folder: &Path) -> anyhow::Result<()> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let kind = rustix::fs::statfs(folder).with_context(|| format!("{}", folder.display()))?.f_type;
    ensure!(
        kind != TMPFS_MAGIC,
        "{} is in memory, where a commit costs nothing; choose a folder on a disk with --state",
        folder.display()
    );
    Ok(())
}

/// What the tables were measured on and with.
fn machine(arguments: &Arguments) -> anyhow::Result<String> {
    let packages = std::fs::read_to_string(tools::folder()?.join(".complete"))?;
    let plugins =
        packages.split_whitespace().find(|package| package.starts_with("containernetworking-plugins="));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!(
        "Peer: {}. {processors} processors, Linux {}. {} turns of each, interleaved; {} pods on the crowded node.",
        plugins.unwrap_or("containernetworking-plugins"),
        kernel.trim(),
        arguments.rounds,
        arguments.crowd
    ))
}

/// A node with an uplink and default routes of both families.
fn node_with_uplink(state: &Path) -> anyhow::Result<(Node, Netns)> {
    let (node, router) = (Node::new(0, state)?, Netns::fresh()?);
    let ours: &[&str] = &["192.0.2.2/30", "2001:db8::2/64"];
    node.netns.link(("eth0", ours), &router, ("node", &["192.0.2.1/30", "2001:db8::1/64"]))?;
    node.netns.ip("route add default via 192.0.2.1")?;
    node.netns.ip("-6 route add default via 2001:db8::1")?;
    Ok((node, router))
}
