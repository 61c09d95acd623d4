//! Configuration that changes under a running daemon: only the difference is applied, whoever writes it and
//! however, and nothing that is broken.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::os::unix::fs::symlink;

use bgp_speaker::query::RibView;
use bgp_speaker::status::PeerStatus;
use rustix::process::Signal;
use towpath_tests::agent::{Agent, LIMIT, check};
use towpath_tests::feeder::Feeder;
use towpath_tests::feeder::message::{Attributes, Notification, announce};
use towpath_tests::rack::{NODE, Rack, asn, document, peer};
use towpath_tests::wait::until;

/// What would be another one if the session had been anything but left alone.
fn session(agent: &Agent, name: &str) -> (String, u64, u64, Option<std::net::SocketAddr>) {
    let PeerStatus { state, since, down_count, remote_endpoint, .. } = agent.peer(name).unwrap();
    (state, since, down_count, remote_endpoint)
}

fn good(i: u8, prefixes: &[&str]) -> Vec<u8> {
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    announce(&Attributes::new(&[asn(i)], Rack::address(i)), &prefixes)
}

/// Two neighbours with sessions, each peer in a file of its own.
fn two() -> (Rack, Agent, Feeder, Feeder) {
    let rack = Rack::new(2).unwrap();
    let files = [("node.yaml", NODE), ("p1.yaml", &peer(1, "")), ("p2.yaml", &peer(2, ""))];
    let agent = Agent::start(&rack.node, &files, "node").unwrap();
    let (one, two) = (rack.feeder(1).unwrap(), rack.feeder(2).unwrap());
    agent.until_established("p1").unwrap();
    agent.until_established("p2").unwrap();
    (rack, agent, one, two)
}

/// Every route with this prefix in the kernel as `ip` prints it, and the next hops of ours behind the groups.
fn kernel(agent: &Agent, prefix: &str) -> String {
    let mut text = agent.netns().ip(&format!("route show table all exact {prefix}")).unwrap();
    for route in agent.installed().unwrap() {
        if route.prefix.to_string() == prefix {
            text.push_str(&route.nexthops.join(", "));
        }
    }
    text
}

fn until_kernel(agent: &Agent, prefix: &str, what: &str, check: impl Fn(&str) -> bool) {
    until(LIMIT, what, || {
        let text = kernel(agent, prefix);
        if check(&text) { Ok(Some(())) } else { anyhow::bail!("{prefix}: {text}") }
    })
    .unwrap();
}

#[test]
fn editing_one_peer_never_touches_the_session_of_another() {
    let (rack, agent, mut one, two) = two();
    let untouched = session(&agent, "p2");
    let hot = [
        "timers: { hold: 30s, keepalive: 5s }",
        "timers: { connectRetry: 7s, idleHoldMax: 20s }",
        "gracefulRestart: { restartTime: 60s, stalePathTime: 100s }",
        "families: [{ afi: ipv4, safi: unicast, maxPrefix: { limit: 500, warnAt: 50, action: Block } }]",
        "nextHop: Self",
        "nextHop: Address, nextHopAddress: 10.0.1.1",
        "allowLocalAS: 1",
        "enforceFirstAS: false",
        "",
    ];
    let first = session(&agent, "p1");
    for more in hot {
        agent.apply("p1.yaml", &peer(1, more)).unwrap();
        assert_eq!(session(&agent, "p1"), first, "{more}");
        assert_eq!(session(&agent, "p2"), untouched, "{more}");
    }
    let reset = [
        "localASN: 65009",
        "ttl: { multihop: 3 }",
        "gracefulRestart: { mode: Disabled }",
        "families: [{ afi: ipv4, safi: unicast }, { afi: ipv6, safi: unicast }]",
        "families: [{ afi: ipv4, safi: unicast, extendedNextHop: Disabled }]",
        "sourceAddress: 10.0.1.1",
        "sourceInterface: eth1",
        "bindInterface: eth1",
        "",
    ];
    for more in reset {
        agent.apply("p1.yaml", &peer(1, more)).unwrap();
        let said = one.until_closed(LIMIT).unwrap().unwrap();
        assert_eq!((said.code, said.subcode), (6, 6), "{more}");
        one = rack.feeder(1).unwrap();
        agent.until_established("p1").unwrap();
        assert_eq!(session(&agent, "p2"), untouched, "{more}");
    }
    let heard = two.heard();
    assert!(!heard.closed && heard.announced == 0 && heard.withdrawn == 0, "{heard:?}");
}

