//! Keeps the ready file, the plugin's program and the conflist as they should be. All the file work of a node that
//! has pods; knows no channel.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use api::DesiredState;
use cni::ready::{Ready, State};
use ipnet::IpNet;
use tracing::{info, warn};

use super::conflist::{self, Conflist};
use super::{Options, PodsStatus, place};
use crate::state;

/// In the state folder while the node is drained. Holds the id of the boot in which the node had converged before.
const DRAINED: &str = "drained";

/// How things stand at one look.
pub(super) struct Now {
    /// Whether sessions and kernel are where they should be, or what is waited for.
    pub(super) converged: Result<(), String>,
    /// There are sessions.
    pub(super) waits_for_peers: bool,
    pub(super) uplink_mtu: Option<u32>,
    pub(super) pods: usize,
    pub(super) outside: Vec<IpNet>,
    pub(super) desired: Arc<DesiredState>,
}

pub(super) struct Keeper {
    options: Options,
    boot_id: String,
    /// Since this boot; never taken back.
    converged: bool,
    /// Looks in a row that found everything converged.
    agreed: u8,
    drained: bool,
    mtu: Option<u32>,
    /// Told already.
    told: BTreeSet<String>,
}

impl Keeper {
    /// Takes up what an earlier daemon of this boot left.
    pub(super) fn new(options: Options) -> anyhow::Result<Self> {
        let boot_id = std::fs::read_to_string(&options.boot_id_file)
            .with_context(|| format!("reading {}", options.boot_id_file.display()))?
            .trim()
            .to_owned();
        let earlier = Ready::read(&options.ready_file).unwrap_or_else(|error| {
            warn!(%error, "the ready file is written anew");
            None
        });
        let earlier = earlier.filter(|ready| ready.boot_id == boot_id);
        let marker = options.state_dir.join(DRAINED);
        let drained = match std::fs::read_to_string(&marker) {
            Ok(converged_in) => Some(converged_in),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", marker.display())),
        };
        let was_ready = earlier.as_ref().is_some_and(|ready| ready.state == State::Ready);
        Ok(Self {
            converged: was_ready || drained.as_ref().is_some_and(|boot| *boot == boot_id),
            drained: drained.is_some(),
            mtu: earlier.and_then(|ready| ready.mtu),
            agreed: 0,
            told: BTreeSet::new(),
            boot_id,
            options,
        })
    }

    /// Whether there is nothing more to wait for in this boot.
    pub(super) fn converged(&self) -> bool {
        self.converged
    }

    /// Takes the node out of service for new pods, or back; the next [`Keeper::reconcile`] does it.
    pub(super) fn drain(&mut self, drain: bool) -> anyhow::Result<()> {
        let marker = self.options.state_dir.join(DRAINED);
        // Kept first: a restart in between must not forget it.
        if drain {
            let converged_in = if self.converged { self.boot_id.as_str() } else { "" };
            state::replace(&marker, converged_in.as_bytes())
                .with_context(|| format!("writing {}", marker.display()))?;
        } else {
            place::remove(&marker)?;
        }
        if self.drained != drain {
            info!(drain, "drain");
        }
        self.drained = drain;
        Ok(())
    }

