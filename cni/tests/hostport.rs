//! Host ports and the guard on a real kernel: from outside, from the node, from the pod itself and from its neighbour.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod node;

use std::num::NonZeroU16;

use cni::rules::{self, Effort, Published};
use cni::spec::runtime::{PortMapping, Protocol};
use node::{NODE, Node, OUTSIDE, Pod, ask_tcp, ask_udp, udp};

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn mapping(protocol: Protocol, host: u16, pod: u16) -> PortMapping {
    PortMapping { host_port: port(host), container_port: port(pod), protocol, host_ip: None }
}

fn published(pod: &Pod, mappings: &[PortMapping]) -> Published {
    Published { owner: pod.host_ifname.clone(), addresses: pod.addresses, mappings: mappings.to_vec() }
}

fn publish(node: &Node, pod: &Pod, mappings: &[PortMapping]) {
    let published = published(pod, mappings);
    node.run(rules::ensure_guard).unwrap();
    node.run(|| rules::publish(&published)).unwrap();
    assert_eq!(node.run(|| rules::check(&published)).unwrap(), [] as [String; 0]);
}

#[test]
fn a_host_port_is_reached_from_everywhere() {
    let node = Node::new();
    let (pod, neighbour) = (node.pod(2), node.pod(3));
    node.run(rules::ensure_guard).unwrap();
    pod.serve("pod", 8080);
    publish(&node, &pod, &[mapping(Protocol::Tcp, 80, 8080), mapping(Protocol::Udp, 80, 8080)]);
    let own = [pod.addresses.v4.unwrap().to_string(), pod.addresses.v6.unwrap().to_string()];
    let other = [neighbour.addresses.v4.unwrap().to_string(), neighbour.addresses.v6.unwrap().to_string()];
    for family in [0, 1] {
        let at = NODE[family];
        for (from, netns, seen) in [
            ("outside", &node.outside, OUTSIDE[family]),
            ("the node", &node.netns, NODE[family]),
            ("a neighbour", &neighbour.netns, &other[family]),
            // The node stands between the pod and itself, or the answer would not be translated back.
            ("the pod itself", &pod.netns, NODE[family]),
        ] {
            assert_eq!(ask_tcp(netns, at, 80).unwrap(), format!("pod {seen}"), "tcp from {from} to {at}");
            assert_eq!(
                ask_udp(&udp(netns, at, 80)).unwrap(),
                format!("pod {seen}"),
                "udp from {from} to {at}"
            );
        }
        // Straight to the pod nothing is translated.
        assert_eq!(ask_tcp(&neighbour.netns, &own[family], 8080).unwrap(), format!("pod {}", other[family]));
    }
    assert_eq!(ask_tcp(&node.netns, "127.0.0.1", 80).unwrap(), format!("pod {}", NODE[0]));
    assert_eq!(ask_udp(&udp(&node.netns, "127.0.0.1", 80)).unwrap(), format!("pod {}", NODE[0]));
    // Who asks localhost's IPv6 address must not wait for an answer that cannot come.
    assert_eq!(ask_tcp(&node.netns, "::1", 80).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_ruleset_reads_well() {
    let node = Node::new();
    let pod = node.pod(2);
    node.run(rules::ensure_guard).unwrap();
    let mappings = [
        mapping(Protocol::Tcp, 80, 8080),
        PortMapping { host_ip: Some(NODE[0].parse().unwrap()), ..mapping(Protocol::Udp, 53, 5353) },
        PortMapping { host_ip: Some(NODE[1].parse().unwrap()), ..mapping(Protocol::Sctp, 5060, 5060) },
    ];
    publish(&node, &pod, &mappings);
    let listed = node.nft("-s list ruleset");
    assert_eq!(listed, include_str!("golden/towpath-cni.nft"), "{listed}");
}

#[test]
fn a_udp_port_moves_to_the_next_pod_at_once() {
    let node = Node::new();
    let (first, second) = (node.pod(2), node.pod(3));
    first.serve("first", 5353);
    second.serve("second", 5353);
    let dns = [mapping(Protocol::Udp, 53, 5353)];
    // Tracking is on before the client speaks, as on a node where other ports are published.
    publish(&node, &second, &[mapping(Protocol::Tcp, 1, 1)]);
    for at in NODE {
        let client = udp(&node.outside, at, 53);
        client.send(b"too early").unwrap();
        let refused = client.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        publish(&node, &first, &dns);
        assert!(ask_udp(&client).unwrap().starts_with("first "), "{at}: the flow from before the mapping");
        assert!(node.run(|| rules::withdraw(&first.host_ifname)).unwrap().any());
        publish(&node, &second, &dns);
        assert!(ask_udp(&client).unwrap().starts_with("second "), "{at}: the flow to the earlier pod");
        assert!(node.run(|| rules::withdraw(&second.host_ifname)).unwrap().any());
        node.run(|| rules::forget_flows(&second.addresses, Effort::Thorough)).unwrap();
    }
}

fn tracked(node: &Node) -> String {
    node.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap()
}

#[test]
fn nothing_of_a_gone_pod_is_tracked_and_others_flows_stay() {
    let node = Node::new();
    let (gone, stays) = (node.pod(2), node.pod(3));
    gone.serve("gone", 8080);
    stays.serve("stays", 8080);
    node::serve_udp(&node.outside, "dns", 53);
    publish(&node, &gone, &[mapping(Protocol::Tcp, 80, 8080), mapping(Protocol::Udp, 80, 8080)]);
    publish(&node, &stays, &[mapping(Protocol::Tcp, 81, 8080)]);
    for family in [0, 1] {
        ask_udp(&udp(&node.outside, NODE[family], 80)).unwrap();
        ask_tcp(&node.outside, NODE[family], 80).unwrap();
        ask_tcp(&node.outside, NODE[family], 81).unwrap();
        ask_udp(&udp(&gone.netns, OUTSIDE[family], 53)).unwrap();
        ask_udp(&udp(&stays.netns, OUTSIDE[family], 53)).unwrap();
    }
    let of = |tracked: &str, pod: &Pod| {
        let long = pod.addresses.v6.unwrap().segments().map(|part| format!("{part:04x}")).join(":");
        let names = [format!("={} ", pod.addresses.v4.unwrap()), format!("={long} ")];
        tracked.lines().filter(|line| names.iter().any(|name| line.contains(name))).count()
    };
    let before = tracked(&node);
    assert_eq!((of(&before, &gone), of(&before, &stays)), (6, 4), "{before}");
    // A mapping of the port that other flows pass through the node to does not end them.
    publish(&node, &stays, &[mapping(Protocol::Udp, 53, 53)]);
    assert_eq!(of(&tracked(&node), &stays), 4);
    // Of a table as large as the kernel makes it, nothing is asked for a pod without ports.
    assert_eq!(node.run(|| rules::forget_flows(&gone.addresses, Effort::Cheap)).unwrap(), 0);
    assert_eq!(node.run(|| rules::forget_flows(&gone.addresses, Effort::Thorough)).unwrap(), 6);
    let after = tracked(&node);
    assert_eq!((of(&after, &gone), of(&after, &stays)), (0, 4), "{after}");
}

#[test]
fn a_node_without_host_ports_tracks_nothing() {
    let node = Node::new();
    let pod = node.pod(2);
    node.run(rules::ensure_guard).unwrap();
    pod.serve("pod", 8080);
    ask_tcp(&node.outside, "10.244.0.2", 8080).unwrap();
    assert_eq!(tracked(&node), "");
    assert_eq!(node.run(|| rules::forget_flows(&pod.addresses, Effort::Cheap)).unwrap(), 0);
}

#[test]
fn a_host_address_keeps_the_port_to_itself() {
    let node = Node::new();
    let (one, all) = (node.pod(2), node.pod(3));
    for more in ["192.0.2.3/24", "2001:db8::3/64"] {
        node.netns.ip(&format!("address add {more} dev uplink")).unwrap();
    }
    one.serve("one", 8080);
    all.serve("all", 8080);
    for (own, other) in [(NODE[0], "192.0.2.3"), (NODE[1], "2001:db8::3")] {
        let at_own = PortMapping { host_ip: Some(own.parse().unwrap()), ..mapping(Protocol::Tcp, 80, 8080) };
        publish(&node, &one, &[at_own]);
        assert!(ask_tcp(&node.outside, own, 80).unwrap().starts_with("one "));
        assert!(ask_tcp(&one.netns, own, 80).unwrap().starts_with("one "));
        let refused = ask_tcp(&node.outside, other, 80).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{other}");
    }
    // Who asked for the address goes before who asked for all.
    publish(&node, &all, &[mapping(Protocol::Tcp, 80, 8080)]);
    assert!(ask_tcp(&node.outside, NODE[0], 80).unwrap().starts_with("one "));
    assert!(ask_tcp(&node.outside, "192.0.2.3", 80).unwrap().starts_with("all "));
    let loopback = PortMapping { host_ip: Some([127, 0, 0, 1].into()), ..mapping(Protocol::Tcp, 90, 8080) };
    publish(&node, &one, &[loopback]);
    assert!(ask_tcp(&node.netns, "127.0.0.1", 90).unwrap().starts_with("one "));
    assert!(ask_tcp(&node.outside, NODE[0], 90).is_err());
}

#[test]
fn a_port_that_another_pod_has_is_refused_with_its_name() {
    let node = Node::new();
    let (first, second) = (node.pod(2), node.pod(3));
    publish(&node, &first, &[mapping(Protocol::Tcp, 80, 8080)]);
    let before = node.nft("-s list ruleset");
    let wanted = published(&second, &[mapping(Protocol::Tcp, 443, 8443), mapping(Protocol::Tcp, 80, 8080)]);
    let refused = node.run(|| rules::publish(&wanted)).unwrap_err().to_string();
    assert_eq!(
        refused,
        "hostPort 80/tcp belongs to the pod behind twpod2 (to 10.244.0.2:8080); \
         choose another hostPort or remove that pod"
    );
    assert_eq!(node.nft("-s list ruleset"), before);
    // The same port of another protocol is another port.
    publish(&node, &second, &[mapping(Protocol::Udp, 80, 8080)]);
    // What a pod without an interface has left behind is nobody's.
    node.netns.ip("link delete twpod2").unwrap();
    publish(&node, &second, &[mapping(Protocol::Tcp, 80, 8080)]);
    let left = published(&second, &[mapping(Protocol::Tcp, 80, 8080)]);
    assert_eq!(node.run(|| rules::check(&left)).unwrap(), [] as [String; 0]);
}

#[test]
fn withdrawing_removes_its_own_and_nothing_else() {
    const FOREIGN: &str = "table ip kube-proxy {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport 30080 dnat to 10.244.0.2:8080
	}
}
";
    let node = Node::new();
    let (first, second) = (node.pod(2), node.pod(3));
    node.load(FOREIGN);
    publish(&node, &first, &[mapping(Protocol::Tcp, 80, 8080)]);
    let before = node.nft("-s list ruleset");
    let of_second =
        [mapping(Protocol::Tcp, 81, 8080), mapping(Protocol::Udp, 81, 8080), mapping(Protocol::Sctp, 81, 80)];
    publish(&node, &second, &of_second);
    let both = node.nft("-s list ruleset");
    publish(&node, &second, &of_second);
    assert_eq!(node.nft("-s list ruleset"), both, "publishing again changed something");
    let owners: Vec<String> = node.run(rules::owners).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(owners, ["twpod2", "twpod3"]);
    assert!(node.run(|| rules::withdraw(&second.host_ifname)).unwrap().any());
    assert_eq!(node.nft("-s list ruleset"), before);
    assert!(!node.run(|| rules::withdraw(&second.host_ifname)).unwrap().any());
    assert_eq!(node.nft("list table ip kube-proxy"), FOREIGN);
    // Where there is no table there is nothing to withdraw either.
    node.nft("delete table inet towpath-cni");
    assert!(!node.run(|| rules::withdraw(&first.host_ifname)).unwrap().any());
    assert!(node.run(rules::owners).unwrap().is_empty());
}

