//! The wire of a pod in the real kernel: node and pods are network namespaces of the test's own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use cni::pod::node::Node;
use cni::pod::{self, Netns, PodError, Wire, names};
use cni::{Addresses, Attachment, ContainerId, IfName, NetworkName};
use meter::netns::Netns as Space;
use meter::wait::until;

/// A pod that wants this wire.
struct Pod {
    space: Space,
    file: File,
    wire: Wire,
}

impl Pod {
    fn new(id: &str, addresses: &[&str]) -> Self {
        let space = Space::fresh().unwrap();
        let file = space.run(|| Ok(File::open("/proc/thread-self/ns/net")?)).unwrap();
        let attachment = attachment(id, "eth0");
        Self { wire: wire(&attachment, addresses), space, file }
    }

    fn netns(&self) -> Netns {
        Netns::open(Path::new(&format!("/proc/self/fd/{}", self.file.as_raw_fd())), false).unwrap()
    }

    fn attach(&self, node: &Space) -> Result<pod::Attached, PodError> {
        node.run(|| Ok(pod::attach(&self.netns(), &self.wire))).unwrap()
    }

    /// What is not as it should be.
    fn check(&self, node: &Space) -> Vec<String> {
        node.run(|| Ok(pod::check(&self.netns(), &self.wire))).unwrap().unwrap()
    }

    fn detach(&self, node: &Space) -> Result<bool, PodError> {
        node.run(|| Ok(pod::detach(&self.wire.host_ifname))).unwrap()
    }
}

fn attachment(id: &str, ifname: &str) -> Attachment {
    Attachment {
        network: NetworkName::parse("net").unwrap(),
        container_id: ContainerId::parse(id).unwrap(),
        ifname: IfName::parse(ifname).unwrap(),
    }
}

fn wire(attachment: &Attachment, addresses: &[&str]) -> Wire {
    Wire {
        host_ifname: names::host_ifname(attachment),
        ifname: attachment.ifname.clone(),
        addresses: some(addresses),
        pod_mac: names::pod_mac(attachment),
        mtu_bytes: 1500,
        table: 254,
        protocol: 200,
        sources: Addresses::default(),
        mark: names::mark(attachment),
        route_localnet: false,
    }
}

fn some(addresses: &[&str]) -> Addresses {
    let mut some = Addresses::default();
    addresses.iter().for_each(|address| some.set(address.parse().unwrap()));
    some
}

/// A node with both kinds of forwarding, an address of each family on lo, and no route to anywhere.
fn node() -> Space {
    let node = Space::fresh().unwrap();
    node.ip("address add 192.0.2.10/32 dev lo").unwrap();
    node.ip("address add 2001:db8:1::10/128 dev lo nodad").unwrap();
    node.sysctl("net/ipv4/ip_forward", "1").unwrap();
    node.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    // The kernel adds an IPv6 address's own route in its own time.
    let own_route = || Ok(node.ip("-6 route show table local")?.contains("2001:db8:1::10").then_some(()));
    until(Duration::from_secs(5), "the node's own IPv6 route", own_route).unwrap();
    node
}

/// The first packet arrives, and its answer: there is one, and 200 ms.
fn first_packet(from: &Space, to: &str) {
    let out = from.exec(&["ping", "-n", "-c1", "-W0.2", to]).unwrap();
    let routes = [from.ip("route").unwrap(), from.ip("-6 route").unwrap(), from.ip("neigh").unwrap()];
    assert!(out.status.success(), "{to}: {}{routes:#?}", String::from_utf8_lossy(&out.stdout));
}

const DUAL: [&str; 2] = ["10.244.3.7", "fd00:244:3::7"];

#[test]
fn the_first_packets_arrive_between_pod_and_node() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    pod.attach(&node).unwrap();
    for address in DUAL {
        first_packet(&node, address);
    }
    for address in ["192.0.2.10", "2001:db8:1::10"] {
        first_packet(&pod.space, address);
    }
}