    /// Makes the files match, and says how it went.
    pub(super) fn reconcile(&mut self, now: &Now) -> PodsStatus {
        self.judge(now);
        self.mtu = now.uplink_mtu.or(self.mtu);
        let node = &now.desired.node;
        let (state, reason) = match (&now.converged, self.drained, self.converged) {
            (_, true, _) => (State::Drained, "`towpath drain --undo` ends it".to_owned()),
            (_, false, true) => (State::Ready, String::new()),
            (Err(waiting), false, false) => (State::Converging, waiting.clone()),
            (Ok(()), false, false) => {
                (State::Converging, "the kernel takes in what the sessions sent".to_owned())
            }
        };
        let ready = Ready {
            boot_id: self.boot_id.clone(),
            state,
            reason: reason.clone(),
            blocks: node.pod_blocks.clone(),
            node_addresses: node.addresses.clone(),
            mtu: self.mtu,
        };
        let mut problems = Vec::new();
        let mut tried = |outcome: anyhow::Result<()>| {
            let failed = outcome.err();
            problems.extend(failed.iter().map(|error| format!("{error:#}; it is tried again")));
            failed.is_none()
        };
        tried(
            place::text(&self.options.ready_file, ready.to_text().as_bytes())
                .map(drop)
                .context("what CNI STATUS reads cannot be written: free or remount the file system, or move it with --ready-file"),
        );
        let mut written = None;
        if let Some(folder) = self.options.conf_dir.clone() {
            let path = folder.join(conflist::FILE);
            // A runtime without a conflist cannot end pods either: it goes with the last one. Until then ADD refuses.
            if self.drained && now.pods == 0 {
                tried(withdraw(&path));
            } else if self.drained {
                written = Some(path.clone()).filter(|path| path.exists());
            } else if self.converged && !node.pod_blocks.is_empty() && tried(self.offer(&path, &now.desired))
            {
                written = Some(path.clone());
            }
            problems.extend(self.doubts(&folder, &path, written.is_some(), node.pod_blocks.is_empty()));
        }
        self.tell(&problems);
        PodsStatus {
            blocks: node.pod_blocks.clone(),
            pods: now.pods,
            outside: now.outside.clone(),
            state,
            reason,
            mtu: self.mtu,
            conflist: written,
            problems,
        }
    }

    /// Twice in a row: what a session brought may be on its way to the FIB at the first look.
    fn judge(&mut self, now: &Now) {
        self.agreed = if now.converged.is_ok() { self.agreed.saturating_add(1) } else { 0 };
        if !self.converged && (self.agreed >= 2 || (self.agreed == 1 && !now.waits_for_peers)) {
            self.converged = true;
            info!("converged: pods may start");
        }
    }

    /// Programs first, the conflist last: a runtime acts on it as soon as it is there.
    fn offer(&self, path: &Path, desired: &DesiredState) -> anyhow::Result<()> {
        let Options { bin_dir, plugin, ready_file, boot_id_file, state_dir, .. } = &self.options;
        let put = || -> anyhow::Result<()> {
            let program = place::plugin(plugin.as_deref())?;
            if place::program(&program, &bin_dir.join(place::PLUGIN))? {
                info!(path = %bin_dir.join(place::PLUGIN).display(), "CNI plugin put in place");
            }
            place::loopback(bin_dir)?;
            Ok(())
        };
        put().context("the CNI plugin cannot be put in place: make the folder writable, or name another with --cni-bin-dir")?;
        let text = Conflist {
            blocks: &desired.node.pod_blocks,
            node_addresses: &desired.node.addresses,
            ready_file: Some(ready_file),
            state_dir,
            boot_id_file,
            install: Some(&desired.install),
        }
        .text();
        let wrote = keep_previous(path, &text).and_then(|()| place::text(path, text.as_bytes()));
        if wrote.context(
            "the conflist cannot be written: make the folder writable, or name another with --cni-conf-dir",
        )? {
            info!(path = %path.display(), "conflist written: container runtimes use this node's network");
        }
        Ok(())
    }

    /// What is there and should not be.
    fn doubts(&self, folder: &Path, path: &Path, written: bool, no_blocks: bool) -> Vec<String> {
        let mut doubts = Vec::new();
        if no_blocks && !self.drained && path.exists() {
            doubts.push(format!(
                "{} gives addresses of blocks this node no longer has; give the node podCIDRs, or take it away with `towpath drain`",
                path.display()
            ));
        }
        if written {
            doubts.extend(conflist::before_ours(folder).iter().map(|other| {
                format!(
                    "{} comes before ours, so runtimes use it instead; move it away, or let `towpath install --remove-leftovers` do it",
                    other.display()
                )
            }));
        }
        doubts
    }

