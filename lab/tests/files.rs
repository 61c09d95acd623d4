//! Topology files: what good ones mean, and what is said about bad ones.

use std::path::Path;

use lab::{Network, Phase, RestartPolicy, Stage, Target, Topology};

fn parse(text: &str) -> Result<Topology, lab::FileError> {
    let lookup = |name: &str| match name {
        "IMG" => Some("alpine:3".to_owned()),
        "D" => Some("{kind: linux, image: alpine, network-mode: none, cmd: sleep infinity}".to_owned()),
        _ => None,
    };
    Topology::parse(text, Path::new("/lab/topo.clab.yml"), &lookup)
}

/// A topology of one node `n`, whose settings are `fields`.
fn node(fields: &str) -> String {
    format!(
        "name: x\ntopology:\n nodes:\n  n: {{kind: linux, image: alpine, network-mode: none, {fields}}}\n"
    )
}

/// A topology of two nodes `a` and `b`, with `links`.
fn linked(links: &str) -> String {
    format!("name: x\ntopology:\n defaults: $D\n nodes: {{a: , b: }}\n links:\n{links}\n")
}

/// A topology of two nodes `a` and `b` in which `stages` gives the stages of one or both.
fn waiting(stages: &str) -> String {
    let mut nodes = String::new();
    for name in ["a", "b"] {
        let own = stages.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
        nodes += &format!("  {name}: {{stages: {}}}\n", own.unwrap_or("{}"));
    }
    format!(
        "name: x\ntopology:\n defaults: {{kind: linux, image: alpine, network-mode: none}}\n\n nodes:\n{nodes}"
    )
}

#[test]
fn waits_may_cross_but_not_run_in_a_circle() {
    // Each waits for the other, at stages that can end.
    let good = "a: {configure: {wait-for: [{node: b, stage: create-links}]}}
                b: {create: {wait-for: [{node: a, stage: create}]}}";
    let topology = parse(&waiting(good)).unwrap();
    assert_eq!(topology.nodes["b"].stages[&Stage::Create].wait_for[0].to_string(), "a create");
    let bad = "a: {create-links: {wait-for: [{node: b, stage: configure}]}}
               b: {create: {wait-for: [{node: a, stage: configure}]}}";
    let error = parse(&waiting(bad)).unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    let circle = "a create-links waits for b configure, that for b create-links, that for b create, \
                  that for a configure, that for a create-links";
    assert!(error.problems[0].text.contains(circle), "{error}");
}

#[test]
fn stages_of_all_levels_are_appended_and_single_values_taken_from_the_nearest() {
    let text = "name: x
topology:
 defaults: {kind: linux, image: alpine, network-mode: none, restart-policy: always, startup-delay: 1,
  healthcheck: {test: [CMD, d]}, tmpfs: {/a: size=1m, /b: size=2m}, stages: {configure: {exec: [{command: echo d}, {command: echo s}]}}}
 kinds: {linux: {stages: {configure: {exec: [{command: echo s, phase: on-exit}]}}}}
 groups: {g: {restart-policy: on-failure:3, healthcheck: {test: [CMD-SHELL, g], interval: 2, timeout: 3, retries: 4, start-period: 5}}}
 nodes:
  m: {stages: {}, healthcheck: {test: [NONE]}}
  n: {group: g, startup-delay: 2, tmpfs: {/a: size=3m}, stages: {configure: {exec: [{command: echo __clabNodeName__, target: host}]}}}
";
    let topology = parse(text).unwrap();
    let node = &topology.nodes["n"];
    let configure = &node.stages[&Stage::Configure];
    let exec: Vec<_> = configure.exec.iter().map(|one| (one.argv.join(" "), one.target, one.phase)).collect();
    let row = |text: &str, target, phase| (text.to_owned(), target, phase);
    assert_eq!(
        exec,
        [
            row("echo d", Target::Container, Phase::OnEnter),
            row("echo s", Target::Container, Phase::OnEnter),
            row("echo s", Target::Container, Phase::OnExit),
            row("echo n", Target::Host, Phase::OnEnter),
        ]
    );
    let seconds = std::time::Duration::from_secs;
    assert_eq!((node.restart, node.startup_delay), (RestartPolicy::OnFailure(Some(3)), seconds(2)));
    let check = node.healthcheck.clone().unwrap();
    assert_eq!(check.argv, ["/bin/sh", "-c", "g"]);
    assert_eq!((check.interval, check.timeout, check.retries), (seconds(2), seconds(3), 4));
    assert_eq!(check.start_period, seconds(5));
    let tmpfs: Vec<_> =
        node.tmpfs.iter().map(|(path, options)| (path.to_str().unwrap(), options.as_str())).collect();
    assert_eq!(tmpfs, [("/a", "size=3m"), ("/b", "size=2m")]);
    let m = &topology.nodes["m"];
    assert_eq!((m.restart, m.healthcheck.is_none()), (RestartPolicy::Always, true));
}