#[test]
fn the_first_packets_arrive_between_pods() {
    let node = node();
    let (one, other) = (Pod::new("a", &DUAL), Pod::new("b", &["10.244.3.8", "fd00:244:3::8"]));
    for pod in [&one, &other] {
        pod.attach(&node).unwrap();
    }
    first_packet(&one.space, "10.244.3.8");
    first_packet(&one.space, "fd00:244:3::8");
    first_packet(&other.space, DUAL[0]);
    first_packet(&other.space, DUAL[1]);
}

#[test]
fn one_family_is_enough_and_the_other_is_silent() {
    let node = node();
    let (v4, v6) = (Pod::new("a", &DUAL[..1]), Pod::new("b", &["fd00:244:3::8"]));
    for pod in [&v4, &v6] {
        pod.attach(&node).unwrap();
    }
    first_packet(&node, DUAL[0]);
    first_packet(&node, "fd00:244:3::8");
    assert_eq!(v4.space.ip("-6 address show dev eth0").unwrap(), "");
    assert_eq!(v6.space.ip("-4 route").unwrap(), "");
}

#[test]
fn what_is_taken_away_is_gone_and_gone_again_is_fine() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    let before = remains(&node, &pod);
    pod.attach(&node).unwrap();
    assert_ne!(remains(&node, &pod), before);
    assert!(pod.detach(&node).unwrap());
    assert_eq!(remains(&node, &pod), before);
    assert!(!pod.detach(&node).unwrap());
}

/// Links, addresses, routes and neighbours of both ends, when the kernel's own workers have caught up: they add the
/// route of each IPv6 address.
fn remains(node: &Space, pod: &Pod) -> String {
    let all = ["-o link", "-o address", "-4 route show table all", "-6 route show table all", "neigh"];
    let caught_up = |space: &Space| {
        let routes = space.ip("-6 route show table local").unwrap();
        let routes = routes.lines().filter(|line| line.starts_with("local") && line.contains("proto kernel"));
        let addresses = space.ip("-6 -o address").unwrap();
        !addresses.contains("tentative") && addresses.lines().count() == routes.count()
    };
    let spaces = [node, &pod.space];
    let ready = || Ok(spaces.iter().all(|space| caught_up(space)).then_some(()));
    until(Duration::from_secs(5), "routes of all IPv6 addresses", ready).unwrap();
    spaces.iter().flat_map(|space| all.map(|what| space.ip(what).unwrap())).collect()
}

#[test]
fn an_interface_that_the_pod_has_stays_as_it_is() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    pod.attach(&node).unwrap();
    let before = remains(&node, &pod);
    // The same attachment once more, and another one that wants the same interface.
    let mut second = wire(&attachment("b", "eth0"), &["10.244.3.8"]);
    for wire in [&pod.wire, &second] {
        let refused = node.run(|| Ok(pod::attach(&pod.netns(), wire))).unwrap();
        assert!(matches!(refused, Err(PodError::InterfaceExists { .. })), "{refused:?}");
        assert_eq!(remains(&node, &pod), before);
    }
    // Under another name it is a second interface, whose routes stand behind the first one's.
    second.ifname = IfName::parse("net1").unwrap();
    node.run(|| Ok(pod::attach(&pod.netns(), &second))).unwrap().unwrap();
    first_packet(&node, DUAL[0]);
    first_packet(&pod.space, "192.0.2.10");
    let out = pod.space.exec(&["ping", "-n", "-c1", "-W0.2", "-I", "net1", "192.0.2.10"]).unwrap();
    assert!(out.status.success(), "{}", pod.space.ip("route").unwrap());
}

#[test]
fn what_a_killed_add_left_is_replaced_and_somebody_elses_link_is_not() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    let name = &pod.wire.host_ifname;
    node.ip(&format!("link add {name} type veth peer name other")).unwrap();
    node.ip(&format!("link set {name} alias somebody")).unwrap();
    for refused in [pod.attach(&node).map(drop), pod.detach(&node).map(drop)] {
        assert!(matches!(refused, Err(PodError::ForeignLink { .. })), "{refused:?}");
    }
    node.ip(&format!("link delete {name}")).unwrap();

    let dead = Pod::new("a", &DUAL);
    dead.attach(&node).unwrap();
    pod.attach(&node).unwrap();
    first_packet(&node, DUAL[0]);
    first_packet(&pod.space, "192.0.2.10");
    assert!(dead.space.ip("link show eth0").is_err());
}

