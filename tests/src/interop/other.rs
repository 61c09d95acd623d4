//! A running router of another project, and how its operator changes it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Output;

use anyhow::{Context, ensure};
use ipnet::IpNet;

use super::Spoke;
use crate::agent::LIMIT;
use crate::netns::Netns;
use crate::sandbox::Sandbox;
use crate::speakers::{Neighbor, Router, Session, Table};
use crate::wait::until;

/// A BGP speaker of another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// FRR's bgpd, with zebra.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP.
    Gobgp,
    /// OpenBGPD.
    Openbgpd,
    /// ExaBGP.
    Exabgp,
}

impl Program {
    /// Whether it tells its neighbours what it learns from others.
    pub fn passes_on(self) -> bool {
        self != Self::Exabgp
    }

    /// Whether what it learns can go into the kernel, so that it forwards.
    pub fn forwards(self) -> bool {
        matches!(self, Self::Frr | Self::Bird)
    }
}

/// A running router.
#[derive(Debug)]
pub struct Other {
    /// What it runs.
    pub program: Program,
    /// Its configuration.
    pub router: Router,
    /// Its namespace.
    pub netns: Netns,
    sandbox: Sandbox,
}

impl Other {
    /// Starts it.
    ///
    /// # Errors
    /// When the packages are missing or the daemon does not start.
    pub fn start(spoke: Spoke) -> anyhow::Result<Self> {
        let Spoke { program, router, netns, .. } = spoke;
        let operator = program.operator();
        // The daemon must not be process 1, whose death would take the sandbox along.
        let script = format!("{}{}; exec sleep infinity", operator.before(), operator.start(&router, false));
        let sandbox = Sandbox::start(&netns, &operator.files(&router), &[], &["sh", "-c", &script])?;
        let other = Self { program, router, netns, sandbox };
        other.until_answers()?;
        Ok(other)
    }

    fn until_answers(&self) -> anyhow::Result<()> {
        until(LIMIT, &format!("{:?} to have read its file", self.program), || {
            self.program.operator().ready(self)?;
            let sessions = self.sessions()?;
            ensure!(sessions.len() == self.router.neighbors.len(), "{sessions:?}");
            Ok(Some(()))
        })?;
        self.program.operator().started(self)
    }

    /// Runs a command beside it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<Output> {
        self.sandbox.exec(argv)
    }

    pub(super) fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        self.sandbox.run(argv)
    }

    /// Sessions by neighbour address.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn sessions(&self) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
        self.program.operator().speaker().sessions(&|argv| self.run(argv))
    }

    /// All paths of a family.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn routes(&self, v6: bool) -> anyhow::Result<Table> {
        self.program.operator().speaker().routes(&|argv| self.run(argv), v6)
    }

    /// Everything it says about its sessions.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn account(&self) -> anyhow::Result<String> {
        self.program.operator().account(self)
    }

    /// Everything it says about one prefix.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn describe(&self, prefix: &str) -> anyhow::Result<String> {
        self.program.operator().describe(self, prefix)
    }

    /// Waits until it sees all its sessions as Established.
    ///
    /// # Errors
    /// When one is not.
    pub fn until_established(&self) -> anyhow::Result<()> {
        until(LIMIT, &format!("the sessions of {:?}", self.program), || {
            let sessions = self.sessions()?;
            ensure!(!sessions.is_empty() && sessions.values().all(Session::established), "{sessions:?}");
            Ok(Some(()))
        })
    }

    /// Waits until its account of the sessions has this text.
    ///
    /// # Errors
    /// When it has not; with the account.
    pub fn until_account(&self, text: &str) -> anyhow::Result<()> {
        until(LIMIT, &format!("{:?} to say {text:?}", self.program), || {
            let account = self.account()?;
            ensure!(account.contains(text), "it says {account}");
            Ok(Some(()))
        })
    }

    /// Announces one more prefix.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn announce(&mut self, prefix: &str) -> anyhow::Result<()> {
        let network: IpNet = prefix.parse()?;
        self.router.networks.push(network);
        self.program.operator().announce(self, network)
    }

    /// Announces one more prefix with attributes, in its own words.
    ///
    /// # Errors
    /// When the daemon refuses, or can pass on what a feeder announces.
    pub fn announce_with(&self, prefix: &str, attributes: &str) -> anyhow::Result<()> {
        self.program.operator().announce_with(self, prefix.parse()?, attributes)
    }

    /// Takes a prefix back.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn withdraw(&mut self, prefix: &str) -> anyhow::Result<()> {
        let network: IpNet = prefix.parse()?;
        self.router.networks.retain(|other| *other != network);
        self.program.operator().withdraw(self, network)
    }

    /// Changes the password of its first session.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn set_password(&mut self, password: &str) -> anyhow::Result<()> {
        let first = self.router.neighbors.first_mut().context("a router without sessions")?;
        first.password = Some(password.to_owned());
        self.program.operator().password_changed(self)
    }

    /// Writes its file, for the next start.
    ///
    /// # Errors
    /// When that fails.
    pub fn write_conf(&self) -> anyhow::Result<()> {
        for (path, text) in self.program.operator().files(&self.router) {
            self.run(&["sh", "-c", "printf %s \"$2\" >\"/$1\"", "sh", path, &text])?;
        }
        Ok(())
    }

    pub(super) fn first(&self) -> anyhow::Result<&Neighbor> {
        self.router.neighbors.first().context("a router without sessions")
    }

    /// Shuts its first session down, with a text for the other operator (RFC 9003).
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn shutdown(&self, text: &str) -> anyhow::Result<()> {
        self.program.operator().shutdown(self, text)
    }

    /// Ends [`Other::shutdown`], and what the program itself stopped because of a limit.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn start_session(&self) -> anyhow::Result<()> {
        self.program.operator().start_session(self)
    }

    /// Asks the neighbour of its first session for all IPv4 routes again (RFC 2918).
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn refresh(&self) -> anyhow::Result<()> {
        self.program.operator().refresh(self)
    }

    /// Sends a signal (`KILL`, `STOP`, `TERM`) to the BGP daemon.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let script = format!("kill -{signal} {}", self.program.operator().target(signal));
        self.run(&["sh", "-c", &script]).map(drop)
    }

    /// Starts the BGP daemon again after it was killed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&self) -> anyhow::Result<()> {
        // Output of daemons that stay would keep the pipe open, and us waiting.
        let start = self.program.operator().start(&self.router, true);
        let script = format!("({start}) >/dev/null 2>&1");
        self.run(&["sh", "-c", &script])?;
        self.until_answers()
    }
}
