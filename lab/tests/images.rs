//! What containers of routing daemons bring along is there: folders, users, pipes, scripts.
//!
//! Need root, and the daemons in the folder that $TOWPATH_TOOLS names (`make setup`).

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::{Lab, until};
use support::File;

const PATIENCE: Duration = Duration::from_secs(20);

/// A lab of one node `n`, whose daemon has this file as its configuration.
fn up(image: &str, target: &str, config: &str, more: &str) -> (File, Lab) {
    let tools =
        std::env::var("TOWPATH_TOOLS").expect("TOWPATH_TOOLS must name the unpacked daemons: make setup");
    assert!(Path::new(&tools).is_dir(), "{tools} is no folder: make setup");
    let base = image.rsplit('/').next().unwrap();
    let text = format!(" nodes: {{n: {{image: {image}, binds: [\"config:{target}\"]{more}}}}}\n");
    let file = File::new(&format!("image-{base}"), &text);
    fs::write(file.path().join("config"), config).unwrap();
    let lab = file.up();
    (file, lab)
}

fn answers(lab: &Lab, argv: &[&str]) {
    let node = lab.node("n");
    let good = || node.exec(argv).unwrap().success();
    let outcome = until(PATIENCE, good);
    let log = fs::read_to_string(node.log()).unwrap();
    assert!(outcome.is_ok(), "{argv:?}: {:?}\n{log}", node.exec(argv).unwrap());
    assert!(node.status().unwrap().starts <= 1, "{log}");
}

#[test]
fn gobgp_runs() {
    let config = "[global.config]\n  as = 65001\n  router-id = \"10.0.0.1\"\n";
    let (_file, lab) = up("jauderho/gobgp", "/config/gobgp.toml", config, "");
    answers(&lab, &["gobgp", "global"]);
}

#[test]
fn openbgpd_runs_in_its_own_cage() {
    let config = "AS 65001\nrouter-id 10.0.0.1\nfib-update no\n";
    let (_file, lab) = up("openbgpd/openbgpd", "/etc/bgpd/bgpd.conf", config, "");
    // It wants a configuration that nobody else can write to, whoever the machine's file belongs to.
    answers(&lab, &["bgpctl", "show"]);
}

#[test]
fn exabgp_runs_and_can_be_talked_to() {
    let config = "neighbor 10.0.0.2 {\n router-id 10.0.0.1;\n local-address 10.0.0.1;\n local-as 65001;\n peer-as 65002;\n}\n";
    let (_file, lab) = up("pierky/exabgp", "/etc/exabgp/exabgp.conf", config, "");
    answers(&lab, &["exabgpcli", "show", "neighbor", "summary"]);
}

#[test]
fn frr_can_be_started_by_hand_and_by_its_containers_script() {
    let by_hand =
        ", cmd: bash, exec: [sed -i s/bgpd=no/bgpd=yes/ /etc/frr/daemons, /usr/lib/frr/frrinit.sh start]";
    let (_file, lab) = up("quay.io/frrouting/frr", "/etc/frr/frr.conf", "hostname n\n", by_hand);
    answers(&lab, &["vtysh", "-c", "show bgp summary"]);
    let script = ", entrypoint: /usr/lib/frr/docker-start";
    drop(lab);
    let (_file, lab) = up("quay.io/frrouting/frr", "/etc/frr/frr.conf", "hostname n\n", script);
    answers(&lab, &["vtysh", "-c", "show ip route"]);
}