#[test]
fn a_route_that_somebody_has_already_is_named_and_nothing_stays() {
    let node = node();
    let (one, other) = (Pod::new("a", &DUAL), Pod::new("b", &DUAL));
    one.attach(&node).unwrap();
    let before = remains(&node, &other);
    let refused = other.attach(&node).unwrap_err();
    let words = refused.to_string();
    assert!(matches!(refused, PodError::RouteTaken { .. }), "{words}");
    assert!(words.contains(&format!("protocol 200 in table 254 by {}", one.wire.host_ifname)), "{words}");
    assert!(words.contains("attachment net a eth0"), "{words}");
    assert_eq!(remains(&node, &other), before);

    one.detach(&node).unwrap();
    node.ip(&format!("route add {} dev lo proto static", DUAL[0])).unwrap();
    let words = other.attach(&node).unwrap_err().to_string();
    assert!(words.contains("protocol 4 in table 254 by lo"), "{words}");
    // A table that no rule leads to is looked into, too.
    let mut elsewhere = Pod::new("c", &DUAL[1..]);
    elsewhere.wire.table = 1000;
    node.ip(&format!("-6 route add blackhole {} table 1000 metric 1 proto static", DUAL[1])).unwrap();
    let words = elsewhere.attach(&node).unwrap_err().to_string();
    assert!(words.contains("leads nowhere, protocol 4 in table 1000"), "{words}");
}

#[test]
fn the_node_talks_to_its_pods_from_the_address_it_is_told() {
    let (node, mut pod) = (node(), Pod::new("a", &DUAL));
    node.ip("address add 198.51.100.1/32 dev lo").unwrap();
    node.ip("address add 2001:db8:1::1/128 dev lo nodad").unwrap();
    pod.wire.sources = some(&["198.51.100.1", "2001:db8:1::1"]);
    pod.attach(&node).unwrap();
    for (address, source) in [(DUAL[0], "198.51.100.1"), (DUAL[1], "2001:db8:1::1")] {
        let route = node.ip(&format!("route get {address}")).unwrap();
        assert!(route.contains(&format!("src {source} ")), "{route}");
    }
    first_packet(&node, DUAL[0]);

    let mut other = Pod::new("b", &["10.244.3.8"]);
    other.wire.sources = some(&["198.51.100.77"]);
    let words = other.attach(&node).unwrap_err().to_string();
    assert!(words.contains("198.51.100.77") && words.contains("nodeAddresses"), "{words}");
}

#[test]
fn every_size_of_packet_from_the_least_to_the_greatest() {
    let node = node();
    for (id, mtu_bytes, addresses) in
        [("a", 68, &DUAL[..1]), ("b", 1280, &DUAL), ("c", 9000, &DUAL), ("d", 65535, &DUAL)]
    {
        let mut pod = Pod::new(id, addresses);
        pod.wire.mtu_bytes = mtu_bytes;
        pod.attach(&node).unwrap();
        let most = (mtu_bytes - 28).min(65507).to_string();
        let out = node.exec(&["ping", "-n", "-c1", "-W0.2", "-M", "do", "-s", &most, DUAL[0]]).unwrap();
        assert!(out.status.success(), "{mtu_bytes}: {}", String::from_utf8_lossy(&out.stdout));
        pod.detach(&node).unwrap();
    }
    for (mtu_bytes, mac, addresses) in [
        (67, [2, 0, 0, 0, 0, 1], &DUAL[..1]),
        (1279, [2, 0, 0, 0, 0, 1], &DUAL),
        (65536, [2, 0, 0, 0, 0, 1], &DUAL),
        (1500, [3, 0, 0, 0, 0, 1], &DUAL),
        (1500, [0; 6], &DUAL),
        (1500, pod::HOST_MAC, &DUAL),
    ] {
        let mut pod = Pod::new("e", addresses);
        (pod.wire.mtu_bytes, pod.wire.pod_mac) = (mtu_bytes, mac);
        let refused = pod.attach(&node).unwrap_err();
        assert!(matches!(refused, PodError::Unusable(_)), "{refused}");
    }
}

