//! From `kubectl apply -k deploy/` to a pod network, in a real cluster behind two switches, and what an operator does next:
//! ask it, update it, delete it, apply it again, give the nodes back.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy allows it in test functions only")]

use std::time::{Duration, Instant};

use serde_json::Value;
use towpath_tests::agent;
use towpath_tests::kube::{Cluster, LIMIT, Machine, deploy, pods, program};
use towpath_tests::meter::{Meter, Pair, Plan, Report};
use towpath_tests::wait::until;

/// Twice what a quiet machine takes and more: the figure itself is printed.
const BOUND: Duration = Duration::from_secs(120);

/// Applies everything and waits until it works; says how long that took.
fn install(cluster: &Cluster, what: &str) {
    let start = Instant::now();
    deploy::apply(cluster, "deploy").unwrap();
    cluster.apply(&cluster.fabric_yaml()).unwrap();
    cluster.until_ready(true).unwrap();
    println!("{what}: all nodes Ready after {:.1?}", start.elapsed());
    pods::until_connected(cluster, BOUND).unwrap();
    let elapsed = start.elapsed();
    println!("{what}: pods, switches, Service and DNS after {elapsed:.1?}");
    assert!(elapsed < BOUND, "{elapsed:?}");
}

#[test]
fn a_manifest_alone_makes_a_network_that_updates_and_deletions_do_not_disturb() {
    let cluster = Cluster::up().unwrap();
    cluster.import(&deploy::image().unwrap()).unwrap();
    pods::start_servers(&cluster).unwrap();
    // Nothing gives pods a network yet, and the kubelets say so.
    cluster.until_ready(false).unwrap();
    let bare = traces(&cluster);
    install(&cluster, "kubectl apply");
    the_same_again_is_nothing_to_do(&cluster);
    daemons_are_asked_by_kubectl(&cluster);

    // A rolling update under traffic between all nodes.
    let meters = traffic(&cluster);
    let start = Instant::now();
    cluster.kubectl(&["-n", deploy::NAMESPACE, "rollout", "restart", "daemonset/towpath"]).unwrap();
    cluster.until_rolled_out(deploy::NAMESPACE, "daemonset/towpath").unwrap();
    println!("rolling update: {:.1?}", start.elapsed());
    lossless(meters, "during a rolling update");

    // The whole manifest goes in one go: definitions and with them all resources, roles, daemons. The kernels forward as they
    // did, and the switches keep the routes of nodes that said they would be back. Applied again, all is as it was.
    let meters = traffic(&cluster);
    let before = traces(&cluster);
    let start = Instant::now();
    deploy::delete(&cluster, "deploy").unwrap();
    println!("kubectl delete: {:.1?}", start.elapsed());
    assert_eq!(traces(&cluster), before);
    install(&cluster, "kubectl apply, again");
    lossless(meters, "while the manifest was deleted and applied again");

    deploy::delete(&cluster, "deploy").unwrap();
    assert_eq!(traces(&cluster), before, "the same once more");
    uninstall_gives_the_nodes_back(&cluster, &bare);
}

/// What towpath leaves on each node: files, routes, next hops, sysctls.
fn traces(cluster: &Cluster) -> Vec<String> {
    const SCRIPT: &str = "ls -A /etc/cni/net.d /opt/cni/bin /var/lib/towpath 2>/dev/null | grep -v '^$' || true
        find /etc -name '*towpath*' -not -path '/etc/towpath*'
        for proto in 199 200; do for f in -4 -6; do ip $f route show table all proto $proto; done; done | sed 's/ nhid [0-9]*//'
        ip nexthop show proto 199 | wc -l
        cd /proc/sys/net; head ipv4/nexthop_compat_mode ipv4/fib_multipath_hash_policy ipv6/fib_multipath_hash_policy";
    let machines = cluster.machines().iter();
    machines.map(|machine| machine.run(&["sh", "-c", SCRIPT]).unwrap()).collect()
}

