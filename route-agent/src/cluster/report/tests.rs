//! From facts to what is written: status, conditions, notices, the Node's condition.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use api::DesiredState;
use api::build::Verdict;
use api::status::NodeNetworkStatus;
use api::words::{Condition, ConditionStatus};
use bgp_speaker::status::{Capabilities, FamilyStatus, Faults, LastError, Messages, PeerStatus};
use cni::ready::State;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::jiff::Timestamp;

use super::facts::{Facts, Refused};
use super::notice::Observer;
use super::pace::News;
use super::{node, status};
use crate::fib::status::{FailedRoute, FibStatus};
use crate::kernel::resolve::Topology;
use crate::kernel::{Address, Link};
use crate::pods::PodsStatus;

const SECRET: &str = "Xy-never-to-be-seen";

/// A daemon as the reports see it.
struct Bench {
    desired: DesiredState,
    refused: Vec<Refused>,
    peers: Vec<PeerStatus>,
    fib: FibStatus,
    behind: bool,
    topology: Topology,
    pods: Option<PodsStatus>,
}

/// A node with two ToRs, both up, and pods.
fn bench() -> Bench {
    let yaml = format!(
        "
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: {{ name: node1 }}
spec: {{ asn: 65001, routerID: 10.0.0.11, addresses: [10.0.0.11], podCIDRs: [10.244.1.0/24] }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: bgp, namespace: towpath-system }}
stringData: {{ password: {SECRET} }}
---
apiVersion: towpath.io/v1alpha1
kind: BGPPeer
metadata: {{ name: tor1 }}
spec: {{ neighbor: {{ address: 10.0.1.1 }}, remoteASN: 65100, auth: {{ md5SecretRef: {{ name: bgp }} }} }}
---
apiVersion: towpath.io/v1alpha1
kind: BGPPeer
metadata: {{ name: tor2 }}
spec: {{ neighbor: {{ address: fe80::1%eth2 }}, remoteASN: external, bindInterface: eth2 }}
"
    );
    let mut documents = api::Documents::default();
    documents.add("bench.yaml", yaml.as_bytes());
    let link = |index, name: &str| Link { index, name: name.into(), usable: true, mtu_bytes: 1500 };
    let address = |ifindex, local: &str, subnet: &str| Address {
        ifindex,
        local: local.parse().unwrap(),
        subnet: subnet.parse().unwrap(),
        connected: true,
    };
    Bench {
        desired: documents.build("node1").unwrap(),
        refused: Vec::new(),
        peers: vec![peer("tor1", "10.0.1.1"), peer("tor2", "fe80::1")],
        fib: FibStatus { routes_v4: 100, routes_v6: 10, groups: 2, converged: true, ..FibStatus::default() },
        behind: false,
        topology: Topology::new(
            vec![link(1, "lo"), link(2, "eth1"), link(3, "eth2"), link(4, "docker0")],
            vec![address(2, "10.0.1.2", "10.0.1.0/24"), address(4, "172.17.0.1", "172.17.0.0/16")],
        ),
        pods: Some(PodsStatus {
            blocks: vec!["10.244.1.0/24".parse().unwrap()],
            pods: 20,
            outside: Vec::new(),
            state: State::Ready,
            reason: String::new(),
            mtu: Some(1500),
            conflist: Some(PathBuf::from("/etc/cni/net.d/05-towpath.conflist")),
            problems: Vec::new(),
        }),
    }
}

fn peer(name: &str, neighbor: &str) -> PeerStatus {
    PeerStatus {
        peer: name.into(),
        neighbor: neighbor.parse().unwrap(),
        dynamic: false,
        state: "Established".into(),
        since: 1_800_000_000,
        local_asn: 65001,
        remote_asn: Some(65100),
        remote_router_id: Some(Ipv4Addr::new(10, 0, 0, 1)),
        local_endpoint: None,
        remote_endpoint: None,
        hold_time: Some(90),
        keepalive: Some(30),
        reason: None,
        last_error: None,
        down_count: 0,
        paused: false,
        capabilities: Capabilities::default(),
        graceful_restart: String::new(),
        families: vec![FamilyStatus {
            family: "ipv4-unicast".into(),
            received: 100,
            accepted: 100,
            stale: 0,
            advertised: 1,
            limit: 1000,
            end_of_rib: true,
        }],
        received: Messages::default(),
        sent: Messages::default(),
        faults: Faults::default(),
    }
}