#[test]
fn a_check_notices_each_missing_piece() {
    let node = Node::new();
    let pod = node.pod(2);
    let mappings = [mapping(Protocol::Tcp, 80, 8080)];
    for (piece, damage, told) in [
        (
            "the mapping",
            "delete element inet towpath-cni host-ports-v4 { tcp . 80 }",
            "hostPort 80/tcp to 10.244.0.2:8080 of twpod2 is missing",
        ),
        (
            "its IPv6 half",
            "flush map inet towpath-cni host-ports-v6",
            "hostPort 80/tcp to [fd00::2]:8080 of twpod2 is missing",
        ),
        ("the hairpin", "flush set inet towpath-cni hairpin-v4", "the hairpin of twpod2 is missing"),
        (
            "the guard's rules",
            "flush chain inet towpath-cni guard",
            "chain guard of table inet towpath-cni has 0 rules",
        ),
        (
            "the guard",
            "flush chain inet towpath-cni guard ; delete chain inet towpath-cni guard",
            "chain guard of table inet towpath-cni is missing",
        ),
        (
            "the jump",
            "flush chain inet towpath-cni output",
            "chain output of table inet towpath-cni has 0 rules",
        ),
        (
            "masquerading",
            "flush chain inet towpath-cni postrouting",
            "chain postrouting of table inet towpath-cni has 0 rules",
        ),
        ("everything", "delete table inet towpath-cni", "is missing"),
    ] {
        node.run(rules::ensure_guard).unwrap();
        publish(&node, &pod, &mappings);
        node.nft(damage);
        let published = published(&pod, &mappings);
        let differences = node.run(|| rules::check(&published)).unwrap();
        assert!(differences.iter().any(|difference| difference.contains(told)), "{piece}: {differences:?}");
        node.load("table inet towpath-cni\ndelete table inet towpath-cni");
    }
}

