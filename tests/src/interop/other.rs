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
use crate::speakers::{Neighbor, Router, Session, Speaker, Table, daemons};
use crate::wait::until;

/// A BGP speaker of another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// FRR's bgpd, with zebra.
    Frr,
    /// BIRD 2.
    Bird,
}

impl Program {
    /// The shell command that starts the speaker in the background.
    fn start(self) -> &'static str {
        match self {
            Self::Frr => "/usr/lib/frr/bgpd -d -A 127.0.0.1 && vtysh -b",
            // -R: when it was killed, its neighbours may still have its routes.
            Self::Bird => "bird -R -c /etc/bird/bird.conf -P /run/bird/bird.pid",
        }
    }

    fn speaker(self) -> Speaker {
        match self {
            Self::Frr => Speaker::Frr,
            Self::Bird => Speaker::Bird,
        }
    }

    fn pid_file(self) -> &'static str {
        match self {
            Self::Frr => "/run/frr/bgpd.pid",
            Self::Bird => "/run/bird/bird.pid",
        }
    }

    fn conf(self, router: &Router) -> (&'static str, String) {
        match self {
            Self::Frr => ("etc/frr/frr.conf", router.frr_conf()),
            Self::Bird => ("etc/bird/bird.conf", router.bird_conf()),
        }
    }

    /// The one of the others that a test needs as a third party.
    pub fn counterpart(self) -> Self {
        match self {
            Self::Frr => Self::Bird,
            Self::Bird => Self::Frr,
        }
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
        let Spoke { program, router, netns } = spoke;
        let mut files = vec![program.conf(&router)];
        let before = match program {
            Program::Frr => {
                files.push(("etc/frr/daemons", daemons()));
                files.push(("etc/frr/vtysh.conf", "service integrated-vtysh-config\n".to_owned()));
                "/usr/lib/frr/zebra -d -A 127.0.0.1 -s 90000000 && "
            }
            Program::Bird => "",
        };
        // The daemon must not be process 1, whose death would take the sandbox along.
        let script = format!("{before}{}; exec sleep infinity", program.start());
        let sandbox = Sandbox::start(&netns, &files, &[], &["sh", "-c", &script])?;
        let other = Self { program, router, netns, sandbox };
        other.until_answers()?;
        Ok(other)
    }

    fn until_answers(&self) -> anyhow::Result<()> {
        until(LIMIT, &format!("{:?} to have read its file", self.program), || {
            let sessions = self.sessions()?;
            ensure!(sessions.len() == self.router.neighbors.len(), "{sessions:?}");
            Ok(Some(()))
        })
    }

    /// Runs a command beside it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<Output> {
        self.sandbox.exec(argv)
    }

    fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        self.sandbox.run(argv)
    }

    /// Sessions by neighbour address.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn sessions(&self) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
        self.program.speaker().sessions(&|argv| self.run(argv))
    }

    /// All paths of a family.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn routes(&self, v6: bool) -> anyhow::Result<Table> {
        self.program.speaker().routes(&|argv| self.run(argv), v6)
    }

    /// Everything it says about its sessions.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn account(&self) -> anyhow::Result<String> {
        match self.program {
            Program::Frr => self.run(&["vtysh", "-c", "show bgp neighbors json"]),
            Program::Bird => self.run(&["birdc", "show protocols all"]),
        }
    }

    /// Everything it says about one prefix.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn describe(&self, prefix: &str) -> anyhow::Result<String> {
        match self.program {
            Program::Frr if prefix.contains(':') => {
                self.run(&["vtysh", "-c", &format!("show bgp ipv6 unicast {prefix}")])
            }
            Program::Frr => self.run(&["vtysh", "-c", &format!("show bgp ipv4 unicast {prefix}")]),
            Program::Bird => self.run(&["birdc", &format!("show route all {prefix}")]),
        }
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
        self.router.networks.push(prefix.parse()?);
        self.changed(&format!("address-family {} unicast|network {prefix}", family(prefix)))
    }

    /// Takes a prefix back.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn withdraw(&mut self, prefix: &str) -> anyhow::Result<()> {
        let net: IpNet = prefix.parse()?;
        self.router.networks.retain(|network| *network != net);
        self.changed(&format!("address-family {} unicast|no network {prefix}", family(prefix)))
    }

    /// Changes the password of its first session.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn set_password(&mut self, password: &str) -> anyhow::Result<()> {
        self.first_mut()?.password = Some(password.to_owned());
        let address = self.first()?.address;
        self.changed(&format!("neighbor {address} password {password}"))
    }

    /// Writes the file and lets the daemon take it: BIRD reads it, FRR is told the same by commands,
    /// separated by `|`, below `router bgp`.
    fn changed(&self, frr: &str) -> anyhow::Result<()> {
        self.write_conf()?;
        match self.program {
            Program::Frr => self.vtysh(frr),
            Program::Bird => self.run(&["birdc", "configure"]).map(drop),
        }
    }

    /// Writes its file, for the next start.
    ///
    /// # Errors
    /// When that fails.
    pub fn write_conf(&self) -> anyhow::Result<()> {
        let (path, text) = self.program.conf(&self.router);
        self.run(&["sh", "-c", "printf %s \"$2\" >\"/$1\"", "sh", path, &text]).map(drop)
    }

    fn vtysh(&self, commands: &str) -> anyhow::Result<()> {
        let router = format!("router bgp {}", self.router.local_as);
        let mut argv = vec!["vtysh", "-c", "configure terminal", "-c", &router];
        argv.extend(commands.split('|').flat_map(|command| ["-c", command]));
        self.run(&argv).map(drop)
    }

    fn first(&self) -> anyhow::Result<&Neighbor> {
        self.router.neighbors.first().context("a router without sessions")
    }

    fn first_mut(&mut self) -> anyhow::Result<&mut Neighbor> {
        self.router.neighbors.first_mut().context("a router without sessions")
    }

    /// Shuts its first session down, with a text for the other operator (RFC 9003).
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn shutdown(&self, text: &str) -> anyhow::Result<()> {
        match self.program {
            Program::Frr => {
                self.vtysh(&format!("neighbor {} shutdown message {text}", self.first()?.address))
            }
            Program::Bird => self.run(&["birdc", &format!("disable peer0 \"{text}\"")]).map(drop),
        }
    }

    /// Ends [`Other::shutdown`], and what the program itself stopped because of a limit.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn start_session(&self) -> anyhow::Result<()> {
        match self.program {
            Program::Frr => self.vtysh(&format!("no neighbor {} shutdown", self.first()?.address)),
            Program::Bird => self.run(&["birdc", "enable peer0"]).map(drop),
        }
    }

    /// Asks the neighbour of its first session for all IPv4 routes again (RFC 2918).
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn refresh(&self) -> anyhow::Result<()> {
        match self.program {
            Program::Frr => {
                let command = format!("clear bgp ipv4 unicast {} soft in", self.first()?.address);
                self.run(&["vtysh", "-c", &command]).map(drop)
            }
            Program::Bird => self.run(&["birdc", "reload in peer0"]).map(drop),
        }
    }

    /// Sends a signal (`KILL`, `STOP`, `TERM`) to the BGP daemon.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let script = format!("kill -{signal} $(cat {})", self.program.pid_file());
        self.run(&["sh", "-c", &script]).map(drop)
    }

    /// Starts the BGP daemon again after it was killed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&self) -> anyhow::Result<()> {
        // Output of daemons that stay would keep the pipe open, and us waiting.
        let script = format!("({}) >/dev/null 2>&1", self.program.start());
        self.run(&["sh", "-c", &script])?;
        self.until_answers()
    }
}

fn family(prefix: &str) -> &'static str {
    if prefix.contains(':') { "ipv6" } else { "ipv4" }
}