/// Everything that was applied, applied once more: no object is another one, and no session notices.
fn the_same_again_is_nothing_to_do(cluster: &Cluster) {
    cluster.until_rolled_out(deploy::NAMESPACE, "daemonset/towpath").unwrap();
    let manifest = || {
        let objects =
            cluster.server().json(&["get", "-k", &deploy::folder(cluster, "deploy").unwrap()]).unwrap();
        let version = |object: &Value| {
            format!(
                "{}/{} {}",
                object["kind"], object["metadata"]["name"], object["metadata"]["resourceVersion"]
            )
        };
        objects["items"].as_array().unwrap().iter().map(version).collect::<Vec<_>>()
    };
    // What daemons say in a status has no part in a generation.
    let resources = || {
        let objects = cluster.server().json(&["get", "towpath"]).unwrap();
        let version = |object: &Value| {
            let metadata = &object["metadata"];
            format!("{}/{} {} {}", object["kind"], metadata["name"], metadata["uid"], metadata["generation"])
        };
        objects["items"].as_array().unwrap().iter().map(version).collect::<Vec<_>>()
    };
    let before = (manifest(), resources(), sessions(cluster));
    assert!(before.0.len() > 10 && before.1.len() > 10, "{before:#?}");
    deploy::apply(cluster, "deploy").unwrap();
    cluster.apply(&cluster.fabric_yaml()).unwrap();
    assert_eq!((manifest(), resources(), sessions(cluster)), before);
}

/// What would be another one if a session of any node had been anything but left alone.
fn sessions(cluster: &Cluster) -> Vec<String> {
    let of = |machine: &Machine| {
        let peers: Value =
            serde_json::from_str(&machine.run(&["towpath", "peers", "-o", "json"]).unwrap()).unwrap();
        let peers = peers.as_array().unwrap_or_else(|| panic!("{peers:#}"));
        let said = |peer: &Value| {
            let (endpoint, downs) = (&peer["remote_endpoint"], &peer["down_count"]);
            format!(
                "{} {} {} {} {endpoint} {downs}",
                machine.name(),
                peer["peer"],
                peer["state"],
                peer["since"]
            )
        };
        let said: Vec<String> = peers.iter().map(said).collect();
        assert!(said.len() == 4 && said.iter().all(|one| one.contains("Established")), "{said:#?}");
        said
    };
    cluster.machines().iter().flat_map(of).collect()
}

/// `kubectl towpath`: what the nodes wrote, and each daemon's own answer, from inside its container.
fn daemons_are_asked_by_kubectl(cluster: &Cluster) {
    let folder = cluster.folder().join("plugin");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(agent::towpath().unwrap(), folder.join("kubectl-towpath")).unwrap();
    let kubectl = program("kubectl").unwrap();
    let path = format!("PATH={}:{}:/usr/bin:/bin", folder.display(), kubectl.parent().unwrap().display());
    let config = format!("KUBECONFIG={}", cluster.server().kubeconfig().display());
    let ask = |arguments: &[&str]| {
        let argv = [&["env", &path, &config, "kubectl", "towpath"], arguments].concat();
        let output = cluster.server().netns().exec(&argv).unwrap();
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.code(), text)
    };
    for machine in cluster.machines() {
        let name = machine.name();
        let (code, said) = ask(&["status", "--node", &name]);
        assert!(
            said.contains(&format!("node      {name} ")) && said.contains("4 of 4 established"),
            "{code:?} {said}"
        );
        let (code, said) = ask(&["--node", &name, "routes", "best", "-o", "json"]);
        assert!(code == Some(0) && said.contains("10.244."), "{code:?} {said}");
    }
    // The command's own exit code and words arrive.
    let (code, said) = ask(&["bgp", "reset", "nobody", "--node", "node1"]);
    assert!(code == Some(1) && said.contains("nobody"), "{code:?} {said}");
    let (code, said) = ask(&["status", "--node", "node9"]);
    assert!(
        code == Some(1) && said.contains("node node9: no daemon of towpath runs there"),
        "{code:?} {said}"
    );
    until(LIMIT, "all nodes at a glance", || {
        let (code, said) = ask(&["status"]);
        anyhow::ensure!(code == Some(0) && said.contains("node3"), "{code:?} {said}");
        Ok(Some(()))
    })
    .unwrap();
}