#[test]
fn levels_inherit_as_in_containerlab() {
    let text = r#"
name: t2
topology:
 defaults: {kind: linux, image: $IMG, network-mode: none, cmd: sleep infinity, env: {A: d, B: d}, binds: ["/etc:/x"], exec: [echo d, echo s]}
 kinds: {linux: {env: {A: k, C: k}, exec: [echo k, echo s]}}
 groups: {g: {env: {A: g}, binds: ["/usr:/x:ro"], exec: [echo g]}}
 nodes: {n: {group: g, env: {B: n, N: 010, Y: yes}, labels: {a.b-c: v}, exec: [echo d, echo n]}}
"#;
    let topology = parse(text).unwrap();
    let node = &topology.nodes["n"];
    let exec: Vec<String> = node.exec.iter().map(|words| words.join(" ")).collect();
    assert_eq!(exec, ["echo d", "echo s", "echo k", "echo g", "echo n"]);
    let env = |name: &str| node.env.get(name).map(String::as_str);
    let seen = ["A", "B", "C", "N", "Y", "CLAB_LABEL_A_B_C", "CLAB_INTFS", "HOSTNAME"].map(env);
    assert_eq!(
        seen,
        [Some("g"), Some("n"), Some("k"), Some("010"), Some("yes"), Some("v"), Some("0"), Some("n")]
    );
    let seen = ["KIND", "GROUP", "NAME", "LAB_DIR"].map(|key| env(&format!("CLAB_LABEL_CLAB_NODE_{key}")));
    assert_eq!(seen, [Some("linux"), Some("g"), Some("n"), Some("/lab/clab-t2/n")]);
    assert_eq!(env("no_proxy"), Some("localhost,127.0.0.1,::1,*.local,n"));
    assert_eq!(node.binds.len(), 1);
    assert_eq!((node.binds[0].source.as_path(), node.binds[0].read_only), (Path::new("/usr"), true));
    assert_eq!(node.command, ["sleep", "infinity"]);
    assert_eq!(node.container, "clab-t2-n");
}

#[test]
fn variables_prefix_and_sysctls_are_those_of_the_file() {
    let text = r#"
name: t7-${V:=x}
prefix: __lab-name
topology:
 defaults: $D
 nodes: {r: {env: {U: "${NOPE}", E: "${NOPE:-e f}", K: $$K, P: "${V:+p}", M: __clabNodeName__}, exec: [echo __clabNodeName__ __clabLabName__], sysctls: {net.ipv6.conf.all.forwarding: 1}}}
"#;
    let topology = parse(text).unwrap();
    assert_eq!(topology.name, "t7-x");
    let node = &topology.nodes["r"];
    assert_eq!(node.container, "t7-x-r");
    let env = ["U", "E", "K", "P", "M"].map(|name| node.env[name].as_str());
    assert_eq!(env, ["$NOPE", "e f", "$K", "", "__clabNodeName__"]);
    assert_eq!(node.exec, [["echo", "r", "clab-t7-x"]]);
    assert_eq!(node.sysctls["net.ipv6.conf.all.forwarding"], "1");
}

