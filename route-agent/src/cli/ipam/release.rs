//! `towpath ipam release`: gives the addresses of one attachment back.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use cni::commands;
use cni::ipam::Lease;

use super::place::Place;

/// How long an ADD or DEL of the same attachment is waited for.
pub(super) const TURN_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn run(place: &Place, target: &str, force: bool) -> anyhow::Result<ExitCode> {
    let lease = find(place.ledger.leases()?, target)?;
    let running = lease.process.filter(|process| process.is_alive());
    let is_wired = place.links()?.iter().any(|link| link.attachment == lease.attachment);
    if !force {
        ensure!(
            !is_wired,
            "{} is wired with {}: delete the pod, or take its wire away too with --force",
            lease.attachment,
            lease.addresses
        );
        if let Some(process) = running {
            bail!(
                "an ADD of {} runs as process {}; wait for it, or use --force",
                lease.attachment,
                process.pid
            );
        }
    }
    let failures = commands::collect(&place.ledger, &lease.attachment, Some(&lease));
    if let Some(failure) = failures.first() {
        bail!("{failure}");
    }
    println!("took {} back from {}", lease.addresses, lease.attachment);
    Ok(ExitCode::SUCCESS)
}

/// The one lease that `target` means.
fn find(leases: Vec<Lease>, target: &str) -> anyhow::Result<Lease> {
    let address: Option<IpAddr> = target.parse().ok();
    let names = |lease: &Lease| {
        let who = &lease.attachment;
        [who.container_id.to_string(), format!("{}/{}/{}", who.network, who.container_id, who.ifname)]
    };
    let mut meant: Vec<Lease> = leases
        .into_iter()
        .filter(|lease| match address {
            Some(address) => lease.addresses.iter().any(|leased| leased == address),
            None => names(lease).iter().any(|name| name == target),
        })
        .collect();
    let Some(lease) = meant.pop() else {
        bail!("{target} is not leased; `towpath ipam show -o json` lists what is");
    };
    ensure!(
        meant.is_empty(),
        "container {target} has {} attachments: name one as NETWORK/CONTAINER/INTERFACE",
        meant.len() + 1
    );
    Ok(lease)
}
