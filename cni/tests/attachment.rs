//! ADD, CHECK, DEL and GC of the real program on a real kernel.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use serde_json::{Value, json};
use support::{Answer, Call, Node, Pod};

const BLOCKS: [&str; 2] = ["10.244.3.0/24", "fd00:244:3::/64"];

fn config(node: &Node, version: &str) -> Value {
    node.config(version, json!({"blocks": BLOCKS}))
}

/// A runtime's memory of an ADD, given back to CHECK and DEL.
fn with_result(config: &Value, result: &Value) -> Value {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    config
}

fn pings(pod: &Pod, address: &str) -> bool {
    let output = pod.netns.exec(&["ping", "-c", "1", "-W", "1", address]).unwrap();
    output.status.success()
}

/// The addresses of a result, without prefix lengths.
fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_pod_of_each_version_is_added_checked_and_deleted_without_a_trace() {
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let node = Node::new();
        let pod = node.pod("c1");
        let config = config(&node, version);
        // The guard against spoofing and the ledger stay on the node for good.
        let other = node.pod("c0");
        node.call("ADD", &other, &config).result();
        node.call("DEL", &other, &config).silent();
        let before = (node.remains(), pod.remains());

        let result = node.call("ADD", &pod, &config).result();
        let text = result.to_string();
        assert_eq!(result["cniVersion"], version);
        let interfaces = result["interfaces"].as_array().unwrap();
        assert!(interfaces[0]["name"].as_str().unwrap().starts_with("tw"), "{text}");
        assert!(interfaces[0].get("sandbox").is_none(), "{text}");
        assert_eq!((&interfaces[1]["name"], &interfaces[1]["sandbox"]), (&json!("eth0"), &json!(pod.path)));
        assert_eq!(interfaces[1].get("mtu").is_some(), version == "1.1.0", "{text}");
        for ip in result["ips"].as_array().unwrap() {
            assert_eq!(ip["interface"], 1, "{text}");
            assert_eq!(ip.get("version").is_some(), version.starts_with('0'), "{text}");
        }
        assert_eq!(result["routes"].as_array().unwrap().len(), 2, "{text}");
        for address in addresses(&result) {
            let output = node.netns.exec(&["ping", "-c", "1", "-W", "1", &address]).unwrap();
            assert!(output.status.success(), "{address}: {output:?}");
        }

        let again = with_result(&config, &result);
        if version != "0.3.1" {
            node.call("CHECK", &pod, &again).silent();
            assert_eq!(node.call("CHECK", &pod, &config).refusal().0, 7, "CHECK without prevResult");
        }
        node.call("DEL", &pod, &again).silent();
        assert_eq!((node.remains(), pod.remains()), before, "{version}");
    }
}

#[test]
fn pods_of_one_node_reach_each_other_and_have_addresses_of_their_own() {
    let node = Node::new();
    node.netns.sysctl("net/ipv4/ip_forward", "1").unwrap();
    node.netns.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    let (one, two) = (node.pod("c1"), node.pod("c2"));
    let config = config(&node, "1.0.0");
    let first = node.call("ADD", &one, &config).result();
    let second = node.call("ADD", &two, &config).result();
    for (from, to) in [(&one, &second), (&two, &first)] {
        for address in addresses(to) {
            assert!(pings(from, &address), "{address}");
        }
    }
    assert!(addresses(&first).iter().all(|address| !addresses(&second).contains(address)));
}

#[test]
fn a_second_add_is_refused_and_touches_nothing() {
    let node = Node::new();
    let pod = node.pod("c1");
    let config = config(&node, "1.0.0");
    let result = node.call("ADD", &pod, &config).result();
    let before = (node.remains(), pod.remains());
    let (code, msg) = node.call("ADD", &pod, &config).refusal();
    assert_eq!(code, 101, "{msg}");
    assert!(msg.contains("c1") && msg.contains("DEL"), "{msg}");
    assert_eq!((node.remains(), pod.remains()), before);
    node.call("CHECK", &pod, &with_result(&config, &result)).silent();
}

#[test]
fn an_interface_of_somebody_else_stays_and_its_pod_gets_no_address() {
    let node = Node::new();
    let pod = node.pod("c1");
    pod.netns.ip("link add eth0 type veth peer name other").unwrap();
    let config = config(&node, "1.0.0");
    let (before, in_pod) = (pod.remains(), node.netns.ip("-o link").unwrap());
    let (code, msg) = node.call("ADD", &pod, &config).refusal();
    assert_eq!(code, 101, "{msg}");
    assert_eq!((pod.remains(), node.netns.ip("-o link").unwrap()), (before, in_pod));
    pod.netns.ip("link delete eth0").unwrap();
    node.call("ADD", &pod, &config).result();
}

