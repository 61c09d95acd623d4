//! The meter measured: two ends, a router between them, and a cut of known length.

use std::time::Duration;

use super::counters::Interfaces;
use super::*;

/// a (10.1.0.1, fd01::1) -- router -- (10.2.0.1, fd02::1) b
struct Wire {
    pair: Pair,
    router: Netns,
}

fn wire() -> Wire {
    let [a, router, b] = [(), (), ()].map(|()| Netns::fresh().unwrap());
    a.link(("eth1", &["10.1.0.1/24", "fd01::1/64"]), &router, ("left", &["10.1.0.254/24", "fd01::fe/64"]))
        .unwrap();
    b.link(("eth1", &["10.2.0.1/24", "fd02::1/64"]), &router, ("right", &["10.2.0.254/24", "fd02::fe/64"]))
        .unwrap();
    router.sysctl("net/ipv4/ip_forward", "1").unwrap();
    router.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    for (side, v4, v6) in [(&a, "10.1.0.254", "fd01::fe"), (&b, "10.2.0.254", "fd02::fe")] {
        side.ip(&format!("route add default via {v4}")).unwrap();
        side.ip(&format!("-6 route add default via {v6}")).unwrap();
    }
    let side = |netns, n: u16| Side {
        netns,
        v4: Some(Ipv4Addr::new(10, n as u8, 0, 1)),
        v6: Some(Ipv6Addr::new(0xfd00 | n, 0, 0, 0, 0, 0, 0, 1)),
    };
    Wire { pair: Pair { a: side(a, 1), b: side(b, 2) }, router }
}

