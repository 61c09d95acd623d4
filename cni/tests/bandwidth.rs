//! Rate limits on a real kernel: what is sent through a pod's wire, in octets over seconds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "what serves and asks is for host ports")]
mod node;

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use cni::IfName;
use cni::bandwidth::{self, Ifb};
use cni::spec::runtime::{Bandwidth, Rate};
use meter::netns::Netns;
use node::{NODE, Node, OUTSIDE, Pod};

const MARK: &str = "towpath-cni network container eth0";
const MTU: u32 = 1500;

fn rate(bits_per_second: u64, burst_bits: u64) -> Rate {
    Rate { bits_per_second, burst_bits }
}

fn ifb() -> IfName {
    IfName::parse("tiabcdefghijklm").unwrap()
}

fn shape(node: &Node, pod: &Pod, bandwidth: &Bandwidth) {
    node.run(|| bandwidth::shape(&pod.host_ifname, &ifb(), MARK, MTU, bandwidth)).unwrap();
    assert_eq!(check(node, pod, bandwidth), [] as [String; 0]);
}

fn check(node: &Node, pod: &Pod, bandwidth: &Bandwidth) -> Vec<String> {
    node.run(|| bandwidth::check(&pod.host_ifname, &ifb(), MTU, bandwidth)).unwrap()
}

/// Octets per second that arrive, over one second and a half and without the first half second, which the burst and
/// the start of TCP make faster and slower.
fn throughput(from: &Netns, to: &Netns, address: &str) -> f64 {
    let listener = to.run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?)).unwrap();
    let at = SocketAddr::new(address.parse().unwrap(), listener.local_addr().unwrap().port());
    let mut sender = from.run(|| Ok(TcpStream::connect_timeout(&at, Duration::from_secs(3))?)).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    std::thread::spawn(move || while sender.write_all(&[0; 1 << 14]).is_ok() {});
    let mut buffer = vec![0; 1 << 16];
    let (started, mut octets) = (Instant::now(), 0);
    let mut measured_from = None;
    loop {
        let read = receiver.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the sender hung up");
        let now = Instant::now();
        match measured_from {
            None if now - started > Duration::from_millis(500) => measured_from = Some(now),
            None => {}
            Some(begin) => {
                octets += read;
                if now - begin > Duration::from_millis(1500) {
                    return octets as f64 / (now - begin).as_secs_f64();
                }
            }
        }
    }
}

#[test]
fn both_directions_are_as_fast_as_asked_and_no_faster() {
    let node = Node::new();
    let pod = node.pod(2);
    // 8 and 16 Mbit/s are 1 and 2 million octets a second.
    let both = Bandwidth { ingress: Some(rate(8_000_000, 400_000)), egress: Some(rate(16_000_000, 400_000)) };
    shape(&node, &pod, &both);
    for (pod_address, outside) in [("10.244.0.2", OUTSIDE[0]), ("fd00::2", OUTSIDE[1])] {
        let towards = throughput(&node.outside, &pod.netns, pod_address);
        assert!((0.8e6..1.2e6).contains(&towards), "towards {pod_address}: {towards} octets/s");
        let from = throughput(&pod.netns, &node.outside, outside);
        assert!((1.6e6..2.4e6).contains(&from), "from {pod_address}: {from} octets/s");
    }
    let to_node = throughput(&pod.netns, &node.netns, NODE[0]);
    assert!((1.6e6..2.4e6).contains(&to_node), "to the node: {to_node} octets/s");
}

#[test]
fn what_is_not_limited_stays_fast() {
    let node = Node::new();
    let pod = node.pod(2);
    shape(&node, &pod, &Bandwidth { ingress: Some(rate(8_000_000, 400_000)), egress: None });
    assert!(throughput(&pod.netns, &node.outside, OUTSIDE[0]) > 10e6);
    assert!(!node.run(|| bandwidth::unshape(&ifb())).unwrap(), "an ifb without need");
}

#[test]
fn shaping_again_changes_only_the_rate() {
    let node = Node::new();
    let pod = node.pod(2);
    let first =
        Bandwidth { ingress: Some(rate(8_000_000, 400_000)), egress: Some(rate(16_000_000, 400_000)) };
    shape(&node, &pod, &first);
    shape(&node, &pod, &first);
    let second =
        Bandwidth { ingress: Some(rate(80_000_000, 800_000)), egress: Some(rate(60_000_000_000, 1 << 34)) };
    assert_eq!(check(&node, &pod, &second).len(), 2);
    shape(&node, &pod, &second);
    assert_eq!(node.run(bandwidth::links).unwrap(), [Ifb { name: ifb(), mark: MARK.to_owned() }]);
    let filters = node.run(|| tc("filter show dev twpod2 ingress"));
    assert_eq!(filters.matches("mirred").count(), 1, "{filters}");
    let bucket = node.run(|| tc("qdisc show dev twpod2"));
    assert!(bucket.contains("rate 80Mbit burst 100000b lat 25ms"), "{bucket}");
}

