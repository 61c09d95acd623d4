//! What an operator would want to be told as an Event: found by comparing two looks at the daemon. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bgp_speaker::status::PeerStatus;
use cni::ready::State;

use super::conditions::NO_PEERS;
use super::facts::{self, Facts};

/// A session that has not come up after this time is worth a word.
const COMING_UP: Duration = Duration::from_secs(30);
/// A node without peers is worth a word after this time: resources are applied one after the other.
const NO_PEERS_AFTER: Duration = Duration::from_secs(15);
/// A shorter absence of the API server is its own business.
const AWAY_FOR: Duration = Duration::from_secs(30);

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// What it is about.
    pub(super) regarding: Regarding,
    /// The object behind it: the BGPPeer of a session.
    pub(super) related: Option<Regarding>,
    /// One CamelCase word.
    pub(super) reason: &'static str,
    /// Somebody may have to act.
    pub(super) warning: bool,
    /// With `regarding` and `reason`: what makes it the same thing again.
    pub(super) subject: String,
    /// A sentence.
    pub(super) note: String,
}

/// An object without a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Regarding {
    pub(super) kind: &'static str,
    pub(super) name: String,
}

/// What the last look saw.
pub(super) struct Observer {
    node: Regarding,
    started: Instant,
    sessions: HashMap<(String, String), Session>,
    no_peers_told: bool,
    pods: Option<State>,
    away_since: Option<Instant>,
}

struct Session {
    established: bool,
    downs: u64,
    first_seen: Instant,
    told: bool,
}

impl Observer {
    pub(super) fn new(node: &str, now: Instant) -> Self {
        Self {
            node: Regarding { kind: "Node", name: node.to_owned() },
            started: now,
            sessions: HashMap::new(),
            no_peers_told: false,
            pods: None,
            away_since: None,
        }
    }

    /// What is worth telling since the last look; `away`: the API server does not answer.
    pub(super) fn look(&mut self, now: Instant, facts: &Facts<'_>, away: bool) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.peers(now, facts, &mut notices);
        self.pods(facts, &mut notices);
        match (away, self.away_since) {
            (true, None) => self.away_since = Some(now),
            (false, Some(since)) => {
                self.away_since = None;
                let elapsed = now.saturating_duration_since(since);
                if elapsed >= AWAY_FOR {
                    let seconds = elapsed.as_secs();
                    notices.push(self.about_node(
                        "APIServerBack",
                        false,
                        "",
                        format!("the API server answers again after {seconds} s; sessions and routes went on meanwhile"),
                    ));
                }
            }
            _ => {}
        }
        notices
    }

    fn peers(&mut self, now: Instant, facts: &Facts<'_>, notices: &mut Vec<Notice>) {
        let mut before = std::mem::take(&mut self.sessions);
        for peer in facts.peers {
            let key = (peer.peer.clone(), peer.neighbor.to_string());
            let established = peer.is_established();
            let mut session = before.remove(&key).unwrap_or(Session {
                established: false,
                downs: 0,
                first_seen: now,
                told: false,
            });
            let lost = peer.down_count > session.downs;
            if lost {
                notices.push(self.session("SessionDown", peer));
            }
            if established && (lost || !session.established) {
                notices.push(self.session("SessionUp", peer));
            }
            let never = !established && peer.down_count == 0 && peer.is_wanted();
            if never && !session.told && now.saturating_duration_since(session.first_seen) >= COMING_UP {
                notices.push(self.session("SessionNotEstablished", peer));
                session.told = true;
            }
            self.sessions.insert(key, Session { established, downs: peer.down_count, ..session });
        }
        let without = facts.desired.peers.is_empty();
        if without && !self.no_peers_told && now.saturating_duration_since(self.started) >= NO_PEERS_AFTER {
            notices.push(self.about_node("NoBGPPeer", true, "", NO_PEERS.to_owned()));
        }
        self.no_peers_told =
            without && (self.no_peers_told || now.saturating_duration_since(self.started) >= NO_PEERS_AFTER);
    }

    fn pods(&mut self, facts: &Facts<'_>, notices: &mut Vec<Notice>) {
        let Some(state) = facts.pods.map(|pods| pods.state) else { return };
        let before = self.pods.replace(state);
        let (reason, note) = match (before, state) {
            (Some(State::Ready | State::Converging), State::Drained) => {
                ("Drained", "no new pods start here; `towpath drain --undo` ends it")
            }
            (Some(State::Drained), State::Ready | State::Converging) => {
                ("DrainEnded", "pods may start again")
            }
            (Some(State::Converging), State::Ready) => ("PodNetworkReady", "pods may start"),
            _ => return,
        };
        notices.push(self.about_node(reason, false, "", note.to_owned()));
    }

    fn session(&self, reason: &'static str, peer: &PeerStatus) -> Notice {
        let who = format!("session {} ({})", peer.peer, peer.neighbor);
        let why = peer.reason.as_deref().unwrap_or("no reason is known");
        let code = peer.last_error.as_ref().map(|error| (error.code, error.subcode));
        let (note, error) = match reason {
            "SessionUp" => {
                let asn = peer.remote_asn.map(|asn| format!(", AS {asn}")).unwrap_or_default();
                (format!("{who} is Established{asn}"), None)
            }
            "SessionDown" => (format!("{who} was lost: {why}"), code),
            _ => (format!("{who} has not come up in {} s: {why}", COMING_UP.as_secs()), code),
        };
        // Another error is another story; the same one again is a series.
        let subject = format!("{} {} {error:?}", peer.peer, peer.neighbor);
        let related = Regarding { kind: "BGPPeer", name: facts::bgp_peer(&peer.peer).to_owned() };
        Notice { related: Some(related), ..self.about_node(reason, reason != "SessionUp", &subject, note) }
    }

    fn about_node(&self, reason: &'static str, warning: bool, subject: &str, note: String) -> Notice {
        Notice {
            regarding: self.node.clone(),
            related: None,
            reason,
            warning,
            subject: subject.to_owned(),
            note,
        }
    }
}