    /// Logs what is new, and what is over.
    fn tell(&mut self, problems: &[String]) {
        let problems: BTreeSet<String> = problems.iter().cloned().collect();
        for problem in problems.difference(&self.told) {
            warn!(%problem, "pods");
        }
        for problem in self.told.difference(&problems) {
            info!(%problem, "pods: no longer a problem");
        }
        self.told = problems;
    }
}

/// The conflist goes, and stays readable under a name that runtimes do not look at.
fn withdraw(path: &Path) -> anyhow::Result<()> {
    let kept = keep_previous(path, "");
    if place::remove(path)? {
        info!(path = %path.display(), "conflist removed: no pods start here");
    }
    kept
}

/// Keeps a conflist that is about to be replaced by `text`.
fn keep_previous(path: &Path, text: &str) -> anyhow::Result<()> {
    let previous: PathBuf = path.with_file_name(conflist::PREVIOUS);
    match std::fs::read(path) {
        Ok(old) if old != text.as_bytes() => place::text(&previous, &old).map(drop),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        root: tempfile::TempDir,
    }

    const NODE: &str = "podCIDRs: [10.244.1.0/24], addresses: [192.0.2.1]";

    fn now(node: &str, converged: Result<(), &str>) -> Now {
        let text = format!(
            "apiVersion: towpath.io/v1alpha1\nkind: NodeNetwork\nmetadata: {{name: node1}}\nspec: {{{node}}}\n"
        );
        let mut documents = api::Documents::default();
        documents.add("all.yaml", text.as_bytes());
        Now {
            converged: converged.map_err(str::to_owned),
            waits_for_peers: true,
            uplink_mtu: Some(9000),
            pods: 0,
            outside: Vec::new(),
            desired: Arc::new(documents.build("node1").unwrap()),
        }
    }

    impl Bench {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for folder in ["state", "net.d"] {
                std::fs::create_dir(root.path().join(folder)).unwrap();
            }
            std::fs::write(root.path().join("plugin"), "a program").unwrap();
            std::fs::write(root.path().join("boot"), "boot-1\n").unwrap();
            Self { root }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn keeper(&self) -> Keeper {
            Keeper::new(Options {
                ready_file: self.path("ready"),
                conf_dir: Some(self.path("net.d")),
                bin_dir: self.path("bin"),
                plugin: Some(self.path("plugin")),
                boot_id_file: self.path("boot"),
                state_dir: self.path("state"),
            })
            .unwrap()
        }

        fn state(&self) -> State {
            Ready::read(&self.path("ready")).unwrap().unwrap().state
        }

        fn conflist(&self) -> bool {
            self.path("net.d/10-towpath.conflist").exists()
        }
    }

    #[test]
    fn the_conflist_comes_with_convergence_after_the_programs_and_stays() {
        let bench = Bench::new();
        let mut keeper = bench.keeper();
        let waiting = keeper.reconcile(&now(NODE, Err("tor1 is Active")));
        assert_eq!((waiting.state, waiting.reason.as_str()), (State::Converging, "tor1 is Active"));
        keeper.reconcile(&now(NODE, Ok(())));
        keeper.reconcile(&now(NODE, Err("tor2 is Active")));
        keeper.reconcile(&now(NODE, Ok(())));
        assert_eq!((bench.state(), bench.conflist()), (State::Converging, false), "not twice in a row yet");
        let ready = keeper.reconcile(&now(NODE, Ok(())));
        assert_eq!(ready.conflist, Some(bench.path("net.d/10-towpath.conflist")), "{ready:?}");
        assert!(bench.path("bin/towpath-cni").exists() && bench.path("bin/loopback").exists());
        let said = Ready::read(&bench.path("ready")).unwrap().unwrap();
        assert_eq!((said.state, said.mtu, said.blocks.len()), (State::Ready, Some(9000), 1));
        // Every session lost, no next hop left, a new daemon: nothing is taken back.
        keeper.reconcile(&Now { uplink_mtu: None, ..now(NODE, Err("all are down")) });
        assert_eq!((bench.state(), bench.conflist()), (State::Ready, true));
        let again = bench.keeper().reconcile(&Now { uplink_mtu: None, ..now(NODE, Err("all are down")) });
        assert_eq!((again.state, again.mtu, bench.conflist()), (State::Ready, Some(9000), true));
        // Another boot begins anew, with the conflist where it is.
        std::fs::write(bench.path("boot"), "boot-2\n").unwrap();
        bench.keeper().reconcile(&now(NODE, Err("all are down")));
        assert_eq!((bench.state(), bench.conflist()), (State::Converging, true));
    }

    #[test]
    fn without_programs_there_is_no_conflist_and_the_remedy_is_said() {
        let bench = Bench::new();
        std::fs::remove_file(bench.path("plugin")).unwrap();
        let mut keeper = bench.keeper();
        let alone = |now: Now| Now { waits_for_peers: false, ..now };
        let failed = keeper.reconcile(&alone(now(NODE, Ok(()))));
        assert_eq!((failed.state, bench.conflist()), (State::Ready, false));
        assert!(failed.problems[0].contains("--cni-plugin"), "{:?}", failed.problems);
        std::fs::write(bench.path("plugin"), "a program").unwrap();
        let mended = keeper.reconcile(&alone(now(NODE, Ok(()))));
        assert_eq!((mended.problems.len(), bench.conflist()), (0, true));
    }

    #[test]
    fn a_drain_survives_a_restart_and_ends_when_it_is_undone() {
        let bench = Bench::new();
        let alone = || Now { waits_for_peers: false, ..now(NODE, Ok(())) };
        let mut keeper = bench.keeper();
        keeper.reconcile(&alone());
        keeper.drain(true).unwrap();
        let with_pod = keeper.reconcile(&Now { pods: 1, ..alone() });
        assert_eq!((bench.state(), bench.conflist()), (State::Drained, true), "it ends with the last pod");
        assert!(with_pod.conflist.is_some());
        keeper.reconcile(&alone());
        assert_eq!((bench.state(), bench.conflist()), (State::Drained, false));
        assert!(bench.path("net.d/10-towpath.conflist~").exists(), "it can be looked at");
        let mut next = bench.keeper();
        let lonely = || now(NODE, Err("all are down"));
        next.reconcile(&lonely());
        assert_eq!((bench.state(), bench.conflist()), (State::Drained, false));
        next.drain(false).unwrap();
        // It had converged in this boot: that is not taken back.
        next.reconcile(&lonely());
        assert_eq!((bench.state(), bench.conflist()), (State::Ready, true));
        assert!(!bench.path("state/drained").exists());
    }

    #[test]
    fn a_node_without_blocks_writes_no_conflist_and_one_with_other_blocks_another() {
        let bench = Bench::new();
        let alone = |node: &str| Now { waits_for_peers: false, ..now(node, Ok(())) };
        let mut keeper = bench.keeper();
        assert_eq!(keeper.reconcile(&alone("asn: 65101")).conflist, None);
        assert!(!bench.path("bin").exists());
        keeper.reconcile(&alone(NODE));
        keeper.reconcile(&alone("podCIDRs: [10.244.2.0/24]"));
        let text = |name: &str| std::fs::read_to_string(bench.path("net.d").join(name)).unwrap();
        assert!(text(conflist::FILE).contains("10.244.2.0/24"));
        assert!(text(conflist::PREVIOUS).contains("10.244.1.0/24"));
        let gone = keeper.reconcile(&alone("asn: 65101"));
        assert!(gone.problems[0].contains("towpath drain"), "{:?}", gone.problems);
        std::fs::write(bench.path("net.d/05-other.conf"), "{}").unwrap();
        let second = keeper.reconcile(&alone(NODE));
        assert!(second.problems[0].contains("05-other.conf"), "{:?}", second.problems);
    }
}