impl Wire {
    fn nft(&self, command: &str) -> String {
        let mut argv = vec!["nft"];
        argv.extend(command.split(' '));
        let output = self.router.exec(&argv).unwrap();
        assert!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Packets that the router's drop rule has taken, counted by the kernel.
    fn dropped(&self) -> u64 {
        let text = self.nft("list counter inet cut taken");
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn a_cut_of_known_length_is_reported_to_the_packet_and_within_three_milliseconds() {
    let wire = wire();
    for setup in [
        "add table inet cut",
        "add counter inet cut taken",
        "add chain inet cut forward { type filter hook forward priority 0 ; }",
    ] {
        wire.nft(setup);
    }
    let meter = Meter::start(std::slice::from_ref(&wire.pair), Plan { flows: 4, ..Plan::default() }).unwrap();
    let until = |time: u64| std::thread::sleep(Duration::from_millis(time).saturating_sub(meter.elapsed()));
    until(200);
    let before_cut = meter.elapsed();
    wire.nft("add rule inet cut forward udp dport 9200 counter name taken drop");
    let cut = meter.elapsed();
    until(400);
    let before_end = meter.elapsed();
    wire.nft("flush chain inet cut forward");
    let end = meter.elapsed();
    until(700);
    let report = meter.stop().unwrap();

    assert_eq!(report.flows.len(), 16);
    assert_eq!(report.lost(), wire.dropped(), "{report}");
    assert_eq!(report.duplicates(), 0);
    let slack = Duration::from_millis(3);
    for flow in &report.flows {
        assert_eq!(flow.lost_ranges.len(), 1, "{report}");
        assert_eq!(flow.reordered, 0, "{report}");
        let outage = flow.longest_outage();
        let (shortest, longest) = (before_end - cut, end - before_cut);
        assert!(
            outage + slack >= shortest && outage <= longest + slack,
            "{outage:?} not in {shortest:?}..{longest:?}"
        );
        // What the gap has more than the outage is what this machine kept the threads from running.
        let allowed = longest + slack + report.sender_late;
        assert!(flow.longest_gap + slack >= shortest && flow.longest_gap <= allowed, "{report}");
        let range = &flow.lost_ranges[0];
        assert!(range.sent_first + slack >= before_cut && range.sent_first <= cut + slack, "{report}");
    }
}

#[test]
fn nothing_is_lost_on_a_whole_wire_and_the_counters_show_its_path() {
    let wire = wire();
    let before = Interfaces::read(&wire.router).unwrap();
    let meter =
        Meter::start(std::slice::from_ref(&wire.pair), Plan { rate: 5000, flows: 2, ..Plan::default() })
            .unwrap();
    std::thread::sleep(Duration::from_millis(300).saturating_sub(meter.elapsed()));
    let report = meter.stop().unwrap();
    assert_eq!(report.lost(), 0, "{report}");
    assert!(report.sent() >= 8 * 1450, "{report}");
    let passed = Interfaces::read(&wire.router).unwrap().since(&before);
    let sent_by = |side: &Side| -> u64 {
        let from_here = |flow: &&FlowReport| {
            [side.v4.map(IpAddr::V4), side.v6.map(IpAddr::V6)].contains(&Some(flow.from.ip()))
        };
        report.flows.iter().filter(from_here).map(|flow| flow.sent).sum()
    };
    for (port, sent, received) in [
        ("left", sent_by(&wire.pair.a), sent_by(&wire.pair.b)),
        ("right", sent_by(&wire.pair.b), sent_by(&wire.pair.a)),
    ] {
        let counters = passed.of(port);
        assert!(
            counters.rx_packets >= sent && counters.tx_packets >= received,
            "{port}: {counters:?}\n{report}"
        );
        // Beyond the measured packets only greetings and neighbour discovery pass.
        assert!(counters.rx_packets < sent + 1000, "{port}: {counters:?}\n{report}");
    }
    assert_eq!(passed.of("none").rx_packets, 0);
}

#[test]
fn a_flow_that_cannot_get_through_is_named_before_the_run() {
    let wire = wire();
    wire.router.sysctl("net/ipv4/ip_forward", "0").unwrap();
    // Longer than the second after which IPv6 asks again for a neighbour that did not answer at once.
    let plan = Plan { flows: 1, warm_up: Duration::from_secs(3), ..Plan::default() };
    let error = format!("{:#}", Meter::start(std::slice::from_ref(&wire.pair), plan).unwrap_err());
    assert!(error.contains("10.1.0.1:40001 -> 10.2.0.1:9200"), "{error}");
    assert!(!error.contains("fd01::1"), "{error}");
}

#[test]
fn a_transfer_is_checked_and_shows_the_clients_address() {
    let Wire { pair: Pair { a, b }, router } = wire();
    for server in ["10.2.0.1:7000", "[fd02::1]:7000"] {
        let server = server.parse().unwrap();
        let done = tcp::transfer(&a.netns, None, &b.netns, server, 4 << 20, Duration::from_secs(20)).unwrap();
        assert_eq!(done.bytes, 4 << 20);
        let expected = if server.is_ipv4() { IpAddr::V4(a.v4.unwrap()) } else { IpAddr::V6(a.v6.unwrap()) };
        assert_eq!(done.source.ip(), expected);
    }
    router.ip("link set right down").unwrap();
    let server = "10.2.0.1:7001".parse().unwrap();
    let limit = Duration::from_millis(200);
    tcp::transfer(&a.netns, None, &b.netns, server, 1, limit).unwrap_err();
}

#[test]
fn connections_survive_a_short_cut_and_a_long_one_ends_them() {
    let Wire { pair: Pair { a, b }, router } = wire();
    let start = |patience| {
        let server = "10.2.0.1:0".parse().unwrap();
        tcp::Connections::start(&a.netns, &b.netns, server, 3, Duration::from_millis(2), patience).unwrap()
    };
    let pause = || std::thread::sleep(Duration::from_millis(100));

    let connections = start(Duration::from_secs(10));
    pause();
    router.sysctl("net/ipv4/ip_forward", "0").unwrap();
    pause();
    router.sysctl("net/ipv4/ip_forward", "1").unwrap();
    pause();
    for report in connections.stop().unwrap() {
        assert_eq!(report.failure, None, "{report:?}");
        assert!(report.round_trips > 10 && report.longest >= Duration::from_millis(80), "{report:?}");
    }

    let connections = start(Duration::from_millis(200));
    router.sysctl("net/ipv4/ip_forward", "0").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let reports = connections.stop().unwrap();
    assert!(reports.iter().all(|report| report.failure.is_some()), "{reports:?}");
}

#[test]
fn echoes_pass_the_router_from_a_chosen_address() {
    let Wire { pair: Pair { a, b }, router: _router } = wire();
    let second = Duration::from_secs(1);
    for (from, to) in [
        (IpAddr::V4(a.v4.unwrap()), IpAddr::V4(b.v4.unwrap())),
        (IpAddr::V6(a.v6.unwrap()), IpAddr::V6(b.v6.unwrap())),
    ] {
        echo::until_answers(&a.netns, Some(from), to, 5 * second).unwrap();
        let answers = echo::ping(&a.netns, Some(from), to, 5, second).unwrap();
        assert!(answers.iter().all(Option::is_some), "{to}: {answers:?}");
    }
}
