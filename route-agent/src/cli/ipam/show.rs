//! `towpath ipam show`: a line an attachment, a line a block.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use cni::ipam::{BlockCount, BootTime, Condition, Lease, LeaseState, Now};
use serde_json::{Value, json};

use super::place::Place;
use crate::cli::Output;
use crate::cli::table::{age, render};

/// Octets of a container id that people need to tell one from another, as runtimes print them.
const SHORT_ID: usize = 12;

pub(super) fn run(place: &Place, output: Output) -> anyhow::Result<ExitCode> {
    let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = Now { unix_seconds, boot_time: BootTime::now() };
    let (condition, mut leases, counts) = place.ledger.view(|ledger, condition| {
        let counts: Vec<BlockCount> =
            place.blocks.iter().map(|block| ledger.count(block, place.reuse_delay, now)).collect();
        (condition, ledger.leases(), counts)
    })?;
    leases.sort_by_key(|lease| (lease.addresses.v4, lease.addresses.v6));
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&as_json(condition, &leases, &counts))?),
        Output::Table => {
            if let Some(remark) = remark(condition) {
                println!("{remark}");
            }
            print!("{}", as_table(&leases, unix_seconds));
            for count in &counts {
                println!("{count}, {} resting", count.resting);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to say about a ledger that is not in use.
pub(super) fn remark(condition: Condition) -> Option<&'static str> {
    match condition {
        Condition::Good => None,
        Condition::Missing => Some("no address was ever leased here"),
        Condition::EarlierBoot => Some("the leases are of an earlier boot: none is valid any more"),
        Condition::Damaged => {
            Some("the ledger is damaged: the next ADD makes it anew from the kernel, as does `check --fix`")
        }
    }
}

/// One word for programs.
pub(super) fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Good => "good",
        Condition::Missing => "missing",
        Condition::EarlierBoot => "earlierBoot",
        Condition::Damaged => "damaged",
    }
}

fn as_json(condition: Condition, leases: &[Lease], counts: &[BlockCount]) -> Value {
    // No block that is counted by anybody has more than this.
    let number = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
    json!({
        "ledger": word(condition),
        "leases": leases.iter().map(lease_json).collect::<Vec<_>>(),
        "blocks": counts.iter().map(|count| json!({
            "block": count.block,
            "usable": number(count.usable),
            "leased": number(count.leased),
            "resting": number(count.resting),
        })).collect::<Vec<_>>(),
    })
}

fn lease_json(lease: &Lease) -> Value {
    json!({
        "addresses": lease.addresses.iter().collect::<Vec<_>>(),
        "network": lease.attachment.network.as_str(),
        "containerID": lease.attachment.container_id.as_str(),
        "ifname": lease.attachment.ifname.as_str(),
        "pod": lease.pod,
        "state": state(lease),
        "hostPorts": lease.ports,
        "bandwidth": lease.shaped,
        "claimedAt": lease.claimed_at,
    })
}

fn as_table(leases: &[Lease], now: u64) -> String {
    let heading = ["ADDRESS", "NETWORK", "CONTAINER", "IFNAME", "POD", "STATE", "SINCE"];
    let rows: Vec<Vec<String>> = leases
        .iter()
        .map(|lease| {
            let addresses: Vec<String> = lease.addresses.iter().map(|a| a.to_string()).collect();
            let id = lease.attachment.container_id.as_str();
            vec![
                addresses.join(","),
                lease.attachment.network.to_string(),
                id.get(..SHORT_ID).unwrap_or(id).to_owned(),
                lease.attachment.ifname.to_string(),
                lease.pod.clone().unwrap_or_else(|| "-".to_owned()),
                state(lease).to_owned(),
                age(now.saturating_sub(lease.claimed_at)),
            ]
        })
        .collect();
    render(&heading, &rows)
}

fn state(lease: &Lease) -> &'static str {
    match lease.state {
        LeaseState::Intent => "Intent",
        LeaseState::Ready => "Ready",
    }
}
