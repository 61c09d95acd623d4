//! Claims and stores for tests of the ledger.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

pub(crate) mod disk;

use std::path::Path;
use std::time::Duration;

use cni::ipam::{BootTime, Claim, Found, Links, NetnsId, Node, Process, Store};
use cni::{Attachment, ContainerId, IfName, NetworkName};

/// The boot id of tests.
pub(crate) const BOOT: &str = "11111111-2222-3333-4444-555555555555";

/// A kernel that answers this when it is asked for wired pods.
pub(crate) fn links(list: fn(u8) -> Result<Vec<Found>, String>) -> Links {
    Links { route_protocol: 200, list }
}

/// No pod is wired.
pub(crate) fn no_links() -> Links {
    links(|_| Ok(Vec::new()))
}

/// The ledger below `state_dir`, in the boot of tests.
pub(crate) fn store(state_dir: &Path) -> Store<Node> {
    Store::open(state_dir, BOOT, Duration::from_secs(60), no_links())
}

/// Interface `eth0` of container `id` in network `towpath`.
pub(crate) fn attachment(id: &str) -> Attachment {
    Attachment {
        network: NetworkName::parse("towpath").unwrap(),
        container_id: ContainerId::parse(id).unwrap(),
        ifname: IfName::parse("eth0").unwrap(),
    }
}

/// An ADD of container `id` that begins now.
pub(crate) fn claim(id: &str, blocks: &[&str]) -> Claim {
    Claim {
        attachment: attachment(id),
        blocks: blocks.iter().map(|block| block.parse().unwrap()).collect(),
        wanted: Vec::new(),
        foreign_addresses: false,
        ranges: Vec::new(),
        reserved: Vec::new(),
        reuse_delay: Duration::from_secs(60),
        netns: Some(NetnsId { dev: 4, ino: 4026531840 }),
        process: Process::current().unwrap(),
        called_at: BootTime::now(),
        pod: Some(format!("default/{id}")),
        ports: false,
        shaped: false,
    }
}