fn down(peer: &mut PeerStatus) {
    peer.state = "Active".into();
    peer.down_count += 1;
    peer.reason = Some("hold timer expired".into());
    peer.last_error =
        Some(LastError { code: 4, subcode: 0, text: "hold timer expired".into(), received: false });
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

impl Bench {
    fn facts(&self) -> Facts<'_> {
        Facts {
            desired: &self.desired,
            generation: Some(3),
            refused: &self.refused,
            peers: &self.peers,
            fib: &self.fib,
            behind: self.behind,
            topology: &self.topology,
            pods: self.pods.as_ref(),
        }
    }

    fn status(&self, earlier: &[Condition], second: i64) -> NodeNetworkStatus {
        status::status(&self.facts(), earlier, at(second))
    }

    fn condition(&self, kind: &str) -> Condition {
        let conditions = self.status(&[], 0).conditions;
        conditions.into_iter().find(|condition| condition.kind == kind).unwrap()
    }
}

#[test]
fn a_healthy_nodes_status_tells_who_it_is_and_that_all_is_well() {
    let status = bench().status(&[], 0);
    assert!(status.conditions.iter().all(|condition| condition.status == ConditionStatus::True));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    let json = serde_json::to_value(&status).unwrap();
    for (path, expected) in [
        ("/routerID", "\"10.0.0.11\""),
        ("/asn", "65001"),
        ("/sessions", "{\"degraded\":0,\"desired\":2,\"established\":2}"),
        ("/bgpPeers/0", "{\"degraded\":0,\"desired\":1,\"established\":1,\"name\":\"tor1\"}"),
        ("/peers/0/neighbor", "\"10.0.1.1\""),
        ("/peers/1/neighbor", "\"fe80::1%eth2\""),
        ("/peers/1/interface", "\"eth2\""),
        ("/peers/0/since", "\"2027-01-15T08:00:00Z\""),
        ("/fib/routes", "110"),
        ("/cni", "{\"pods\":20,\"ready\":true}"),
        ("/lastHeartbeatTime", "\"2027-01-15T08:00:00Z\""),
        (
            "/uplinks",
            "[{\"carrier\":true,\"mtu\":1500,\"name\":\"eth1\"},{\"carrier\":true,\"mtu\":1500,\"name\":\"eth2\"}]",
        ),
    ] {
        assert_eq!(json.pointer(path).unwrap().to_string(), expected, "{path}");
    }
    assert!(!json.to_string().contains(SECRET));
}

/// What a test does to a healthy node.
type Change = fn(&mut Bench);

