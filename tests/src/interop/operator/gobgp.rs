//! GoBGP: networks by command, since its file has no place for them; the rest of a change by SIGHUP.
//!
//! Its kernel gets no routes: that needs FRR's zebra.

use anyhow::bail;
use ipnet::IpNet;

use super::{Operator, family, pid_in};
use crate::interop::Other;
use crate::speakers::{Router, Speaker, gobgp_network, gobgp_started};

const PID_FILE: &str = "/run/gobgpd.pid";
const LOG: &str = "/run/gobgpd.log";

pub(super) struct Gobgp;

impl Operator for Gobgp {
    fn speaker(&self) -> Speaker {
        Speaker::Gobgp
    }

    fn files(&self, router: &Router) -> Vec<(&'static str, String)> {
        vec![("config/gobgp.toml", router.gobgp_conf())]
    }

    fn start(&self, router: &Router, again: bool) -> String {
        let restart = if again && router.graceful_restart { " -r" } else { "" };
        // A session that is up before its networks are announced has told an empty table by then, and after a
        // restart its neighbours drop what they kept.
        format!(
            "sed -i '/admin-down/d; s/^ *peer-as/    admin-down = true\\n&/' /config/gobgp.toml && \
             {{ gobgpd -f /config/gobgp.toml --pprof-disable{restart} >>{LOG} 2>&1 & echo $! >{PID_FILE}; }}"
        )
    }

    fn started(&self, other: &Other) -> anyhow::Result<()> {
        other.run(&["sh", "-e", "-c", &gobgp_started(&other.router).join("\n")]).map(drop)
    }

    fn target(&self, _signal: &str) -> String {
        pid_in(PID_FILE)
    }

    fn account(&self, other: &Other) -> anyhow::Result<String> {
        // Why a session ended is in its log only.
        other.run(&["cat", LOG])
    }

    fn describe(&self, other: &Other, prefix: &str) -> anyhow::Result<String> {
        let family = family(prefix.parse()?);
        other.run(&["gobgp", "global", "rib", prefix, "-a", family])
    }

    fn announce(&self, other: &Other, network: IpNet) -> anyhow::Result<()> {
        other.run(&["sh", "-c", &gobgp_network(&other.router, "add", network)]).map(drop)
    }

    fn withdraw(&self, other: &Other, network: IpNet) -> anyhow::Result<()> {
        other.run(&["sh", "-c", &gobgp_network(&other.router, "del", network)]).map(drop)
    }

    fn password_changed(&self, other: &Other) -> anyhow::Result<()> {
        other.write_conf()?;
        other.signal("HUP")
    }

    fn shutdown(&self, other: &Other, text: &str) -> anyhow::Result<()> {
        // `disable` would keep the session down, but drops the text.
        let address = other.first()?.address.to_string();
        other.run(&["gobgp", "neighbor", &address, "shutdown", "--reason", text]).map(drop)
    }

    fn start_session(&self, _other: &Other) -> anyhow::Result<()> {
        // After its `shutdown` the session returns by itself.
        Ok(())
    }

    fn refresh(&self, _other: &Other) -> anyhow::Result<()> {
        bail!(
            "GoBGP has no command that sends a ROUTE-REFRESH: it keeps all it received and looks at that again"
        )
    }
}
