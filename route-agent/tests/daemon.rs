//! The daemon as a process, in a network namespace of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const TOWPATH: &str = env!("CARGO_BIN_EXE_towpath");
const PATIENCE: Duration = Duration::from_secs(20);
const CONFIG: &str = "\
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: { name: node1 }
spec: { asn: 65001, routerID: 10.0.0.11 }
";

/// Runs `test` on a thread of its own in a fresh namespace; what it starts is there too.
fn in_namespace(test: impl FnOnce(&Path) + Send + 'static) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("daemontest-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let body = move || {
        run("ip", &["netns", "add", &name]);
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        // The thread keeps the namespace; without the name it ends with the thread.
        run("ip", &["netns", "del", &name]);
        run("ip", &["link", "set", "lo", "up"]);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("conf")).unwrap();
        fs::write(folder.path().join("conf/node.yaml"), CONFIG).unwrap();
        test(folder.path());
    };
    std::thread::spawn(body).join().unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A daemon with its own socket and state folder, killed when dropped.
struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path, name: &str) -> Self {
        let log = File::create(folder.join(format!("{name}.log"))).unwrap();
        let child = Command::new(TOWPATH)
            .args(["agent", "--node", "node1", "-f"])
            .arg(folder.join("conf"))
            .arg("--socket")
            .arg(folder.join(format!("{name}.sock")))
            .arg("--state-dir")
            .arg(folder.join(format!("{name}.state")))
            // Never the machine's own.
            .args(["--cni-conf-dir", ""])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Its exit code.
    fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        until("the end of the daemon", || {
            code = self.0.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(folder: &Path, name: &str) -> Output {
    let socket = folder.join(format!("{name}.sock"));
    Command::new(TOWPATH).args(["status", "-o", "json", "--socket"]).arg(socket).output().unwrap()
}

fn answers(folder: &Path, name: &str) -> bool {
    String::from_utf8_lossy(&status(folder, name).stdout).contains("\"node\": \"node1\"")
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_daemon_in_the_namespace_ends_and_says_which_one_runs() {
    in_namespace(|folder| {
        let mut first = Daemon::start(folder, "first");
        until("first", || answers(folder, "first"));
        let mut second = Daemon::start(folder, "second");
        assert_eq!(second.ended(), Some(1));
        let said = fs::read_to_string(folder.join("second.log")).unwrap();
        assert!(said.contains(&format!("process {}, towpath", first.0.id())), "{said}");
        assert!(said.contains("stop it first"), "{said}");
        assert!(!folder.join("second.sock").exists());
        assert!(answers(folder, "first"), "it goes on");
        first.signal(Signal::TERM);
        assert_eq!(first.ended(), Some(0));
        assert!(!folder.join("first.sock").exists());
        let _third = Daemon::start(folder, "second");
        until("third", || answers(folder, "second"));
    });
}

#[test]
fn a_state_folder_serves_one_daemon_also_across_namespaces() {
    in_namespace(|folder| {
        let state = folder.join("first.state");
        fs::create_dir(&state).unwrap();
        let lock = File::create(state.join("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let mut daemon = Daemon::start(folder, "first");
        assert_eq!(daemon.ended(), Some(1));
        let said = fs::read_to_string(folder.join("first.log")).unwrap();
        assert!(said.contains("--state-dir"), "{said}");
    });
}

#[test]
fn probes_ask_for_life_start_and_readiness() {
    in_namespace(|folder| {
        let health = |probe: &[&str]| {
            let socket = folder.join("first.sock");
            Command::new(TOWPATH).arg("health").args(probe).arg("--socket").arg(socket).output().unwrap()
        };
        assert!(!health(&["--live"]).status.success(), "nobody is there");
        let mut daemon = Daemon::start(folder, "first");
        for probe in [&["--live"][..], &["--started"], &["--ready"], &[]] {
            until("a healthy daemon", || health(probe).status.success());
        }
        assert_eq!(String::from_utf8_lossy(&health(&[]).stdout), "ok\n");
        assert_eq!(health(&["--live", "--ready"]).status.code(), Some(2), "one question at a time");
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.ended(), Some(0));
        assert!(!health(&["--live"]).status.success());
    });
}
