//! The daemon's answers to the command.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use bgp_speaker::SpeakerHandle;
use bgp_speaker::handle::PeerAction;
use bgp_speaker::query::RibQuery;
use bgp_speaker::status::PeerStatus;
use cni::ready::State;
use ipnet::IpNet;
use serde::Serialize;
use tokio::sync::watch;

use crate::config::Loaded;
use crate::control::server::Responder;
use crate::control::{Answer, PeerVerb, Request};
use crate::fib::run::FibHandle;
use crate::fib::status::FibStatus;
use crate::kernel::dump;
use crate::kernel::resolve::Topology;
use crate::kernel::socket::Netlink;
use crate::kernel::{NexthopObject, RTN_BLACKHOLE};
use crate::pods::PodsHandle;
use crate::status::{AgentStatus, ConfigStatus, Health, InstalledRoute, SessionCounts};

/// How far the daemon has come.
#[derive(Clone)]
pub(crate) enum Stage {
    /// The first moments: questions wait.
    Starting,
    /// There is no configuration yet, and why.
    Waiting(String),
    /// Everything runs.
    Running(Arc<Answers>),
}

/// Answers from the first moment on.
pub(crate) struct Door {
    pub(crate) node: String,
    pub(crate) started: Instant,
    pub(crate) stage: watch::Receiver<Stage>,
}

impl Responder for Door {
    async fn answer(&self, request: Request) -> Vec<u8> {
        let mut stage = self.stage.clone();
        let now = match request {
            Request::Health => stage.borrow().clone(),
            // The sender goes with the daemon.
            _ => match stage.wait_for(|stage| !matches!(stage, Stage::Starting)).await {
                Ok(stage) => stage.clone(),
                Err(_) => Stage::Waiting("the daemon ends".to_owned()),
            },
        };
        let line = match (now, request) {
            (Stage::Running(answers), request) => return answers.answer(request).await,
            (Stage::Waiting(why), Request::Status) => encode(Ok(self.waiting(why))).await,
            (Stage::Waiting(reason), Request::Health) => {
                encode(Ok(Health { started: true, ready: false, reason })).await
            }
            (Stage::Starting, _) => {
                encode(Ok(Health { reason: "starting".to_owned(), ..Health::default() })).await
            }
            (Stage::Waiting(why), _) => {
                encode::<()>(Err(anyhow::anyhow!("there is no configuration yet: {why}"))).await
            }
        };
        line_or_error(line)
    }
}

impl Door {
    fn waiting(&self, why: String) -> AgentStatus {
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            asn: 0,
            router_id: Ipv4Addr::UNSPECIFIED,
            transit: false,
            uptime: self.started.elapsed().as_secs(),
            waiting: true,
            config: ConfigStatus::default(),
            sessions: SessionCounts::default(),
            fib: FibStatus::default(),
            pods: None,
            notes: Vec::new(),
            problems: vec![why],
        }
    }
}

/// Everything an answer is made of.
pub(crate) struct Answers {
    pub(crate) started: Instant,
    pub(crate) loaded: watch::Receiver<Loaded>,
    pub(crate) speaker_problems: watch::Receiver<Vec<String>>,
    pub(crate) speaker: SpeakerHandle,
    pub(crate) fib: FibHandle,
    pub(crate) pods: PodsHandle,
}

impl Responder for Answers {
    async fn answer(&self, request: Request) -> Vec<u8> {
        let line = match request {
            Request::Status => encode(self.status().await).await,
            Request::Health => encode(Ok(self.health())).await,
            Request::Peers => encode(self.peers().await).await,
            Request::Routes { view, prefix, peer } => {
                encode(self.routes(RibQuery { view, prefix, peer }).await).await
            }
            Request::Installed { prefix } => encode(self.installed(prefix).await).await,
            Request::Drain { undo } => encode(self.pods.drain(!undo).await).await,
            Request::Peer { peer, action, reason } => encode(self.act(peer, action, reason).await).await,
        };
        line_or_error(line)
    }
}

fn line_or_error(line: anyhow::Result<Vec<u8>>) -> Vec<u8> {
    match line {
        Ok(line) => line,
        // Text alone always encodes.
        Err(error) => Answer::<()>::Error(format!("{error:#}")).line().unwrap_or_default(),
    }
}

/// Makes a line of an answer, on a thread that may block: a full table is seconds of work.
async fn encode<T: Serialize + Send + 'static>(answer: anyhow::Result<T>) -> anyhow::Result<Vec<u8>> {
    let answer = Answer::Ok(answer?);
    Ok(tokio::task::spawn_blocking(move || answer.line()).await??)
}

impl Answers {
    async fn peers(&self) -> anyhow::Result<Vec<PeerStatus>> {
        Ok(self.speaker.peers().await?)
    }

    async fn routes(&self, query: RibQuery) -> anyhow::Result<Vec<bgp_speaker::query::RouteStatus>> {
        if let Some(peer) = &query.peer {
            self.known(peer).await?;
        }
        let mut routes = self.speaker.routes(query).await?;
        let sort = move || {
            routes.sort_by(|a, b| (a.prefix, !a.best, &a.peer).cmp(&(b.prefix, !b.best, &b.peer)));
            routes
        };
        Ok(tokio::task::spawn_blocking(sort).await?)
    }