#[test]
fn a_new_wire_is_as_it_should_be_and_what_breaks_it_is_named() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    let host = pod.wire.host_ifname.clone();
    // Where, the damage, and what is then said.
    let table = [
        (&node, format!("route delete {}", DUAL[0]), "the node's route to 10.244.3.7 is missing"),
        (&node, format!("-6 route delete {}", DUAL[1]), "the node's route to fd00:244:3::7 is missing"),
        (
            &node,
            format!("route change {} dev lo proto static", DUAL[0]),
            "is protocol 4 in table 254 by lo, not",
        ),
        (&node, format!("neigh delete {} dev {host}", DUAL[0]), "the node's neighbour 10.244.3.7 at"),
        (&node, format!("link set {host} down"), "is down"),
        (&node, format!("link set {host} mtu 1400"), "has MTU 1400, less than 1500 of eth0"),
        (&node, format!("link set {host} alias other"), "is not this attachment's"),
        (&node, format!("link delete {host}"), "is missing on the node"),
        (&pod.space, "link set eth0 down".to_owned(), "eth0 in the pod is down"),
        (&pod.space, "link set eth0 mtu 9000".to_owned(), "has MTU 9000, more than 1500"),
        (&pod.space, format!("address delete {}/32 dev eth0", DUAL[0]), "10.244.3.7 is missing on eth0"),
        (&pod.space, format!("address delete {}/128 dev eth0", DUAL[1]), "fd00:244:3::7 is missing on eth0"),
        (&pod.space, "route delete default".to_owned(), "default route by 169.254.1.1 on eth0 is missing"),
        (&pod.space, "-6 route delete default".to_owned(), "default route by fe80::1 on eth0 is missing"),
        (&pod.space, "neigh delete fe80::1 dev eth0".to_owned(), "the pod's neighbour fe80::1 at ee:ee"),
    ];
    for (space, damage, words) in table {
        pod.attach(&node).unwrap();
        assert_eq!(pod.check(&node), [""; 0], "before {damage}");
        space.ip(&damage).unwrap();
        let said = pod.check(&node);
        assert!(said.iter().any(|said| said.contains(words)), "{damage}: {said:#?}");
        node.exec(&["ip", "link", "delete", host.as_str()]).unwrap();
        node.ip("route flush proto static").unwrap();
    }
    for (sysctl, value) in [("ipv4/conf/HOST/forwarding", "0"), ("ipv6/conf/HOST/accept_ra", "2")] {
        pod.attach(&node).unwrap();
        node.sysctl(&format!("net/{}", sysctl.replace("HOST", host.as_str())), value).unwrap();
        let said = pod.check(&node);
        assert!(said.len() == 1 && said[0].contains(&format!("is {value}, not")), "{said:?}");
        pod.detach(&node).unwrap();
    }
}

#[test]
fn what_others_may_change_is_no_difference() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    pod.attach(&node).unwrap();
    let host = &pod.wire.host_ifname;
    for change in [
        "address add 10.9.9.9/32 dev eth0",
        "route add 10.8.0.0/16 via 169.254.1.1",
        "link set eth0 mtu 1400",
    ] {
        pod.space.ip(change).unwrap();
    }
    pod.space.sysctl("net/ipv4/ip_forward", "1").unwrap();
    // As systemd's udev rules do to each new link.
    node.sysctl(&format!("net/ipv4/conf/{host}/rp_filter"), "2").unwrap();
    assert_eq!(pod.check(&node), [""; 0]);
}

