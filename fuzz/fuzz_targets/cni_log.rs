//! Any bytes as the log of leases: read or refused, never a panic or a loop; and whatever it held, a claim gets
//! addresses that nobody else has.
//!
//! Input: an octet that says how, then the log as it is on the disk, or payloads (kind, length, octets) that are framed
//! as records first so that the reader believes them.
#![no_main]

use cni::ipam::record::{self, LogError, Record};
use cni::ipam::row::Row;
use cni::ipam::{BootTime, Claim, Lease, Ledger, Now, Process};
use cni::{Attachment, ContainerId, IfName, NetworkName};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::time::Duration;

const NOW: Now = Now { unix_seconds: 1000, boot_time: BootTime { nanoseconds: 2_000_000_000_000 } };

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let log = if how & 1 == 0 { rest.to_vec() } else { framed(rest) };
    claims(&Ledger::salvage(&log));
    let end = match Ledger::read(&log) {
        Ok((_, ledger, end)) => {
            claims(&ledger);
            end
        }
        Err(LogError::Damaged(_) | LogError::Newer(_)) => return,
    };
    assert!(end.offset <= log.len());
});

fn framed(mut rest: &[u8]) -> Vec<u8> {
    record::whole(b"boot", 1, |out| {
        while let [kind, length, more @ ..] = rest {
            let (payload, later) = more.split_at((usize::from(*length)).min(more.len()));
            out.push_payload(*kind, payload);
            rest = later;
        }
    })
}

/// Pods come one after the other until the blocks are full.
fn claims(ledger: &Ledger<'_>) {
    // A log made by hand may have one attachment twice and its rows in any order; ours have not.
    let mut seen = BTreeSet::new();
    let leases = ledger.leases().into_iter().filter(|lease| seen.insert(lease.attachment.clone()));
    let leases: Vec<Lease> = leases.zip(1..).map(|(lease, id)| Lease { id, ..lease }).collect();
    let mut log = record::whole(b"boot", u64::MAX / 2, |out| {
        for lease in &leases {
            push(out, lease);
        }
    });
    for number in 0..20 {
        let (_, ledger, end) = Ledger::read(&log).expect("what was written can be read");
        let before = ledger.leases();
        let claim = claim(number);
        let Ok(decision) = ledger.claim(&claim, NOW) else { break };
        let theirs = before.iter().filter(|lease| lease.attachment != claim.attachment);
        let mut theirs = theirs.flat_map(|lease| lease.addresses.iter());
        assert!(theirs.all(|address| decision.addresses.iter().all(|ours| ours != address)), "doubled");
        let mut out = record::Writer::new(end.sequence);
        if let Some(id) = decision.replaces {
            out.push(&Record::Release { id, at: 1000 });
        }
        let mut payload = Vec::new();
        let lease = Lease::intent(&claim, decision.addresses, NOW, out.sequence());
        Row::compose(&lease, decision.chosen_from, &mut payload);
        out.push(&Record::Claim(Row::decode(&payload).expect("a composed row is a row")));
        log.truncate(end.offset);
        log.extend(out.into_bytes());
        let (_, ledger, _) = Ledger::read(&log).expect("what was written can be read");
        assert_eq!(ledger.find(&claim.attachment).and_then(|row| row.lease()), Some(lease), "lost");
    }
}

fn push(out: &mut record::Writer, lease: &Lease) {
    let mut payload = Vec::new();
    Row::compose(lease, Default::default(), &mut payload);
    out.push(&Record::Claim(Row::decode(&payload).expect("a composed row is a row")));
}

fn claim(number: u8) -> Claim {
    let block = |text: &str| text.parse::<IpNet>().expect("a prefix");
    Claim {
        attachment: Attachment {
            network: NetworkName::parse("net").expect("a name"),
            container_id: ContainerId::parse(&format!("pod-{number}")).expect("a name"),
            ifname: IfName::parse("eth0").expect("a name"),
        },
        blocks: vec![block("10.0.0.0/28"), block("fd00::/124")],
        wanted: Vec::new(),
        foreign_addresses: false,
        ranges: Vec::new(),
        reserved: Vec::new(),
        reuse_delay: Duration::from_secs(60),
        netns: None,
        process: Process { pid: 1, started_ticks: u64::MAX },
        called_at: NOW.boot_time,
        pod: None,
        ports: false,
        shaped: false,
    }
}
