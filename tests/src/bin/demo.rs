//! `make demo`: two racks out of namespaces, told in plain words.
//!
//! Brings up `examples/two-tor` with towpath as every router, shows sessions, routes and traffic, kills a
//! ToR while many flows run, and brings it back. Every number printed was measured in this run; the program
//! fails when something it announces does not happen.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use towpath_tests::meter::{Meter, Plan, echo, tcp};
use towpath_tests::two_tor::{self, NODES, SPEAKERS, TwoTor};

/// Shows towpath at work on this machine.
#[derive(Parser)]
struct Args {
    /// Leave the racks up at the end and print what to try next.
    #[arg(long)]
    keep: bool,
}

/// How long anything announced may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long flows run before and after an event.
const STEADY: Duration = Duration::from_millis(1500);
/// Bytes of the TCP transfer.
const TRANSFER: u64 = 64 << 20;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    lab::use_program(two_tor::program()?);
    let start = Instant::now();
    println!(
        "Two racks: tor1 and tor2 are switches, node1 and node2 are servers with a cable to both,\n\
         each server has two pods. Every box is a set of namespaces; every router runs towpath, whose CNI plugin\n\
         connects the pods.\n"
    );
    let racks = TwoTor::up_in_place()?;
    say(start, &format!("{} boxes are up", racks.lab.nodes().count()));
    racks.until_converged(PATIENCE)?;
    show_sessions(&racks, start)?;
    show_pods(&racks, start)?;
    show_routes(&racks, start)?;
    show_traffic(&racks, start)?;
    show_death_and_return(&racks, start)?;
    if args.keep {
        racks.lab.detach()?;
        keep_note()?;
    } else {
        racks.lab.down()?;
        say(start, "everything is taken down, nothing is left behind");
    }
    Ok(())
}

fn say(start: Instant, text: &str) {
    println!("[{:5.2} s] {text}", start.elapsed().as_secs_f64());
}

fn show_sessions(racks: &TwoTor, start: Instant) -> anyhow::Result<()> {
    let mut up = 0;
    for node in SPEAKERS {
        up += racks.sessions(node)?.0;
    }
    say(
        start,
        &format!(
            "sessions: {} BGP sessions are up ({up} ends), IPv4 and IPv6, each server with both switches",
            up / 2
        ),
    );
    Ok(())
}

fn show_pods(racks: &TwoTor, start: Instant) -> anyhow::Result<()> {
    for node in NODES {
        let pods = racks.ask(node, &["pod", "list"])?;
        let pods = pods.as_array().context("pods is no list")?;
        ensure!(pods.len() == 2, "{node} has {} pods instead of 2", pods.len());
        let words: Vec<String> = pods
            .iter()
            .map(|pod| format!("{} {}", pod["name"].as_str().unwrap_or("?"), addresses(pod)))
            .collect();
        say(start, &format!("pods of {node}, connected by the CNI plugin: {}", words.join("; ")));
    }
    let node = racks.lab.node("node1");
    let began = Instant::now();
    let made = node.exec(&["towpath", "pod", "add", "one-more", "--port", "8080:80/tcp"])?;
    let took = began.elapsed();
    ensure!(made.success(), "towpath pod add: {}", made.stderr);
    let pods = racks.ask("node1", &["pod", "list"])?;
    let pods = pods.as_array().context("pods is no list")?;
    let pod = pods.iter().find(|pod| pod["name"] == "one-more").context("the new pod is not listed")?;
    say(
        start,
        &format!(
            "one more pod on node1, made and connected in {:.0} ms: {}, its port 80 is 8080 of the node",
            took.as_secs_f64() * 1e3,
            addresses(pod)
        ),
    );
    for words in [["pod", "check", "one-more"], ["pod", "del", "one-more"]] {
        let output = node.exec(&[&["towpath"], &words[..]].concat())?;
        ensure!(output.success(), "towpath {}: {}", words.join(" "), output.stderr);
    }
    say(start, "the plugin finds it as it was made, and takes it away again");
    Ok(())
}

fn addresses(pod: &serde_json::Value) -> String {
    let addresses = pod["addresses"].as_array().into_iter().flatten().filter_map(|address| address.as_str());
    addresses.collect::<Vec<_>>().join(" ")
}

fn show_routes(racks: &TwoTor, start: Instant) -> anyhow::Result<()> {
    say(
        start,
        "prefixes: each server advertises its pods' prefixes and has learned the other's from both switches",
    );
    for (node, prefix) in [("node1", "10.244.2.0/24"), ("node1", "fd00:244:2::/64")] {
        let nexthops = racks.nexthops(node, prefix)?.context("the route is gone")?;
        say(start, &format!("kernel of {node}: {prefix} {}", nexthops.join(", ")));
    }
    Ok(())
}