#[test]
fn paths_that_are_no_namespace_are_refused_and_leave_nothing() {
    let node = Node::new();
    let pod = node.pod("c1");
    let config = config(&node, "1.0.0");
    let file = node.path("regular");
    std::fs::write(&file, "").unwrap();
    let add = |path: &str| {
        let call = Call::new("ADD").pod(&pod, "eth0").config(&config).variable("CNI_NETNS", path);
        let (code, msg) = node.run(&call).refusal();
        assert_eq!(code, 8, "{msg}");
        assert!(msg.contains("CNI_NETNS"), "{msg}");
    };
    let before = node.remains();
    add(file.to_str().unwrap());
    add(node.path("missing").to_str().unwrap());
    add("/proc/self/ns/mnt");
    add("/proc/self/ns/net");
    assert_eq!(node.remains(), before);
}

#[test]
fn del_succeeds_whatever_is_missing() {
    let node = Node::new();
    let pod = node.pod("c1");
    let config = config(&node, "1.0.0");
    let del = || Call::new("DEL").pod(&pod, "eth0").config(&config);
    node.run(&del()).silent();
    node.run(&del().variable("CNI_NETNS", "")).silent();
    node.run(&del().variable("CNI_NETNS", "/nowhere/at/all")).silent();
    node.run(&del().variable("CNI_ARGS", "nonsense")).silent();
    let mut broken = config.clone();
    broken["blocks"] = json!("edited badly since");
    broken["prevResult"] = json!([1, 2]);
    broken["surprise"] = json!(true);
    node.run(&del().config(&broken)).silent();

    // Deleted before, so that what began before must not be added; what begins now may.
    let result = node.call("ADD", &pod, &config).result();
    assert_eq!(addresses(&result).len(), 2);
    node.run(&del().variable("CNI_NETNS", "").config(&broken)).silent();
    let links = node.netns.ip("-o link").unwrap();
    assert!(!links.contains("tw"), "{links}");
    node.run(&del()).silent();
}

#[test]
fn del_after_the_namespace_went_gives_the_address_back() {
    let node = Node::new();
    let config = node.config("1.0.0", json!({"blocks": ["10.244.3.0/31"]}));
    for round in 0..3 {
        let ids = [format!("a{round}"), format!("b{round}")];
        for id in &ids {
            let pod = node.pod(id);
            node.call("ADD", &pod, &config).result();
            // The pod's namespace goes here, and its wire with it, in the kernel's own time.
        }
        for id in ids {
            let call = Call::new("DEL")
                .config(&config)
                .variable("CNI_CONTAINERID", &id)
                .variable("CNI_IFNAME", "eth0");
            node.run(&call).silent();
        }
    }
}

#[test]
fn an_exhausted_block_is_told_with_counts_and_leaves_nothing() {
    let node = Node::new();
    let config = node.config("1.0.0", json!({"blocks": ["10.244.3.0/31"]}));
    let pods: Vec<Pod> = (0..3).map(|number| node.pod(&format!("c{number}"))).collect();
    node.call("ADD", &pods[0], &config).result();
    node.call("ADD", &pods[1], &config).result();
    let before = (node.remains(), pods[2].remains());
    let answer = node.call("ADD", &pods[2], &config);
    let (code, msg) = answer.refusal();
    assert_eq!(code, 11, "{msg}");
    assert!(answer.stdout.contains("10.244.3.0/31: 2 of 2"), "{}", answer.stdout);
    assert_eq!((node.remains(), pods[2].remains()), before);
    node.call("DEL", &pods[0], &config).silent();
    node.call("ADD", &pods[2], &config).result();
}

