//! The API server is away, and the cluster goes on: pods come and go, a daemon's container is killed, a switch dies, a node
//! loses its power and returns. Then the server is back.

use std::time::{Duration, Instant};

use towpath_tests::kube::{Cluster, deploy, pods};
use towpath_tests::meter::{Meter, Pair, Plan};
use towpath_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(120);

/// How long the server is away: a minute, or what TOWPATH_OUTAGE says, in seconds.
fn outage() -> Duration {
    let seconds =
        std::env::var("TOWPATH_OUTAGE").ok().map(|text| text.parse().expect("TOWPATH_OUTAGE in seconds"));
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Waits until a pod reaches another one. Asked by ping in its namespace, as nothing of Kubernetes answers.
fn reaches(cluster: &Cluster, from: &pods::Pod, to: &pods::Pod) -> anyhow::Result<()> {
    let netns = from.netns(cluster)?;
    to.addresses.iter().try_for_each(|address| {
        until(LIMIT, &format!("{} to reach {address}", from.name), || {
            let output = netns.exec(&["ping", "-n", "-q", "-c", "1", "-W", "1", &address.to_string()])?;
            Ok(output.status.success().then_some(()))
        })
    })
}

#[test]
fn without_an_api_server_the_pod_network_goes_on() {
    let mut cluster = Cluster::up().unwrap();
    deploy::install(&cluster).unwrap();
    cluster.apply(&cluster.fabric_yaml()).unwrap();
    pods::start_servers(&cluster).unwrap();
    cluster.until_ready(true).unwrap();
    pods::until_connected(&cluster, LIMIT).unwrap();
    let servers = pods::servers(&cluster).unwrap();
    let (first, second, third) = (&servers[0], &servers[1], &servers[2]);
    // As the API server has it: one a switch and family.
    let established = |cluster: &Cluster| -> anyhow::Result<u64> {
        let node = cluster.server().json(&["get", "nodenetwork", "node1"])?;
        Ok(node["status"]["sessions"]["established"].as_u64().unwrap_or_default())
    };
    let until_told = |cluster: &Cluster, sessions: u64| {
        until(LIMIT, &format!("{sessions} sessions in the status of node1"), || {
            let now = established(cluster)?;
            anyhow::ensure!(now == sessions, "{now} sessions");
            Ok(Some(()))
        })
    };
    until_told(&cluster, 4).unwrap();

    let start = Instant::now();
    cluster.server_mut().kill().unwrap();
    // Sessions and forwarding do not notice.
    let pair = Pair { a: first.side(&cluster).unwrap(), b: second.side(&cluster).unwrap() };
    let meter = Meter::start(&[pair], Plan { flows: 4, ..Plan::default() }).unwrap();
    // The plugin is called straight, as a runtime calls it.
    let machine = cluster.machine(1);
    let traces = machine.pods_of_plugin().unwrap();
    for round in 0..5 {
        let pod = machine.add_pod(&format!("away-{round}")).unwrap();
        assert!(pod.contains("10.244."), "{pod}");
    }
    for round in 0..5 {
        machine.remove_pod(&format!("away-{round}")).unwrap();
    }
    assert_eq!(machine.pods_of_plugin().unwrap(), traces, "traces of pods that are gone");
    // The daemon's container is killed; the kubelet starts it again without asking anybody.
    let daemon = machine.daemon().unwrap();
    machine.run(&["kill", "-9", &daemon]).unwrap();
    until(LIMIT, "the kubelet to start another daemon", || {
        Ok(machine.daemon().ok().filter(|pid| *pid != daemon))
    })
    .unwrap();
    until(LIMIT, "its sessions", || {
        Ok(machine
            .run(&["ip", "route", "show", "proto", "199"])
            .ok()
            .filter(|routes| routes.contains("10.244.")))
    })
    .unwrap();
    let report = meter.stop().unwrap();
    assert_eq!(report.lost(), 0, "{report}");

    // A switch dies: its routes go when its sessions do, and everybody is reached over the other one.
    cluster.lab().kill_and_isolate("tor1").unwrap();
    reaches(&cluster, first, second).unwrap();
    reaches(&cluster, second, third).unwrap();

    // A node loses its power. What it forwards for is back once its daemon runs; the kubelet cannot start it, because it
    // does not know its pods without the API server.
    cluster.machine(3).power_off().unwrap();
    cluster.machine(3).boot().unwrap();
    cluster.machine(3).start_daemon(&cluster.server().url()).unwrap();
    let machine = cluster.machine(3);
    until(LIMIT, "node3 to have routes of the others", || {
        let routes = machine.run(&["ip", "route", "show", "proto", "199"])?;
        Ok(routes.contains("10.244.").then_some(()))
    })
    .unwrap();

    until(outage() + LIMIT, "the outage to be over", || Ok((start.elapsed() >= outage()).then_some(())))
        .unwrap();
    cluster.server_mut().start().unwrap();
    let start = Instant::now();
    // What the server was told before is not right any more: half of the sessions are with the dead switch.
    until_told(&cluster, 2).unwrap();
    println!("status right after {:.1?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(30));
}
