//! OpenBGPD: changes by reading the file again.
//!
//! Three processes: the parent, the session engine and the route decision engine. They are one process
//! group here. Its kernel gets no routes on Linux.

use ipnet::IpNet;

use super::{Operator, pid_in};
use crate::interop::Other;
use crate::speakers::{Router, Speaker};

const PID_FILE: &str = "/run/bgpd.pid";

pub(super) struct Openbgpd;

impl Operator for Openbgpd {
    fn speaker(&self) -> Speaker {
        Speaker::Openbgpd
    }

    fn files(&self, router: &Router) -> Vec<(&'static str, String)> {
        vec![("etc/bgpd/bgpd.conf", router.openbgpd_conf())]
    }

    fn start(&self, _router: &Router, _again: bool) -> String {
        format!("{{ setsid bgpd -d -f /etc/bgpd/bgpd.conf >>/run/bgpd.log 2>&1 & echo $! >{PID_FILE}; }}")
    }

    fn target(&self, signal: &str) -> String {
        // The parent ends the others in order; whoever kills or stops it must reach the session engine.
        let group = if signal == "TERM" { "" } else { "-" };
        format!("{group}{}", pid_in(PID_FILE))
    }

    fn account(&self, other: &Other) -> anyhow::Result<String> {
        other.run(&["bgpctl", "-j", "show", "neighbor"])
    }

    fn describe(&self, other: &Other, prefix: &str) -> anyhow::Result<String> {
        other.run(&["bgpctl", "show", "rib", "detail", prefix])
    }

    fn announce(&self, other: &Other, _network: IpNet) -> anyhow::Result<()> {
        reload(other)
    }

    fn withdraw(&self, other: &Other, _network: IpNet) -> anyhow::Result<()> {
        reload(other)
    }

    fn password_changed(&self, other: &Other) -> anyhow::Result<()> {
        reload(other)?;
        // The key of connections that are there changes with the next one.
        other.run(&["bgpctl", "neighbor", "peer0", "clear"]).map(drop)
    }

    fn shutdown(&self, other: &Other, text: &str) -> anyhow::Result<()> {
        other.run(&["bgpctl", "neighbor", "peer0", "down", text]).map(drop)
    }

    fn start_session(&self, other: &Other) -> anyhow::Result<()> {
        other.run(&["bgpctl", "neighbor", "peer0", "up"]).map(drop)
    }

    fn refresh(&self, other: &Other) -> anyhow::Result<()> {
        other.run(&["bgpctl", "neighbor", "peer0", "refresh"]).map(drop)
    }
}

fn reload(other: &Other) -> anyhow::Result<()> {
    other.write_conf()?;
    other.run(&["bgpctl", "reload"]).map(drop)
}
