//! `towpath agent` in a namespace, with files, socket and state folder of its own.
//!
//! The program is the built one that `TOWPATH_BIN` names. State is read over the control socket, typed;
//! [`Agent::cli`] runs the command as an operator does. The daemon dies with the [`Agent`], also when this
//! process is killed.

use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bgp_speaker::query::{RibView, RouteStatus};
use bgp_speaker::status::PeerStatus;
use ipnet::IpNet;
use route_agent::control::{Request, client};
use route_agent::status::{AgentStatus, InstalledRoute};
use rustix::process::{Pid, Signal, kill_process};

use crate::netns::Netns;
use crate::wait::until;

/// Enough for everything that happens on one machine, short enough to fail in time.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The built `towpath`.
///
/// # Errors
/// When `TOWPATH_BIN` is unset or names nothing.
pub fn towpath() -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(
        std::env::var_os("TOWPATH_BIN")
            .context("TOWPATH_BIN is not set: run `make labs`, or let it name a built towpath")?,
    );
    ensure!(path.is_file(), "TOWPATH_BIN={}: no such program; run `make build`", path.display());
    Ok(path)
}

/// The built CNI plugin: `TOWPATH_CNI`, or the one beside `towpath`.
///
/// # Errors
/// When there is none.
pub fn plugin() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("TOWPATH_CNI").map(PathBuf::from);
    let path = named.map_or_else(|| Ok(towpath()?.with_file_name("towpath-cni")), anyhow::Ok)?;
    ensure!(path.is_file(), "{}: no such plugin; run `make plugin`", path.display());
    Ok(path)
}

/// A node daemon and its folder.
#[derive(Debug)]
pub struct Agent {
    netns: Netns,
    node: String,
    folder: tempfile::TempDir,
    /// Where its configuration comes from, as the command line says it; empty: from files.
    source: Vec<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    daemon: Child,
    /// Waits for the end of its input, which comes when this process ends however it does; then kills.
    guard: Child,
}

impl Agent {
    /// Writes `files` (name, text) to the configuration folder, starts the daemon as node `node` and waits
    /// until it answers.
    ///
    /// # Errors
    /// When it does not; with its log.
    pub fn start(netns: &Netns, files: &[(&str, &str)], node: &str) -> anyhow::Result<Self> {
        let mut agent = Self::prepare(netns, files, node)?;
        agent.start_again()?;
        Ok(agent)
    }

