//! BGP sessions and routes as a node's own program shows them, in one form for every program.
//!
//! In: a function that runs a command where the program runs and gives what it prints (a lab's node:
//! [`in_node`]). Out: [`Session`]s by neighbour and a [`Table`] of paths. Nothing is cached, and nothing
//! here changes anything: configuring a program and acting as its operator is left to those who test it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use ipnet::IpNet;

use crate::file::topology::NodeSpec;
use crate::running::Node;

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;
mod towpath;

/// A BGP daemon that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// `towpath agent`, asked with `towpath peers` and `towpath routes`.
    Towpath,
    /// FRR's bgpd, asked with `vtysh`.
    Frr,
    /// BIRD 2, asked with `birdc`.
    Bird,
    /// GoBGP, asked with `gobgp`.
    Gobgp,
    /// OpenBGPD, asked with `bgpctl`.
    Openbgpd,
    /// ExaBGP, asked with `exabgpcli`.
    Exabgp,
}

/// Runs a command beside the program: its standard output, or an error when the command fails.
pub type Run<'a> = &'a dyn Fn(&[&str]) -> anyhow::Result<String>;

impl Speaker {
    /// The program that a node runs: the first one its command names. `None` for a node without one.
    #[must_use]
    pub fn of(spec: &NodeSpec) -> Option<Self> {
        // Shells get their program as text, so words are looked for in every argument.
        let words = spec.command.iter().flat_map(|argument| argument.split([' ', ';', '(', ')', '&', '|']));
        words.filter_map(|word| Self::named(word.rsplit('/').next().unwrap_or(word))).next()
    }

    fn named(program: &str) -> Option<Self> {
        match program {
            "towpath" => Some(Self::Towpath),
            "watchfrr" | "zebra" | "frrinit.sh" | "docker-start" => Some(Self::Frr),
            "bird" => Some(Self::Bird),
            "gobgpd" => Some(Self::Gobgp),
            "bgpd" => Some(Self::Openbgpd),
            "exabgp" => Some(Self::Exabgp),
            _ => None,
        }
    }

    /// Sessions by neighbour address. A listen range without a session has no entry.
    ///
    /// # Errors
    /// When the program does not answer, or answers in a form that is not understood.
    pub fn sessions(self, run: Run<'_>) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
        match self {
            Self::Towpath => towpath::sessions(run),
            Self::Frr => frr::sessions(run),
            Self::Bird => bird::sessions(run),
            Self::Gobgp => gobgp::sessions(run),
            Self::Openbgpd => openbgpd::sessions(run),
            Self::Exabgp => exabgp::sessions(run),
        }
    }

    /// All paths of a family: what the program originates and what it accepted from its neighbours. (ExaBGP
    /// keeps only what it received.)
    ///
    /// # Errors
    /// As [`Speaker::sessions`].
    pub fn routes(self, run: Run<'_>, v6: bool) -> anyhow::Result<Table> {
        match self {
            Self::Towpath => towpath::routes(run, v6),
            Self::Frr => frr::routes(run, v6),
            Self::Bird => bird::routes(run, v6),
            Self::Gobgp => gobgp::routes(run, v6),
            Self::Openbgpd => openbgpd::routes(run, v6),
            Self::Exabgp => exabgp::routes(run, v6),
        }
    }
}

/// A session as the program at one end sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What the configuration calls it, where the program has names.
    pub name: Option<String>,
    /// `Established`, `Active`, ... : the state's name in RFC 4271 where the program uses those.
    pub state: String,
    /// Why it went down the last time, in the program's words.
    pub last_error: Option<String>,
}

impl Session {
    /// Whether routes are exchanged.
    #[must_use]
    pub fn established(&self) -> bool {
        self.state == "Established"
    }
}

/// A path as the program sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    /// Next hops, more than one with link-local addresses; none for what the program originates.
    pub next_hops: Vec<IpAddr>,
    /// AS numbers separated by spaces.
    pub as_path: String,
    /// Whether it is the best one.
    pub best: bool,
}

/// All paths of a family, by prefix.
pub type Table = BTreeMap<IpNet, Vec<Path>>;

/// The [`Run`] of a lab's node: a command that fails is an error with its words.
pub fn in_node(node: &Node) -> impl Fn(&[&str]) -> anyhow::Result<String> {
    let node = node.clone();
    move |argv| {
        let output = node.exec(argv)?;
        ensure!(
            output.success(),
            "{}: {argv:?} ended with {:?}: {}{}",
            node.name(),
            output.exit,
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }
}

/// Reads what a command prints as JSON.
fn json(run: Run<'_>, argv: &[&str]) -> anyhow::Result<serde_json::Value> {
    let text = run(argv)?;
    serde_json::from_str(&text).with_context(|| format!("{argv:?} printed no JSON: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::topology::Topology;

    #[test]
    fn the_program_of_a_node_is_known_by_its_command() {
        let cases = [
            ("image: towpath", Some(Speaker::Towpath)),
            ("image: quay.io/frrouting/frr", Some(Speaker::Frr)),
            ("image: pierky/bird", Some(Speaker::Bird)),
            ("image: jauderho/gobgp", Some(Speaker::Gobgp)),
            ("image: openbgpd/openbgpd", Some(Speaker::Openbgpd)),
            ("image: pierky/exabgp", Some(Speaker::Exabgp)),
            ("image: alpine", None),
            ("image: alpine, cmd: \"bash -c '/usr/lib/frr/docker-start & sleep 1'\"", Some(Speaker::Frr)),
            ("image: alpine, cmd: towpath-lab", None),
        ];
        for (fields, expected) in cases {
            let text =
                format!("name: t\ntopology:\n nodes:\n  n: {{kind: linux, network-mode: none, {fields}}}\n");
            let topology = Topology::parse(&text, "t.clab.yml".as_ref(), &|_| None).unwrap();
            assert_eq!(Speaker::of(&topology.nodes["n"]), expected, "{fields}");
        }
    }
}
