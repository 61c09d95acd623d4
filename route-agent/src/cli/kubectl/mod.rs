//! `kubectl towpath`: the command of one node's daemon, or all nodes at a glance.
//!
//! This program under the name `kubectl-towpath` on PATH is a plugin of kubectl. With `--node` it runs the command in
//! that node's pod, by `kubectl exec`; `status` and `peers` without `--node` are read from what the nodes wrote into
//! their `NodeNetwork` objects. Everything goes through kubectl, so that every way to log in that it knows works.

mod nodes;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};

/// The name that kubectl looks for.
const NAME: &str = "kubectl-towpath";

/// What kubectl is told besides the command, and whether a value follows.
const FOR_KUBECTL: [&str; 4] = ["--kubeconfig", "--context", "--cluster", "--user"];

/// Commands that ask or tell a daemon; the others have nothing to do with a running one.
const COMMANDS: [&str; 6] = ["status", "peers", "routes", "drain", "bgp", "ipam"];

const HELP: &str = "\
What towpath does in this cluster

Usage: kubectl towpath COMMAND [ARGUMENTS] [--node NODE]

Commands:
  status   all nodes at a glance; with --node, one screen of that node. Exit 0 when all is well
  peers    BGP sessions of all nodes, or of one
  routes   routes received, accepted, best, installed or advertised
  drain    let no new pods start on a node
  bgp      refresh, reset, shutdown or start sessions
  ipam     show, check and mend addresses of pods

Options:
      --node NODE            the node whose daemon is asked; `status` and `peers` do without
  -n, --namespace NAMESPACE  where the daemons run [default: towpath-system]
  -o, --output OUTPUT        table or json
      --kubeconfig, --context, --cluster, --user VALUE   as kubectl has them
  -h, --help                 this text; with a command and --node, that command's
";

/// Whether this program was started as the plugin.
pub(super) fn is_plugin(program: Option<OsString>) -> bool {
    program.is_some_and(|path| Path::new(&path).file_name().is_some_and(|name| name == NAME))
}

/// What a command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    node: Option<String>,
    namespace: Option<String>,
    /// For every call of kubectl.
    kubectl: Vec<String>,
    /// The daemon's command line.
    command: Vec<String>,
}

/// Takes the plugin's options out of a command line, wherever they stand before `--`.
fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            asked.command.push(argument);
            break;
        }
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let ours = matches!(name, "--node" | "--namespace" | "-n") || FOR_KUBECTL.contains(&name);
        if !ours {
            asked.command.push(argument);
            continue;
        }
        let value =
            inline.or_else(|| arguments.next()).with_context(|| format!("{name}: a value is missing"))?;
        ensure!(!value.is_empty(), "{name}: the value is empty");
        match name {
            "--node" => asked.node = Some(value),
            "--namespace" | "-n" => asked.namespace = Some(value),
            _ => asked.kubectl.push(format!("{name}={value}")),
        }
    }
    asked.command.extend(arguments);
    Ok(asked)
}

/// Does what the plugin's command line says.
pub(super) fn run(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<ExitCode> {
    let asked = parse(arguments)?;
    let word = asked.command.first().map(String::as_str);
    match word {
        None | Some("-h" | "--help" | "help") => {
            print!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        Some("--version" | "-V") => {
            println!("{NAME} {}", env!("CARGO_PKG_VERSION"));
            return Ok(ExitCode::SUCCESS);
        }
        Some(word) if !COMMANDS.contains(&word) => {
            bail!("{word}: not a command of kubectl towpath; it has {}", COMMANDS.join(", "))
        }
        Some(_) => {}
    }
    match &asked.node {
        Some(node) => on_node(&asked, node),
        None => nodes::run(&asked),
    }
}

impl Asked {
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("towpath-system")
    }

    fn kubectl(&self) -> Command {
        let mut command = Command::new("kubectl");
        command.args(&self.kubectl);
        command
    }

    /// What kubectl prints for these arguments.
    fn output(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.kubectl().args(arguments).output().context("running kubectl; is it on PATH?")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), said.trim());
        Ok(output.stdout)
    }
}

/// Becomes `kubectl exec` in the pod of the node's daemon, whose exit code is then ours.
fn on_node(asked: &Asked, node: &str) -> anyhow::Result<ExitCode> {
    let namespace = asked.namespace();
    let selector = format!("--field-selector=spec.nodeName={node},status.phase=Running");
    let labels = "--selector=app.kubernetes.io/name=towpath,app.kubernetes.io/component=agent";
    let pods =
        asked.output(&["get", "pods", "--namespace", namespace, labels, &selector, "--output=name"])?;
    let pods = String::from_utf8(pods).context("kubectl get pods: not UTF-8")?;
    let Some(pod) = pods.lines().next() else {
        bail!(
            "node {node}: no daemon of towpath runs there (kubectl get pods -n {namespace} -o wide shows where they do)"
        );
    };
    let mut command = asked.kubectl();
    command.args(["exec", "--namespace", namespace, pod, "--container=agent"]);
    // So that Ctrl-C ends the command on the node, too.
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        command.args(["--stdin", "--tty"]);
    }
    command.args(["--", "/towpath"]).args(&asked.command);
    Err(command.exec()).context("running kubectl")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> anyhow::Result<Asked> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_of_the_plugin_are_taken_out_wherever_they_stand() {
        let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for line in [
            "routes best --peer tor1 --node node2 -n net",
            "--node=node2 routes --namespace net best --peer tor1",
            "routes -n net best --peer tor1 --node node2",
        ] {
            let asked = parsed(line).unwrap();
            assert_eq!((asked.node.as_deref(), asked.namespace()), (Some("node2"), "net"), "{line}");
            assert_eq!(asked.command, command(&["routes", "best", "--peer", "tor1"]), "{line}");
        }
        let asked = parsed("--context lab bgp reset tor1 --kubeconfig=/k --node n -- --node").unwrap();
        assert_eq!(asked.kubectl, ["--context=lab", "--kubeconfig=/k"]);
        assert_eq!(asked.command, command(&["bgp", "reset", "tor1", "--", "--node"]));
        assert_eq!(parsed("peers").unwrap().namespace(), "towpath-system");
        for line in ["peers --node", "peers --node=", "--context"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn commands_that_ask_no_daemon_are_refused_with_those_that_do() {
        let error = run(["agent".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("agent: not a command") && error.contains("status, peers"), "{error}");
    }

    #[test]
    fn the_plugin_is_known_by_its_name() {
        for (name, plugin) in [("/usr/local/bin/kubectl-towpath", true), ("towpath", false)] {
            assert_eq!(is_plugin(Some(name.into())), plugin, "{name}");
        }
        assert!(!is_plugin(None));
    }
}