#[test]
fn links_have_two_forms() {
    let links = r#" - endpoints: ["a:eth1", "b:eth1"]
 - {type: veth, mtu: 1400, endpoints: [{node: a, interface: eth2, mac: "02:00:00:00:00:01"}, {node: b, interface: Ethernet1/2}]}
 - {endpoints: ["a:x1", "a:x2"], ipv4: [192.0.2.1/30, 192.0.2.2/30]}"#;
    let topology = parse(&linked(links)).unwrap();
    let seen: Vec<_> = topology
        .links
        .iter()
        .map(|link| {
            let [a, b] = link.ends.each_ref().map(|end| format!("{}:{}", end.node, end.interface));
            (a, b, link.mtu_bytes, link.ends[0].mac)
        })
        .collect();
    let row = |a: &str, b: &str, mtu, mac| (a.to_owned(), b.to_owned(), mtu, mac);
    assert_eq!(
        seen,
        [
            row("a:eth1", "b:eth1", 9500, None),
            row("a:eth2", "b:Ethernet1/2", 1400, Some([2, 0, 0, 0, 0, 1])),
            row("a:x1", "a:x2", 9500, None),
        ]
    );
    assert_eq!(topology.nodes["a"].env["CLAB_INTFS"], "4");
    assert!(topology.warnings[0].contains("\"ipv4\" has no effect"), "{:?}", topology.warnings);
}

#[test]
fn a_node_can_live_in_another_ones_network() {
    let text = "name: t4\ntopology:\n defaults: {kind: linux, image: alpine}\n nodes:\n  main: {network-mode: none}\n  side: {network-mode: \"container:main\"}\n  third: {network-mode: \"container:side\"}\n";
    let topology = parse(text).unwrap();
    assert_eq!(topology.nodes["side"].network, Network::Container("main".to_owned()));
    assert_eq!(topology.network_owner("third"), "main");
}

