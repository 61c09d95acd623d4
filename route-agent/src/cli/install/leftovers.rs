//! What another CNI left on the node: found, named, and removed only when told to.
//!
//! Files and links of known kinds can be removed. Filter chains are only named: which of them still guard something
//! is not ours to say, and a reboot without the other CNI ends them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use futures_util::TryStreamExt;
use route_agent::kernel::dump;
use route_agent::kernel::socket::Netlink;
use route_agent::pods::conflist;
use route_agent::pods::place;

use super::{Places, Steps};

/// Names of links, and whose they are. A star stands for any end.
const LINKS: &[(&str, &str)] = &[
    ("cali*", "Calico"),
    ("vxlan.calico", "Calico"),
    ("vxlan-v6.calico", "Calico"),
    ("cilium_*", "Cilium"),
    ("lxc_health", "Cilium"),
    ("flannel.1", "Flannel"),
    ("flannel-v6.1", "Flannel"),
    ("flannel-wg*", "Flannel"),
    ("cni0", "the bridge plugin"),
    ("kube-bridge", "kube-router"),
    ("weave", "Weave Net"),
    ("vethwe-*", "Weave Net"),
    ("antrea-gw0", "Antrea"),
    ("ovn-k8s-mp0", "OVN-Kubernetes"),
];

/// How names of chains begin, and whose they are.
const CHAINS: &[(&str, &str)] = &[
    ("cali-", "Calico"),
    ("CALI-", "Calico"),
    ("CILIUM_", "Cilium"),
    ("OLD_CILIUM_", "Cilium"),
    ("FLANNEL-", "Flannel"),
    ("KUBE-ROUTER", "kube-router"),
    ("KUBE-NWPLCY-", "kube-router"),
    ("KUBE-POD-FW-", "kube-router"),
    ("WEAVE", "Weave Net"),
    ("CNI-", "the portmap plugin"),
];

/// Something that is not ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    /// A configuration that runtimes would take before ours.
    Conf(PathBuf),
    /// A link, with its owner.
    Link(String, &'static str),
    /// Chains of an owner, in what a program shows.
    Chains { owner: &'static str, program: &'static str, count: usize },
    /// A place that could not be looked at.
    Unknown(String),
}

impl Leftover {
    /// Removes it when `remove` and when it can be; else says it.
    pub(super) fn treat(self, places: &Places, remove: bool, steps: &mut Steps) {
        let hint = if remove { "" } else { "; remove it with --remove-leftovers" };
        match self {
            Self::Conf(path) if remove => {
                // Under a name that runtimes do not read, in case it is wanted back.
                let mut kept = path.clone().into_os_string();
                kept.push("~");
                let kept = PathBuf::from(kept);
                steps.step(format_args!("move {} to {}", path.display(), kept.display()), || {
                    std::fs::rename(&path, &kept).context("renaming")
                });
            }
            Self::Conf(path) => {
                println!("leftover: {}: runtimes would use it before ours{hint}", path.display());
            }
            Self::Link(name, owner) if remove && places.here() => {
                steps.step(format_args!("delete the link {name} of {owner}"), || delete_link(&name));
            }
            Self::Link(name, owner) => println!("leftover: the link {name} of {owner}{hint}"),
            Self::Chains { owner, program, count } => println!(
                "leftover: {count} chains of {owner} in `{program}`; they are not removed: reboot without {owner}, or remove them with its own tool"
            ),
            Self::Unknown(why) => println!("not looked for: {why}"),
        }
    }
}

/// Everything of others on this node.
pub(super) fn find(places: &Places) -> anyhow::Result<Vec<Leftover>> {
    let conf_dir = places.at(&places.conf_dir);
    let mut found: Vec<Leftover> = conflist::before_ours(&conf_dir).into_iter().map(Leftover::Conf).collect();
    if places.here() {
        let mut netlink = Netlink::open().context("netlink")?;
        let links = dump::snapshot(&mut netlink, &[]).context("listing links")?.links;
        found.extend(links.into_iter().filter_map(|link| {
            let owner = owner_of_link(&link.name)?;
            Some(Leftover::Link(link.name, owner))
        }));
        for program in ["iptables-save", "ip6tables-save", "iptables-legacy-save"] {
            found.extend(chains_of(program));
        }
    }
    Ok(found)
}

fn owner_of_link(name: &str) -> Option<&'static str> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    LINKS.iter().find(|(pattern, _)| matches(pattern)).map(|(_, owner)| *owner)
}

/// Chains as an `iptables-save` shows them; a node without the program has no such chains worth a word.
fn chains_of(program: &'static str) -> Vec<Leftover> {
    match Command::new(program).output() {
        Ok(output) if output.status.success() => counted(program, &String::from_utf8_lossy(&output.stdout)),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            vec![Leftover::Unknown(format!("chains of other CNIs, because {program} fails: {words}"))]
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            vec![Leftover::Unknown(format!("chains of other CNIs, because {program} fails: {error}"))]
        }
    }
}

fn counted(program: &'static str, text: &str) -> Vec<Leftover> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for name in text.lines().filter_map(|line| line.strip_prefix(':')) {
        let Some((_, owner)) = CHAINS.iter().find(|(start, _)| name.starts_with(start)) else { continue };
        match counts.iter_mut().find(|(known, _)| known == owner) {
            Some((_, count)) => *count += 1,
            None => counts.push((*owner, 1)),
        }
    }
    counts.into_iter().map(|(owner, count)| Leftover::Chains { owner, program, count }).collect()
}

fn delete_link(name: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("netlink")?;
        tokio::spawn(connection);
        let link = handle.link().get().match_name(name.to_owned()).execute().try_next().await?;
        let index = link.context("it is gone")?.header.index;
        Ok(handle.link().del(index).execute().await?)
    })
}

/// Removes a file of ours if it is there.
pub(super) fn remove_file(path: &Path, steps: &mut Steps) {
    if std::fs::symlink_metadata(path).is_ok() {
        steps.step(format_args!("remove {}", path.display()), || place::remove(path).map(drop));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_others_are_known_by_their_names() {
        for (name, owner) in [
            ("cali12345abcdef", Some("Calico")),
            ("cilium_host", Some("Cilium")),
            ("flannel.1", Some("Flannel")),
            ("flannel.100", None),
            ("cni0", Some("the bridge plugin")),
            ("cni01", None),
            ("twabcdefghijklm", None),
            ("eth0", None),
        ] {
            assert_eq!(owner_of_link(name), owner, "{name}");
        }
    }

    #[test]
    fn chains_of_others_are_counted_by_owner() {
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n:cali-INPUT - [0:0]\n:cali-FORWARD - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-ROUTER-INPUT - [0:0]\n-A INPUT -j cali-INPUT\nCOMMIT\n";
        let program = "iptables-save";
        assert_eq!(
            counted(program, saved),
            [
                Leftover::Chains { owner: "Calico", program, count: 2 },
                Leftover::Chains { owner: "kube-router", program, count: 1 },
            ]
        );
    }
}
