//! The FIB task against a real kernel, each test in a network namespace of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::desired::Install;
use bgp_speaker::rib::{BestChange, FibNexthop, NexthopSet, PrefixId, RibEvent};
use bgp_speaker::wire::AfiSafi;
use ipnet::IpNet;
use route_agent::fib::run::{Feedback, FibConfig, FibHandle, SpeakerFeedback, Stopped, start};
use route_agent::fib::status::FibStatus;
use route_agent::kernel::monitor::{KernelEvent, Monitor};
use route_agent::kernel::socket::Netlink;
use route_agent::kernel::{KernelError, KernelRoute, dump};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const OURS: u8 = 199;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on a thread of its own in a fresh namespace: veth pairs `a0`-`b0` and `a1`-`b1`, with
/// 10.0.N.1/24 and 2001:db8:N::1/64 on `aN`.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("fibtest-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let body = move || {
        ip(&format!("netns add {name}"));
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
            .unwrap();
        // The thread keeps the namespace; without the name it ends with the thread.
        ip(&format!("netns del {name}"));
        ip("link set lo up");
        for n in 0..2 {
            ip(&format!("link add a{n} type veth peer name b{n}"));
            ip(&format!("addr add 10.0.{n}.1/24 dev a{n}"));
            ip(&format!("addr add 2001:db8:{n}::1/64 dev a{n} nodad"));
            ip(&format!("link set a{n} up"));
            ip(&format!("link set b{n} up"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    std::thread::spawn(body).join().unwrap();
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[derive(Clone)]
struct Speaker(mpsc::Sender<Feedback>);

impl SpeakerFeedback for Speaker {
    async fn send(&self, feedback: Feedback) -> Result<(), Stopped> {
        self.0.send(feedback).await.map_err(|_| Stopped)
    }
}

/// A stand-in for the RIB, and the FIB task it feeds.
struct Node {
    events: mpsc::Sender<RibEvent>,
    feedback: mpsc::Receiver<Feedback>,
    fib: FibHandle,
    task: JoinHandle<Result<(), KernelError>>,
    wanted: BTreeMap<u32, BestChange>,
    seq: u64,
    seen: Vec<Feedback>,
}

fn install() -> Install {
    Install {
        metric: 20,
        table: 254,
        max_paths: 8,
        protocol: OURS,
        local_protocol: 200,
        advertise_after_install: false,
    }
}

impl Node {
    fn start() -> Self {
        Self::start_with(install(), None)
    }

    fn start_with(install: Install, state_dir: Option<PathBuf>) -> Self {
        let (events, inbox) = mpsc::channel(64);
        let (speaker, feedback) = mpsc::channel(64);
        let config = FibConfig { install, sysctls: Some("/proc/sys".into()), state_dir };
        let (fib, task) = start(config, inbox, Speaker(speaker)).unwrap();
        Self { events, feedback, fib, task, wanted: BTreeMap::new(), seq: 0, seen: Vec::new() }
    }

    async fn tell(&mut self, event: RibEvent) {
        self.events.send(event).await.unwrap();
    }

    async fn changes(&mut self, changes: Vec<BestChange>) {
        for change in &changes {
            self.wanted.insert(change.id.0, change.clone());
        }
        self.seq += 1;
        self.tell(RibEvent::Changes { seq: self.seq, changes }).await;
    }

    async fn want(&mut self, prefixes: &[IpNet], nexthops: &[FibNexthop]) {
        let set = (!nexthops.is_empty()).then(|| Arc::new(nexthops.iter().copied().collect::<NexthopSet>()));
        let change = |(id, prefix): (u32, &IpNet)| BestChange {
            id: PrefixId(self.id(prefix).unwrap_or(u32::try_from(self.wanted.len()).unwrap() + id)),
            prefix: *prefix,
            nexthops: set.clone(),
        };
        let changes = (0..).zip(prefixes).map(change).collect();
        self.changes(changes).await;
    }

    fn id(&self, prefix: &IpNet) -> Option<u32> {
        // Ids follow the order of first use, which is that of the prefixes in every test.
        if self.wanted.len() > 1000 {
            let IpNet::V4(net) = prefix else { return None };
            let [_, high, low, _] = net.network().octets();
            return Some(u32::from(high) << 8 | u32::from(low));
        }
        self.wanted.values().find(|change| change.prefix == *prefix).map(|change| change.id.0)
    }

    async fn react(&mut self, feedback: Feedback) {
        self.seen.push(feedback.clone());
        match feedback {
            Feedback::Resend => {
                self.tell(RibEvent::Resend { complete: false }).await;
                let all = self.wanted.values().filter(|change| change.nexthops.is_some()).cloned().collect();
                self.changes(all).await;
                self.tell(RibEvent::Resend { complete: true }).await;
            }
            Feedback::Reassert(prefix) => {
                let found = self.wanted.values().find(|change| change.prefix == prefix).cloned();
                self.changes(found.into_iter().collect()).await;
            }
            _ => {}
        }
    }

    /// Answers the FIB until `done`; returns how long it took.
    async fn until(&mut self, what: &str, done: impl Fn(&FibStatus, &[Feedback]) -> bool) -> Duration {
        let started = Instant::now();
        loop {
            while let Ok(feedback) = self.feedback.try_recv() {
                self.react(feedback).await;
            }
            let status = self.fib.status().await.unwrap();
            if done(&status, &self.seen) {
                return started.elapsed();
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {status:#?}\n{:?}", self.seen.last());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn confirmed(&mut self) -> Duration {
        let seq = self.seq;
        self.until("confirmation", move |_, seen| {
            seen.iter().any(|feedback| matches!(feedback, Feedback::Installed { seq: s, .. } if *s >= seq))
        })
        .await
    }

    async fn messages(&self) -> u64 {
        self.fib.status().await.unwrap().messages
    }

    async fn stop(self) {
        drop(self.events);
        self.task.await.unwrap().unwrap();
    }
}

fn via(address: &str) -> FibNexthop {
    FibNexthop { address: address.parse().unwrap(), ifindex: None, recursive: false }
}

fn net(prefix: &str) -> IpNet {
    prefix.parse().unwrap()
}

/// `count` prefixes: 50.X.Y.0/24, numbered by X and Y.
fn many(count: u32) -> Vec<IpNet> {
    (0..count).map(|n| net(&format!("50.{}.{}.0/24", n >> 8, n & 255))).collect()
}

fn routes() -> Vec<KernelRoute> {
    dump::routes(&mut Netlink::open().unwrap(), OURS).unwrap()
}

/// Where the kernel sends packets of our routes.
fn ways() -> BTreeMap<IpNet, BTreeSet<IpAddr>> {
    let objects = dump::nexthops(&mut Netlink::open().unwrap()).unwrap();
    let object = |id: u32| objects.iter().find(|object| object.id == id).unwrap();
    let gateways = |route: KernelRoute| {
        let members = &object(route.nexthop_id.unwrap()).members;
        (route.prefix, members.iter().map(|id| object(*id).hop.unwrap().gateway).collect())
    };
    routes().into_iter().map(gateways).collect()
}

fn to(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn routes_of_both_families_are_installed_changed_and_removed() {
    in_namespace(async || {
        let mut node = Node::start();
        node.want(&[net("10.1.0.0/16")], &[via("10.0.0.2"), via("10.0.1.2")]).await;
        node.want(&[net("2001:db8:a::/48")], &[via("2001:db8:0::2"), via("2001:db8:1::2")]).await;
        // RFC 8950: IPv4 over an IPv6 next hop.
        node.want(&[net("10.2.0.0/16")], &[via("2001:db8:1::2")]).await;
        node.confirmed().await;
        assert_eq!(
            ways(),
            [
                (net("10.1.0.0/16"), to(&["10.0.0.2", "10.0.1.2"])),
                (net("10.2.0.0/16"), to(&["2001:db8:1::2"])),
                (net("2001:db8:a::/48"), to(&["2001:db8:0::2", "2001:db8:1::2"])),
            ]
            .into()
        );
        node.want(&[net("10.1.0.0/16")], &[via("10.0.1.2")]).await;
        node.want(&[net("2001:db8:a::/48"), net("10.2.0.0/16")], &[]).await;
        node.confirmed().await;
        assert_eq!(ways(), [(net("10.1.0.0/16"), to(&["10.0.1.2"]))].into());
        node.want(&[net("10.1.0.0/16")], &[]).await;
        node.tell(RibEvent::Converged).await;
        node.until("empty", |status, _| status.converged && status.nexthops == 0).await;
        assert!(dump::nexthops(&mut Netlink::open().unwrap()).unwrap().is_empty());
        node.stop().await;
    });
}

#[test]
fn losing_one_of_two_next_hops_of_ten_thousand_routes_costs_at_most_five_messages() {
    in_namespace(async || {
        let both = [via("10.0.0.2"), via("10.0.1.2")];
        let prefixes = many(10_000);
        let mut node = Node::start();
        node.want(&prefixes, &both).await;
        node.confirmed().await;
        let before = node.messages().await;
        node.want(&prefixes, &both[1..]).await;
        node.confirmed().await;
        node.until("one nexthop", |status, _| status.nexthops == 1).await;
        let plain = node.messages().await - before;
        node.want(&prefixes, &both).await;
        node.confirmed().await;
        let before = node.messages().await;
        node.tell(RibEvent::NexthopsDown(both[..1].to_vec())).await;
        for part in prefixes.chunks(700) {
            node.want(part, &both[1..]).await;
        }
        node.tell(RibEvent::NexthopsSettled).await;
        node.confirmed().await;
        node.until("one nexthop", |status, _| status.nexthops == 1).await;
        let down = node.messages().await - before;
        println!(
            "messages for one of two next hops of 10,000 routes: {plain} by changes, {down} by NexthopsDown"
        );
        assert!(plain <= 5 && down <= 5, "{plain} and {down}");
        let ways = ways();
        assert_eq!(ways.len(), prefixes.len());
        assert!(ways.values().all(|way| *way == to(&["10.0.1.2"])));
        node.stop().await;
    });
}

#[test]
fn a_new_process_adopts_the_routes_without_touching_them() {
    in_namespace(async || {
        let both = [via("10.0.0.2"), via("10.0.1.2")];
        let prefixes = many(300);
        let mut node = Node::start();
        node.want(&prefixes, &both).await;
        node.confirmed().await;
        node.stop().await;
        assert_eq!(routes().len(), 300, "routes stay");
        let mut monitor = Monitor::subscribe(u32::MAX).unwrap();
        let mut node = Node::start();
        node.want(&prefixes[..299], &both).await;
        node.confirmed().await;
        assert_eq!(node.messages().await, 0);
        node.tell(RibEvent::Converged).await;
        node.until("sweep", |status, _| status.converged).await;
        assert_eq!(routes().len(), 299);
        let mut events = Vec::new();
        while let Ok(more) = tokio::time::timeout(Duration::from_millis(50), monitor.next()).await {
            events.extend(more.unwrap());
        }
        let gone: Vec<&KernelEvent> =
            events.iter().filter(|event| matches!(event, KernelEvent::RouteGone { .. })).collect();
        assert_eq!((events.len(), gone.len()), (1, 1), "only the unclaimed one: {events:?}");
        node.stop().await;
    });
}

#[test]
fn a_foreign_route_with_the_same_key_stays_and_is_reported_until_it_goes() {
    in_namespace(async || {
        ip("route add 10.1.0.0/16 via 10.0.1.77 metric 20 proto static");
        let mut node = Node::start();
        node.want(&[net("10.1.0.0/16")], &[via("10.0.0.2")]).await;
        node.until("report", |status, _| status.foreign.first().is_some_and(|f| f.protocol == Some(4))).await;
        assert!(routes().is_empty());
        assert_eq!(dump::routes(&mut Netlink::open().unwrap(), 4).unwrap().len(), 1);
        ip("route del 10.1.0.0/16 via 10.0.1.77 metric 20 proto static");
        let took = node.until("install", |status, _| status.foreign_count == 0 && status.pending == 0).await;
        assert_eq!(ways(), [(net("10.1.0.0/16"), to(&["10.0.0.2"]))].into());
        assert!(took < Duration::from_secs(1), "{took:?}");
        node.stop().await;
    });
}

#[test]
fn the_kernel_is_asked_for_the_way_to_an_address_in_both_families() {
    in_namespace(|| async {
        let cases = [("-4", "192.0.2.0/24", "10.0.0.2"), ("-6", "fd00:99::/64", "2001:db8::2")];
        for (family, prefix, way) in cases {
            ip(&format!("{family} route add {prefix} via {way} metric 20 proto static"));
            let mut netlink = Netlink::open().unwrap();
            let found = dump::lookup(&mut netlink, net(prefix).addr()).unwrap().unwrap();
            let KernelRoute { prefix: matched, table, metric, protocol, .. } = found.route;
            assert_eq!((matched, table, metric, protocol), (net(prefix), 254, 20, 4));
            assert_eq!(found.hop.unwrap().gateway, way.parse::<IpAddr>().unwrap());
        }
    });
}

#[test]
fn what_others_delete_is_back_within_a_second_and_named() {
    in_namespace(async || {
        let mut node = Node::start();
        node.fib.set_blackholes([net("10.9.0.0/16"), net("2001:db8:9::/48")].into()).await.unwrap();
        node.want(&[net("10.1.0.0/16"), net("10.2.0.0/16")], &[via("10.0.0.2"), via("10.0.1.2")]).await;
        node.want(&[net("2001:db8:a::/48")], &[via("2001:db8:1::2")]).await;
        node.confirmed().await;
        node.tell(RibEvent::Converged).await;
        node.until("rest", |status, _| status.converged && status.blackholes == 2).await;
        let whole = ways();
        let group =
            routes().iter().find_map(|r| r.nexthop_id.filter(|_| r.prefix == net("10.1.0.0/16"))).unwrap();
        let single = dump::nexthops(&mut Netlink::open().unwrap()).unwrap();
        let single = single.iter().find(|object| object.hop.is_some()).unwrap().id;
        let cases = [
            "route del 10.1.0.0/16 metric 20".to_owned(),
            "-6 route del 2001:db8:a::/48 metric 20".to_owned(),
            "route replace 10.1.0.0/16 via 10.0.0.9 metric 20 proto 199".to_owned(),
            format!("nexthop del id {group}"),
            format!("nexthop del id {single}"),
            "route del blackhole 10.9.0.0/16".to_owned(),
            "-6 route del blackhole 2001:db8:9::/48".to_owned(),
        ];
        for (index, case) in (1..).zip(&cases) {
            let repaired = node.fib.status().await.unwrap().repaired;
            ip(case);
            let took = node
                .until(case, |status, _| {
                    status.repaired > repaired && status.converged && status.blackholes == 2
                })
                .await;
            assert_eq!(ways(), whole, "{index}: {case}");
            assert!(took < Duration::from_secs(1), "{case}: {took:?}");
        }
        assert_eq!(dump::routes(&mut Netlink::open().unwrap(), 200).unwrap().len(), 2);
        node.fib.set_blackholes(BTreeSet::new()).await.unwrap();
        node.until("removal", |status, _| status.blackholes == 0).await;
        assert!(dump::routes(&mut Netlink::open().unwrap(), 200).unwrap().is_empty());
        node.stop().await;
    });
}

#[test]
fn what_carrier_loss_takes_away_silently_is_put_back_when_the_carrier_returns() {
    in_namespace(async || {
        let mut node = Node::start();
        node.want(&[net("10.1.0.0/16")], &[via("10.0.0.2"), via("10.0.1.2")]).await;
        node.want(&[net("10.2.0.0/16")], &[via("10.0.0.2")]).await;
        node.want(&[net("2001:db8:a::/48")], &[via("2001:db8:0::2")]).await;
        node.confirmed().await;
        node.tell(RibEvent::Converged).await;
        node.until("rest", |status, _| status.converged).await;
        let whole = ways();
        ip("link set b0 down");
        node.until("loss", |_, seen| {
            let down = seen.iter().any(|f| matches!(f, Feedback::LinkDown { name, .. } if name == "a0"));
            let lost = |address: &str| {
                let told = |f: &&Feedback| matches!(f, Feedback::NexthopChanged(n, _) if *n == via(address));
                matches!(seen.iter().rfind(told), Some(Feedback::NexthopChanged(_, false)))
            };
            down && lost("10.0.0.2") && lost("2001:db8:0::2")
        })
        .await;
        assert_eq!(ways(), [(net("10.1.0.0/16"), to(&["10.0.1.2"]))].into());
        ip("link set b0 up");
        node.until("return", |status, _| status.converged && status.routes_v4 + status.routes_v6 == 3).await;
        assert_eq!(ways(), whole);
        node.stop().await;
    });
}

#[test]
fn another_metric_makes_the_routes_anew_and_then_removes_the_old_ones() {
    in_namespace(async || {
        let mut node = Node::start();
        node.want(&many(50), &[via("10.0.0.2")]).await;
        node.tell(RibEvent::Converged).await;
        node.confirmed().await;
        node.fib.set_install(Install { metric: 30, table: 1000, ..install() }).await.unwrap();
        node.until("resync", |status, _| status.resyncs == 1 && status.converged).await;
        let routes = routes();
        assert_eq!(routes.len(), 50);
        assert!(routes.iter().all(|route| route.metric == 30 && route.table == 1000), "{:?}", routes[0]);
        node.stop().await;
    });
}

#[test]
fn a_hundred_thousand_routes_are_installed_and_removed() {
    in_namespace(async || {
        let prefixes: Vec<IpNet> = (0..100_000u32)
            .map(|n| net(&format!("{}.{}.{}.0/24", 50 + (n >> 16), n >> 8 & 255, n & 255)))
            .collect();
        let set = Arc::new(NexthopSet::from_iter([via("10.0.0.2"), via("10.0.1.2")]));
        let mut node = Node::start();
        for wanted in [Some(set), None] {
            let started = Instant::now();
            for part in (0u32..).zip(&prefixes).collect::<Vec<_>>().chunks(1000) {
                let change = |(id, prefix): &(u32, &IpNet)| BestChange {
                    id: PrefixId(*id),
                    prefix: **prefix,
                    nexthops: wanted.clone(),
                };
                node.seq += 1;
                node.tell(RibEvent::Changes { seq: node.seq, changes: part.iter().map(change).collect() })
                    .await;
                while let Ok(feedback) = node.feedback.try_recv() {
                    node.seen.push(feedback);
                }
            }
            node.confirmed().await;
            let took = started.elapsed();
            println!("100,000 routes {}: {took:?}", if wanted.is_some() { "installed" } else { "removed" });
            assert_eq!(routes().len(), if wanted.is_some() { prefixes.len() } else { 0 });
        }
        node.stop().await;
    });
}

#[test]
fn routes_under_a_protocol_number_of_an_earlier_run_are_removed_with_their_nexthops() {
    in_namespace(async || {
        let state = tempfile::tempdir().unwrap();
        let folder = || Some(state.path().to_owned());
        let mut node = Node::start_with(install(), folder());
        assert_eq!(node.fib.preserved, []);
        node.want(&many(20), &[via("10.0.0.2")]).await;
        node.fib.set_blackholes([net("10.9.0.0/16")].into()).await.unwrap();
        node.until("blackhole", |status, _| status.blackholes == 1).await;
        node.confirmed().await;
        node.stop().await;
        // A pod's route, of the plugin.
        ip("route add 10.7.0.1/32 dev a1 proto 200");
        let other = || Install { protocol: 190, local_protocol: 191, ..install() };
        // The second start finds the numbers although the first one ended before its sweep.
        for sweep in [false, true] {
            let mut node = Node::start_with(other(), folder());
            assert_eq!(node.fib.preserved, [AfiSafi::Ipv4Unicast]);
            node.want(&many(20), &[via("10.0.0.2")]).await;
            if !sweep {
                node.stop().await;
                assert!(!routes().is_empty());
                continue;
            }
            node.fib.set_blackholes([net("10.9.0.0/16")].into()).await.unwrap();
            node.tell(RibEvent::Converged).await;
            node.until("sweep", |status, _| status.converged && status.blackholes == 1).await;
            let mut netlink = Netlink::open().unwrap();
            assert!(routes().is_empty());
            assert_eq!(dump::routes(&mut netlink, 190).unwrap().len(), 20);
            assert_eq!(dump::routes(&mut netlink, 191).unwrap().len(), 1);
            let pods = dump::routes(&mut netlink, 200).unwrap();
            assert_eq!(pods.iter().map(|route| route.prefix).collect::<Vec<_>>(), [net("10.7.0.1/32")]);
            let kept = || std::fs::read_to_string(state.path().join("protocols.json")).unwrap();
            node.until("forgotten", |_, _| !kept().contains("199")).await;
            let foreign = dump::nexthops(&mut netlink).unwrap();
            assert!(foreign.iter().all(|object| object.protocol == 190), "{foreign:?}");
            node.stop().await;
            return;
        }
    });
}

#[test]
fn of_others_only_unicast_routes_of_the_table_over_live_links_count() {
    in_namespace(async || {
        for route in [
            "10.20.0.0/16 via 10.0.1.9 proto static",
            "10.21.0.0/16 proto static nexthop via 10.0.0.9 nexthop via 10.0.1.9",
            "10.22.0.0/16 via 10.0.0.9 proto static",
            "10.23.0.0/16 proto static nexthop via 10.0.0.9 nexthop via 10.0.0.8",
            "unreachable 10.24.0.0/16 proto static",
            "blackhole 10.25.0.0/16 proto static",
            "10.26.0.0/16 via 10.0.1.9 proto static table 7",
            "10.27.0.0/16 via 10.0.1.9 proto 199",
            "10.28.0.0/16 via 10.0.1.9 proto 200",
        ] {
            ip(&format!("route add {route}"));
        }
        ip("-6 route add 2001:db8:20::/48 via 2001:db8:1::9 proto static");
        ip("link set b0 down");
        let mut netlink = Netlink::open().unwrap();
        // The carrier's loss takes a moment to reach the routes.
        let (mut found, started) = (BTreeSet::new(), Instant::now());
        while started.elapsed() < PATIENCE {
            found = dump::destinations(&mut netlink, 254, [199, 200]).unwrap();
            if !found.contains(&net("10.0.0.0/24")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (prefix, expected) in [
            ("10.20.0.0/16", true),
            ("10.21.0.0/16", true),
            ("10.22.0.0/16", false),
            ("10.23.0.0/16", false),
            ("10.24.0.0/16", false),
            ("10.25.0.0/16", false),
            ("10.26.0.0/16", false),
            ("10.27.0.0/16", false),
            ("10.28.0.0/16", false),
            ("10.0.1.0/24", true),
            // Of the local table.
            ("10.0.1.1/32", false),
            ("2001:db8:20::/48", true),
        ] {
            assert_eq!(found.contains(&net(prefix)), expected, "{prefix} in {found:?}");
        }
        assert!(dump::destinations(&mut netlink, 99, [199, 200]).unwrap().is_empty(), "no such table");
    });
}

#[test]
fn blackholes_are_in_the_kernel_when_the_call_returns_and_only_others_routes_wake_who_watches_them() {
    in_namespace(async || {
        let mut node = Node::start();
        node.fib.set_blackholes([net("10.9.0.0/16")].into()).await.unwrap();
        assert_eq!(dump::routes(&mut Netlink::open().unwrap(), 200).unwrap().len(), 1);
        node.fib.set_blackholes(BTreeSet::new()).await.unwrap();
        assert!(dump::routes(&mut Netlink::open().unwrap(), 200).unwrap().is_empty());
        let mut others = node.fib.others_routes();
        let before = *others.borrow_and_update();
        node.want(&many(1000), &[via("10.0.0.2")]).await;
        node.confirmed().await;
        // Not none: the kernel makes the link-local routes of fresh links when it likes.
        assert!(*others.borrow_and_update() - before < 100, "ours");
        ip("route add 10.20.0.0/16 via 10.0.1.9 proto static");
        tokio::time::timeout(PATIENCE, others.changed()).await.unwrap().unwrap();
        node.stop().await;
    });
}

#[test]
fn a_next_hop_is_not_reached_over_the_route_that_needs_it() {
    in_namespace(async || {
        ip("route add default via 10.0.0.9 metric 100 proto static");
        let nexthop = FibNexthop { address: "10.30.0.1".parse().unwrap(), ifindex: None, recursive: true };
        let (around, other) = (net("10.30.0.0/16"), net("10.40.0.0/16"));
        let mut node = Node::start();
        node.want(&[around, other], &[nexthop]).await;
        node.until("the other", |status, _| status.routes_v4 == 1 && status.waiting == 1).await;
        assert_eq!(ways(), [(other, to(&["10.0.0.9"]))].into());
        let told = node.fib.status().await.unwrap().unreachable;
        assert_eq!(told, ["10.30.0.1 of 10.30.0.0/16, reached by that route only,"]);
        // A more specific way to the next hop: now both can be.
        ip("route add 10.30.0.0/24 via 10.0.1.9 proto static");
        node.until("both", |status, _| status.routes_v4 == 2 && status.waiting == 0).await;
        assert_eq!(ways(), [(around, to(&["10.0.1.9"])), (other, to(&["10.0.1.9"]))].into());
        // It goes: the route around the next hop does not keep itself alive.
        ip("route del 10.30.0.0/24 via 10.0.1.9 proto static");
        let reported = |reachable| {
            move |_: &FibStatus, seen: &[Feedback]| {
                let last = seen.iter().rfind(|told| matches!(told, Feedback::NexthopChanged(..)));
                last == Some(&Feedback::NexthopChanged(nexthop, reachable))
            }
        };
        node.until("the loss", reported(false)).await;
        node.want(&[around, other], &[]).await;
        node.until("the default", reported(true)).await;
        node.want(&[around, other], &[nexthop]).await;
        node.until("the other again", |status, _| status.routes_v4 == 1 && status.waiting == 1).await;
        assert_eq!(ways(), [(other, to(&["10.0.0.9"]))].into());
        let messages = node.messages().await;
        node.fib.set_blackholes([net("10.9.0.0/16")].into()).await.unwrap();
        assert_eq!(node.messages().await, messages + 1, "at rest");
        node.stop().await;
    });
}

#[test]
fn a_new_protocol_number_is_on_record_before_the_first_route_carries_it() {
    in_namespace(async || {
        let state = tempfile::tempdir().unwrap();
        let kept = || std::fs::read_to_string(state.path().join("protocols.json")).unwrap();
        let mut node = Node::start_with(install(), Some(state.path().to_owned()));
        node.fib.set_blackholes(BTreeSet::new()).await.unwrap();
        node.want(&many(50), &[via("10.0.0.2")]).await;
        node.tell(RibEvent::Converged).await;
        node.confirmed().await;
        node.fib.set_install(Install { protocol: 190, ..install() }).await.unwrap();
        // The RIB has not sent anything again yet: nothing carries the new number.
        node.fib.status().await.unwrap();
        assert!(kept().contains("190") && kept().contains("199"), "{}", kept());
        node.until("resync", |status, _| status.resyncs == 1 && status.converged).await;
        assert!(routes().is_empty());
        assert_eq!(dump::routes(&mut Netlink::open().unwrap(), 190).unwrap().len(), 50);
        node.until("forgotten", |_, _| !kept().contains("199")).await;
        node.stop().await;
    });
}
