//! ExaBGP: a speaker without a RIB; routes by `exabgpcli`, the rest of a change by reading the file again.

use anyhow::{Context, bail, ensure};
use ipnet::IpNet;

use super::{Operator, pid_in};
use crate::interop::Other;
use crate::speakers::{Neighbor, Router, Speaker, exabgp_route};

const PID_FILE: &str = "/run/exabgp.pid";
const LOG: &str = "/run/exabgp.log";

pub(super) struct Exabgp;

impl Operator for Exabgp {
    fn speaker(&self) -> Speaker {
        Speaker::Exabgp
    }

    fn files(&self, router: &Router) -> Vec<(&'static str, String)> {
        vec![("etc/exabgp/exabgp.conf", router.exabgp_conf())]
    }

    fn before(&self) -> &'static str {
        "mkfifo /run/exabgp/exabgp.in /run/exabgp/exabgp.out && "
    }

    fn start(&self, router: &Router, _again: bool) -> String {
        // It listens only when told where; nothing but its own neighbours can reach it here.
        let mut ends: Vec<String> =
            router.neighbors.iter().filter_map(|n| n.local).map(|end| end.to_string()).collect();
        ends.dedup();
        let bind = ends.join(" ");
        format!(
            "{{ env exabgp.daemon.user=root exabgp.tcp.port=179 exabgp.tcp.bind='{bind}' exabgp.api.chunk=1000 \
             exabgp /etc/exabgp/exabgp.conf >{LOG} 2>&1 & echo $! >{PID_FILE}; }}"
        )
    }

    fn ready(&self, other: &Other) -> anyhow::Result<()> {
        // Whoever asks while it starts may find its pipes stuck for good.
        let log = other.run(&["cat", LOG])?;
        ensure!(log.contains("loaded new configuration successfully"), "its log says {log}");
        Ok(())
    }

    fn started(&self, other: &Other) -> anyhow::Result<()> {
        let left_out = |neighbor: &&Neighbor| neighbor.v6 && neighbor.address.is_ipv4();
        for neighbor in other.router.neighbors.iter().filter(left_out) {
            for network in other.router.networks.iter().filter(|network| network.addr().is_ipv6()) {
                tell(other, neighbor, "announce", *network)?;
            }
        }
        Ok(())
    }

    fn target(&self, _signal: &str) -> String {
        pid_in(PID_FILE)
    }

    fn account(&self, other: &Other) -> anyhow::Result<String> {
        other.run(&["cat", LOG])
    }

    fn describe(&self, other: &Other, prefix: &str) -> anyhow::Result<String> {
        let all = other.run(&["exabgpcli", "show", "adj-rib", "in", "extensive"])?;
        let of_prefix = format!(" {prefix} ");
        Ok(all.lines().filter(|line| line.contains(&of_prefix)).collect::<Vec<_>>().join("\n"))
    }

    fn announce(&self, other: &Other, network: IpNet) -> anyhow::Result<()> {
        command(other, "announce", network)
    }

    fn announce_with(&self, other: &Other, network: IpNet, attributes: &str) -> anyhow::Result<()> {
        let neighbor = other.first()?;
        let route = exabgp_route(neighbor, network).context("no neighbour for it")?;
        let line = format!("neighbor {} announce {route} {attributes}", neighbor.address);
        let argv: Vec<&str> = std::iter::once("exabgpcli").chain(line.split(' ')).collect();
        other.run(&argv).map(drop)
    }

    fn withdraw(&self, other: &Other, network: IpNet) -> anyhow::Result<()> {
        command(other, "withdraw", network)
    }

    fn password_changed(&self, other: &Other) -> anyhow::Result<()> {
        other.write_conf()?;
        other.signal("USR1")
    }

    fn shutdown(&self, _other: &Other, text: &str) -> anyhow::Result<()> {
        bail!("ExaBGP has no command that shuts a session down with a text such as {text:?}")
    }

    fn start_session(&self, _other: &Other) -> anyhow::Result<()> {
        bail!("ExaBGP has no session that is shut down")
    }

    fn refresh(&self, other: &Other) -> anyhow::Result<()> {
        let address = other.first()?.address.to_string();
        other
            .run(&["exabgpcli", "neighbor", &address, "announce", "route-refresh", "ipv4", "unicast"])
            .map(drop)
    }
}

/// Tells every neighbour with the network's family.
fn command(other: &Other, verb: &str, network: IpNet) -> anyhow::Result<()> {
    let mut told = false;
    for neighbor in &other.router.neighbors {
        told |= tell(other, neighbor, verb, network)?;
    }
    ensure!(told, "no neighbour for {network}");
    Ok(())
}

fn tell(other: &Other, neighbor: &Neighbor, verb: &str, network: IpNet) -> anyhow::Result<bool> {
    let Some(route) = exabgp_route(neighbor, network) else { return Ok(false) };
    let line = format!("neighbor {} {verb} {route}", neighbor.address);
    let argv: Vec<&str> = std::iter::once("exabgpcli").chain(line.split(' ')).collect();
    other.run(&argv)?;
    Ok(true)
}