#[test]
fn a_hardware_address_changed_after_us_is_followed() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    pod.attach(&node).unwrap();
    pod.space.ip("link set eth0 address 02:00:00:00:00:77").unwrap();
    assert_eq!(pod.check(&node), [""; 0]);
    for address in DUAL {
        first_packet(&node, address);
    }
    first_packet(&pod.space, "192.0.2.10");
    first_packet(&pod.space, "2001:db8:1::10");
    assert!(node.ip("neigh").unwrap().matches("02:00:00:00:00:77 PERMANENT").count() == 2);
}

#[test]
fn wires_are_listed_by_their_marks() {
    let node = node();
    let pods = [Pod::new("a", &DUAL), Pod::new("b", &["10.244.3.8"]), Pod::new("c", &["fd00:244:3::9"])];
    node.ip("link add foreign type veth peer name other").unwrap();
    node.ip("link set foreign alias towpath-cnix").unwrap();
    let mut made: Vec<(u32, String, Addresses)> = pods
        .iter()
        .map(|pod| {
            let attached = pod.attach(&node).unwrap();
            (attached.host_ifindex, pod.wire.mark.clone(), pod.wire.addresses)
        })
        .collect();
    // One that an ADD has only begun.
    let begun = attachment("d", "eth0");
    node.ip(&format!("link add {} type veth peer name begun", names::host_ifname(&begun))).unwrap();
    let set_mark = ["ip", "link", "set", names::host_ifname(&begun).as_str(), "alias", &names::mark(&begun)]
        .map(str::to_owned);
    node.exec(&set_mark.each_ref().map(String::as_str)).unwrap();
    let links = node.run(|| Ok(pod::links(200))).unwrap().unwrap();
    let index = links.iter().find(|link| link.attachment == begun).unwrap().ifindex;
    made.push((index, names::mark(&begun), Addresses::default()));
    let mut found: Vec<_> =
        links.iter().map(|link| (link.ifindex, names::mark(&link.attachment), link.addresses)).collect();
    made.sort_by_key(|(index, ..)| *index);
    found.sort_by_key(|(index, ..)| *index);
    assert_eq!(found, made);
}

#[test]
fn nobody_on_the_wire_is_asked_who_he_is() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    pod.attach(&node).unwrap();
    let addresses = pod.space.ip("-6 address show dev eth0").unwrap();
    assert!(addresses.contains(DUAL[1]) && addresses.contains("fe80::"), "{addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
    for address in DUAL {
        first_packet(&node, address);
    }
    for address in ["192.0.2.10", "2001:db8:1::10"] {
        first_packet(&pod.space, address);
    }
    for space in [&node, &pod.space] {
        let counters = space.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp6")?)).unwrap();
        for counter in ["Icmp6OutNeighborSolicits", "Icmp6OutNeighborAdvertisements"] {
            let line = counters.lines().find(|line| line.split_whitespace().next() == Some(counter)).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some("0"), "{line}");
        }
    }

    // IPv4 has no such counters: with IPv4 alone the pod sends a request and an answer, and nothing else.
    let quiet = Pod::new("b", &["10.244.3.8"]);
    quiet.attach(&node).unwrap();
    first_packet(&node, "10.244.3.8");
    first_packet(&quiet.space, "192.0.2.10");
    let sent = quiet.space.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?)).unwrap();
    let eth0 = sent.lines().find(|line| line.trim_start().starts_with("eth0:")).unwrap();
    assert_eq!(eth0.split_whitespace().nth(10), Some("2"), "{sent}");
}

#[test]
fn an_address_is_reachable_at_once_for_its_next_pod() {
    let node = node();
    for id in ["a", "b", "c"] {
        let pod = Pod::new(id, &DUAL);
        pod.attach(&node).unwrap();
        for address in DUAL {
            first_packet(&node, address);
        }
        pod.detach(&node).unwrap();
    }
}

