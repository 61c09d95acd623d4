//! `bgp-speaker -f`: a route server without a kernel FIB. What one neighbour says reaches the other; a changed file
//! is taken up as it is written; SIGTERM ends it.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use towpath_tests::agent::{LIMIT, towpath};
use towpath_tests::feeder::Feeder;
use towpath_tests::feeder::message::{Attributes, announce};
use towpath_tests::rack::{NODE, Rack, asn, document, peer};
use towpath_tests::wait::until;

/// Ended with the test, however it ends.
struct Speaker(Child);

impl Drop for Speaker {
    fn drop(&mut self) {
        // Ended already is fine: that is what the test may have asked for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(rack: &Rack, folder: &std::path::Path) -> Speaker {
    let program = towpath().unwrap().with_file_name("bgp-speaker");
    assert!(program.is_file(), "{} is missing; run: make build", program.display());
    let child = rack.node.run(|| {
        let mut command = Command::new(&program);
        command.arg("-f").arg(folder).args(["--node", "node"]).stdin(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    });
    Speaker(child.unwrap())
}

fn has(feeder: &Feeder, prefix: &str) -> bool {
    feeder.heard().routes.contains_key(&prefix.parse().unwrap())
}

#[test]
fn the_speaker_alone_passes_routes_on_and_installs_none() {
    let rack = Rack::new(2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let base = format!(
        "{NODE}{}{}{}",
        document("NetworkConfig", "default", "transit: true"),
        peer(1, ""),
        peer(2, "")
    );
    std::fs::write(folder.path().join("all.yaml"), &base).unwrap();
    let mut speaker = start(&rack, folder.path());
    let (one, two) = (rack.feeder(1).unwrap(), rack.feeder(2).unwrap());
    let attributes = Attributes::new(&[asn(1)], IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)));
    one.send(&announce(&attributes, &["203.0.113.0/24".parse().unwrap()])).unwrap();
    until(LIMIT, "the route at the other neighbour", || Ok(has(&two, "203.0.113.0/24").then_some(())))
        .unwrap();
    let routes = rack.node.ip("route show proto 199").unwrap();
    assert_eq!(routes.trim(), "", "it installs nothing");

    let more = document("Advertisement", "more", "source: { static: { cidrs: [198.51.100.0/24] } }");
    std::fs::write(folder.path().join("more.yaml"), more).unwrap();
    until(LIMIT, "what a new file originates", || Ok(has(&one, "198.51.100.0/24").then_some(()))).unwrap();
    assert!(!one.heard().closed, "the session stayed");

    kill_process(Pid::from_child(&speaker.0), Signal::TERM).unwrap();
    let status = until(Duration::from_secs(10), "the end", || Ok(speaker.0.try_wait()?)).unwrap();
    assert!(status.success(), "{status}");
}
