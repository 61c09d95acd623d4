//! How each program is run and what its operator types.
//!
//! One file a program. Files and configuration come from [`crate::speakers`]; what is read back, from the
//! lab's readers. What a program has no command for is an error with the reason: the matrix declares such
//! cells, so nobody asks.

use anyhow::bail;
use ipnet::IpNet;

use super::{Other, Program};
use crate::speakers::{Router, Speaker};

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

/// The operator of one program.
pub(super) trait Operator {
    /// Who reads its sessions and routes.
    fn speaker(&self) -> Speaker;

    /// Its files, by paths without the leading slash.
    fn files(&self, router: &Router) -> Vec<(&'static str, String)>;

    /// Shell commands for once, before the first start; each ends with `&&`.
    fn before(&self) -> &'static str {
        ""
    }

    /// The shell command that starts the speaker in the background; `again`: after it was killed, so its
    /// neighbours may still have its routes.
    fn start(&self, router: &Router, again: bool) -> String;

    /// Whether it may be asked yet.
    fn ready(&self, _other: &Other) -> anyhow::Result<()> {
        Ok(())
    }

    /// Told each time it has started and answers: what its file cannot say.
    fn started(&self, _other: &Other) -> anyhow::Result<()> {
        Ok(())
    }

    /// What `kill` takes for the signal to reach whoever holds the sessions.
    fn target(&self, signal: &str) -> String;

    /// Everything it says about its sessions.
    fn account(&self, other: &Other) -> anyhow::Result<String>;

    /// Everything it says about one prefix.
    fn describe(&self, other: &Other, prefix: &str) -> anyhow::Result<String>;

    /// Announces a network that is in the router's description already.
    fn announce(&self, other: &Other, network: IpNet) -> anyhow::Result<()>;

    /// Announces a network with attributes, in its own words; only for what passes nothing on.
    fn announce_with(&self, other: &Other, network: IpNet, attributes: &str) -> anyhow::Result<()> {
        bail!("{:?} passes on what a feeder says: {network} {attributes}", other.program)
    }

    /// Takes a network back that is no longer in the router's description.
    fn withdraw(&self, other: &Other, network: IpNet) -> anyhow::Result<()>;

    /// Puts the password of the first session in force that the router's description has now.
    fn password_changed(&self, other: &Other) -> anyhow::Result<()>;

    /// Shuts the first session down, with a text (RFC 9003).
    fn shutdown(&self, other: &Other, text: &str) -> anyhow::Result<()>;

    /// Ends that, and what the program itself stopped because of a limit.
    fn start_session(&self, other: &Other) -> anyhow::Result<()>;

    /// Asks the neighbour of the first session for all IPv4 routes again (RFC 2918).
    fn refresh(&self, other: &Other) -> anyhow::Result<()>;
}

impl Program {
    pub(super) fn operator(self) -> &'static dyn Operator {
        match self {
            Self::Frr => &frr::Frr,
            Self::Bird => &bird::Bird,
            Self::Gobgp => &gobgp::Gobgp,
            Self::Openbgpd => &openbgpd::Openbgpd,
            Self::Exabgp => &exabgp::Exabgp,
        }
    }
}

fn family(network: IpNet) -> &'static str {
    if network.addr().is_ipv6() { "ipv6" } else { "ipv4" }
}

/// The shell's word for the process whose number is in a file.
fn pid_in(file: &str) -> String {
    format!("$(cat {file})")
}
