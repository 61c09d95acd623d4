//! What can go wrong with an address, and the code a runtime reads for it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::Attachment;
use crate::spec::{CniError, Code};

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// Every address of a family is leased.
    #[error("no {family} address is free; stop pods on this node or give it another block")]
    Exhausted {
        /// "IPv4" or "IPv6".
        family: &'static str,
        /// Where they went.
        counts: Vec<BlockCount>,
    },
    /// A static address has another owner.
    #[error("address {address} is taken by {holder}; delete that pod first or ask for another address")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Its attachment, with the pod's name where it is known.
        holder: String,
    },
    /// A static address this node does not announce.
    #[error(
        "address {address} is not in this node's blocks ({}); choose one of them, or set foreignAddresses to Allow",
        list(.blocks)
    )]
    Foreign {
        /// The address.
        address: IpAddr,
        /// The blocks.
        blocks: Vec<IpNet>,
    },
    /// A static address nobody can have.
    #[error("address {address} cannot be a pod's: it is {reason}; choose another")]
    Unusable {
        /// The address.
        address: IpAddr,
        /// What it is instead.
        reason: &'static str,
    },
    /// Two static addresses of one family.
    #[error("addresses {first} and {second} are of one family; a pod gets at most one of each")]
    SameFamily {
        /// One.
        first: IpAddr,
        /// The other.
        second: IpAddr,
    },
    /// No address at all could be given.
    #[error("there is no block to take an address from; set blocks, as in \"blocks\": [\"10.244.3.0/24\"]")]
    NoBlocks,
    /// `ipRanges` and blocks have nothing in common.
    #[error("no range of ipRanges lies within this node's {family} blocks ({}); choose one that does", list(.blocks))]
    RangesOutside {
        /// "IPv4" or "IPv6".
        family: &'static str,
        /// The blocks of the family.
        blocks: Vec<IpNet>,
    },
    /// DEL came while this ADD was under way.
    #[error("{attachment} was deleted while it was added; a new ADD is served")]
    Overtaken {
        /// Whose.
        attachment: Attachment,
    },
    /// Somebody holds a lock for too long.
    #[error("{} is locked for more than {} s by another towpath-cni; is one hanging?", .path.display(), .waited.as_secs())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A log of a later towpath.
    #[error("{} has format version {version}, this towpath-cni knows {}; install the newer towpath again", .path.display(), super::record::VERSION)]
    Newer {
        /// The log.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The log cannot be read and neither can the kernel.
    #[error("{} is {state} and cannot be rebuilt from the kernel's links yet: {reason}", .path.display())]
    Unrecovered {
        /// The log.
        path: PathBuf,
        /// "missing", "damaged", "of an earlier boot".
        state: &'static str,
        /// Why not.
        reason: String,
    },
    /// The state folder may be written by others.
    #[error("{} {problem}; only root may write there: chown root and chmod go-w it", .path.display())]
    Untrusted {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system refused.
    #[error("{doing} {}: {source}{}", .path.display(), remedy(.source))]
    Io {
        /// What was done: "writing", "reading".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How full a block is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockCount {
    /// The block.
    pub block: IpNet,
    /// Addresses pods can have.
    pub usable: u128,
    /// Leased.
    pub leased: u128,
    /// Free, but released less than `reuseDelay` ago.
    pub resting: u128,
}

impl fmt::Display for BlockCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} leased", self.block, self.leased, self.usable)
    }
}

impl IpamError {
    /// What a runtime may act upon.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Exhausted { .. }
            | Self::Overtaken { .. }
            | Self::Locked { .. }
            | Self::Unrecovered { .. } => Code::TryAgainLater,
            Self::Taken { .. } => Code::AddressTaken,
            Self::Foreign { .. }
            | Self::Unusable { .. }
            | Self::SameFamily { .. }
            | Self::NoBlocks
            | Self::RangesOutside { .. } => Code::InvalidConfig,
            Self::Newer { .. } | Self::Untrusted { .. } | Self::Io { .. } => Code::Io,
        }
    }
}

impl From<IpamError> for CniError {
    fn from(error: IpamError) -> Self {
        let details = match &error {
            IpamError::Exhausted { counts, .. } => list(counts),
            _ => String::new(),
        };
        Self::new(error.code(), error.to_string()).with_details(details)
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What to do about the file system's refusals that have a usual cause.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there or move stateDir",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it writable or move stateDir",
        io::ErrorKind::PermissionDenied => "; run as root",
        io::ErrorKind::NotADirectory => "; stateDir must be a folder",
        _ => "",
    }
}