/// `tc ARGUMENTS` in the calling thread's network namespace.
fn tc(arguments: &str) -> String {
    let output = std::process::Command::new("tc").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "tc {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_check_notices_each_missing_piece() {
    let node = Node::new();
    let pod = node.pod(2);
    let both = Bandwidth { ingress: Some(rate(8_000_000, 400_000)), egress: Some(rate(16_000_000, 400_000)) };
    let name = ifb();
    for (damage, told) in [
        ("tc qdisc del dev twpod2 root", "twpod2 has no rate limit (tbf)"),
        (
            "tc qdisc replace dev twpod2 root handle 1: tbf rate 9mbit burst 50000 latency 25ms",
            "twpod2 is limited to 1125000 octets per second",
        ),
        ("tc qdisc del dev twpod2 clsact", "what arrives on twpod2 is not redirected to tiabcdefghijklm"),
        ("tc qdisc del dev tiabcdefghijklm root", "tiabcdefghijklm has no rate limit (tbf)"),
        ("ip link set tiabcdefghijklm down", "tiabcdefghijklm is down"),
        ("ip link del tiabcdefghijklm", "there is no interface tiabcdefghijklm"),
        ("ip link del twpod2", "there is no interface twpod2"),
    ] {
        shape(&node, &pod, &both);
        let argv: Vec<&str> = damage.split_whitespace().collect();
        assert!(node.netns.exec(&argv).unwrap().status.success(), "{damage}");
        let differences = check(&node, &pod, &both);
        assert!(
            differences.iter().any(|difference| difference.starts_with(told)),
            "{damage}: {differences:?}"
        );
    }
    let absent = node.run(|| bandwidth::shape(&pod.host_ifname, &name, MARK, MTU, &both)).unwrap_err();
    assert!(absent.to_string().contains("there is no interface twpod2"), "{absent}");
}

#[test]
fn wire_and_ifb_go_together_and_nothing_else() {
    let node = Node::new();
    let (pod, neighbour) = (node.pod(2), node.pod(3));
    let both = Bandwidth { ingress: Some(rate(8_000_000, 400_000)), egress: Some(rate(16_000_000, 400_000)) };
    shape(&node, &pod, &both);
    let other = IfName::parse("tinopqrstuvwxyz").unwrap();
    node.run(|| bandwidth::shape(&neighbour.host_ifname, &other, MARK, MTU, &both)).unwrap();
    let started = Instant::now();
    assert!(node.run(|| bandwidth::remove(&pod.host_ifname, &ifb())).unwrap());
    println!("removed both in {:?}", started.elapsed());
    assert!(!node.run(|| bandwidth::remove(&pod.host_ifname, &ifb())).unwrap());
    let links = node.netns.ip("-brief link").unwrap();
    for (name, there) in
        [("twpod2", false), ("tiabc", false), ("twpod3", true), ("tinop", true), ("uplink", true)]
    {
        assert_eq!(links.contains(name), there, "{name}: {links}");
    }
    // Half of it is there: the pod's namespace took the wire along.
    node.netns.ip("link del twpod3").unwrap();
    assert!(node.run(|| bandwidth::remove(&neighbour.host_ifname, &other)).unwrap());
    assert_eq!(node.run(bandwidth::links).unwrap(), []);
    // What only has the name is not ours.
    let third = node.pod(4);
    node.netns.ip("link set twpod4 alias somebody").unwrap();
    let refused = node.run(|| bandwidth::remove(&third.host_ifname, &other)).unwrap_err().to_string();
    assert_eq!(refused, "interface twpod4 is not ours (its alias is \"somebody\"): rename or remove it");
}

#[test]
fn a_burst_smaller_than_a_packet_still_lets_packets_through() {
    let node = Node::new();
    let pod = node.pod(2);
    shape(&node, &pod, &Bandwidth { ingress: Some(rate(8_000_000, 8)), egress: Some(rate(8_000_000, 8)) });
    let towards = throughput(&node.outside, &pod.netns, "10.244.0.2");
    assert!((0.5e6..1.2e6).contains(&towards), "{towards} octets/s");
}
