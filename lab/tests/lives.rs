//! How nodes start, stay healthy, end and come back.
//!
//! Need root, as labs of the daemon do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Exit, Health, Lab, until};
use support::{File, kill, text};

const PATIENCE: Duration = Duration::from_secs(10);

fn runner(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_towpath-lab"));
    command.args(args);
    command
}

/// State of a node, as `lab list` shows it.
fn state(lab: &str, node: &str) -> String {
    let output = runner(&["list", lab, "-o", "json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = json[lab].as_array().unwrap();
    let node = nodes.iter().find(|entry| entry["name"] == node).unwrap();
    node["state"].as_str().unwrap().to_owned()
}

#[test]
fn commands_of_stages_run_where_and_when_the_file_says() {
    let shared = tempfile::tempdir().unwrap();
    let trace = shared.path().join("trace");
    let file = File::new(
        "stages",
        &format!(
            " nodes:
  a:
   binds: [\"{bind}:/shared\"]
   startup-delay: 1
   exec: [sh -c 'echo exec >> /shared/trace']
   stages:
    create:
     exec: [{{command: sh -c 'echo create on the host >> {trace}', target: host}}, {{command: sh -c 'echo created >> /shared/trace', phase: on-exit}}]
    create-links: {{exec: [{{command: sh -c 'ls /sys/class/net | tr \"\\n\" \" \" >> /shared/trace'}}]}}
    configure: {{exec: [{{command: sh -c 'ls /sys/class/net | tr \"\\n\" \" \" >> /shared/trace'}}, {{command: sh -c 'echo configured >> /shared/trace', phase: on-exit}}]}}
  b: {{exec: [cat /sys/class/net/e/carrier], stages: {{configure: {{exec: [{{command: cat topo.clab.yml, target: host}}]}}}}}}
  c: {{cmd: \"sh -c 'exit 3'\", restart-policy: \"no\"}}
  d: {{stages: {{create: {{wait-for: [{{node: c, stage: exit}}]}}}}}}
 links: [{{endpoints: [\"a:e\", \"b:e\"]}}]
",
            bind = shared.path().display(),
            trace = trace.display()
        ),
    );
    let begun = Instant::now();
    let lab = file.up();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(lab.warnings(), [] as [String; 0]);
    assert_eq!(
        fs::read_to_string(&trace).unwrap(),
        "create on the host\ncreated\nlo e lo configured\nexec\n"
    );
    // `b` did not wait for `a`, which starts late: its end was there without a carrier.
    let log = fs::read_to_string(lab.node("b").log()).unwrap();
    assert!(log.lines().any(|line| line == "0"), "{log}");
    assert!(log.contains("name: stages-"), "{log}");
    assert_eq!(text(&lab, "b", &["cat", "/sys/class/net/e/carrier"]), "1");
    assert_eq!(lab.node("c").status().unwrap().last_exit, Some(Exit::Code(3)));
    assert!(lab.node("d").status().is_ok());
    assert_eq!(state(&file.name, "c"), "exited (3)");
}

#[test]
fn a_health_check_follows_the_node() {
    let file = File::new(
        "health",
        " nodes:
  a: {cmd: sleep 3600, healthcheck: {test: [CMD, test, -e, /ok], interval: 1, retries: 1}}
  slow: {healthcheck: {test: [CMD, sleep, \"3600\"], timeout: 1, retries: 1}}
",
    );
    let lab = file.up();
    let health = |node: &str| lab.node(node).status().unwrap().health.unwrap();
    until(PATIENCE, || health("a") == Health::Unhealthy).unwrap();
    assert_eq!(state(&file.name, "a"), "unhealthy");
    lab.node("a").write_file("/ok", "").unwrap();
    until(PATIENCE, || health("a") == Health::Healthy).unwrap();
    assert_eq!(state(&file.name, "a"), "healthy");
    lab.node("a").stop().unwrap();
    assert_eq!(health("a"), Health::Starting);
    assert_eq!(state(&file.name, "a"), "stopped");
    until(PATIENCE, || health("slow") == Health::Unhealthy).unwrap();
    until(PATIENCE, || !lab.node("slow").exec(&["pgrep", "sleep"]).unwrap().success()).unwrap();
}

#[test]
fn a_main_process_is_run_again_as_its_policy_says() {
    let file = File::new(
        "policy",
        " nodes:
  always: {cmd: \"true\"}
  never: {cmd: \"false\", restart-policy: \"no\"}
  fine: {cmd: \"true\", restart-policy: on-failure}
  twice: {cmd: \"false\", restart-policy: on-failure:1}
",
    );
    let lab = file.up();
    let status = |node: &str| lab.node(node).status().unwrap();
    until(PATIENCE, || status("always").starts >= 3).unwrap();
    until(PATIENCE, || status("twice").finished).unwrap();
    let starts = ["never", "fine", "twice"].map(|node| (status(node).starts, status(node).finished));
    assert_eq!(starts, [(1, true), (1, true), (2, true)]);
    assert_eq!(state(&file.name, "fine"), "exited (0)");
    // On request it runs again, with its attempts as at first.
    lab.node("twice").start().unwrap();
    until(PATIENCE, || status("twice").starts == 4 && status("twice").finished).unwrap();
}

#[test]
fn a_main_process_that_cannot_be_started_ends_the_start_of_the_lab() {
    for (settings, expected) in [
        ("cmd: nosuch", "cannot start `nosuch`: there is no such program"),
        ("cmd: sleep 1, user: nosuch", "\"nosuch\" is not in /etc/passwd"),
    ] {
        let file = File::new("nostart", &format!(" nodes: {{a: , b: {{{settings}}}}}\n"));
        let error = Lab::up(file.path()).unwrap_err().to_string();
        assert!(error.contains("node b: ") && error.contains(expected), "{error}");
        assert_eq!(file.leftovers(), [] as [String; 0]);
    }
}

#[test]
fn a_dead_node_shows_and_is_in_nobodys_way() {
    let file = File::new("dead", " nodes: {a: , b: }\n");
    let lab = file.up();
    kill(lab.node("b").init_pid().unwrap().try_into().unwrap());
    until(PATIENCE, || state(&file.name, "b") == "dead").unwrap();
    assert_eq!(state(&file.name, "a"), "running");
    lab.down().unwrap();
    assert_eq!(file.leftovers(), [] as [String; 0]);
}

#[test]
fn programs_can_run_as_others_elsewhere_and_with_more_in_their_environment() {
    let file = File::new("exec", " nodes: {a: {env: {A: file}}, b: }\n");
    let lab = file.up();
    let args = ["exec", "-l", &file.name, "-e", "A=cli", "-e", "B", "-u", "nobody", "-w", "/tmp", "a"];
    let script = "id -un; pwd; echo $A $B; cat";
    let mut child = runner(&args)
        .args(["sh", "-c", script])
        .env("B", "here")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "nobody\n/tmp\ncli here\ntyped\n");
    let failed = |args: &[&str]| String::from_utf8(runner(args).output().unwrap().stderr).unwrap();
    assert!(failed(&["exec", "-l", &file.name, "c", "true"]).contains("it has a, b"));
    assert!(failed(&["exec", "-l", &file.name, "-t", "a", "true"]).contains("-t needs a terminal"));
    drop(lab);
}

#[test]
fn a_program_can_have_a_terminal_of_the_node() {
    use std::os::fd::AsFd;
    let file = File::new("tty", " nodes: {a: }\n");
    let lab = file.up();
    let (ours, programs) = lab.node("a").terminal().unwrap();
    let options = lab::ExecOptions { terminal: true, ..lab::ExecOptions::default() };
    let exit = lab.node("a").exec_with(
        &["sh", "-c", "tty; echo here > /dev/tty; exit 4"],
        [programs.as_fd(); 3],
        &options,
    );
    assert_eq!(exit.unwrap(), Exit::Code(4));
    // A terminal may hand over a line at a time.
    let (mut terminal, mut text) = (fs::File::from(ours), String::new());
    while !text.contains("\nhere\n") {
        let mut chunk = [0; 4096];
        let got = terminal.read(&mut chunk).unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk[..got]).replace('\r', ""));
    }
    assert!(text.starts_with("/dev/pts/"), "{text:?}");
}

#[test]
fn logs_can_be_followed_until_the_lab_is_down() {
    let file = File::new("logs", " nodes: {a: {cmd: \"sh -c 'echo first; read x; sleep 3600'\"}, bb: }\n");
    let lab = file.up();
    let mut logs = runner(&["logs", "-l", &file.name, "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(logs.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("a  | first\n") {
        assert!(printed.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let log = lab.node("bb").log().to_owned();
    fs::OpenOptions::new().append(true).open(log).unwrap().write_all(b"third\nrest").unwrap();
    lab.down().unwrap();
    printed.read_to_string(&mut text).unwrap();
    assert!(logs.wait().unwrap().success());
    for line in ["bb | third\n", "bb | rest\n"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn folders_in_memory_and_shared_memory_are_a_nodes_own() {
    let file = File::new("memory", " nodes: {a: {tmpfs: {/scratch/x: \"size=1m,mode=700\"}}, b: }\n");
    let lab = file.up();
    let mounts = text(&lab, "a", &["cat", "/proc/mounts"]);
    assert!(mounts.contains(" /scratch/x tmpfs rw") && mounts.contains("size=1024k"), "{mounts}");
    lab.node("a").write_file("/dev/shm/mine", "x").unwrap();
    assert!(lab.node("b").read_file("/dev/shm/mine").is_err());
}
