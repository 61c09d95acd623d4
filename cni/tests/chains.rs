//! The plugin at the head of chains with the reference plugins.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use serde_json::{Value, json};
use support::chain::{Chain, reference_plugin};
use support::{Node, plugin};

/// Versions that Debian's reference plugins speak beside us.
const VERSIONS: [&str; 3] = ["0.3.1", "0.4.0", "1.0.0"];

fn ours(node: &Node) -> (std::path::PathBuf, Value) {
    (plugin(), node.config("1.0.0", json!({"blocks": ["10.244.3.0/24", "fd00:244:3::/64"]})))
}

fn tidy(node: &Node, chain: &Chain, version: &str, keeps_check: bool) -> Value {
    let pod = node.pod("c1");
    let result = chain.add(node, &pod).unwrap_or_else(|answer| panic!("{version}: {answer:?}"));
    if version != "0.3.1" && keeps_check {
        let complaints = chain.check(node, &pod, &result);
        assert!(complaints.is_empty(), "{version}: {complaints:?}");
    }
    let previous = (version != "0.3.1").then_some(&result);
    let failed = chain.del(node, &pod, previous);
    assert!(failed.is_empty(), "{version}: {failed:?}");
    let links = node.netns.ip("-o link").unwrap();
    assert!(!links.contains(": tw"), "{links}");
    result
}

#[test]
fn bandwidth_finds_the_host_interface_in_our_result() {
    let node = Node::new();
    for version in VERSIONS {
        let limit = json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 80_000,
            "egressRate": 8_000_000, "egressBurst": 80_000});
        let plugins = vec![ours(&node), (reference_plugin("bandwidth"), limit)];
        let result = tidy(&node, &Chain::new(version, plugins, json!({})), version, true);
        // bandwidth tells of its ifb behind ours.
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3, "{result}");
    }
}

#[test]
fn portmap_finds_the_pods_addresses_in_our_result() {
    let node = Node::new();
    for version in VERSIONS {
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": false});
        let plugins = vec![ours(&node), (reference_plugin("portmap"), portmap)];
        let asked = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
        // portmap 1.1.1 looks for both families' rules in one of them: its CHECK fails for every dual-stack pod.
        tidy(&node, &Chain::new(version, plugins, asked), version, false);
    }
}

#[test]
fn tuning_may_change_the_hardware_address_and_check_still_holds() {
    let node = Node::new();
    for version in VERSIONS {
        let tuning = json!({"type": "tuning", "mac": "02:00:00:00:00:99", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}});
        let plugins = vec![ours(&node), (reference_plugin("tuning"), tuning)];
        let result = tidy(&node, &Chain::new(version, plugins, json!({})), version, true);
        assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:99", "{result}");
    }
}

#[test]
fn our_own_capabilities_arrive_only_when_listed() {
    let node = Node::new();
    let (path, mut config) = ours(&node);
    let asked = json!({"ips": ["10.244.3.77"], "mac": "02:00:00:00:00:77"});
    let plain = Chain::new("1.0.0", vec![(path.clone(), config.clone())], asked.clone());
    assert_ne!(tidy(&node, &plain, "1.0.0", true)["ips"][0]["address"], "10.244.3.77/32");
    config["capabilities"] = json!({"ips": true, "mac": true});
    let listed = Chain::new("1.0.0", vec![(path, config)], asked);
    let result = tidy(&node, &listed, "1.0.0", true);
    assert_eq!(result["ips"][0]["address"], "10.244.3.77/32");
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:77");
}

#[test]
fn behind_another_plugin_its_result_comes_first() {
    let node = Node::new();
    let loopback = json!({"type": "loopback"});
    let plugins = vec![(reference_plugin("loopback"), loopback), ours(&node)];
    let result = tidy(&node, &Chain::new("1.0.0", plugins, json!({})), "1.0.0", true);
    let interfaces: Vec<&Value> =
        result["ips"].as_array().unwrap().iter().map(|ip| &ip["interface"]).collect();
    assert_eq!(interfaces, [0, 0, 2, 2].map(Value::from).iter().collect::<Vec<_>>(), "{result}");
}