#[test]
fn each_fault_has_its_condition_reason_and_words() {
    type Row<'a> = (&'a str, Change, &'a str, &'a str, &'a str);
    let rows: &[Row<'_>] = &[
        (
            "a session down",
            |b| down(&mut b.peers[0]),
            "PeersUp",
            "SessionsDown",
            "1 of 2 sessions are Established; down: tor1 (10.0.1.1): hold timer expired",
        ),
        (
            "no peers",
            |b| {
                b.desired.peers.clear();
                b.peers.clear();
            },
            "PeersUp",
            "NoPeers",
            "no BGPPeer selects this node",
        ),
        (
            "an object refused",
            |b| {
                b.refused.push(Refused {
                    object: "BGPPeer/tor1".into(),
                    verdict: Verdict::Refused {
                        problems: vec!["spec.timers.hold: 2s is not allowed".into()],
                        last_good_in_force: true,
                    },
                })
            },
            "ConfigurationAccepted",
            "ResourcesRefused",
            "BGPPeer/tor1: spec.timers.hold: 2s is not allowed; its last good version stays in force",
        ),
        (
            "a Secret missing",
            |b| {
                b.refused.push(Refused {
                    object: "BGPPeer/tor1".into(),
                    verdict: Verdict::Unresolved { problems: vec!["spec.auth: no Secret".into()] },
                })
            },
            "ConfigurationAccepted",
            "ReferencesMissing",
            "BGPPeer/tor1: spec.auth: no Secret; the rest of it is in force",
        ),
        (
            "the kernel behind",
            |b| {
                b.behind = true;
                b.fib.pending = 7;
            },
            "RoutesConverged",
            "Pending",
            "7 changes are not in the kernel yet",
        ),
        (
            "a next hop nowhere",
            |b| {
                b.fib.waiting = 2;
                b.fib.unreachable = vec!["10.9.9.9".into()];
            },
            "RoutesConverged",
            "NextHopUnreachable",
            "2 routes wait for next hops that lead nowhere: 10.9.9.9",
        ),
        (
            "a route refused",
            |b| {
                b.fib.failed_count = 1;
                b.fib.failed = vec![FailedRoute {
                    what: "10.1.0.0/24".into(),
                    errno: 22,
                    error: "Invalid argument".into(),
                    age_ms: 0,
                }];
            },
            "KernelOK",
            "RoutesRefused",
            "the kernel refuses 1: 10.1.0.0/24: Invalid argument",
        ),
        (
            "converging",
            |b| {
                let pods = b.pods.as_mut().unwrap();
                pods.state = State::Converging;
                pods.reason = "1 of 2 sessions".into();
            },
            "Ready",
            "Converging",
            "1 of 2 sessions",
        ),
        (
            "drained",
            |b| {
                let pods = b.pods.as_mut().unwrap();
                pods.state = State::Drained;
                pods.reason = "`towpath drain --undo` ends it".into();
            },
            "Ready",
            "Drained",
            "drained: no new pods; `towpath drain --undo` ends it",
        ),
        (
            "no blocks",
            |b| b.pods.as_mut().unwrap().blocks.clear(),
            "Ready",
            "NoPodCIDRs",
            "the node has no pod blocks",
        ),
        (
            "no conflist",
            |b| {
                let pods = b.pods.as_mut().unwrap();
                pods.conflist = None;
                pods.problems = vec!["read-only".into()];
            },
            "Ready",
            "ConflistNotWritten",
            "read-only",
        ),
    ];
    for (name, change, kind, reason, message) in rows {
        let mut bench = bench();
        change(&mut bench);
        let condition = bench.condition(kind);
        assert_eq!(condition.status, ConditionStatus::False, "{name}");
        assert_eq!(condition.reason, *reason, "{name}");
        assert!(condition.message.starts_with(message), "{name}: {}", condition.message);
        let others = bench.status(&[], 0).conditions;
        let others = others.iter().filter(|other| other.kind != *kind);
        assert!(others.clone().all(|other| other.status == ConditionStatus::True), "{name}: {others:?}");
    }
    let mut starting = bench();
    starting.pods = None;
    assert_eq!(starting.condition("Ready").status, ConditionStatus::Unknown);
}

#[test]
fn a_transition_has_its_time_and_keeps_it() {
    let mut bench = bench();
    let time = |status: &NodeNetworkStatus, kind: &str| {
        status
            .conditions
            .iter()
            .find(|condition| condition.kind == kind)
            .unwrap()
            .last_transition_time
            .clone()
    };
    let first = bench.status(&[], 0);
    down(&mut bench.peers[0]);
    let second = bench.status(&first.conditions, 10);
    bench.peers[0].reason = Some("connection refused".into());
    let third = bench.status(&second.conditions, 20);
    let times = [&first, &second, &third].map(|status| time(status, "PeersUp"));
    assert_eq!(times, [status::time(at(0)), status::time(at(10)), status::time(at(10))]);
    assert_eq!(time(&third, "Ready"), status::time(at(0)));
}

