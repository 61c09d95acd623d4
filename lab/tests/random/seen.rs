//! What a node looks like from inside: one look with `sh`, `ip` and `/proc`.

use std::collections::BTreeMap;

use lab::{Lab, Node};

use crate::description::{SYSCTLS, TARGETS};
use crate::model::{Expected, Interface};

/// Set by the shell that looks, or of no interest.
const NOT_OURS: [&str; 6] = ["PWD", "OLDPWD", "SHLVL", "_", "PATH", "TERM"];

/// One look at a node; `peer` is filled in by [`look`], which sees all nodes.
struct Look {
    seen: Expected,
    /// Interface by ifindex, and each interface's peer by ifindex.
    indexes: BTreeMap<u32, String>,
    peers: BTreeMap<String, u32>,
}

/// All nodes of the lab, by name.
pub(crate) fn look(lab: &Lab) -> BTreeMap<String, Expected> {
    let mut looks: BTreeMap<String, Look> =
        lab.nodes().map(|node| (node.name().to_owned(), look_at(&node))).collect();
    // An ifindex is given once in a lab; nodes that share a network all see it.
    let mut ends: BTreeMap<u32, (String, String)> = BTreeMap::new();
    for (node, look) in &looks {
        let owner = lab.topology().network_owner(node);
        // The first few are every node's own: lo and the management network's eth0.
        for (index, name) in look.indexes.iter().filter(|(index, _)| **index >= 10) {
            let before = ends.insert(*index, (owner.clone(), name.clone()));
            assert!(before.is_none_or(|before| before.0 == owner), "ifindex {index} is there twice");
        }
    }
    for look in looks.values_mut() {
        for (name, interface) in &mut look.seen.interfaces {
            interface.peer = ends.get(&look.peers[name]).cloned().unwrap_or_default();
        }
    }
    looks.into_iter().map(|(name, look)| (name, look.seen)).collect()
}

fn look_at(node: &Node) -> Look {
    let files = SYSCTLS.map(|(key, _)| format!("/proc/sys/{}", key.replace('.', "/"))).join(" ");
    let script = format!(
        "echo @hostname; hostname; echo @env; tr '\\0' '\\n' < /proc/self/environ; echo @links; ip -o link; echo @addresses; \
         ip -o addr show scope global; echo @routes; ip -4 route show default; ip -6 route show default; \
         echo @hosts; cat /etc/hosts; \
         echo @order; [ ! -e /tmp/order ] || cat /tmp/order; echo @binds; for t in {}; do [ ! -e $t ] || \
         echo $t $(cat $t) $(test -w $t && echo rw || echo ro); done; echo @sysctls; cat {files}; \
         echo @conf; grep -H . /proc/sys/net/ipv4/conf/*/rp_filter",
        TARGETS.join(" ")
    );
    let output = node.exec(&["sh", "-c", &script]).unwrap();
    assert!(output.success(), "{}: {output:?}", node.name());
    let part = |name: &str| -> Vec<&str> {
        let lines = output.stdout.lines().skip_while(|line| *line != format!("@{name}")).skip(1);
        lines.take_while(|line| !line.starts_with('@')).collect()
    };
    let (interfaces, indexes, peers) = links(&part("links"));
    let keys = SYSCTLS.iter().map(|(key, _)| (*key).to_owned());
    let values = part("sysctls").into_iter().map(str::to_owned);
    let sysctls: BTreeMap<String, String> = keys.zip(values).collect();
    // `default` is given before the links are, so that it reaches them.
    for line in part("conf").iter().filter(|line| line.contains("/eth") || line.contains("/clab-")) {
        let filter = line.rsplit(':').next().unwrap();
        assert_eq!(filter, sysctls["net.ipv4.conf.default.rp_filter"], "{}: {line}", node.name());
    }
    let pair = |line: &str| -> (String, String) {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (key.to_owned(), value.to_owned())
    };
    let seen = Expected {
        hostname: part("hostname").join(""),
        env: part("env").into_iter().map(pair).filter(|(key, _)| !NOT_OURS.contains(&key.as_str())).collect(),
        interfaces,
        order: part("order").into_iter().map(str::to_owned).collect(),
        binds: part("binds")
            .into_iter()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                (words[0].to_owned(), (words[1].to_owned(), words[2] == "ro"))
            })
            .collect(),
        sysctls,
        addresses: part("addresses")
            .into_iter()
            .map(|line| words(line)[3].split('/').next().unwrap().to_owned())
            .collect(),
        gateways: part("routes").into_iter().map(|line| words(line)[2].to_owned()).collect(),
        hosts: part("hosts")
            .into_iter()
            .filter(|line| line.starts_with("172.20.20."))
            .flat_map(|line| {
                words(line)[1..]
                    .iter()
                    .map(|name| ((*name).to_owned(), words(line)[0].to_owned()))
                    .collect::<Vec<_>>()
            })
            .collect(),
        command: command(node),
    };
    Look { seen, indexes, peers }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// `12: eth1@if13: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400 ... link/ether MAC brd ... altname NAME`
fn links(lines: &[&str]) -> (BTreeMap<String, Interface>, BTreeMap<u32, String>, BTreeMap<String, u32>) {
    let (mut interfaces, mut indexes, mut devices) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut given = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| words.iter().skip_while(|w| **w != word).nth(1).copied();
        let index: u32 = words[0].trim_end_matches(':').parse().unwrap();
        let (device, peer) = words[1].trim_end_matches(':').split_once('@').unwrap_or((words[1], ""));
        if index == 1 {
            assert_eq!(device, "lo:");
            continue;
        }
        assert!(words[2].contains("UP,LOWER_UP"), "not up, or without carrier: {line}");
        let name = after("altname").unwrap_or(device).to_owned();
        let mac = after("link/ether").unwrap().to_owned();
        let interface = Interface {
            mtu: after("mtu").unwrap().parse().unwrap(),
            mac: if mac.starts_with("aa:c1:ab") { "aa:c1:ab".to_owned() } else { mac },
            peer: Default::default(),
        };
        devices.insert(device.to_owned(), index);
        indexes.insert(index, name.clone());
        given.insert(name.clone(), peer.to_owned());
        interfaces.insert(name, interface);
    }
    // In one namespace `ip` names the peer, in another one it gives the ifindex.
    let index = |peer: &str| match peer.strip_prefix("if").and_then(|index| index.parse().ok()) {
        Some(index) if !devices.contains_key(peer) => index,
        _ => devices[peer],
    };
    let peers = given.iter().map(|(name, peer)| (name.clone(), index(peer))).collect();
    (interfaces, indexes, peers)
}

/// The arguments of the main process, whose environment is that of `exec`.
fn command(node: &Node) -> Vec<String> {
    if node.spec().command.is_empty() {
        return Vec::new();
    }
    let pid = || node.pid().ok();
    lab::until(std::time::Duration::from_secs(10), || pid().is_some()).unwrap();
    let read = |file: &str| std::fs::read(format!("/proc/{}/{file}", pid().unwrap())).unwrap();
    // Between fork and exec it is still the node's process 1.
    lab::until(std::time::Duration::from_secs(10), || !read("cmdline").starts_with(b"/proc/self/exe"))
        .unwrap();
    let words = read("cmdline");
    words
        .strip_suffix(b"\0")
        .unwrap()
        .split(|b| *b == 0)
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect()
}