#[test]
fn files_are_read_again_however_they_are_written() {
    let (_rack, agent, one, _two) = two();
    let (config, edited) = (agent.config(), |hold: u8| peer(1, &format!("timers: {{ hold: {hold}s }}")));
    let first = session(&agent, "p1");
    let mut generation = agent.status().unwrap().config.generation;
    let mut applied = |what: &str| {
        generation += 1;
        agent.until_generation(generation).unwrap();
        assert_eq!(agent.status().unwrap().config.generation, generation, "{what}: read once");
    };
    agent.write("p1.yaml", &edited(10)).unwrap();
    applied("renamed into place");

    std::fs::write(config.join("p1.yaml"), edited(11)).unwrap();
    applied("written over");

    // As vim does: the old file moves aside, the new one takes its name, the old one goes.
    std::fs::rename(config.join("p1.yaml"), config.join("p1.yaml~")).unwrap();
    std::fs::write(config.join("p1.yaml"), edited(12)).unwrap();
    std::fs::remove_file(config.join("p1.yaml~")).unwrap();
    applied("moved aside and written anew");

    // What the files say is unchanged: nothing to apply.
    std::fs::rename(config.join("p1.yaml"), config.join("first.yaml")).unwrap();
    std::fs::write(config.join("README.txt"), "not YAML: {").unwrap();
    agent.write("first.yaml", &edited(13)).unwrap();
    applied("renamed, and edited after that");
    assert_eq!(session(&agent, "p1"), first);
    assert!(!one.heard().closed);
}

