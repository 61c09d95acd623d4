//! `towpath pod`: what a container runtime does for a pod's network, for labs and for people without one.
//!
//! A pod here is a named network namespace, `/run/netns/NAME`, and nothing else: no image, no process.
//! It is connected exactly as a runtime connects its sandboxes:
//!
//! ```text
//! conflist (first file of /etc/cni/net.d) -> chain: stdin, environment -> plugin (binaries of /opt/cni/bin)
//!                                            record: what was asked and what came back, for del and check
//! ```
//!
//! Nothing here knows towpath's own plugin: any chain of plugins can be tried.
//! Source: CNI specification 1.1, sections 2 to 4; libcni for what the specification leaves to runtimes.

mod chain;
mod conflist;
mod plugin;
mod ports;
mod record;
mod sandbox;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Output;
use super::table::render;
use chain::Chain;
use conflist::Conflist;
use ports::Port;
use record::{Record, Records};
use sandbox::Sandbox;

/// The interface that a runtime asks for.
const IFNAME: &str = "eth0";

#[derive(Subcommand)]
pub(super) enum PodCommand {
    /// Make the network namespace NAME and let the CNI plugins connect it; prints their result.
    Add(AddArgs),
    /// Let the plugins disconnect it, and remove the namespace, also when a plugin fails.
    Del(NamedArgs),
    /// Ask the plugins whether it is still connected as it was made; exit 1 and why when it is not.
    Check(NamedArgs),
    /// Show the pods made here.
    List {
        /// Table for people, or JSON with stable names.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
        #[command(flatten)]
        folders: Folders,
    },
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// Name of the pod and of its network namespace.
    name: String,
    /// An address it must get, one of each family at most; default: the plugin chooses.
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<std::net::IpAddr>,
    /// A port of the node that leads to one of the pod: `[ADDRESS:]HOST:POD[/tcp|udp|sctp]`.
    #[arg(long = "port", value_name = "HOST:POD/PROTOCOL")]
    ports: Vec<Port>,
    /// How long to wait for a network configuration and for its plugins to be ready; the daemon writes it when
    /// the node is.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    wait: Duration,
    #[command(flatten)]
    folders: Folders,
}

#[derive(Args)]
pub(super) struct NamedArgs {
    /// Name given to `towpath pod add`.
    name: String,
    #[command(flatten)]
    folders: Folders,
}

#[derive(Args)]
pub(super) struct Folders {
    /// Network configurations; the first by name is used, as by container runtimes.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// CNI plugins; several folders are separated by colons.
    #[arg(long, value_name = "FOLDERS", default_value = "/opt/cni/bin")]
    bin_dir: String,
    /// What was asked for each pod; gone after a reboot, as the pods are.
    #[arg(long, value_name = "FOLDER", default_value = "/run/towpath/pods")]
    record_dir: PathBuf,
}

