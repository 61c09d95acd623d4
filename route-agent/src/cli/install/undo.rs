//! `towpath uninstall`: the node as it was. The conflist goes first, so that no pod starts meanwhile.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use route_agent::exclusive::claim_namespace;
use route_agent::fib::numbers::Numbers;
use route_agent::fib::{Request, RouteKey};
use route_agent::kernel::socket::Netlink;
use route_agent::kernel::writer::Writer;
use route_agent::kernel::{RTN_BLACKHOLE, dump, sysctl};
use route_agent::pods::{conflist, place};

use super::leftovers::remove_file;
use super::{Places, Steps, files};

#[derive(Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    places: Places,
    /// Although pods still have links of ours; they stay, without routes from elsewhere.
    #[arg(long)]
    force: bool,
}

/// `towpath uninstall`.
pub(in super::super) fn run(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    let places = &args.places;
    let mut steps = Steps::new(places);
    if places.here() {
        refuse_while_in_use(args)?;
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
    println!(
        "{} stays: the last good configuration, with its Secrets, and leases; remove the folder when you do not need it",
        places.at(&places.state_dir).display()
    );
    Ok(steps.end())
}

/// A daemon would put back what is taken away, and pods would be cut off.
fn refuse_while_in_use(args: &UninstallArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    drop(claim_namespace().context("a daemon runs on this node")?);
    drop(entered);
    let wires = wires()?;
    if !wires.is_empty() && !args.force {
        let few: Vec<&str> = wires.iter().take(3).map(String::as_str).collect();
        bail!(
            "{} pods still have links of ours ({}{}); drain the node and remove its pods first, or go on with --force",
            wires.len(),
            few.join(", "),
            if wires.len() > few.len() { ", ..." } else { "" }
        );
    }
    for wire in wires {
        println!("the link {wire} of a pod stays; `ip link del {wire}` removes it");
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
    let kept = Numbers::load(&places.state_dir.join("protocols.json"));
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
    let root = PathBuf::from("/proc/sys");
    let record = places.state_dir.join("sysctls.json");
    let changes =
        sysctl::restorable(&root, &record).with_context(|| format!("reading {}", record.display()))?;
    // The last one changed is the first to be given back: forwarding decides what accept_ra means.
    for change in changes.iter().rev() {
        steps.step(format_args!("set {} back to {}", change.path, change.old), || {
            sysctl::restore(&root, change).context("writing it")
        });
    }
    remove_file(&record, steps);
    Ok(())
}