#[test]
fn every_mistake_is_named_with_its_line_and_a_remedy() {
    let cases: &[(String, usize, &str)] = &[
        // the file
        ("topology: {nodes: {n: $D}}".into(), 1, "no \"name\""),
        ("name: x\n".into(), 1, "no \"topology\""),
        ("name: x/y\ntopology: {nodes: {n: $D}}".into(), 1, "\"x/y\" is not possible"),
        ("name: x\ntopology: {}\n".into(), 2, "no \"nodes\""),
        ("name: x\ntopologie: {nodes: {n: $D}}\n".into(), 2, "did you mean \"topology\"?"),
        ("name: x\nname: y\ntopology: {nodes: {n: $D}}\n".into(), 2, "first in line 1"),
        ("name: x\nsettings: {}\ntopology: {nodes: {n: $D}}\n".into(), 2, "needs Docker"),
        ("name: x\ntopology: {nodes: {n: $D}}\n# {{ .x }}\n".into(), 3, "templates"),
        ("name: x\ntopology: [nodes\n".into(), 3, "not YAML"),
        ("name: x\ntopology: {nodes: [n]}\n".into(), 2, "takes a mapping, not a list"),
        ("name: x\ntopology: {nodes: {n: $D}, node: {}}\n".into(), 2, "did you mean \"nodes\"?"),
        // nodes
        ("name: x\ntopology:\n nodes:\n  n: {image: alpine, network-mode: none}\n".into(), 4, "no \"kind\""),
        ("name: x\ntopology:\n nodes:\n  n: {kind: linux, network-mode: none}\n".into(), 4, "no \"image\""),
        (
            "name: x\nmgmt: {ipv4-subnet: 10.0.0.1/24}\ntopology: {nodes: {n: $D}}\n".into(),
            2,
            "write 10.0.0.0/24",
        ),
        ("name: x-__gitHash__\ntopology: {nodes: {n: $D}}\n".into(), 1, "need a git repository"),
        ("name: x\ntopology:\n nodes:\n  \"n b\": $D\n".into(), 4, "the name is not possible"),
        (node("binds: [\"/nowhere:/x\"]"), 4, "/nowhere does not exist"),
        (node("binds: [\"/etc\"]"), 4, "source:target"),
        (node("binds: [\"/etc:x\"]"), 4, "must be an absolute path"),
        (node("binds: [\"/etc:/a/../..\"]"), 4, "must be an absolute path"),
        (node("biinds: []"), 4, "did you mean \"binds\"?"),
        (node("exec: {a: b}"), 4, "takes a list, not a mapping"),
        (node("exec: [\"echo 'a\"]"), 4, "never closed"),
        (node("env: [A=b]"), 4, "takes a mapping, not a list"),
        (node("env-files: [none.env]"), 4, "cannot be read"),
        (node("ports: [\"80:80\"]"), 4, "\"ports\" needs Docker"),
        (node("startup-config: x.cfg"), 4, "bind the file"),
        (node("stages: {start: {}}"), 4, "unknown stage \"start\""),
        (node("stages: {create: {wait_for: []}}"), 4, "did you mean \"wait-for\"?"),
        (node("stages: {create: {wait-for: [m]}}"), 4, "takes a mapping, not a text"),
        (node("stages: {create: {wait-for: [{node: m}]}}"), 4, "needs \"node\" and \"stage\""),
        (node("stages: {create: {wait-for: [{node: m, stage: up}]}}"), 4, "use create, create-links,"),
        (node("stages: {create: {wait-for: [{node: m, stage: create}]}}"), 4, "names no node \"m\""),
        (node("stages: {create: {exec: [{command: ls}]}}"), 4, "use \"phase: on-exit\""),
        (node("stages: {create: {exec: [{phase: on-exit}]}}"), 4, "needs a \"command\""),
        (node("stages: {configure: {exec: [{command: ls, phase: later}]}}"), 4, "use on-enter or on-exit"),
        (node("stages: {configure: {exec: [{command: ls, target: node}]}}"), 4, "use container or host"),
        (node("stages: {configure: {exec: [{command: \"echo 'a\"}]}}"), 4, "never closed"),
        (node("stages: {healthy: {exec: [{command: ls}]}}"), 4, "no \"healthcheck\", so it never ends"),
        (node("stages: {create: {wait-for: [{node: n, stage: configure}]}}"), 4, "in a circle: n create"),
        (node("healthcheck: {}"), 4, "needs a \"test\""),
        (node("healthcheck: {test: [ls]}"), 4, "does not begin with CMD"),
        (node("healthcheck: {test: [CMD, ls], interval: 1s}"), 4, "whole seconds without a unit"),
        (node("healthcheck: {test: [CMD, ls], retrys: 1}"), 4, "did you mean \"retries\"?"),
        (node("startup-delay: 5s"), 4, "whole seconds without a unit"),
        (node("tmpfs: {run: size=1m}"), 4, "must be an absolute path"),
        (waiting("a: {create: {wait-for: [{node: b, stage: healthy}]}}"), 6, "has no \"healthcheck\""),
        (waiting("a: {create: {wait-for: [{node: b, stage: exit}]}}"), 6, "has no command that could end"),
        (node("mgmt-ipv4: 172.20.20.5"), 4, "remove it or the network-mode"),
        (node("mgmt-ipv4: 10.0.0.5").replacen("network-mode: none, ", "", 1), 4, "is not in 172.20.20.0/24"),
        (node("dns: {server: [10.0.0.1]}"), 4, "did you mean \"servers\"?"),
        (node("restart-policy: sometimes"), 4, "use always, unless-stopped"),
        (node("image: x"), 4, "\"image\" is given twice"),
        (
            node("kind: nokia_srlinux").replacen("kind: linux, ", "", 1),
            4,
            "needs Docker and a vendor's image",
        ),
        (node("kind: ovs-bridge").replacen("kind: linux, ", "", 1), 4, "use `kind: bridge`"),
        (node("kind: k8s-kind").replacen("kind: linux, ", "", 1), 4, "needs Docker and kind"),
        (node("kind: bridg").replacen("kind: linux, ", "", 1), 4, "did you mean \"bridge\"?"),
        (node("").replacen("n: {", "host: {", 1), 4, "means something else in \"links\""),
        (
            "name: x\ntopology:\n nodes:\n  a-bridge-of-long-name: {kind: bridge}\n".into(),
            4,
            "at most 15 letters",
        ),
        (
            node("").to_string() + "  \"b|nowhere\": {kind: bridge, network-mode: \"container:nowhere\"}\n",
            5,
            "would outlive the lab",
        ),
        (
            node("").to_string()
                + "  b: {kind: bridge}\n  m: {kind: linux, image: alpine, network-mode: \"container:b\"}\n",
            6,
            "which is a bridge",
        ),
        (node("image: quay.io/x/y").replacen("image: alpine, ", "", 1), 4, "towpath.lab/run"),
        (
            node("network-mode: host").replacen("network-mode: none, ", "", 1),
            4,
            "would change the machine's own network",
        ),
        (node("network-mode: bridge").replacen("network-mode: none, ", "", 1), 4, "is not possible"),
        (
            node("") + "  main: $D\n  m: {kind: linux, image: alpine, network-mode: \"container:mian\"}\n",
            6,
            "names no node \"mian\"; did you mean \"main\"?",
        ),
        (node("network-mode: \"container:n\"").replacen("network-mode: none, ", "", 1), 4, "in a circle"),
        // links
        (linked(" - endpoints: [\"a:eth1\"]"), 6, "two endpoints, not 1"),
        (linked(" - endpoints: [\"a:eth1\", \"b\"]"), 6, "\"node:interface\""),
        (linked(" - endpoints: [\"a:eth1\", \"c:eth1\"]"), 6, "no node \"c\""),
        (linked(" - endpoints: [\"a:eth1\", \"macvlan:eth1\"]"), 6, "needs a network card of the machine"),
        (
            linked(" - endpoints: [\"a:e\", \"host:h\"]\n - endpoints: [\"b:e\", \"mgmt-net:h\"]"),
            7,
            "first in line 6",
        ),
        (linked(" - endpoints: [\"a:e\", \"host:br-clab\"]"), 6, "is the management network's bridge"),
        (
            linked(" - endpoints: [\"a:eth0\", \"b:e\"]").replace("$D", "{kind: linux, image: alpine}"),
            6,
            "use eth1, or `network-mode: none`",
        ),
        (linked(" - {type: host, endpoint: {node: a, interface: e}}"), 6, "needs \"host-interface\""),
        (linked(" - {type: dummy, endpoints: [\"a:e\"]}"), 6, "unknown field \"endpoints\""),
        (linked(" - endpoints: [\"a:eth1\", \"b:lo\"]"), 6, "not a possible name"),
        (linked(" - endpoints: [\"a:e\", \"b:e\"]\n - endpoints: [\"a:e\", \"b:f\"]"), 7, "first in line 6"),
        (linked(" - endpoints: [\"a:e\", \"a:e\"]"), 6, "used twice"),
        (linked(" - {endpoints: [\"a:e\", \"b:e\"], mtu: 10}"), 6, "mtu 10 is not possible"),
        (linked(" - {endpoints: [\"a:e\", \"b:e\"], speed: 10}"), 6, "unknown field \"speed\""),
        (linked(" - {type: vxlan, endpoints: []}"), 6, "\"vxlan\" leads to another machine"),
        (linked(" - {type: macvlan, endpoint: {}}"), 6, "needs a network card"),
        (linked(" - {type: veth-stitch, endpoints: []}"), 6, "use \"veth\" between two nodes"),
        (linked(" - {type: weth, endpoints: []}"), 6, "\"weth\" is unknown"),
        (linked(" - {type: veth, endpoints: [{node: a}, {node: b, interface: e}]}"), 6, "needs \"node\" and"),
        (
            linked(
                " - {type: veth, endpoints: [{node: a, interface: e, mac: \"01:00:00:00:00:01\"}, {node: b, interface: e}]}",
            ),
            6,
            "no MAC address",
        ),
        (linked(" - {}"), 6, "needs \"endpoints\""),
    ];
    for (text, line, expected) in cases {
        let error = parse(text).expect_err(text);
        let [problem] = error.problems.as_slice() else { panic!("{text}\nsays:\n{error}") };
        assert_eq!(problem.line, *line, "{text}\nsays:\n{error}");
        assert!(problem.text.contains(expected), "{text}\nsays:\n{error}\nnot:\n{expected}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "name: x\ntopology:\n nodes:\n  r1:\n   kind: linux\n   ports: [\"80\"]\n  r2: {kind: linux, image: alpine, network-mode: none, volumes: []}\n links:\n - endpoints: [\"r1:eth1\", \"r3:eth1\"]\n";
    let error = parse(text).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    let file = "/lab/topo.clab.yml";
    assert_eq!(lines, [4, 6, 7, 9].map(|line| format!("{file}:{line}")), "{error}");
    assert!(error.contains("topo.clab.yml:6: node r1: \"ports\" needs Docker; "), "{error}");
}

#[test]
fn circles_of_networks_are_found() {
    let text = "name: x\ntopology:\n defaults: {kind: linux, image: alpine}\n nodes:\n  a: {network-mode: \"container:b\"}\n  b: {network-mode: \"container:a\"}\n links: [{endpoints: [\"a:eth1\", \"b:eth1\"]}]\n";
    let error = parse(text).unwrap_err();
    assert!(
        error
            .problems
            .iter()
            .all(|problem| problem.text.contains("circle") || problem.text.contains("twice"))
    );
    assert!(error.problems.iter().any(|problem| problem.line == 5), "{error}");
}

#[test]
fn the_example_is_a_good_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-tor");
    let topology = Topology::read(&folder).unwrap();
    assert_eq!((topology.nodes.len(), topology.links.len()), (4, 4));
    assert_eq!(topology.nodes["tor1"].command, ["towpath", "agent", "-f", "/etc/towpath"]);
    assert!(topology.warnings.is_empty(), "{:?}", topology.warnings);
}

#[test]
fn each_kind_has_its_place() {
    let text = r#"
name: kinds
mgmt: {network: custom, bridge: mgmt0, ipv4-subnet: 10.9.0.0/24, external-access: false}
topology:
 defaults: {image: alpine}
 nodes:
  a: {kind: linux, aliases: [alpha], dns: {servers: [10.9.0.1], search: [lab], options: ["ndots:1"]}}
  b: {kind: linux, mgmt-ipv4: 10.9.0.2}
  sw: {kind: bridge, exec: [echo skipped]}
  "br0|a": {kind: bridge, network-mode: "container:clab-kinds-a"}
  other: {kind: ext-container}
  guest: {kind: linux, network-mode: "container:somebody-else"}
  machine: {kind: host}
 links:
 - endpoints: ["a:eth1", "br0|a:p1"]
 - endpoints: ["b:eth1", "sw:p1"]
 - {type: host, endpoint: {node: b, interface: eth2}, host-interface: b2}
 - {type: mgmt-net, mtu: 1500, endpoint: {node: b, interface: eth3, mac: "02:00:00:00:00:03"}, host-interface: b3}
 - {type: dummy, endpoint: {node: b, interface: d0}, mtu: 1400}
 - endpoints: ["other:eth9", "mgmt-net:o9"]
"#;
    let topology = parse(text).unwrap();
    let networks: Vec<_> = topology.nodes.values().map(|node| node.network.clone()).collect();
    let outside = |name: &str| Network::Outside(name.to_owned());
    // a, b, br0|a, guest, machine, other, sw
    let expected = [
        Network::Management,
        Network::Management,
        Network::Container("a".to_owned()),
        outside("somebody-else"),
        Network::Host,
        outside("other"),
        Network::Host,
    ];
    assert_eq!(networks, expected);
    let addresses =
        |node: &str| topology.nodes[node].management.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (addresses("a"), addresses("b")),
        (vec!["10.9.0.3/24".to_owned()], vec!["10.9.0.2/24".to_owned()])
    );
    assert_eq!(topology.management.bridge, "mgmt0");
    let ends: Vec<String> = topology
        .links
        .iter()
        .map(|link| format!("{}:{}", link.ends[1].node, link.ends[1].interface))
        .collect();
    assert_eq!(ends, ["br0|a:p1", "sw:p1", "host:b2", "mgmt-net:b3", "mgmt-net:o9"]);
    assert_eq!((topology.dummies.len(), topology.dummies[0].mtu_bytes), (1, 1400));
    assert_eq!(topology.nodes["b"].env["CLAB_INTFS"], "4");
    assert_eq!(topology.nodes["a"].dns.as_ref().unwrap().servers, ["10.9.0.1"]);
    assert_eq!(topology.warnings.len(), 2, "{:?}", topology.warnings);
    assert!(topology.warnings[0].contains("\"external-access\" has no effect"), "{:?}", topology.warnings);
    assert!(topology.warnings[1].contains("a bridge runs nothing"), "{:?}", topology.warnings);
}