#[test]
fn static_addresses_come_from_capabilities_arguments_or_environment() {
    let node = Node::new();
    let pod = node.pod("c1");
    let add = |keys: Value, args: &str| -> Answer {
        let mut config = config(&node, "1.0.0");
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        let call = Call::new("ADD").pod(&pod, "eth0").config(&config).variable("CNI_ARGS", args);
        let answer = node.run(&call);
        if answer.success {
            node.call("DEL", &pod, &config).silent();
        }
        answer
    };
    let runtime = json!({"ips": ["10.244.3.20/24", "fd00:244:3::20"], "mac": "02:00:00:00:00:20"});
    let both = json!({"runtimeConfig": runtime, "args": {"cni": {"ips": ["10.244.3.30"]}}});
    let result = add(both, "IP=10.244.3.40").result();
    assert_eq!(addresses(&result), ["10.244.3.20", "fd00:244:3::20"]);
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:20");
    let args = json!({"args": {"cni": {"ips": ["10.244.3.30"]}}});
    assert_eq!(addresses(&add(args, "IP=10.244.3.40").result())[0], "10.244.3.30");
    let ignored = "IgnoreUnknown=1;K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;IP=10.244.3.40";
    assert_eq!(addresses(&add(json!({}), ignored).result())[0], "10.244.3.40");

    let outside = json!({"runtimeConfig": {"ips": ["192.0.2.7"]}});
    let (code, msg) = add(outside.clone(), "").refusal();
    assert_eq!(code, 7, "{msg}");
    assert!(msg.contains("192.0.2.7") && msg.contains("foreignAddresses"), "{msg}");
    let allowed = json!({"runtimeConfig": {"ips": ["192.0.2.7"]}, "foreignAddresses": "Allow"});
    assert_eq!(addresses(&add(allowed, "").result())[0], "192.0.2.7");

    let holder = node.pod("holder");
    let config = config(&node, "1.0.0");
    let call = Call::new("ADD").pod(&holder, "eth0").config(&config).variable("CNI_ARGS", "IP=10.244.3.50");
    node.run(&call).result();
    let (code, msg) = add(json!({}), "IP=10.244.3.50").refusal();
    assert_eq!(code, 100, "{msg}");
    assert!(msg.contains("holder"), "{msg}");
}

#[test]
fn a_node_of_one_family_gives_addresses_of_that_family() {
    for block in BLOCKS {
        let node = Node::new();
        let pod = node.pod("c1");
        let config = node.config("1.0.0", json!({"blocks": [block]}));
        let result = node.call("ADD", &pod, &config).result();
        assert_eq!(
            (addresses(&result).len(), result["routes"].as_array().unwrap().len()),
            (1, 1),
            "{result}"
        );
        node.call("CHECK", &pod, &with_result(&config, &result)).silent();
        node.call("DEL", &pod, &config).silent();
    }
}

#[test]
fn the_daemons_ready_file_gives_blocks_addresses_and_mtu() {
    let node = Node::new();
    let (pod, ready) = (node.pod("c1"), node.path("ready"));
    let config = node.config("1.1.0", json!({"readyFile": ready}));
    let (code, msg) = node.call("ADD", &pod, &config).refusal();
    assert_eq!(code, 11, "{msg}");
    let file = json!({"bootID": "boot-1", "state": "Ready", "blocks": ["10.244.9.0/24"], "mtu": 9000});
    std::fs::write(&ready, file.to_string()).unwrap();
    let result = node.call("ADD", &pod, &config).result();
    assert!(addresses(&result)[0].starts_with("10.244.9."), "{result}");
    assert_eq!(result["interfaces"][1]["mtu"], 9000);
}

#[test]
fn resolver_settings_of_the_runtime_come_before_those_of_the_network() {
    let node = Node::new();
    let (one, two) = (node.pod("c1"), node.pod("c2"));
    let mut config = config(&node, "1.0.0");
    config["dns"] = json!({"nameservers": ["192.0.2.53"], "domain": "a.example"});
    assert_eq!(node.call("ADD", &one, &config).result()["dns"], config["dns"]);
    config["runtimeConfig"] = json!({"dns": {"servers": ["192.0.2.54"], "searches": ["b.example"]}});
    let expected = json!({"nameservers": ["192.0.2.54"], "search": ["b.example"]});
    assert_eq!(node.call("ADD", &two, &config).result()["dns"], expected);
}

#[test]
fn a_container_has_as_many_attachments_as_it_is_given() {
    let node = Node::new();
    let pod = node.pod("c1");
    let config = config(&node, "1.0.0");
    let mut other = config.clone();
    other["name"] = json!("storage");
    let first = node.run(&Call::new("ADD").pod(&pod, "eth0").config(&config)).result();
    let second = node.run(&Call::new("ADD").pod(&pod, "net1").config(&config)).result();
    let third = node.run(&Call::new("ADD").pod(&pod, "net2").config(&other)).result();
    let all: Vec<String> = [&first, &second, &third].into_iter().flat_map(addresses).collect();
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 6, "{all:?}");
    assert_eq!(first["routes"].as_array().unwrap().len(), 2, "{first}");
    assert!(second.get("routes").is_none() && third.get("routes").is_none(), "{second} {third}");
    let route = pod.netns.ip("route get 203.0.113.1").unwrap();
    assert!(route.contains("dev eth0"), "{route}");
    node.run(&Call::new("CHECK").pod(&pod, "net1").config(&with_result(&config, &second))).silent();
    node.run(&Call::new("DEL").pod(&pod, "net1").config(&config)).silent();
    node.run(&Call::new("CHECK").pod(&pod, "eth0").config(&with_result(&config, &first))).silent();
    node.run(&Call::new("CHECK").pod(&pod, "net2").config(&with_result(&other, &third))).silent();
}