#[test]
fn a_mounted_config_map_is_followed_through_its_symlinks() {
    let rack = Rack::new(1).unwrap();
    let mut agent = Agent::prepare(&rack.node, &[], "node").unwrap();
    let config = agent.config();
    let version = |number: u8, more: &str| {
        let folder = config.join(format!("..version{number}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("all.yaml"), [NODE, &peer(1, more)].concat()).unwrap();
        symlink(format!("..version{number}"), config.join("..data_tmp")).unwrap();
        std::fs::rename(config.join("..data_tmp"), config.join("..data")).unwrap();
    };
    version(1, "");
    symlink("..data/all.yaml", config.join("all.yaml")).unwrap();
    agent.start_again().unwrap();
    let feeder = rack.feeder(1).unwrap();
    for number in 2..5 {
        version(number, &format!("timers: {{ hold: {number}0s }}"));
        agent.until_generation(number.into()).unwrap();
        std::fs::remove_dir_all(config.join(format!("..version{}", number - 1))).unwrap();
    }
    version(9, "timers: { hold: 90s }, ttl: { multihop: 2 }");
    assert_eq!(feeder.until_closed(LIMIT).unwrap().map(|said| said.subcode), Some(6));
}

#[test]
fn a_folder_that_is_a_symlink_may_be_swapped() {
    let rack = Rack::new(1).unwrap();
    let mut agent = Agent::prepare(&rack.node, &[], "node").unwrap();
    let config = agent.config();
    let base = config.parent().unwrap();
    std::fs::remove_dir(&config).unwrap();
    let version = |number: u8| {
        let folder = base.join(format!("version{number}"));
        std::fs::create_dir(&folder).unwrap();
        let hold = format!("timers: {{ hold: {number}0s }}");
        std::fs::write(folder.join("all.yaml"), [NODE, &peer(1, &hold)].concat()).unwrap();
        symlink(folder, base.join("fresh")).unwrap();
        std::fs::rename(base.join("fresh"), &config).unwrap();
    };
    version(1);
    agent.start_again().unwrap();
    for number in 2..5 {
        version(number);
        agent.until_generation(number.into()).unwrap();
    }
}

#[test]
fn a_broken_file_changes_nothing_shows_in_the_status_and_is_applied_once_mended() {
    let (_rack, mut agent, one, _two) = two();
    let before = (session(&agent, "p1"), session(&agent, "p2"));
    agent.cli_ok(&["status"]).unwrap();
    agent.write("p1.yaml", &peer(1, "timers: { hold: 2s }")).unwrap();
    let problem =
        until(LIMIT, "the problem in the status", || Ok(agent.status()?.config.problems.into_iter().next()))
            .unwrap();
    assert!(problem.contains("p1.yaml:") && problem.contains("BGPPeer/p1 spec.timers.hold"), "{problem}");
    let output = agent.cli(&["status"]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&problem), "{output:?}");
    assert_eq!((session(&agent, "p1"), session(&agent, "p2")), before);

    // Not YAML at all is no worse, and an empty folder is not taken for the wish to have no peers.
    agent.write("p1.yaml", "{ [").unwrap();
    until(LIMIT, "the other problem", || {
        Ok((!agent.status()?.config.problems.contains(&problem)).then_some(()))
    })
    .unwrap();
    assert_eq!((session(&agent, "p1"), session(&agent, "p2")), before);

    // The last good state outlives the daemon.
    agent.sigterm().unwrap();
    drop(one);
    agent.start_again().unwrap();
    let status = agent.status().unwrap();
    assert_eq!((status.sessions.configured, status.config.problems.len()), (2, 1), "{status:?}");

    agent.write("p1.yaml", &peer(1, "timers: { hold: 20s }")).unwrap();
    until(LIMIT, "no problem", || Ok(agent.status()?.config.problems.is_empty().then_some(()))).unwrap();
}

#[test]
fn without_an_earlier_good_state_a_broken_file_ends_the_start_with_every_problem() {
    let rack = Rack::new(1).unwrap();
    let broken = [NODE, &peer(1, "timers: { hold: 2s }"), &document("BGPPear", "p2", "")].concat();
    let mut agent = Agent::prepare(&rack.node, &[("all.yaml", &broken)], "node").unwrap();
    agent.launch().unwrap();
    assert_eq!(agent.until_exited().unwrap().code(), Some(1));
    let log = agent.log();
    assert!(log.contains("spec.timers.hold") && log.contains("BGPPear"), "{log}");
    assert!(agent.installed().is_err(), "nobody answers");
}

#[test]
fn peers_and_advertisements_come_and_go_without_a_word_to_the_others() {
    let (rack, agent, one, two) = two();
    let untouched = session(&agent, "p1");
    let pods = |cidrs: &str| {
        document("Advertisement", "pods", &format!("source: {{ static: {{ cidrs: [{cidrs}] }} }}"))
    };
    agent.apply("pods.yaml", &pods("10.244.1.0/24, 10.244.2.0/24")).unwrap();
    one.until_routes(2, LIMIT).unwrap();
    until_kernel(&agent, "10.244.2.0/24", "the blackhole", |text| text.starts_with("blackhole"));
    agent.apply("pods.yaml", &pods("10.244.1.0/24")).unwrap();
    one.until_routes(1, LIMIT).unwrap();
    until_kernel(&agent, "10.244.2.0/24", "no blackhole", str::is_empty);
    {
        let heard = one.heard();
        assert_eq!((heard.announced, heard.withdrawn), (2, 1), "only the difference was sent");
    }
    // A removed peer hears why.
    agent.remove("p2.yaml").unwrap();
    let said = two.until_closed(LIMIT).unwrap().unwrap();
    assert_eq!((said.code, said.subcode), (6, 3));
    until(LIMIT, "one peer", || Ok((agent.peers()?.len() == 1).then_some(()))).unwrap();
    // A peer in a new file is there at once.
    agent.apply("again.yaml", &peer(2, "")).unwrap();
    let two = rack.feeder(2).unwrap();
    two.until_routes(1, LIMIT).unwrap();
    assert_eq!(session(&agent, "p1"), untouched);
}

#[test]
fn a_paused_peer_is_told_why_and_comes_back() {
    let (rack, agent, one, two) = two();
    let untouched = session(&agent, "p2");
    agent.apply("p1.yaml", &peer(1, "paused: true, pauseReason: 'Wartung bis 14 Uhr, Gruß'")).unwrap();
    let text = "Wartung bis 14 Uhr, Gruß";
    let data = [&[text.len() as u8], text.as_bytes()].concat();
    let expected = Notification { code: 6, subcode: 2, data };
    assert_eq!(one.until_closed(LIMIT).unwrap(), Some(expected), "RFC 9003");
    let paused = agent.until_peer("p1", "paused", |peer| peer.state == "Idle" && peer.paused).unwrap();
    assert!(paused.reason.unwrap().contains(text));
    assert!(rack.feeder_within(1, std::time::Duration::from_millis(300)).is_err(), "it stays down");
    agent.cli_ok(&["status"]).unwrap();
    agent.apply("p1.yaml", &peer(1, "")).unwrap();
    drop(rack.feeder(1).unwrap());
    assert_eq!(session(&agent, "p2"), untouched);
    assert!(!two.heard().closed);
}

#[test]
fn a_new_password_resets_that_peer_only_and_a_wrong_one_keeps_it_down() {
    let rack = Rack::new(1).unwrap();
    rack.node.ip("address add 10.0.1.3/24 dev eth1").unwrap();
    rack.neighbor(1).ip("address add 10.0.1.4/24 dev eth0").unwrap();
    let secret = |name: &str, password: &str| {
        format!(
            "\n---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: {name}, namespace: towpath-system }}\nstringData: {{ password: {password} }}\n"
        )
    };
    let side = |asn: u32, id: &str, remote: u32, ours: [&str; 2], theirs: [&str; 2]| {
        let node = document("NodeNetwork", "node", &format!("asn: {asn}, routerID: {id}"));
        let session = |name: &str, our: &str, their: &str| {
            document(
                "BGPPeer",
                name,
                &format!(
                    "neighbor: {{ address: {their} }}, remoteASN: {remote}, sourceAddress: {our}, timers: {{ connectRetry: 1s }}, auth: {{ md5SecretRef: {{ name: {name} }} }}"
                ),
            )
        };
        [node, session("a", ours[0], theirs[0]), session("b", ours[1], theirs[1]), secret("b", "unchanged")]
            .concat()
    };
    let (node, other) = (["10.0.1.1", "10.0.1.3"], ["10.0.1.2", "10.0.1.4"]);
    let left = side(65001, "10.0.0.1", 65002, node, other);
    let right = side(65002, "10.0.0.2", 65001, other, node);
    let first = secret("a", "first");
    let left = Agent::start(&rack.node, &[("all.yaml", &left), ("a.yaml", &first)], "node").unwrap();
    let right = Agent::start(rack.neighbor(1), &[("all.yaml", &right), ("a.yaml", &first)], "node").unwrap();
    for name in ["a", "b"] {
        left.until_established(name).unwrap();
        right.until_established(name).unwrap();
    }
    let untouched = (session(&left, "b"), session(&right, "b"));
    left.apply("a.yaml", &secret("a", "second")).unwrap();
    left.until_peer("a", "down", |peer| peer.state != "Established").unwrap();
    right
        .until_peer("a", "down with 6/6", |peer| {
            peer.last_error.as_ref().is_some_and(|e| (e.code, e.subcode, e.received) == (6, 6, true))
        })
        .unwrap();
    let peer = left
        .until_peer("a", "a guess at the password", |peer| {
            peer.reason.as_ref().is_some_and(|reason| reason.contains("probably a wrong password"))
        })
        .unwrap();
    assert_eq!(peer.down_count, 0);
    assert_eq!((session(&left, "b"), session(&right, "b")), untouched);
    right.apply("a.yaml", &secret("a", "second")).unwrap();
    left.until_established("a").unwrap();
    assert_eq!((session(&left, "b"), session(&right, "b")), untouched);
    for agent in [&left, &right] {
        let log = agent.log();
        assert!(!log.contains("first") && !log.contains("second"), "passwords are not logged: {log}");
    }
}

#[test]
fn pod_ranges_decide_anew_without_a_reset() {
    let (_rack, agent, one, _two) = two();
    let sessions = (session(&agent, "p1"), session(&agent, "p2"));
    one.send(&good(1, &["10.244.9.0/24", "10.99.1.0/24"])).unwrap();
    agent.until_prefixes(RibView::Received, &["10.244.9.0/24", "10.99.1.0/24"]).unwrap();
    agent.until_prefixes(RibView::Accepted, &["10.244.9.0/24"]).unwrap();
    let verdict = agent.routes(RibView::Received, Some("10.99.1.0/24")).unwrap().remove(0).verdict;
    assert_ne!(verdict, "accepted");
    agent.apply("more.yaml", &document("IPPool", "more", "cidrs: [10.99.0.0/16]")).unwrap();
    agent.until_prefixes(RibView::Accepted, &["10.244.9.0/24", "10.99.1.0/24"]).unwrap();
    until_kernel(&agent, "10.99.1.0/24", "the route", |text| text.contains("via 10.0.1.2"));
    agent.remove("more.yaml").unwrap();
    agent.until_prefixes(RibView::Accepted, &["10.244.9.0/24"]).unwrap();
    until_kernel(&agent, "10.99.1.0/24", "no route", str::is_empty);
    assert!(kernel(&agent, "10.244.9.0/24").contains("via 10.0.1.2"));
    assert_eq!((session(&agent, "p1"), session(&agent, "p2")), sessions);
}

#[test]
fn kernel_routes_follow_metric_table_protocol_and_max_paths_while_sessions_stay() {
    let (_rack, agent, one, two) = two();
    let sessions = (session(&agent, "p1"), session(&agent, "p2"));
    let prefix = "10.244.9.0/24";
    one.send(&good(1, &[prefix])).unwrap();
    two.send(&good(2, &[prefix])).unwrap();
    let both = |text: &str| text.contains("via 10.0.1.2") && text.contains("via 10.0.2.2");
    until_kernel(&agent, prefix, "both ways", |text| both(text) && text.contains("metric 20"));
    let pods = document("Advertisement", "pods", "source: { static: { cidrs: [10.244.1.0/24] } }");
    agent.apply("pods.yaml", &pods).unwrap();
    let install = |fields: &str| {
        agent
            .apply("install.yaml", &document("NetworkConfig", "default", &format!("install: {{ {fields} }}")))
            .unwrap();
    };
    let blackhole = "10.244.1.0/24";
    let steps: [(&str, &[&str], &str, bool); 8] = [
        ("metric: 77", &["proto 199", "metric 77"], "proto 200", true),
        ("metric: 77, table: 111", &["table 111", "metric 77"], "table 111", true),
        ("table: 111", &["table 111", "metric 20"], "table 111", true),
        ("table: 111, protocol: 120", &["table 111", "proto 120", "metric 20"], "proto 121", true),
        ("protocol: 120", &["proto 120", "metric 20"], "proto 121", true),
        ("protocol: 121", &["proto 121", "metric 20"], "proto 122", true),
        ("maxPaths: 1", &["proto 199", "metric 20"], "proto 200", false),
        ("maxPaths: 2", &["proto 199", "metric 20"], "proto 200", true),
    ];
    for (fields, learned, local, both_ways) in steps {
        install(fields);
        until_kernel(&agent, prefix, fields, |text| {
            text.contains("via 10.0.")
                && learned.iter().all(|word| text.contains(word))
                && both(text) == both_ways
                && text.matches(prefix).count() == 1
        });
        until_kernel(&agent, blackhole, fields, |text| {
            text.contains(local) && text.matches(blackhole).count() == 1
        });
        until(LIMIT, "health", || {
            let problems = agent.status()?.problems;
            if problems.is_empty() { Ok(Some(())) } else { anyhow::bail!("{fields}: {problems:?}") }
        })
        .unwrap();
    }
    assert_eq!((session(&agent, "p1"), session(&agent, "p2")), sessions);
}

#[test]
fn transit_is_switched_on_and_off_without_a_reset() {
    let rack = Rack::new(2).unwrap();
    let helper = "gracefulRestart: { mode: Helper }";
    let config = [NODE.to_owned(), peer(1, helper), peer(2, helper)].concat();
    let agent = Agent::start(&rack.node, &[("all.yaml", &config)], "node").unwrap();
    let (one, two) = (rack.feeder(1).unwrap(), rack.feeder(2).unwrap());
    one.send(&good(1, &["10.244.9.0/24", "192.0.2.0/24"])).unwrap();
    agent.until_prefixes(RibView::Best, &["10.244.9.0/24"]).unwrap();
    let sessions = (session(&agent, "p1"), session(&agent, "p2"));
    assert!(two.heard().routes.is_empty());
    for _ in 0..2 {
        agent.apply("transit.yaml", &document("NetworkConfig", "default", "transit: true")).unwrap();
        two.until_routes(2, LIMIT).unwrap();
        agent.apply("transit.yaml", &document("NetworkConfig", "default", "transit: false")).unwrap();
        two.until_routes(0, LIMIT).unwrap();
        agent.until_prefixes(RibView::Best, &["10.244.9.0/24"]).unwrap();
    }
    assert_eq!((session(&agent, "p1"), session(&agent, "p2")), sessions);
    assert!(one.heard().routes.is_empty(), "nobody is told his own routes");
}

#[test]
fn a_hangup_reads_files_that_no_watch_sees() {
    let rack = Rack::new(1).unwrap();
    let mut agent = Agent::prepare(&rack.node, &[], "node").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("text");
    std::fs::write(&target, [NODE, &peer(1, "")].concat()).unwrap();
    symlink(&target, agent.config().join("all.yaml")).unwrap();
    agent.start_again().unwrap();
    std::fs::write(&target, [NODE, &peer(1, "timers: { hold: 30s }")].concat()).unwrap();
    agent.signal(Signal::HUP).unwrap();
    agent.until_generation(2).unwrap();
    // Whoever sees the socket may send one: it is handled from then on, neither lost nor deadly.
    for _ in 0..5 {
        agent.kill9().unwrap();
        std::fs::remove_file(agent.socket()).unwrap();
        agent.launch().unwrap();
        // The start takes a few milliseconds: too short for `until`.
        let deadline = std::time::Instant::now() + LIMIT;
        while !agent.socket().exists() {
            assert!(std::time::Instant::now() < deadline, "no socket: {}", agent.log());
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid().unwrap())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        assert_eq!(u64::from_str_radix(caught.trim(), 16).unwrap() & 1, 1, "SIGHUP is not handled yet");
        until(LIMIT, "an answer", || agent.status().map(Some)).unwrap();
    }
}

#[test]
fn check_lists_every_mistake_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.yaml");
    std::fs::write(&path, [NODE, &peer(1, "")].concat()).unwrap();
    let (code, text) = check(folder.path(), "node").unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("node node, AS 65001, router id 10.0.0.1, 1 peer, 0 advertisements"), "{text}");
    let mistakes = [
        NODE.to_owned(),
        peer(1, "timers: { hold: 2s }, colour: red"),
        peer(2, "ttl: { security: 300 }, auth: { md5SecretRef: { name: nowhere } }"),
        document("Advertisement", "pods", "source: { static: { cidrs: [10.244.1.7/24] } }, peers: [p9]"),
    ];
    std::fs::write(&path, mistakes.concat()).unwrap();
    let (code, text) = check(folder.path(), "node").unwrap();
    assert_eq!(code, 1, "{text}");
    for word in ["spec.timers.hold", "colour", "spec.ttl.security", "nowhere", "10.244.1.7/24", "p9"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
    assert!(text.lines().filter(|line| line.contains("all.yaml:")).count() >= 6, "{text}");
}