#[test]
fn transitions_are_news_and_what_moves_all_the_time_is_not() {
    let rows: &[(&str, Change, News)] = &[
        ("nothing", |_| {}, News::None),
        ("a session down", |b| down(&mut b.peers[0]), News::Transition),
        ("a session lost and back", |b| b.peers[0].down_count += 1, News::Transition),
        ("a few more routes", |b| b.peers[0].families[0].received = 105, News::None),
        ("many more routes", |b| b.peers[0].families[0].received = 120, News::Counts),
        ("the first routes", |b| b.fib.drift = 1, News::Counts),
        ("a pod in twenty", |b| b.pods.as_mut().unwrap().pods = 21, News::None),
        ("two pods in twenty", |b| b.pods.as_mut().unwrap().pods = 22, News::Counts),
        (
            "a carrier lost",
            |b| {
                b.topology.link_changed(Link {
                    index: 2,
                    name: "eth1".into(),
                    usable: false,
                    mtu_bytes: 1500,
                });
            },
            News::Transition,
        ),
        ("drained", |b| b.pods.as_mut().unwrap().state = State::Drained, News::Transition),
        (
            "an object refused",
            |b| {
                b.refused.push(Refused {
                    object: "IPPool/a".into(),
                    verdict: Verdict::Refused { problems: vec!["no".into()], last_good_in_force: false },
                })
            },
            News::Transition,
        ),
    ];
    for (name, change, expected) in rows {
        let mut bench = bench();
        let before = bench.status(&[], 0);
        change(&mut bench);
        assert_eq!(status::news(&before, &bench.status(&before.conditions, 60)), *expected, "{name}");
    }
    // Attempts of a session that is down.
    let mut bench = bench();
    down(&mut bench.peers[0]);
    let before = bench.status(&[], 0);
    for state in ["Idle", "Connect", "OpenSent", "Active"] {
        bench.peers[0].state = state.into();
        bench.peers[0].since += 3;
        bench.peers[0].reason = Some(format!("in {state}"));
        assert_eq!(status::news(&before, &bench.status(&before.conditions, 5)), News::None, "{state}");
    }
}

#[test]
fn a_long_list_is_cut_after_those_that_are_down_and_counts_stay_complete() {
    let mut bench = bench();
    bench.peers = (0..300).map(|index| peer(&format!("mesh/node{index:03}"), "10.0.2.1")).collect();
    down(&mut bench.peers[299]);
    let status = bench.status(&[], 0);
    assert_eq!(status.peers.len(), 200);
    assert_eq!(status.peers[0].peer, "mesh/node299");
    let mesh = status.bgp_peers.iter().find(|counts| counts.name == "mesh").unwrap();
    assert_eq!((mesh.desired, mesh.established), (300, 299));
}

#[test]
fn guests_count_while_they_are_here_and_paused_sessions_never() {
    let mut bench = bench();
    bench.peers[0].paused = true;
    let guest = |state: &str, neighbor: &str| PeerStatus {
        dynamic: true,
        state: state.into(),
        ..peer("guests", neighbor)
    };
    bench.peers.extend([guest("Established", "10.0.3.1"), guest("Active", "10.0.3.2")]);
    let sessions = bench.status(&[], 0).sessions.unwrap();
    assert_eq!((sessions.desired, sessions.established), (2, 2));
}

#[test]
fn a_session_at_its_limit_or_in_graceful_restart_is_degraded() {
    let mut bench = bench();
    bench.peers[0].families[0].received = 1000;
    down(&mut bench.peers[1]);
    bench.peers[1].families[0].stale = 10;
    let sessions = bench.status(&[], 0).sessions.unwrap();
    assert_eq!((sessions.established, sessions.degraded), (1, 2));
}