pub(super) fn run(command: PodCommand) -> anyhow::Result<ExitCode> {
    match command {
        PodCommand::Add(args) => add(args)?,
        PodCommand::Del(args) => del(&args)?,
        PodCommand::Check(args) => check(&args)?,
        PodCommand::List { output, folders } => list(output, &folders)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(args: AddArgs) -> anyhow::Result<()> {
    let AddArgs { name, addresses, ports, wait, folders } = args;
    sandbox::check_name(&name)?;
    let records = Records::new(&folders.record_dir);
    ensure!(
        records.read(&name)?.is_none(),
        "there is a pod {name} already; remove it with `towpath pod del {name}`"
    );
    let conflist =
        Conflist::wait(&folders.conf_dir, wait, |conflist| Chain::status(conflist, &folders.bin_dir))?;
    let mut wanted = serde_json::Map::new();
    if !addresses.is_empty() {
        wanted.insert("ips".to_owned(), json!(addresses));
    }
    if !ports.is_empty() {
        wanted.insert("portMappings".to_owned(), ports.iter().map(Port::mapping).collect());
    }
    conflist.takes(&wanted)?;
    let sandbox = Sandbox::make(&name)?;
    let mut record = Record {
        container_id: record::container_id(&name)?,
        netns: sandbox.path().to_owned(),
        ifname: IFNAME.to_owned(),
        name,
        conflist,
        wanted,
        result: None,
    };
    // Before the plugins run: a pod whose making was interrupted can be removed.
    records.write(&record)?;
    match Chain::of(&record, &folders.bin_dir).add() {
        Ok(result) => {
            println!("{result:#}");
            record.result = Some(result);
            records.write(&record)
        }
        Err(error) => {
            // As a runtime does: what the plugins of the chain had done before is undone.
            let undone = remove(&record, &records, &folders.bin_dir);
            Err(match undone {
                Ok(()) => error,
                Err(undoing) => error.context(format!("{undoing:#}; and before that")),
            })
        }
    }
}

fn del(args: &NamedArgs) -> anyhow::Result<()> {
    let records = Records::new(&args.folders.record_dir);
    let record = known(&records, &args.name)?;
    remove(&record, &records, &args.folders.bin_dir)
}

/// Goes through all of it, and tells what failed at the end.
fn remove(record: &Record, records: &Records<'_>, bin_dir: &str) -> anyhow::Result<()> {
    let mut failures = Chain::of(record, bin_dir).del();
    failures.extend(sandbox::remove(&record.netns).err());
    failures.extend(records.forget(&record.name).err());
    if failures.is_empty() {
        return Ok(());
    }
    let said: Vec<String> = failures.iter().map(|failure| format!("{failure:#}")).collect();
    bail!("{} is removed, but: {}", record.name, said.join("; "))
}

fn check(args: &NamedArgs) -> anyhow::Result<()> {
    let record = known(&Records::new(&args.folders.record_dir), &args.name)?;
    ensure!(
        record.result.is_some(),
        "{0} was never connected; remove it with `towpath pod del {0}` and add it again",
        args.name
    );
    Chain::of(&record, &args.folders.bin_dir).check()
}

fn known(records: &Records<'_>, name: &str) -> anyhow::Result<Record> {
    sandbox::check_name(name)?;
    records
        .read(name)?
        .with_context(|| format!("there is no pod {name}; `towpath pod list` shows those made here"))
}

fn list(output: Output, folders: &Folders) -> anyhow::Result<()> {
    let records = Records::new(&folders.record_dir).all()?;
    match output {
        Output::Json => {
            let pods: Vec<Value> = records.iter().map(described).collect();
            println!("{:#}", Value::from(pods));
        }
        Output::Table => {
            let rows: Vec<Vec<String>> = records
                .iter()
                .map(|record| {
                    let addresses = record.addresses().join(" ");
                    let state = if record.result.is_some() { addresses } else { "not connected".to_owned() };
                    vec![
                        record.name.clone(),
                        state,
                        record.conflist.name.clone(),
                        record.container_id.clone(),
                    ]
                })
                .collect();
            print!("{}", render(&["POD", "ADDRESSES", "NETWORK", "CONTAINER"], &rows));
        }
    }
    Ok(())
}

fn described(record: &Record) -> Value {
    json!({
        "name": record.name,
        "addresses": record.addresses(),
        "network": record.conflist.name,
        "containerID": record.container_id,
        "netns": record.netns,
        "connected": record.result.is_some(),
    })
}

/// `500ms`, `30s`, `2m`; a bare number is refused, so that nobody has to guess its unit.
fn time(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text} is no time; write a whole number with ms, s or m, such as 30s");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?);
    let number: u32 = number.parse().map_err(|_| fault())?;
    let number = u64::from(number);
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err(fault()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [("30s", Some(30_000)), ("5ms", Some(5)), ("2m", Some(120_000))] {
            assert_eq!(time(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
        for text in ["30", "", "s", "-1s", "1h", "1.5s", "99999999999s"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
