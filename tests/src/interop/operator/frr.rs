//! FRR: zebra stays, bgpd comes and goes; changes by `vtysh`, as its file is only read at the start.

use ipnet::IpNet;

use super::{Operator, family, pid_in};
use crate::interop::Other;
use crate::speakers::{Router, Speaker, daemons};

pub(super) struct Frr;

impl Operator for Frr {
    fn speaker(&self) -> Speaker {
        Speaker::Frr
    }

    fn files(&self, router: &Router) -> Vec<(&'static str, String)> {
        vec![
            ("etc/frr/frr.conf", router.frr_conf()),
            ("etc/frr/daemons", daemons()),
            ("etc/frr/vtysh.conf", "service integrated-vtysh-config\n".to_owned()),
        ]
    }

    fn before(&self) -> &'static str {
        "/usr/lib/frr/zebra -d -A 127.0.0.1 -s 90000000 && "
    }

    fn start(&self, _router: &Router, _again: bool) -> String {
        "/usr/lib/frr/bgpd -d -A 127.0.0.1 && vtysh -b".to_owned()
    }

    fn target(&self, _signal: &str) -> String {
        pid_in("/run/frr/bgpd.pid")
    }

    fn account(&self, other: &Other) -> anyhow::Result<String> {
        other.run(&["vtysh", "-c", "show bgp neighbors json"])
    }

    fn describe(&self, other: &Other, prefix: &str) -> anyhow::Result<String> {
        let family = family(prefix.parse()?);
        other.run(&["vtysh", "-c", &format!("show bgp {family} unicast {prefix}")])
    }

    fn announce(&self, other: &Other, network: IpNet) -> anyhow::Result<()> {
        configure(
            other,
            &[&format!("address-family {} unicast", family(network)), &format!("network {network}")],
        )
    }

    fn withdraw(&self, other: &Other, network: IpNet) -> anyhow::Result<()> {
        let family = format!("address-family {} unicast", family(network));
        configure(other, &[&family, &format!("no network {network}")])
    }

    fn password_changed(&self, other: &Other) -> anyhow::Result<()> {
        let neighbor = other.first()?;
        let password = neighbor.password.as_deref().unwrap_or_default();
        configure(other, &[&format!("neighbor {} password {password}", neighbor.address)])
    }

    fn shutdown(&self, other: &Other, text: &str) -> anyhow::Result<()> {
        configure(other, &[&format!("neighbor {} shutdown message {text}", other.first()?.address)])
    }

    fn start_session(&self, other: &Other) -> anyhow::Result<()> {
        configure(other, &[&format!("no neighbor {} shutdown", other.first()?.address)])
    }

    fn refresh(&self, other: &Other) -> anyhow::Result<()> {
        let command = format!("clear bgp ipv4 unicast {} soft in", other.first()?.address);
        other.run(&["vtysh", "-c", &command]).map(drop)
    }
}

/// Commands below `router bgp`.
fn configure(other: &Other, commands: &[&str]) -> anyhow::Result<()> {
    let router = format!("router bgp {}", other.router.local_as);
    let mut argv = vec!["vtysh", "-c", "configure terminal", "-c", &router];
    argv.extend(commands.iter().flat_map(|command| ["-c", command]));
    other.run(&argv).map(drop)
}
