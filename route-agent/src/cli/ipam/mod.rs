//! `towpath ipam`: which pod has which address of this node, whether that is true, and how it is put right.

mod check;
mod place;
mod release;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::Output;

#[derive(Subcommand)]
pub(super) enum IpamCommand {
    /// Show every leased address with its pod, and how full each block is.
    Show {
        #[command(flatten)]
        place: PlaceArgs,
        /// Table for people, or JSON with stable names.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Compare leases with the pods that are wired; exit 1 when something is wrong.
    Check {
        /// Put right what can be: end leases without a pod, enter pods without a lease.
        #[arg(long)]
        fix: bool,
        #[command(flatten)]
        place: PlaceArgs,
        /// Table for people, or JSON with stable names.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Give the addresses of one attachment back.
    Release {
        /// An address, a container id, or NETWORK/CONTAINER/INTERFACE.
        #[arg(value_name = "ATTACHMENT|ADDRESS")]
        target: String,
        /// Also when the pod is wired: its wire is taken away first.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Where the leases are. What is not given is read from the node's conflist, as the plugin reads it.
#[derive(Args)]
pub(super) struct PlaceArgs {
    /// The plugin's configuration on this node.
    #[arg(long, value_name = "FILE", default_value = "/etc/cni/net.d/10-towpath.conflist")]
    conflist: PathBuf,
    /// Folder of the leases; default: the conflist's stateDir, else /var/lib/towpath.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// File with the boot id; default: the conflist's bootIDFile, else the kernel's.
    #[arg(long, value_name = "FILE")]
    boot_id_file: Option<PathBuf>,
    /// A block of this node; default: the conflist's or the daemon's.
    #[arg(long = "block", value_name = "PREFIX")]
    blocks: Vec<IpNet>,
}

pub(super) fn run(command: IpamCommand) -> anyhow::Result<ExitCode> {
    match command {
        IpamCommand::Show { place, output } => show::run(&place.open()?, output),
        IpamCommand::Check { fix, place, output } => check::run(&place.open()?, fix, output),
        IpamCommand::Release { target, force, place } => release::run(&place.open()?, &target, force),
    }
}