#[test]
fn others_translations_work_beside_ours() {
    let node = Node::new();
    let (ours, theirs) = (node.pod(2), node.pod(3));
    ours.serve("ours", 8080);
    theirs.serve("theirs", 8080);
    // As kube-proxy has it: Services and node ports at dstnat, whatever is marked masqueraded at srcnat.
    node.load(
        "table ip kube-proxy {
            chain services {
                ip daddr 10.96.0.10 tcp dport 80 dnat to 10.244.0.3:8080
                fib daddr type local tcp dport { 80, 30080 } mark set 0x4000 dnat to 10.244.0.3:8080
            }
            chain prerouting { type nat hook prerouting priority dstnat; jump services; }
            chain output { type nat hook output priority -100; jump services; }
            chain postrouting { type nat hook postrouting priority srcnat; mark 0x4000 masquerade; }
        }",
    );
    publish(&node, &ours, &[mapping(Protocol::Tcp, 80, 8080)]);
    node.outside.ip(&format!("route add 10.96.0.0/16 via {}", NODE[0])).unwrap();
    let outside = OUTSIDE[0];
    assert_eq!(
        ask_tcp(&node.outside, NODE[0], 80).unwrap(),
        format!("ours {outside}"),
        "a port of both is the pod's"
    );
    assert_eq!(
        ask_tcp(&node.outside, "10.96.0.10", 80).unwrap(),
        format!("theirs {outside}"),
        "a Service is no host port"
    );
    assert_eq!(ask_tcp(&node.outside, NODE[0], 30080).unwrap(), "theirs 192.0.2.1");
    assert!(node.run(|| rules::withdraw(&ours.host_ifname)).unwrap().any());
    assert_eq!(ask_tcp(&node.outside, NODE[0], 80).unwrap(), "theirs 192.0.2.1");
}