#[test]
fn names_that_mean_something_else_below_proc_sys_are_refused_and_change_nothing() {
    let (node, mut pod) = (node(), Pod::new("a", &DUAL));
    let settings = |space: &Space| {
        let grep =
            ["sh", "-c", "grep -r . /proc/sys/net/ipv[46]/conf/all /proc/sys/net/ipv[46]/conf/default"];
        String::from_utf8(space.exec(&grep).unwrap().stdout).unwrap()
    };
    let before = (remains(&node, &pod), settings(&node), settings(&pod.space));
    for name in ["all", "default"] {
        pod.wire.ifname = IfName::parse(name).unwrap();
        let refused = pod.attach(&node).unwrap_err();
        assert!(matches!(refused, PodError::Kernel(_)), "{refused}");
        assert_eq!((remains(&node, &pod), settings(&node), settings(&pod.space)), before, "{name}");
    }
}

#[test]
fn what_a_refused_attach_had_made_is_taken_back() {
    let (node, mut pod) = (node(), Pod::new("a", &DUAL));
    let before = remains(&node, &pod);
    pod.wire.sources = some(&["203.0.113.9"]);
    let refused = pod.attach(&node).unwrap_err();
    assert!(matches!(refused, PodError::Source { .. }), "{refused}");
    assert_eq!(remains(&node, &pod), before);
}

#[test]
fn pods_listen_to_no_router_and_the_node_to_no_pod() {
    // A node that does not forward IPv6 would listen to its pods.
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    node.sysctl("net/ipv6/conf/all/forwarding", "0").unwrap();
    node.sysctl("net/ipv6/conf/default/accept_ra", "1").unwrap();
    // A pod's namespace may come with IPv6 switched off and with forwarding switched on.
    pod.space.sysctl("net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    pod.space.sysctl("net/ipv6/conf/default/forwarding", "1").unwrap();
    pod.space.sysctl("net/ipv4/conf/default/forwarding", "1").unwrap();
    pod.attach(&node).unwrap();
    let read = |space: &Space, path: String| {
        space.run(|| Ok(std::fs::read_to_string(format!("/proc/sys/net/{path}"))?)).unwrap().trim().to_owned()
    };
    let host = &pod.wire.host_ifname;
    assert_eq!(read(&node, format!("ipv6/conf/{host}/accept_ra")), "0");
    for (setting, value) in
        [("forwarding", "1"), ("rp_filter", "1"), ("proxy_arp", "0"), ("route_localnet", "0")]
    {
        assert_eq!(read(&node, format!("ipv4/conf/{host}/{setting}")), value, "{setting}");
    }
    for (setting, value) in [
        ("ipv6/conf/eth0/disable_ipv6", "0"),
        ("ipv6/conf/eth0/forwarding", "0"),
        ("ipv4/conf/eth0/forwarding", "0"),
    ] {
        assert_eq!(read(&pod.space, setting.to_owned()), value, "{setting}");
    }
    first_packet(&node, DUAL[1]);
    assert_eq!(pod.check(&node), [""; 0]);
}

#[test]
fn many_pods_at_once() {
    let node = node();
    let pods: Vec<Pod> = (1..=32)
        .map(|number| {
            Pod::new(
                &format!("p{number}"),
                &[&format!("10.244.3.{number}"), &format!("fd00:244:3::{number}")],
            )
        })
        .collect();
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| pod.attach(&node).unwrap());
        }
    });
    for pod in &pods {
        pod.wire.addresses.iter().for_each(|address| first_packet(&node, &address.to_string()));
    }
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| assert!(pod.detach(&node).unwrap()));
        }
    });
    assert_eq!(node.run(|| Ok(pod::links(200))).unwrap().unwrap(), []);
    assert!(!node.ip("route").unwrap().contains("proto 200"));
}