    /// As [`Agent::start`], without starting anything.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn prepare(netns: &Netns, files: &[(&str, &str)], node: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("towpath-agent-").tempdir()?;
        std::fs::create_dir(folder.path().join("config"))?;
        let agent =
            Self { netns: netns.clone(), node: node.to_owned(), folder, source: Vec::new(), running: None };
        for (name, text) in files {
            agent.write(name, text)?;
        }
        Ok(agent)
    }

    /// A daemon that takes its configuration from the API server behind `kubeconfig`, not started yet. It answers as
    /// soon as it runs, also when it has to wait for the server.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn in_cluster(netns: &Netns, kubeconfig: &Path, node: &str) -> anyhow::Result<Self> {
        let mut agent = Self::prepare(netns, &[], node)?;
        let kubeconfig = kubeconfig.display().to_string();
        agent.source = vec!["--cluster".to_owned(), "--kubeconfig".to_owned(), kubeconfig];
        Ok(agent)
    }

    /// Starts the daemon, again or for the first time, and waits until it answers.
    ///
    /// # Errors
    /// When it runs already, or ends or stays silent; with its log.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        until(LIMIT, "the daemon's control socket", || match self.exited()? {
            Some(status) => Ok(Some(Err(anyhow::anyhow!("the daemon ended with {status}")))),
            None => self.status().map(|_| Some(Ok(()))),
        })
        .and_then(|result| result)
        .with_context(|| self.log())
    }

    /// Starts the daemon and waits for nothing: for starts that must fail.
    ///
    /// # Errors
    /// When it runs already or cannot be executed.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.running.is_none(), "the daemon runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.folder.path().join("log"))?;
        let daemon = self.netns.run(|| {
            Command::new(towpath()?)
                .arg("agent")
                .args(self.source())
                .args(["--node", &self.node])
                .arg("--socket")
                .arg(self.socket())
                .arg("--state-dir")
                .arg(self.folder.path().join("state"))
                // Never the machine's own.
                .arg("--cni-conf-dir")
                .arg(self.cni_conf_dir())
                .arg("--cni-bin-dir")
                .arg(self.cni_bin_dir())
                .args(plugin().ok().map(|path| format!("--cni-plugin={}", path.display())))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0)
                .spawn()
                .context("starting towpath agent")
        })?;
        let guard = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -9 $1", "guard", &daemon.id().to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("starting the guard of a daemon")?;
        self.running = Some(Running { daemon, guard });
        Ok(())
    }

    fn source(&self) -> Vec<String> {
        if self.source.is_empty() {
            vec!["--file".to_owned(), self.config().display().to_string()]
        } else {
            self.source.clone()
        }
    }

    /// How the daemon ended by itself, once it has.
    ///
    /// # Errors
    /// When it was not started.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let running = self.running.as_mut().context("the daemon was not started")?;
        let status = running.daemon.try_wait()?;
        if status.is_some() {
            self.reap();
        }
        Ok(status)
    }

    /// Kills the daemon without a warning; its files stay for [`Agent::start_again`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.until_exited().map(drop)
    }

    /// Ends the daemon in order and waits for it.
    ///
    /// # Errors
    /// When it does not run, does not end, or ends with an error; with its log.
    pub fn sigterm(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.until_exited()?;
        ensure!(status.success(), "the daemon ended with {status}:\n{}", self.log());
        Ok(())
    }

    /// Waits for the end of the daemon.
    ///
    /// # Errors
    /// When it goes on.
    pub fn until_exited(&mut self) -> anyhow::Result<ExitStatus> {
        until(LIMIT, "the end of the daemon", || self.exited())
    }

    /// Sends a signal to the daemon.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("process 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// The daemon's process number.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.running.as_ref().context("the daemon does not run")?.daemon.id())
    }

    /// Resident memory of the daemon, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Everything the daemon has logged, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The namespace it runs in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The folder given to `--file`.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Where it puts the conflist.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.folder.path().join("net.d")
    }

    /// Where it puts the CNI plugin.
    pub fn cni_bin_dir(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// What the plugin's STATUS reads.
    pub fn ready_file(&self) -> PathBuf {
        self.folder.path().join("ready")
    }

    /// Replaces a configuration file as careful editors do: a new file, renamed over the old one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, self.config().join(name)).with_context(|| format!("writing {name}"))
    }

    /// Removes a configuration file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        std::fs::remove_file(self.config().join(name)).with_context(|| format!("removing {name}"))
    }

    /// Replaces a configuration file and waits until the daemon has applied a new configuration.
    ///
    /// # Errors
    /// When it does not; with the problems it reports.
    pub fn apply(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let before = self.status()?.config.generation;
        self.write(name, text)?;
        self.until_generation(before + 1)
    }

    /// Waits until the daemon has applied this many configurations.
    ///
    /// # Errors
    /// When it does not; with the problems it reports.
    pub fn until_generation(&self, generation: u64) -> anyhow::Result<()> {
        until(LIMIT, &format!("configuration {generation}"), || {
            let config = self.status()?.config;
            if config.generation >= generation && config.problems.is_empty() {
                return Ok(Some(()));
            }
            bail!("{config:?}")
        })
    }

    /// What `towpath status` shows.
    ///
    /// # Errors
    /// When the daemon does not answer, as for every question here.
    pub fn status(&self) -> anyhow::Result<AgentStatus> {
        client::ask(&self.socket(), &Request::Status)
    }

    /// Every session.
    ///
    /// # Errors
    /// As for every question.
    pub fn peers(&self) -> anyhow::Result<Vec<PeerStatus>> {
        client::ask(&self.socket(), &Request::Peers)
    }

    /// The session of the BGPPeer called `name`; of a listen range any one.
    ///
    /// # Errors
    /// When there is none.
    pub fn peer(&self, name: &str) -> anyhow::Result<PeerStatus> {
        let peers = self.peers()?;
        peers.into_iter().find(|peer| peer.peer == name).with_context(|| format!("no session of {name}"))
    }

    /// Routes of one RIB, of one prefix or all.
    ///
    /// # Errors
    /// As for every question.
    pub fn routes(&self, view: RibView, prefix: Option<&str>) -> anyhow::Result<Vec<RouteStatus>> {
        let prefix = prefix.map(str::parse).transpose()?;
        client::ask(&self.socket(), &Request::Routes { view, prefix, peer: None })
    }

    /// The prefixes of [`Agent::routes`], sorted.
    ///
    /// # Errors
    /// As for every question.
    pub fn prefixes(&self, view: RibView) -> anyhow::Result<Vec<IpNet>> {
        let mut prefixes: Vec<IpNet> =
            self.routes(view, None)?.into_iter().map(|route| route.prefix).collect();
        prefixes.sort();
        prefixes.dedup();
        Ok(prefixes)
    }

    /// Routes of ours in the kernel, as the daemon reads them.
    ///
    /// # Errors
    /// As for every question.
    pub fn installed(&self) -> anyhow::Result<Vec<InstalledRoute>> {
        client::ask(&self.socket(), &Request::Installed { prefix: None })
    }

    /// Runs `towpath ARGUMENTS` in the namespace, with this daemon's socket in the environment.
    ///
    /// # Errors
    /// When it cannot be started; its exit status is in the output.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.netns.run(|| {
            Command::new(towpath()?)
                .args(arguments)
                .env("TOWPATH_SOCKET", self.socket())
                .stdin(Stdio::null())
                .output()
                .context("starting towpath")
        })
    }

    /// Runs `towpath ARGUMENTS`, expects success, and gives what it prints.
    ///
    /// # Errors
    /// With its words when it fails.
    pub fn cli_ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.cli(arguments)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "towpath {arguments:?}: {}: {text}{error}", output.status);
        Ok(text)
    }

    /// Waits until `check` finds what it looks for in the session of `name`, and gives the session.
    ///
    /// # Errors
    /// When it does not; with the session and the log.
    pub fn until_peer(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&PeerStatus) -> bool,
    ) -> anyhow::Result<PeerStatus> {
        until(LIMIT, &format!("{name}: {what}"), || {
            let peer = self.peer(name)?;
            if check(&peer) { Ok(Some(peer)) } else { bail!("{peer:#?}") }
        })
        .with_context(|| self.log())
    }

    /// Waits until the session of `name` is Established, and gives it.
    ///
    /// # Errors
    /// When it is not; with the session and the log.
    pub fn until_established(&self, name: &str) -> anyhow::Result<PeerStatus> {
        self.until_peer(name, "Established", |peer| peer.state == "Established")
    }

    /// Waits until exactly these prefixes are in a RIB.
    ///
    /// # Errors
    /// When they are not; with what is there.
    pub fn until_prefixes(&self, view: RibView, expected: &[&str]) -> anyhow::Result<()> {
        let mut wanted: Vec<IpNet> =
            expected.iter().map(|prefix| prefix.parse()).collect::<Result<_, _>>()?;
        wanted.sort();
        until(LIMIT, &format!("exactly {expected:?} in {view:?}"), || {
            let found = self.prefixes(view)?;
            if found == wanted { Ok(Some(())) } else { bail!("there are {found:?}") }
        })
        .with_context(|| self.log())
    }

    fn reap(&mut self) {
        if let Some(mut running) = self.running.take() {
            // The guard first: afterwards the number it would kill may belong to somebody else. What is
            // gone already needs no killing.
            drop(running.guard.kill());
            drop(running.guard.wait());
            drop(running.daemon.kill());
            drop(running.daemon.wait());
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.reap();
        if std::thread::panicking() {
            eprintln!("log of towpath agent on {}:\n{}", self.node, self.log());
        }
    }
}

/// `towpath check -f PATH --node NODE`, without a daemon.
///
/// # Errors
/// When it cannot be started.
pub fn check(path: &Path, node: &str) -> anyhow::Result<(i32, String)> {
    let output = Command::new(towpath()?).arg("check").arg("-f").arg(path).args(["--node", node]).output()?;
    let code = output.status.code().or(output.status.signal()).unwrap_or(-1);
    Ok((code, String::from_utf8_lossy(&output.stdout).into_owned()))
}