#[test]
fn check_names_what_is_missing() {
    let node = Node::new();
    let pod = node.pod("c1");
    let config = config(&node, "1.0.0");
    let result = node.call("ADD", &pod, &config).result();
    let config = with_result(&config, &result);
    let address = &addresses(&result)[0];
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    node.call("CHECK", &pod, &config).silent();
    node.netns.ip(&format!("route delete {address} dev {host}")).unwrap();
    let (code, msg) = node.call("CHECK", &pod, &config).refusal();
    assert_eq!(code, 104, "{msg}");
    assert!(msg.contains(address.as_str()), "{msg}");

    let stranger = node.pod("c2");
    let (code, msg) = node.call("CHECK", &stranger, &config).refusal();
    assert_eq!(code, 104, "{msg}");
    assert!(msg.contains("no address is leased"), "{msg}");
}

fn gc(node: &Node, config: &Value, valid: Option<Value>) -> Answer {
    let mut config = config.clone();
    if let Some(valid) = valid {
        config["cni.dev/valid-attachments"] = valid;
    }
    node.run(&Call::new("GC").config(&config))
}

#[test]
fn gc_keeps_what_is_listed_and_takes_the_rest_of_its_network() {
    let node = Node::new();
    let config = config(&node, "1.1.0");
    let mut other = config.clone();
    other["name"] = json!("other");
    let pods: Vec<Pod> = (0..3).map(|number| node.pod(&format!("c{number}"))).collect();
    let kept = node.call("ADD", &pods[0], &config).result();
    node.call("ADD", &pods[1], &config).result();
    let foreign = node.call("ADD", &pods[2], &other).result();
    let links = || node.netns.ip("-o link").unwrap().matches(": tw").count();
    let before = node.remains();
    gc(&node, &config, None).silent();
    assert_eq!(node.remains(), before, "a GC without a list removed something");
    gc(&node, &config, Some(json!([{"containerID": "c0", "ifname": "eth0"}]))).silent();
    assert_eq!(links(), 2);
    node.call("CHECK", &pods[0], &with_result(&config, &kept)).silent();
    node.call("CHECK", &pods[2], &with_result(&other, &foreign)).silent();
    gc(&node, &config, Some(json!([]))).silent();
    assert_eq!(links(), 1);
    node.call("ADD", &pods[1], &config).result();
}

#[test]
fn rows_of_an_earlier_boot_are_stale_and_their_late_del_hits_nobody() {
    let node = Node::new();
    let config = node.config("1.0.0", json!({"blocks": ["10.244.3.0/31"]}));
    let (old, new) = (node.pod("old"), [node.pod("new0"), node.pod("new1")]);
    let before = node.call("ADD", &old, &config).result();
    let host = before["interfaces"][0]["name"].as_str().unwrap();
    node.netns.ip(&format!("link delete {host}")).unwrap();
    std::fs::write(node.path("boot_id"), "boot-2\n").unwrap();
    let results = new.each_ref().map(|pod| node.call("ADD", pod, &config).result());
    node.call("DEL", &old, &config).silent();
    for (pod, result) in new.iter().zip(&results) {
        node.call("CHECK", pod, &with_result(&config, result)).silent();
    }
    let (code, _) = node.call("ADD", &old, &config).refusal();
    assert_eq!(code, 11);
}

#[test]
fn a_drained_node_adds_no_pods_and_ends_those_it_has() {
    let node = Node::new();
    let (running, late) = (node.pod("c1"), node.pod("c2"));
    let ready = node.path("ready");
    let config = node.config("1.0.0", json!({"blocks": BLOCKS, "readyFile": ready}));
    // Before the daemon has written it, pods may start: a runtime that asks STATUS does not let them.
    node.call("ADD", &running, &config).result();
    std::fs::write(&ready, json!({"bootID": "boot-1", "state": "Drained"}).to_string()).unwrap();
    let before = (node.remains(), late.remains());
    let (code, msg) = node.call("ADD", &late, &config).refusal();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains("the node is drained"), "{msg}");
    assert_eq!((node.remains(), late.remains()), before);
    node.call("DEL", &running, &config).silent();
    assert!(!node.remains().contains(": tw"), "{}", node.remains());
}