#[test]
fn events_tell_what_happened_between_two_looks_once() {
    let mut bench = bench();
    let start = Instant::now();
    let mut observer = Observer::new("node1", start);
    let mut look = |bench: &Bench, second: u64, away: bool| -> Vec<String> {
        let now = start + Duration::from_secs(second);
        let notices = observer.look(now, &bench.facts(), away);
        notices.into_iter().map(|notice| format!("{} {}", notice.reason, notice.note)).collect()
    };
    bench.peers[1].state = "Active".into();
    bench.peers[1].reason = Some("connection refused".into());
    assert_eq!(look(&bench, 0, false), ["SessionUp session tor1 (10.0.1.1) is Established, AS 65100"]);
    assert!(look(&bench, 1, false).is_empty());
    assert_eq!(
        look(&bench, 31, false),
        ["SessionNotEstablished session tor2 (fe80::1) has not come up in 30 s: connection refused"]
    );
    down(&mut bench.peers[0]);
    assert_eq!(look(&bench, 32, false), ["SessionDown session tor1 (10.0.1.1) was lost: hold timer expired"]);
    // Back, lost and back again between two looks.
    bench.peers[0].state = "Established".into();
    bench.peers[0].down_count += 1;
    assert_eq!(look(&bench, 33, false).len(), 2);
    assert!(look(&bench, 40, true).is_empty());
    let back = look(&bench, 100, false);
    assert_eq!(
        back,
        ["APIServerBack the API server answers again after 60 s; sessions and routes went on meanwhile"]
    );
    bench.pods.as_mut().unwrap().state = State::Drained;
    assert!(look(&bench, 101, false)[0].starts_with("Drained "));
    bench.pods.as_mut().unwrap().state = State::Ready;
    assert!(look(&bench, 102, false)[0].starts_with("DrainEnded "));
    bench.peers.clear();
    bench.desired.peers.clear();
    assert!(look(&bench, 103, false)[0].starts_with("NoBGPPeer no BGPPeer selects this node"));
    assert!(look(&bench, 200, false).is_empty());
}

#[test]
fn the_nodes_condition_is_true_while_converging_false_afterwards_and_never_taken_back() {
    let condition = |status: &str, reason: &str| NodeCondition {
        type_: "NetworkUnavailable".into(),
        status: status.into(),
        reason: Some(reason.into()),
        ..NodeCondition::default()
    };
    let (ready, elsewhere) = (condition("False", "TowpathReady"), condition("False", "CalicoIsUp"));
    let converging = condition("True", "TowpathConverging");
    // What is, what the node is like, what is written.
    type Row<'a> = (&'a str, Option<&'a NodeCondition>, Change, Option<(&'a str, &'a str)>);
    let turn: Change = |b| b.pods.as_mut().unwrap().state = State::Converging;
    let drain: Change = |b| b.pods.as_mut().unwrap().state = State::Drained;
    let lose: Change = |b| b.peers.iter_mut().for_each(down);
    let empty: Change = |b| b.pods.as_mut().unwrap().blocks.clear();
    let rows: &[Row<'_>] = &[
        ("a new node converges", None, turn, Some(("True", "TowpathConverging"))),
        ("it still does", Some(&converging), turn, None),
        ("it has", Some(&converging), |_| {}, Some(("False", "TowpathReady"))),
        ("another's word is replaced", Some(&elsewhere), |_| {}, Some(("False", "TowpathReady"))),
        ("nothing changes", Some(&ready), |_| {}, None),
        ("every session is lost", Some(&ready), lose, None),
        ("a reboot", Some(&ready), turn, Some(("True", "TowpathConverging"))),
        ("drained", Some(&ready), drain, None),
        ("blocks gone", Some(&ready), empty, None),
        ("no blocks from the start", None, empty, Some(("True", "TowpathNoPodCIDRs"))),
    ];
    for (name, current, change, expected) in rows {
        let mut bench = bench();
        change(&mut bench);
        let current: Vec<NodeCondition> = current.iter().map(|current| (*current).clone()).collect();
        let wanted = node::wanted(bench.pods.as_ref());
        let written = wanted.and_then(|wanted| node::change(&current, &wanted, at(0)));
        let text = |field: &str| written.as_ref().map(|written| written[field].as_str().unwrap().to_owned());
        let written = text("status").zip(text("reason"));
        let expected = expected.map(|(status, reason)| (status.to_owned(), reason.to_owned()));
        assert_eq!(written, expected, "{name}");
    }
}