    async fn act(&self, peer: String, verb: PeerVerb, reason: String) -> anyhow::Result<usize> {
        self.known(&peer).await?;
        let action = match verb {
            PeerVerb::Refresh => PeerAction::Refresh,
            PeerVerb::Reset => PeerAction::Reset(reason),
            PeerVerb::Shutdown => PeerAction::Shutdown(reason),
            PeerVerb::Start => PeerAction::Start,
        };
        Ok(self.speaker.act(peer, action).await?)
    }

    /// A name or address that no session has is a mistake, not an empty answer.
    async fn known(&self, peer: &str) -> anyhow::Result<()> {
        let sessions = self.speaker.sessions().await?;
        let known =
            sessions.iter().any(|session| session.peer == peer || session.neighbor.to_string() == peer);
        let mut names: Vec<&str> = sessions.iter().map(|session| session.peer.as_str()).collect();
        names.dedup();
        anyhow::ensure!(known, "no session of a peer {peer}; there are: {}", names.join(", "));
        Ok(())
    }

    /// From what is known: a part of the daemon that is busy must not look like one that is dead.
    fn health(&self) -> Health {
        let reason = match self.pods.status() {
            None => "the first look at the kernel is not done".to_owned(),
            Some(pods) if pods.state == State::Converging => pods.reason,
            // Drained is what somebody asked for: what runs goes on, and so must an update of all nodes.
            Some(_) => String::new(),
        };
        Health { started: true, ready: reason.is_empty(), reason }
    }

    async fn status(&self) -> anyhow::Result<AgentStatus> {
        let loaded = self.loaded.borrow().clone();
        let peers = self.speaker.peers().await?;
        let fib = self.fib.status().await?;
        let wanted = || peers.iter().filter(|peer| peer.is_wanted());
        let sessions = SessionCounts {
            configured: wanted().count(),
            established: wanted().filter(|peer| peer.is_established()).count(),
        };
        let mut problems: Vec<String> = loaded.status.problems.clone();
        problems.extend(self.speaker_problems.borrow().iter().cloned());
        problems.extend(wanted().filter(|peer| !peer.is_established()).map(|peer| {
            let reason = peer.down_because();
            format!("session {} ({}) is {}: {reason}", peer.peer, peer.neighbor, peer.state)
        }));
        problems.extend(kernel_problems(&fib));
        let pods = self.pods.status();
        problems.extend(pods.iter().flat_map(|pods| pods.problems.clone()));
        let node = &loaded.desired.node;
        Ok(AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: node.name.clone(),
            asn: node.asn,
            router_id: node.router_id,
            transit: loaded.desired.transit,
            uptime: self.started.elapsed().as_secs(),
            waiting: false,
            config: loaded.status,
            sessions,
            fib,
            pods,
            notes: loaded.desired.doubts(),
            problems,
        })
    }

    async fn installed(&self, prefix: Option<IpNet>) -> anyhow::Result<Vec<InstalledRoute>> {
        let install = self.loaded.borrow().desired.install.clone();
        let topology = self.fib.topology().borrow().clone();
        tokio::task::spawn_blocking(move || {
            let mut netlink = Netlink::open()?;
            let objects: HashMap<u32, NexthopObject> =
                dump::nexthops(&mut netlink)?.into_iter().map(|object| (object.id, object)).collect();
            let mut routes = Vec::new();
            for protocol in [install.protocol, install.local_protocol] {
                for route in dump::routes(&mut netlink, protocol)? {
                    if prefix.is_some_and(|prefix| prefix != route.prefix) {
                        continue;
                    }
                    let nexthops =
                        route.nexthop_id.map_or_else(Vec::new, |id| nexthops(id, &objects, &topology));
                    routes.push(InstalledRoute {
                        prefix: route.prefix,
                        nexthops,
                        blackhole: route.kind == RTN_BLACKHOLE,
                        metric: route.metric,
                        table: route.table,
                        protocol,
                        group: route.nexthop_id,
                    });
                }
            }
            routes.sort_by_key(|route| (route.prefix, route.metric));
            Ok(routes)
        })
        .await?
    }
}

fn nexthops(id: u32, objects: &HashMap<u32, NexthopObject>, topology: &Topology) -> Vec<String> {
    let Some(object) = objects.get(&id) else { return Vec::new() };
    let single = std::slice::from_ref(&id);
    let members = if object.members.is_empty() { single } else { object.members.as_slice() };
    let mut lines: Vec<String> = members
        .iter()
        .filter_map(|member| objects.get(member)?.hop)
        .map(|hop| {
            let name = topology
                .links()
                .find(|link| link.index == hop.ifindex)
                .map_or("?", |link| link.name.as_str());
            format!("via {} dev {name}", hop.gateway)
        })
        .collect();
    lines.sort();
    lines
}

fn kernel_problems(fib: &FibStatus) -> Vec<String> {
    let mut problems = fib.warnings.clone();
    problems.extend(
        fib.failed.iter().map(|failed| format!("the kernel refuses {}: {}", failed.what, failed.error)),
    );
    problems.extend(fib.foreign.iter().map(|foreign| {
        format!(
            "{}: a route that is not ours stands at our metric; it is left alone and tried again",
            foreign.prefix
        )
    }));
    problems.extend(fib.unreachable.iter().map(|nexthop| format!("next hop {nexthop} leads nowhere")));
    problems
}