fn show_traffic(racks: &TwoTor, start: Instant) -> anyhow::Result<()> {
    let (a, b) = (racks.pod(1, 'a')?, racks.pod(2, 'a')?);
    for to in [b.v4.map(Into::into), b.v6.map(Into::into)].into_iter().flatten() {
        echo::until_answers(&a.netns, None, to, PATIENCE)?;
        let answers = echo::ping(&a.netns, None, to, 3, Duration::from_secs(1))?;
        let best = answers.iter().flatten().min().with_context(|| format!("no echo from {to}"))?;
        say(start, &format!("ping: pod1a to pod2a, {to}: {:.3} ms", best.as_secs_f64() * 1e3));
    }
    let server: std::net::IpAddr = b.v4.context("pod2a has no IPv4 address")?.into();
    let moved = tcp::transfer(&a.netns, None, &b.netns, SocketAddr::new(server, 0), TRANSFER, PATIENCE)?;
    let client: std::net::IpAddr = a.v4.context("pod1a has no IPv4 address")?.into();
    ensure!(
        moved.source.ip() == client,
        "the server saw {} instead of the pod's own address {client}",
        moved.source.ip()
    );
    say(
        start,
        &format!(
            "TCP: 64 MiB from pod1a to pod2a in {:.2} s; the server saw the pod's own address {client}, nothing was translated",
            moved.duration.as_secs_f64()
        ),
    );
    Ok(())
}

fn show_death_and_return(racks: &TwoTor, start: Instant) -> anyhow::Result<()> {
    let before = racks.tor_counters()?;
    let plan = Plan { flows: 4, ..Plan::default() };
    let meter = Meter::start(&racks.pairs()?[..1], plan.clone())?;
    std::thread::sleep(STEADY);
    let [first, second] = racks.tor_packets(Some(&before))?;
    ensure!(first > 0 && second > 0, "the flows use only one switch ({first} and {second} packets)");
    say(
        start,
        &format!(
            "16 flows at 1,000 packets a second each, both ways: {first} packets through tor1, {second} through tor2"
        ),
    );
    racks.lab.kill_and_isolate("tor1")?;
    say(start, "tor1 dies: its daemon is killed and its kernel stops forwarding in the same instant");
    racks.until_paths(1, PATIENCE)?;
    std::thread::sleep(STEADY);
    let report = meter.stop()?;
    let hit = report.hit().count();
    say(
        start,
        &format!(
            "{} of {} packets lost, in {hit} of {} flows; the longest gap of a flow: {:.1} ms",
            report.lost(),
            report.sent(),
            report.flows.len(),
            report.longest_outage().as_secs_f64() * 1e3
        ),
    );
    for node in NODES {
        let prefix = if node == "node1" { "10.244.2.0/24" } else { "10.244.1.0/24" };
        let nexthops = racks.nexthops(node, prefix)?.context("the route is gone")?;
        say(start, &format!("kernel of {node}: {prefix} {}", nexthops.join(", ")));
    }
    let meter = Meter::start(&racks.pairs()?[..1], plan)?;
    racks.revive("tor1")?;
    racks.until_converged(PATIENCE)?;
    std::thread::sleep(STEADY);
    let report = meter.stop()?;
    say(
        start,
        &format!(
            "tor1 is back, both paths are in use again: {} of {} packets lost on the way",
            report.lost(),
            report.sent()
        ),
    );
    Ok(())
}

fn keep_note() -> anyhow::Result<()> {
    let towpath = two_tor::program()?;
    let towpath = towpath.display();
    println!(
        "\nThe racks stay up. Try:\n\
         \x20 {towpath} lab exec node1 -- towpath peers\n\
         \x20 {towpath} lab exec node1 -- towpath routes received\n\
         \x20 {towpath} lab exec tor1 -- towpath routes advertised --peer node1-v4\n\
         \x20 {towpath} lab exec node1 -- towpath status\n\
         \x20 {towpath} lab exec node1 -- ip route\n\
         \x20 {towpath} lab node die tor1      # a switch dies; `restore` and `start` bring it back\n\
         \x20 edit a file below examples/two-tor/node1 and ask for peers again: changes apply as they are written\n\
         Take it down with:\n\
         \x20 {towpath} lab down two-tor"
    );
    Ok(())
}
