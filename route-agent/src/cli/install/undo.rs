//! `towpath uninstall`: the node as it was. The conflist goes first, so that no pod starts meanwhile.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::few;
use clap::Args;
use route_agent::exclusive::claim_namespace;
use route_agent::fib::numbers::Numbers;
use route_agent::fib::{Request, RouteKey};
use route_agent::kernel::socket::Netlink;
use route_agent::kernel::writer::Writer;
use route_agent::kernel::{RTN_BLACKHOLE, dump, sysctl};
use route_agent::pods::{conflist, place};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use super::leftovers::remove_file;
use super::{Places, Steps, files};

/// How often `--wait` looks again: a person waits for it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    places: Places,
    /// Although pods still have links of ours; they stay, without routes from elsewhere.
    #[arg(long)]
    force: bool,
    /// Wait until no daemon runs here and no pod has links of ours, instead of refusing.
    #[arg(long)]
    wait: bool,
    /// Remove the state folder's content, too: leases, and the last good configuration with its Secrets.
    #[arg(long)]
    purge: bool,
    /// Go on running when all is done, until SIGTERM: what a DaemonSet's container has to do.
    #[arg(long)]
    stay: bool,
}

/// `towpath uninstall`.
pub(in super::super) fn run(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    let places = &args.places;
    let mut steps = Steps::new(places);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if places.here() {
        runtime.block_on(unused(args))?;
    }
    let conf_dir = places.at(&places.conf_dir);
    let bin_dir = places.at(&places.bin_dir);
    remove_file(&conf_dir.join(conflist::FILE), &mut steps);
    remove_file(&conf_dir.join(conflist::PREVIOUS), &mut steps);
    if place::loopback_is_ours(&bin_dir) {
        remove_file(&bin_dir.join(place::LOOPBACK), &mut steps);
    }
    remove_file(&bin_dir.join(place::PLUGIN), &mut steps);
    remove_file(&places.at(&places.socket).with_file_name("ready"), &mut steps);
    if places.here() {
        steps.step("remove the nf_tables table inet towpath-cni", || match cni::rules::remove_table() {
            // A kernel without nf_tables has no table of ours.
            Ok(_) | Err(cni::rules::RulesError::Unsupported(_)) => Ok(()),
            Err(error) => Err(error.into()),
        });
        routes(places, &mut steps)?;
        sysctls(places, &mut steps)?;
    }
    for path in files::paths(places) {
        remove_file(&path, &mut steps);
    }
    let programs = places.at(&places.program_dir);
    remove_file(&programs.join(place::PLUGIN), &mut steps);
    remove_file(&programs.join("towpath"), &mut steps);
    let state = places.at(&places.state_dir);
    if args.purge {
        // The folder itself may be a mount.
        steps.step(format_args!("remove everything in {}", state.display()), || empty(&state));
    } else if state.exists() {
        println!(
            "{} stays: the last good configuration, with its Secrets, and leases; remove the folder when you do not need it",
            state.display()
        );
    }
    let code = steps.end();
    if args.stay && code == ExitCode::SUCCESS {
        println!("this node is as it was");
        runtime.block_on(async {
            signal(SignalKind::terminate())?.recv().await;
            std::io::Result::Ok(())
        })?;
    }
    Ok(code)
}

/// Returns when nobody needs what is taken away; without `--wait`, an error says who does.
async fn unused(args: &UninstallArgs) -> anyhow::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let mut looks = interval(LOOK_AGAIN);
    let mut said = String::new();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            _ = stop.recv() => bail!("ended before anything was taken away: {said}"),
        }
        let Err(error) = refuse_while_in_use(args) else { return Ok(()) };
        if !args.wait {
            return Err(error);
        }
        let reason = format!("{error:#}");
        if reason != said {
            println!("waiting: {reason}");
            said = reason;
        }
    }
}

/// A daemon would put back what is taken away, and pods would be cut off. Needs a tokio runtime.
fn refuse_while_in_use(args: &UninstallArgs) -> anyhow::Result<()> {
    drop(claim_namespace().context("a daemon runs on this node")?);
    let wires = wires()?;
    if !wires.is_empty() && !args.force {
        bail!(
            "{} pods still have links of ours ({}); drain the node and remove its pods first, or go on with --force",
            wires.len(),
            few(&wires, ", ")
        );
    }
    for wire in wires {
        println!("the link {wire} of a pod stays; `ip link del {wire}` removes it");
    }
    Ok(())
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("reading {}", folder.display()))?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        }
        .with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// Host ends of pods' links.
fn wires() -> anyhow::Result<Vec<String>> {
    let links = dump::snapshot(&mut Netlink::open()?, &[]).context("listing links")?.links;
    let ours = |name: &String| name.len() == 15 && name.starts_with("tw");
    Ok(links.into_iter().map(|link| link.name).filter(ours).collect())
}

/// What BGP installed, and blackholes; pods' own routes go with their links.
fn routes(places: &Places, steps: &mut Steps) -> anyhow::Result<()> {
    let kept = Numbers::load(&places.at(&places.state_dir).join("protocols.json"));
    let numbers = kept.and(&Numbers::of(&api_defaults()));
    let mut netlink = Netlink::open()?;
    let snapshot = dump::snapshot(&mut netlink, &numbers.all()).context("listing routes")?;
    let mut requests: Vec<Request> = Vec::new();
    for route in &snapshot.routes {
        let blackhole = route.kind == RTN_BLACKHOLE;
        if blackhole || numbers.learned().contains(&route.protocol) {
            let key = RouteKey {
                prefix: route.prefix,
                table: route.table,
                metric: route.metric,
                protocol: route.protocol,
            };
            requests.push(Request::DeleteRoute { key, blackhole });
        }
    }
    // Groups before the single next hops in them.
    let mut objects: Vec<_> =
        snapshot.nexthops.iter().filter(|object| numbers.learned().contains(&object.protocol)).collect();
    objects.sort_by_key(|object| object.members.is_empty());
    requests.extend(objects.iter().map(|object| Request::DeleteNexthop { id: object.id }));
    if requests.is_empty() {
        return Ok(());
    }
    let what = format!("remove {} routes and next hops of ours", requests.len());
    steps.step(what, || {
        let refused = Writer::new(199, Arc::default()).write(&mut netlink, &requests)?;
        // A next hop that went with its group, a route that went with its next hop: as wanted.
        let real = refused.iter().find(|(_, refusal)| !matches!(refusal.errno, libc::ESRCH | libc::ENOENT));
        match real {
            Some((index, refusal)) => bail!("{:?}: {refusal}", requests.get(*index)),
            None => Ok(()),
        }
    });
    Ok(())
}

/// The numbers without any configuration.
fn api_defaults() -> api::desired::Install {
    api::desired::Install {
        metric: 20,
        table: 254,
        max_paths: 8,
        protocol: 199,
        local_protocol: 200,
        advertise_after_install: false,
    }
}

fn sysctls(places: &Places, steps: &mut Steps) -> anyhow::Result<()> {
    let root = &places.proc_sys;
    let record = places.at(&places.state_dir).join("sysctls.json");
    let changes =
        sysctl::restorable(root, &record).with_context(|| format!("reading {}", record.display()))?;
    // The last one changed is the first to be given back: forwarding decides what accept_ra means.
    for change in changes.iter().rev() {
        steps.step(format_args!("set {} back to {}", change.path, change.old), || {
            sysctl::restore(root, change).context("writing it")
        });
    }
    remove_file(&record, steps);
    Ok(())
}