#[test]
fn all_pods_of_a_node_may_publish_at_once() {
    let node = Node::new();
    let pods: Vec<Published> = (0..32u8)
        .map(|number| Published {
            owner: cni::IfName::parse(&format!("tw{number}")).unwrap(),
            addresses: cni::Addresses { v4: Some([10, 244, 0, number].into()), v6: None },
            mappings: vec![mapping(Protocol::Tcp, 1000 + u16::from(number), 80)],
        })
        .collect();
    let at_once = |work: &(dyn Fn(&Published) + Sync)| {
        std::thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| node.run(|| work(pod)));
            }
        });
    };
    for _ in 0..4 {
        at_once(&|pod| {
            rules::ensure_guard().unwrap();
            rules::publish(pod).unwrap();
        });
        assert_eq!(node.run(rules::owners).unwrap().len(), 32);
        assert_eq!(node.run(|| rules::check(&pods[0])).unwrap(), [] as [String; 0]);
        at_once(&|pod| assert!(rules::withdraw(&pod.owner).unwrap().any()));
        assert_eq!(node.run(rules::owners).unwrap().len(), 0);
        node.nft("delete table inet towpath-cni");
    }
}

#[test]
fn an_upgraded_plugin_replaces_the_layout_and_keeps_the_mappings() {
    let node = Node::new();
    let pod = node.pod(2);
    pod.serve("pod", 8080);
    node.load(
        "table inet towpath-cni {
            map host-ports-v4 { type inet_proto . inet_service : ipv4_addr . inet_service
                elements = { tcp . 81 comment \"twpod2\" : 10.244.0.2 . 8080 } }
            chain guard { comment \"layout 0\"; type filter hook prerouting priority 5; tcp dport 1 drop; }
            chain host-ports { comment \"layout 0\"; accept; }
            chain prerouting { comment \"layout 0\"; type nat hook prerouting priority 7; jump host-ports; }
        }",
    );
    node.run(rules::ensure_guard).unwrap();
    publish(&node, &pod, &[mapping(Protocol::Tcp, 80, 8080)]);
    for port in [80, 81] {
        assert_eq!(ask_tcp(&node.outside, NODE[0], port).unwrap(), format!("pod {}", OUTSIDE[0]));
    }
    let listed = node.nft("-s list ruleset");
    assert!(!listed.contains("layout 0") && !listed.contains("priority 7"), "{listed}");
}

/// One family alone takes one walk, and the kernel picks; both together are picked here as long as little is tracked.
#[test]
fn flows_of_one_family_are_picked_by_the_kernel() {
    let node = Node::new();
    for family in [0, 1] {
        let (mut first, mut second) = (node.pod(2), node.pod(3));
        for pod in [&mut first, &mut second] {
            pod.serve(pod.host_ifname.as_str(), 5353);
            if family == 0 { pod.addresses.v6 = None } else { pod.addresses.v4 = None }
        }
        let client = udp(&node.outside, NODE[family], 53);
        publish(&node, &first, &[mapping(Protocol::Udp, 53, 5353), mapping(Protocol::Tcp, 53, 5353)]);
        ask_tcp(&node.outside, NODE[family], 53).unwrap();
        assert!(ask_udp(&client).unwrap().starts_with("twpod2 "));
        assert!(node.run(|| rules::withdraw(&first.host_ifname)).unwrap().any());
        publish(&node, &second, &[mapping(Protocol::Udp, 53, 5353)]);
        assert!(ask_udp(&client).unwrap().starts_with("twpod3 "), "{family}: the UDP flow was not ended");
        let forget = |pod: &Pod| node.run(|| rules::forget_flows(&pod.addresses, Effort::Thorough)).unwrap();
        assert_eq!(
            (forget(&first), forget(&second)),
            (1, 1),
            "{family}: TCP of the first, UDP of the second"
        );
        assert!(node.run(|| rules::withdraw(&second.host_ifname)).unwrap().any());
        for pod in ["twpod2", "twpod3"] {
            node.netns.ip(&format!("link delete {pod}")).unwrap();
        }
    }
}

#[test]
fn a_change_computed_from_an_older_ruleset_is_refused() {
    const TABLE: netlink::nft::Table =
        netlink::nft::Table { family: netlink::nft::Family::Inet, name: "towpath-test" };
    let node = Node::new();
    node.run(|| {
        let mut socket = netlink::Socket::netfilter().unwrap();
        let mut add_since = |generation| {
            let mut batch = netlink::Batch::new();
            batch.transaction_since(generation, |batch| TABLE.add(batch));
            socket.exchange(batch)
        };
        let mut other = netlink::Socket::netfilter().unwrap();
        let before = netlink::nft::generation(&mut other).unwrap();
        add_since(before).unwrap();
        let after = netlink::nft::generation(&mut other).unwrap();
        assert_ne!(before, after);
        let refused = add_since(before).unwrap_err();
        assert_eq!(refused.errno(), Some(85), "ERESTART: {refused}");
        add_since(after).unwrap();
    });
}
