//! Who runs: its configuration, its start, its version.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use towpath_tests::agent::towpath;
use towpath_tests::netns::Netns;
use towpath_tests::sandbox::Sandbox;
use towpath_tests::speakers::{Neighbor, Router, Speaker};

/// The AS of every daemon that is measured.
pub(crate) const DAEMON_AS: u32 = 65_000;
/// The same for all, so that an idle daemon has as much to do as the next.
const TIMERS_SECONDS: (u16, u16) = (30, 90);

/// A daemon, or the kernel alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contender {
    Frr,
    Bird,
    Gobgp,
    Openbgpd,
    Towpath,
    /// A bare netlink writer: what the kernel takes at most.
    Limit,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::Gobgp => "GoBGP",
            Self::Openbgpd => "OpenBGPD",
            Self::Towpath => "towpath",
            Self::Limit => "kernel limit",
        }
    }

    /// How its RIB is read; `None` for the limit, which has none.
    pub(crate) fn speaker(self) -> Option<Speaker> {
        match self {
            Self::Frr => Some(Speaker::Frr),
            Self::Bird => Some(Speaker::Bird),
            Self::Gobgp => Some(Speaker::Gobgp),
            Self::Openbgpd => Some(Speaker::Openbgpd),
            Self::Towpath => Some(Speaker::Towpath),
            Self::Limit => None,
        }
    }

    /// Whether it puts routes into the kernel: GoBGP needs FRR's zebra for that, OpenBGPD as packaged does not.
    pub(crate) fn installs(self) -> bool {
        matches!(self, Self::Frr | Self::Bird | Self::Towpath | Self::Limit)
    }

    /// Starts the daemon with passive sessions.
    pub(crate) fn start(self, netns: &Netns, neighbors: &[(IpAddr, u32)]) -> anyhow::Result<Sandbox> {
        let router = router(neighbors);
        let files = |path: &'static str, text: String| [(path, text)];
        match self {
            Self::Frr => Sandbox::frr(netns, &router),
            Self::Bird => Sandbox::bird(netns, &router),
            Self::Gobgp => {
                let argv = ["gobgpd", "-f", "/config/gobgp.toml", "--pprof-disable", "--disable-stdlog"];
                Sandbox::start(netns, &files("config/gobgp.toml", router.gobgp_conf()), &[], &argv)
            }
            Self::Openbgpd => {
                // It refuses a file that others may read.
                let start = "chmod 600 /etc/bgpd/bgpd.conf && exec bgpd -d -f /etc/bgpd/bgpd.conf";
                let files = files("etc/bgpd/bgpd.conf", router.openbgpd_conf());
                Sandbox::start(netns, &files, &[], &["sh", "-c", start])
            }
            Self::Towpath => {
                let argv =
                    ["towpath", "agent", "-f", "/etc/towpath", "--socket", SOCKET, "--state-dir", STATE];
                let files = files("etc/towpath/bench.yaml", towpath_yaml(&router));
                Sandbox::start(netns, &files, &[&towpath_binary()?], &argv)
            }
            Self::Limit => anyhow::bail!("the kernel needs no start"),
        }
    }

    /// What the program says it is.
    pub(crate) fn version(self, sandbox: &Sandbox) -> anyhow::Result<String> {
        let argv: &[&str] = match self {
            Self::Frr => &["/usr/lib/frr/bgpd", "--version"],
            Self::Bird => &["bird", "--version"],
            Self::Gobgp => &["gobgpd", "--version"],
            Self::Openbgpd => &["bgpd", "-V"],
            Self::Towpath => &["towpath", "--version"],
            Self::Limit => return Ok(String::new()),
        };
        let output = sandbox.exec(argv)?;
        // BIRD writes it to stderr.
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned())
    }

    /// Runs a command that asks the daemon, beside it.
    pub(crate) fn ask(self, sandbox: &Sandbox, argv: &[&str]) -> anyhow::Result<String> {
        match self {
            // Its socket is not where the command looks for it.
            Self::Towpath => {
                let socket = format!("TOWPATH_SOCKET={SOCKET}");
                sandbox.run(&[&["env", &socket], argv].concat())
            }
            _ => sandbox.run(argv),
        }
    }
}

const SOCKET: &str = "/run/towpath.sock";
const STATE: &str = "/run/towpath-state";

/// A router with sessions that wait for the other end, one family each: that of its addresses.
fn router(neighbors: &[(IpAddr, u32)]) -> Router {
    let mut router = Router::new(DAEMON_AS, Ipv4Addr::new(9, 9, 9, 9));
    router.graceful_restart = false;
    for (address, remote_as) in neighbors {
        let mut neighbor = Neighbor::new(*address, *remote_as);
        (neighbor.v4, neighbor.v6) = (address.is_ipv4(), address.is_ipv6());
        neighbor.passive = true;
        neighbor.timers = Some(TIMERS_SECONDS);
        router.neighbors.push(neighbor);
    }
    router
}

/// The built program, called `towpath` whatever its folder.
fn towpath_binary() -> anyhow::Result<std::path::PathBuf> {
    let path = towpath()?;
    let name = path.file_name().context("TOWPATH_BIN is a folder")?;
    anyhow::ensure!(name == Path::new("towpath"), "{}: must be called towpath", path.display());
    Ok(path)
}

/// A router as FRR and BIRD are: it passes routes on without waiting for the kernel.
pub(crate) fn towpath_yaml(router: &Router) -> String {
    let (local_as, router_id) = (router.local_as, router.router_id);
    let mut documents = vec![format!(
        "apiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {{name: default}}\n\
         spec: {{asn: {local_as}, routerID: {router_id}, transit: true, install: {{advertiseAfterInstall: false}}}}\n"
    )];
    for (number, neighbor) in router.neighbors.iter().enumerate() {
        let (address, remote_as) = (neighbor.address, neighbor.remote_as);
        let (keepalive, hold) = neighbor.timers.unwrap_or(TIMERS_SECONDS);
        documents.push(format!(
            "apiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {{name: peer{number}}}\n\
             spec: {{neighbor: {{address: '{address}'}}, remoteASN: {remote_as}, passive: Always, \
             timers: {{keepalive: {keepalive}s, hold: {hold}s}}, gracefulRestart: {{mode: Disabled}}}}\n"
        ));
    }
    documents.join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towpaths_file_passes_its_own_check() {
        let neighbors = [("10.0.1.1".parse().unwrap(), 65_001), ("fd00:2::1".parse().unwrap(), 65_002)];
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bench.yaml"), towpath_yaml(&router(&neighbors))).unwrap();
        let (code, text) = towpath_tests::agent::check(folder.path(), "bench").unwrap();
        assert_eq!(code, 0, "{text}");
    }
}
