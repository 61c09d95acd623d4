//! The program as `loopback`: by the configuration's type, and by the name it is called by.

mod support;

use serde_json::json;
use support::chain::reference_plugin;
use support::{Call, Node, plugin};

#[test]
fn it_answers_as_the_reference_plugin_does() {
    let reference = reference_plugin("loopback");
    let node = Node::new();
    // 1.1.0 came after the reference plugin of Debian 12.
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let (ours, theirs) = (node.pod("c1"), node.pod("c1"));
        let config = json!({"cniVersion": version, "name": "lo", "type": "loopback", "unknown": true});
        let answer = |pod, path: &std::path::Path| {
            let result = node.run(&Call::new("ADD").of(path).pod(pod, "lo").config(&config)).result();
            let text = result.to_string().replace(&pod.path, "SANDBOX");
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let mut answered = answer(&ours, &plugin());
        for ip in answered["ips"].as_array_mut().unwrap() {
            // The specification wants it before 1.0.0; the reference plugin 1.1.1 forgets it.
            assert_eq!(ip.as_object_mut().unwrap().remove("version").is_some(), version < "1.0.0");
        }
        assert_eq!(answered, answer(&theirs, &reference), "{version}");
        for (pod, path) in [(&ours, plugin()), (&theirs, reference.clone())] {
            let mut config = config.clone();
            config["prevResult"] =
                json!({"cniVersion": version, "ips": [], "dns": {"search": ["a.example"]}});
            let call = |command: &str| Call::new(command).of(&path).pod(pod, "lo").config(&config);
            let passed = node.run(&call("ADD")).result();
            assert_eq!(passed["dns"], json!({"search": ["a.example"]}), "{}", path.display());
            if version != "0.3.1" {
                assert!(node.run(&call("CHECK")).success);
                pod.netns.ip("link set lo down").unwrap();
                assert!(!node.run(&call("CHECK")).success, "{}", path.display());
                pod.netns.ip("link set lo up").unwrap();
            }
            assert!(node.run(&call("DEL")).success);
            assert!(!pod.netns.ip("-o link show lo").unwrap().contains("LOOPBACK,UP"));
            assert!(node.run(&call("DEL").variable("CNI_NETNS", "/nowhere")).success);
            assert!(node.run(&call("DEL").variable("CNI_NETNS", "")).success);
        }
    }
}

#[test]
fn its_own_name_is_enough() {
    let node = Node::new();
    let pod = node.pod("c1");
    let link = node.path("loopback");
    std::os::unix::fs::symlink(plugin(), &link).unwrap();
    let config = json!({"cniVersion": "1.1.0", "name": "lo"});
    let call = |command: &str| Call::new(command).of(&link).pod(&pod, "lo").config(&config);
    let result = node.run(&call("ADD")).result();
    assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
    node.run(&call("STATUS")).silent();
    node.run(&call("GC")).silent();
    node.run(&call("CHECK")).silent();
    let up = pod.netns.exec(&["ping", "-c", "1", "-W", "1", "127.0.0.1"]).unwrap();
    assert!(up.status.success());
}
