//! BIRD: changes by reading the file again.

use ipnet::IpNet;

use super::{Operator, pid_in};
use crate::interop::Other;
use crate::speakers::{Router, Speaker};

pub(super) struct Bird;

impl Operator for Bird {
    fn speaker(&self) -> Speaker {
        Speaker::Bird
    }

    fn files(&self, router: &Router) -> Vec<(&'static str, String)> {
        vec![("etc/bird/bird.conf", router.bird_conf())]
    }

    fn start(&self, _router: &Router, _again: bool) -> String {
        // -R: a graceful restart. Without neighbours that kept its routes it is a start like others.
        "bird -R -c /etc/bird/bird.conf -P /run/bird/bird.pid".to_owned()
    }

    fn target(&self, _signal: &str) -> String {
        pid_in("/run/bird/bird.pid")
    }

    fn account(&self, other: &Other) -> anyhow::Result<String> {
        other.run(&["birdc", "show protocols all"])
    }

    fn describe(&self, other: &Other, prefix: &str) -> anyhow::Result<String> {
        other.run(&["birdc", &format!("show route all {prefix}")])
    }

    fn announce(&self, other: &Other, _network: IpNet) -> anyhow::Result<()> {
        configure(other)
    }

    fn withdraw(&self, other: &Other, _network: IpNet) -> anyhow::Result<()> {
        configure(other)
    }

    fn password_changed(&self, other: &Other) -> anyhow::Result<()> {
        configure(other)
    }

    fn shutdown(&self, other: &Other, text: &str) -> anyhow::Result<()> {
        other.run(&["birdc", &format!("disable peer0 \"{text}\"")]).map(drop)
    }

    fn start_session(&self, other: &Other) -> anyhow::Result<()> {
        other.run(&["birdc", "enable peer0"]).map(drop)
    }

    fn refresh(&self, other: &Other) -> anyhow::Result<()> {
        other.run(&["birdc", "reload in peer0"]).map(drop)
    }
}

fn configure(other: &Other) -> anyhow::Result<()> {
    other.write_conf()?;
    other.run(&["birdc", "configure"]).map(drop)
}