#[test]
fn the_node_says_how_large_packets_may_be_and_from_where_it_speaks() {
    let node = node();
    let asked = || {
        node.run(|| {
            let mut asked = Node::open()?;
            Ok((asked.uplink_mtu_bytes()?, asked.sources(&some(&DUAL))?))
        })
        .unwrap()
    };
    assert_eq!(asked(), (1500, Addresses::default()), "no uplink, no way outside");

    let others = [Space::fresh().unwrap(), Space::fresh().unwrap()];
    node.link(("up0", &["198.51.100.1/24", "2001:db8:2::1/64"]), &others[0], ("eth0", &[])).unwrap();
    node.link(("up1", &["198.51.101.1/24"]), &others[1], ("eth0", &[])).unwrap();
    node.ip("link set up0 mtu 9000").unwrap();
    node.ip("link set up1 mtu 8900").unwrap();
    node.ip("link add brother type veth peer name sister").unwrap();
    node.ip("link set brother mtu 1300").unwrap();
    assert_eq!(
        asked(),
        (8900, Addresses::default()),
        "no default route: what is up and has a global address"
    );

    node.ip("route add default via 198.51.100.2 dev up0").unwrap();
    assert_eq!(asked(), (9000, some(&["198.51.100.1"])), "the default route's uplink");
    node.ip("-6 route add default via 2001:db8:2::2 dev up0").unwrap();
    assert_eq!(asked(), (9000, some(&["198.51.100.1", "2001:db8:2::1"])));
    node.ip("-6 route change default via 2001:db8:2::2 dev up0 mtu 1400").unwrap();
    assert_eq!(asked().0, 1400, "the route's own word");

    node.ip("-6 route delete default").unwrap();
    node.ip("route change default src 192.0.2.10 nexthop via 198.51.100.2 dev up0 nexthop via 198.51.101.2 dev up1")
        .unwrap();
    assert_eq!(asked(), (8900, some(&["192.0.2.10"])), "the least of several next hops");

    node.ip("route delete default").unwrap();
    node.ip("nexthop add id 1 via 198.51.100.2 dev up0").unwrap();
    node.ip("nexthop add id 2 via 198.51.101.2 dev up1").unwrap();
    node.ip("nexthop add id 9 group 1/2").unwrap();
    node.ip("route add default nhid 9 proto 199").unwrap();
    node.ip("-6 route add unreachable default metric 4294967295").unwrap();
    for (up1, compat_mode) in [(8900, "1"), (8900, "0"), (8800, "0")] {
        node.ip(&format!("link set up1 mtu {up1}")).unwrap();
        // As the daemon sets it: the kernel then names the group alone, not its members.
        node.sysctl("net/ipv4/nexthop_compat_mode", compat_mode).unwrap();
        assert_eq!(asked().0, up1, "a group of next hop objects, as the daemon installs");
    }
    // Of interfaces without an address of their own, which the fallback would not find.
    for up in ["up0", "up1"] {
        node.ip(&format!("address flush dev {up} scope global")).unwrap();
        node.ip(&format!("route replace 198.51.100.2 dev {up}")).unwrap();
    }
    node.ip("nexthop add id 3 via 198.51.100.2 dev up1 onlink").unwrap();
    node.ip("nexthop replace id 9 group 3").unwrap();
    node.ip("route replace default nhid 9 proto 199").unwrap();
    assert_eq!(asked().0, 8800, "unnumbered");
}

#[test]
fn a_route_that_bgp_still_has_for_an_address_stands_behind_the_pods() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    node.ip(&format!("route add {} dev lo proto 199 metric 20", DUAL[0])).unwrap();
    node.ip(&format!("-6 route add {} dev lo proto 199 metric 20", DUAL[1])).unwrap();
    pod.attach(&node).unwrap();
    for address in DUAL {
        first_packet(&node, address);
    }
    assert_eq!(pod.check(&node), [""; 0]);
}

#[test]
fn an_end_has_one_queue_and_not_one_for_each_processor() {
    let (node, pod) = (node(), Pod::new("a", &DUAL));
    pod.attach(&node).unwrap();
    for (space, name) in [(&node, pod.wire.host_ifname.as_str()), (&pod.space, "eth0")] {
        let link = space.ip(&format!("-d link show {name}")).unwrap();
        assert!(link.contains("numtxqueues 1 ") && link.contains("numrxqueues 1 "), "{link}");
    }
}