/// The one-shot DaemonSet waits for the pods to go, takes everything away, and says so. No pod starts any more.
fn uninstall_gives_the_nodes_back(cluster: &Cluster, bare: &[String]) {
    const NAMESPACE: &str = "towpath-uninstall";
    let logs = || {
        let selector = format!("app.kubernetes.io/name={NAMESPACE}");
        let arguments =
            ["-n", NAMESPACE, "logs", "--prefix", "-c", "uninstall", "-l", &selector, "--tail=-1"];
        cluster.kubectl(&arguments)
    };
    let everywhere = |words: &str| {
        let said = logs()?;
        let missing = cluster.machines().len() - said.lines().filter(|line| line.contains(words)).count();
        anyhow::ensure!(missing == 0, "{said}");
        Ok(Some(()))
    };
    cluster.kubectl(&["apply", "-k", "deploy/uninstall"]).unwrap();
    until(LIMIT, "every node to say what it waits for", || everywhere("waiting: ")).unwrap();
    assert!(
        !traces(cluster).iter().zip(bare).any(|(now, bare)| now == bare),
        "nothing is gone before the pods are"
    );
    let start = Instant::now();
    cluster.kubectl(&["delete", "daemonset/server"]).unwrap();
    cluster.kubectl(&["-n", "kube-system", "delete", "deployment/coredns"]).unwrap();
    cluster.until_rolled_out(NAMESPACE, "daemonset/towpath-uninstall").unwrap();
    println!("kubectl apply -k deploy/uninstall, and all pods gone: {:.1?}", start.elapsed());
    assert_eq!(traces(cluster), bare, "{}", logs().unwrap());
    everywhere("remove /host/etc/cni/net.d/10-towpath.conflist").unwrap();

    cluster.until_ready(false).unwrap();
    cluster.kubectl(&["delete", "-k", "deploy/uninstall"]).unwrap();
    // No controller gives a node that is not ready a pod; this one is there all the same.
    let late = "{apiVersion: v1, kind: Pod, metadata: {name: late, namespace: default}, spec: {nodeName: node1, \
                tolerations: [{operator: Exists}], containers: [{name: one, image: registry.k8s.io/e2e-test-images/agnhost:2.63.0}]}}";
    cluster.apply(late).unwrap();
    until(LIMIT, "the kubelet to refuse a pod", || {
        let events = cluster.kubectl(&["get", "events", "--field-selector=reason=NetworkNotReady"])?;
        anyhow::ensure!(events.contains("pod/late"), "{events}");
        Ok(Some(()))
    })
    .unwrap();
    assert_eq!(traces(cluster), bare, "and nobody puts anything back");
}

/// Flows between the pods of all nodes, each family, both ways. A pod is in more than one pair: each has ports of its own.
fn traffic(cluster: &Cluster) -> Vec<Meter> {
    let pairs = pods::pairs(cluster).unwrap();
    let start = |(pair, offset): (&Pair, u16)| {
        let base = Plan::default();
        let (source_port, port) = (base.source_port + offset, base.port + offset);
        Meter::start(std::slice::from_ref(pair), Plan { flows: 4, source_port, port, ..base }).unwrap()
    };
    pairs.iter().zip((0..).step_by(100)).map(start).collect()
}

fn lossless(meters: Vec<Meter>, when: &str) {
    let reports: Vec<Report> = meters.into_iter().map(|meter| meter.stop().unwrap()).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (sent, lost) = (sum(Report::sent), sum(Report::lost));
    println!("{when}: {sent} packets between all nodes, {lost} lost");
    assert!(sent > 10_000, "{sent}");
    let hit: Vec<String> = reports.iter().filter(|report| report.lost() > 0).map(Report::to_string).collect();
    assert_eq!(lost, 0, "{}", hit.join("\n"));
}
