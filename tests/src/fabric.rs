//! The lab of `examples/two-tor` with the ToRs run by towpath or by another speaker.
//!
//! Only the ToRs' image and files differ from the example. What a ToR thinks of its sessions is read from
//! itself, in whatever way it shows them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::meter::Pair;
use crate::netns::Netns;
use crate::speakers::{Neighbor, Router, Speaker, daemons};
use crate::two_tor::TwoTor;
use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// Who runs on the ToRs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tor {
    /// towpath, as in the example.
    Towpath,
    /// FRR.
    Frr,
    /// BIRD.
    Bird,
}

/// The running lab.
pub struct Fabric {
    /// Its nodes and what can be done to them.
    pub racks: TwoTor,
}

impl Fabric {
    /// Brings the lab up and waits until both nodes have everything from both ToRs.
    ///
    /// # Errors
    /// When it does not come up; names what is missing.
    pub fn up(tor: Tor) -> anyhow::Result<Self> {
        if tor != Tor::Towpath {
            ensure!(
                std::env::var_os("TOWPATH_TOOLS").is_some(),
                "TOWPATH_TOOLS names no folder with {tor:?}; run the tests with: make labs"
            );
        }
        let name = format!("fabric-{}-{}", format!("{tor:?}").to_lowercase(), std::process::id());
        let fabric = Self { racks: TwoTor::up_with(&name, |folder| change(folder, tor))? };
        fabric.until_converged("node1")?;
        fabric.until_converged("node2")?;
        Ok(fabric)
    }

    /// The namespace of a node.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn netns(&self, node: &str) -> anyhow::Result<Netns> {
        self.racks.netns(node)
    }

    /// A pod of node1 and one of node2, for the traffic meter.
    ///
    /// # Errors
    /// When a pod is gone.
    pub fn pair(&self) -> anyhow::Result<Pair> {
        Ok(Pair { a: self.racks.pod(1, 'a')?, b: self.racks.pod(2, 'a')? })
    }

    /// Waits until the node's four sessions are up, everything it wants is in the kernel, nothing of an
    /// earlier run is left there, and the other node's pods are reached over both ToRs.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn until_converged(&self, node: &str) -> anyhow::Result<()> {
        let other = if node == "node1" { 2 } else { 1 };
        until(PATIENCE, &format!("{node} to converge"), || {
            let status = self.racks.ask(node, &["status"])?;
            ensure!(
                status["sessions"]["established"] == 4 && status["fib"]["converged"] == true,
                "status: {status}"
            );
            for prefix in [format!("10.244.{other}.0/24"), format!("fd00:244:{other}::/64")] {
                let routes = self.racks.ask(node, &["routes", "installed", &prefix])?;
                ensure!(
                    routes[0]["nexthops"].as_array().is_some_and(|hops| hops.len() == 2),
                    "{prefix}: {routes}"
                );
            }
            Ok(Some(()))
        })
    }

    /// Whether each session of a ToR with node1, in its own eyes, is Established.
    ///
    /// # Errors
    /// When the ToR's daemon does not answer.
    pub fn sessions_with_node1(&self, tor: u8) -> anyhow::Result<Vec<bool>> {
        let node = format!("tor{tor}");
        let node = self.racks.lab.find(&node)?;
        let speaker = Speaker::of(node.spec()).with_context(|| format!("tor{tor} runs no speaker"))?;
        let sessions = speaker.sessions(&lab::speakers::in_node(&node))?;
        let of_node1 = |address: &&IpAddr| [v4(tor, 1), v6(tor, 1)].contains(address);
        Ok(sessions.keys().filter(of_node1).map(|address| sessions[address].established()).collect())
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["node1", "tor1"] {
                let log = std::fs::read_to_string(self.racks.lab.node(name).log()).unwrap_or_default();
                eprintln!("log of {name}:\n{log}");
            }
        }
    }
}

/// Edits the copy of the example.
fn change(folder: &Path, tor: Tor) -> anyhow::Result<()> {
    let topology = folder.join("topo.clab.yml");
    let mut text = std::fs::read_to_string(&topology)?;
    text = replaced(&text, "    kind: linux\n", "    kind: linux\n    env: { TOWPATH_LOG: debug }\n")?;
    for number in [1_u8, 2] {
        let node = format!("    tor{number}:\n      group: router\n");
        let files = folder.join(format!("tor{number}"));
        let image = match tor {
            Tor::Towpath => continue,
            Tor::Frr => {
                std::fs::write(files.join("frr.conf"), router(number).frr_conf())?;
                std::fs::write(files.join("daemons"), daemons())?;
                std::fs::write(files.join("vtysh.conf"), "service integrated-vtysh-config\n")?;
                format!("quay.io/frrouting/frr\n      binds: [\"tor{number}:/etc/frr\"]")
            }
            Tor::Bird => {
                std::fs::write(files.join("bird.conf"), router(number).bird_conf())?;
                format!("pierky/bird\n      binds: [\"tor{number}:/etc/bird\"]")
            }
        };
        text = replaced(&text, &node, &format!("{node}      image: {image}\n"))?;
    }
    Ok(std::fs::write(&topology, text)?)
}

/// A node's address on its link with a ToR, as in the example.
fn v4(tor: u8, node: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, tor * 10 + node, 1).into()
}

fn v6(tor: u8, node: u8) -> IpAddr {
    let text = format!("fd00:0:{tor}{node}::2");
    IpAddr::V6(text.parse().expect("digits make an address"))
}

/// What the example's `towpath.yaml` says, for other speakers.
fn router(tor: u8) -> Router {
    let mut router = Router::new(65_100 + u32::from(tor), Ipv4Addr::new(10, 255, 0, 100 + tor));
    for node in [1, 2] {
        for address in [v4(tor, node), v6(tor, node)] {
            let mut neighbor = Neighbor::new(address, 65_000 + u32::from(node));
            (neighbor.v4, neighbor.v6) = (address.is_ipv4(), address.is_ipv6());
            neighbor.timers = Some((3, 9));
            router.neighbors.push(neighbor);
        }
    }
    router
}

fn replaced(text: &str, old: &str, new: &str) -> anyhow::Result<String> {
    ensure!(text.matches(old).count() == 1, "the example no longer has exactly one {old:?}");
    Ok(text.replace(old, new))
}
