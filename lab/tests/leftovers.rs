//! Whatever is killed, nothing of a lab stays, and its next start works.
//!
//! Needs root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lab::{Lab, until};
use support::{File, kill, runner};

const PATIENCE: Duration = Duration::from_secs(10);

/// Eight nodes in a ring, with programs of their own, a bind and a shared network.
fn ring(test: &str) -> File {
    let mut topology = String::from(" nodes:\n");
    for node in 0..8 {
        topology +=
            &format!("  n{node}: {{cmd: \"sh -c 'sleep 3600 & sleep 3600'\", binds: [\"/etc:/x:ro\"]}}\n");
    }
    topology += "  side: {network-mode: \"container:n0\", exec: [sh -c 'sleep 3600 & exit 0']}\n links:\n";
    for node in 0..8 {
        topology += &format!(" - endpoints: [\"n{node}:eth1\", \"n{}:eth2\"]\n", (node + 1) % 8);
    }
    File::new(test, &topology)
}

fn start(args: &[&str]) -> Child {
    runner().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits at most `patience` for the end of `child`, then kills it.
fn kill_after(mut child: Child, patience: Duration) {
    let ended = until(patience, || child.try_wait().unwrap().is_some()).is_ok();
    if !ended {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// How long `up` takes here and now.
fn time_up(file: &File) -> Duration {
    let begin = Instant::now();
    up(file);
    let whole = begin.elapsed();
    assert!(start(&["down", &file.name]).wait().unwrap().success());
    whole
}

fn up(file: &File) {
    assert!(start(&["up", file.path().to_str().unwrap()]).wait().unwrap().success());
}

fn assert_gone(file: &File, what: &str) {
    if until(PATIENCE, || file.leftovers().is_empty()).is_err() {
        panic!("{what}: {:#?}", file.leftovers());
    }
}

#[test]
fn a_runner_killed_at_any_moment_of_up_leaves_nothing() {
    let file = ring("kill-up");
    let whole = time_up(&file);
    for step in 0..20_u32 {
        kill_after(start(&["up", file.path().to_str().unwrap()]), whole * step / 20);
        // A lab that was up already, and was let go of, is a lab that runs; and a runner that dies
        // before there is a holder leaves its folder, with nobody there to take it away.
        let settled = || {
            let up = Lab::running(&file.name).is_ok_and(|lab| lab.nodes().all(|node| node.status().is_ok()));
            up || file.leftovers().iter().all(|left| *left == file.state().display().to_string())
        };
        until(PATIENCE, settled)
            .unwrap_or_else(|_| panic!("killed after {step}/20: {:#?}", file.leftovers()));
        if file.state().exists() {
            assert!(start(&["down", &file.name]).wait().unwrap().success());
        }
        assert_gone(&file, &format!("killed after {step}/20"));
    }
    file.up().down().unwrap();
    assert_gone(&file, "after a whole run");
}

#[test]
fn a_holder_killed_at_any_moment_of_up_is_told_and_leaves_nothing() {
    let file = ring("kill-holder");
    let whole = time_up(&file);
    for step in 0..10_u32 {
        let mut up = start(&["up", file.path().to_str().unwrap()]);
        let holder = file.state().join("holder.json");
        until(PATIENCE, || fs::read(&holder).is_ok_and(|text| text.ends_with(b"}"))).unwrap();
        let moment = Instant::now() + whole * step / 20;
        until(PATIENCE, || Instant::now() >= moment).unwrap();
        kill(file.holder());
        let status = up.wait().unwrap();
        if status.success() {
            // It was up and let go of before the kill: what is left is for `down` to clear.
            assert!(start(&["down", &file.name]).wait().unwrap().success());
        }
        assert_gone(&file, &format!("killed after {step}/20"));
    }
    file.up().down().unwrap();
}

#[test]
fn half_of_a_labs_processes_can_be_killed_and_down_clears_the_rest() {
    let file = ring("kill-half");
    for round in 0..4 {
        let lab = file.up();
        let inits: Vec<u32> = lab.nodes().map(|node| node.init_pid().unwrap()).collect();
        let mains: Vec<u32> = lab.nodes().filter_map(|node| node.pid().ok()).collect();
        let all = [inits, mains].concat();
        for pid in all.iter().skip(round % 2).step_by(2) {
            kill(i32::try_from(*pid).unwrap());
        }
        let begin = Instant::now();
        lab.down().unwrap();
        assert!(begin.elapsed() < PATIENCE);
        assert_gone(&file, &format!("round {round}"));
    }
}

#[test]
fn a_killed_down_can_be_repeated() {
    let file = ring("kill-down");
    for step in 0..10_u32 {
        up(&file);
        kill_after(start(&["down", &file.name]), Duration::from_millis(3) * step);
        // Gone already, or still there in part: either way the next `down` or `up` has a free field.
        if file.state().exists() {
            start(&["down", &file.name]).wait().unwrap();
        }
        assert_gone(&file, &format!("down killed after {} ms", 3 * step));
    }
    up(&file);
    kill_after(start(&["down", &file.name]), Duration::from_millis(2));
    // Killed before it did anything, it has left a whole lab.
    if Lab::running(&file.name).is_ok() {
        start(&["down", &file.name]).wait().unwrap();
    }
    file.up().down().unwrap();
    assert_gone(&file, "after a new start");
}
