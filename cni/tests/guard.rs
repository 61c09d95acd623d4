//! What a pod may send on a real kernel: only what is its own, and nothing to the node's loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "what publishes is for host ports")]
mod node;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use cni::rules;
use node::{NODE, Node, OUTSIDE, ask_tcp_within, ask_udp, serve_tcp, serve_udp};

/// Long enough for an answer, short enough to wait for none.
const SHORT: Duration = Duration::from_millis(400);
/// Long enough for any answer.
const LONG: Duration = Duration::from_secs(4);

#[test]
fn a_pod_sends_under_its_own_address_only() {
    let node = Node::new();
    let pod = node.pod(2);
    serve_udp(&node.netns, "node", 53);
    serve_udp(&node.outside, "outside", 53);
    let link = pod.netns.ip("-brief link show eth0").unwrap();
    let mac = link.split_whitespace().nth(2).unwrap();
    for address in ["10.244.0.9/32", "fd00::9/128"] {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        pod.netns.ip(&format!("address add {address} dev eth0 {nodad}")).unwrap();
        node.netns.ip(&format!("route add {address} dev twpod2")).unwrap();
        let (address, _) = address.split_once('/').unwrap();
        node.netns.ip(&format!("neigh add {address} lladdr {mac} dev twpod2 nud permanent")).unwrap();
    }
    let asks = |source: &str, at: &str, limit: Duration| {
        let socket =
            pod.netns.run(|| Ok(UdpSocket::bind((source.parse::<std::net::IpAddr>()?, 0))?)).unwrap();
        pod.netns.run(|| Ok(socket.connect((at.parse::<std::net::IpAddr>()?, 53))?)).unwrap();
        socket.set_read_timeout(Some(limit)).unwrap();
        ask_udp(&socket)
    };
    let families = [("10.244.0.2", "10.244.0.9", 0), ("fd00::2", "fd00::9", 1)];
    node.run(rules::ensure_guard).unwrap();
    for (own, second, family) in families {
        for at in [NODE[family], OUTSIDE[family]] {
            asks(own, at, LONG).unwrap_or_else(|error| panic!("{own} to {at}: {error}"));
            asks(second, at, LONG).unwrap();
        }
        // Without its route the second address is not the pod's, as far as the node knows.
        node.netns.ip(&format!("route del {second} dev twpod2")).unwrap();
        for at in [NODE[family], OUTSIDE[family]] {
            asks(own, at, LONG).unwrap_or_else(|error| panic!("{own} to {at}: {error}"));
            assert_eq!(
                asks(second, at, SHORT).unwrap_err().kind(),
                ErrorKind::WouldBlock,
                "{second} to {at}"
            );
        }
    }
    let listed = node.nft("list chain inet towpath-cni guard");
    let spoofed = listed.lines().find(|line| line.contains("fib saddr")).unwrap();
    assert!(!spoofed.contains("packets 0 "), "{listed}");
}

#[test]
fn neighbours_are_found_and_addresses_detected_through_the_guard() {
    let node = Node::new();
    let pod = node.pod(2);
    node.run(rules::ensure_guard).unwrap();
    // Nothing is permanent here: the pod asks who has fe80::1, and the node answers.
    node.netns.ip("address add fe80::1/64 dev twpod2 nodad").unwrap();
    pod.netns.ip("neigh flush dev eth0 nud permanent").unwrap();
    pod.netns.ip("address add fe80::2/64 dev eth0 nodad").unwrap();
    let ping = pod.netns.exec(&["ping", "-6", "-c", "1", "-W", "3", "fe80::1%eth0"]).unwrap();
    assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
    // Even where the link-local route is not through this interface, and without any address yet.
    node.netns.ip("route del fe80::/64 dev twpod2").unwrap();
    node.load(
        "table inet seen {
            counter arrived { }
            chain early { type filter hook prerouting priority 0; ip6 saddr fe80::/10 counter name arrived; }
        }",
    );
    pod.netns.exec(&["ping", "-6", "-c", "1", "-W", "0.2", "fe80::1%eth0"]).unwrap();
    assert!(!node.nft("list counter inet seen arrived").contains("packets 0 "));
    pod.netns.sysctl("net/ipv6/conf/eth0/accept_dad", "1").unwrap();
    pod.netns.ip("address add fe80::1/64 dev eth0").unwrap();
    meter::wait::until(Duration::from_secs(5), "the duplicate of fe80::1 to be detected", || {
        Ok(pod.netns.ip("-6 address show dev eth0")?.contains("dadfailed").then_some(()))
    })
    .unwrap();
}

/// CVE-2020-8558: route_localnet on a pod's interface opens the node's loopback to the pod.
#[test]
fn a_pod_does_not_reach_the_nodes_loopback() {
    let node = Node::new();
    let pod = node.pod(2);
    serve_tcp(&node.netns, "loopback", 8000);
    // The pod's own loopback moves out of the way, as only a pod with the right to change its network can do it.
    pod.netns.ip("address del 127.0.0.1/8 dev lo").unwrap();
    pod.netns.ip("route add 127.0.0.1 via 169.254.1.1 dev eth0 src 10.244.0.2").unwrap();
    pod.netns.sysctl("net/ipv4/conf/eth0/route_localnet", "1").unwrap();
    let asked = || ask_tcp_within(&pod.netns, "127.0.0.1", 8000, SHORT);
    assert_eq!(asked().unwrap(), "loopback 10.244.0.2", "without the guard the loopback is open");
    node.run(rules::ensure_guard).unwrap();
    assert_eq!(asked().unwrap_err().kind(), ErrorKind::TimedOut);
    // The node itself does.
    ask_tcp_within(&node.netns, "127.0.0.1", 8000, SHORT).unwrap();
}

#[test]
fn what_is_merely_named_like_ours_is_left_alone() {
    let node = Node::new();
    // The uplink becomes a port of a bridge called twbr, on which senders come that are routed elsewhere.
    node.netns.ip("link add twbr type bridge").unwrap();
    node.netns.ip("link set twbr up").unwrap();
    for address in [format!("{}/24", NODE[0]), "192.0.2.7/24".to_owned()] {
        node.netns.ip(&format!("address add {address} dev twbr")).unwrap();
    }
    node.netns.ip(&format!("address del {}/24 dev uplink", NODE[0])).unwrap();
    node.netns.ip("link set uplink master twbr").unwrap();
    node.netns.ip(&format!("route add {} dev lo", "203.0.113.9")).unwrap();
    for settings in ["all", "twbr"] {
        node.netns.sysctl(&format!("net/ipv4/conf/{settings}/rp_filter"), "0").unwrap();
    }
    node.outside.ip("address add 203.0.113.9/32 dev eth0").unwrap();
    node.run(rules::ensure_guard).unwrap();
    node.load(
        "table inet seen {
            counter arrived { }
            chain input { type filter hook input priority 0; ip saddr 203.0.113.9 counter name arrived; }
        }",
    );
    let socket = node.outside.run(|| Ok(UdpSocket::bind(("203.0.113.9", 0))?)).unwrap();
    socket.send_to(b"who?", (NODE[0], 53)).unwrap();
    meter::wait::until(Duration::from_secs(3), "a packet from elsewhere on twbr", || {
        Ok((!node.nft("list counter inet seen arrived").contains("packets 0 ")).then_some(()))
    })
    .unwrap();
}
