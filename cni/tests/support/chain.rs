//! A conflist's plugins one after the other, as the reference library runs them.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Answer, Call, Node, Pod};

/// A chain of plugins.
pub struct Chain {
    version: String,
    plugins: Vec<(PathBuf, Value)>,
    runtime: Value,
}

/// Where Debian's containernetworking-plugins were unpacked.
pub fn reference_plugin(name: &str) -> PathBuf {
    let tools = std::env::var_os("TOWPATH_TOOLS")
        .expect("TOWPATH_TOOLS is not set; run: export TOWPATH_TOOLS=$(tests/setup/packages.sh)");
    let path = PathBuf::from(tools).join("usr/lib/cni").join(name);
    assert!(path.exists(), "{}: no reference plugin; run: make setup", path.display());
    path
}

/// portmap runs iptables, which is unpacked beside the plugins and has its usual names only once it is installed.
fn iptables(node: &Node) -> [(&'static str, String); 3] {
    let (tools, names) = (reference_plugin("portmap"), node.path("bin"));
    let tools = tools.ancestors().nth(4).expect("TOOLS/usr/lib/cni/portmap");
    if !names.exists() {
        std::fs::create_dir(&names).unwrap();
        for name in ["iptables", "ip6tables"] {
            let program = tools.join("usr/sbin/xtables-nft-multi");
            std::os::unix::fs::symlink(program, names.join(name)).unwrap();
        }
    }
    let libraries = tools.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    [
        ("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", names.display())),
        ("LD_LIBRARY_PATH", libraries.display().to_string()),
        ("XTABLES_LIBDIR", libraries.join("xtables").display().to_string()),
    ]
}

impl Chain {
    /// A chain of this version: each plugin with its configuration, and what the runtime asks for.
    pub fn new(version: &str, plugins: Vec<(PathBuf, Value)>, runtime: Value) -> Self {
        Self { version: version.to_owned(), plugins, runtime }
    }

    /// ADD of every plugin in order; the last result, or the first refusal.
    pub fn add(&self, node: &Node, pod: &Pod) -> Result<Value, Answer> {
        let mut result = None;
        for plugin in &self.plugins {
            let answer = self.run("ADD", node, pod, plugin, result.as_ref());
            if !answer.success {
                return Err(answer);
            }
            result = Some(answer.result());
        }
        Ok(result.expect("a chain has a plugin"))
    }

    /// CHECK of every plugin in order; those that complained.
    pub fn check(&self, node: &Node, pod: &Pod, result: &Value) -> Vec<Answer> {
        let answers = self.plugins.iter().map(|plugin| self.run("CHECK", node, pod, plugin, Some(result)));
        answers.filter(|answer| !answer.success).collect()
    }

    /// DEL of every plugin, the last one first; those that failed.
    pub fn del(&self, node: &Node, pod: &Pod, result: Option<&Value>) -> Vec<Answer> {
        let answers = self.plugins.iter().rev().map(|plugin| self.run("DEL", node, pod, plugin, result));
        answers.filter(|answer| !answer.success).collect()
    }

    fn run(
        &self,
        command: &str,
        node: &Node,
        pod: &Pod,
        (path, config): &(PathBuf, Value),
        previous: Option<&Value>,
    ) -> Answer {
        let mut config = config.clone();
        config["cniVersion"] = self.version.as_str().into();
        config["name"] = "net".into();
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let capabilities = config["capabilities"].as_object().cloned().unwrap_or_default();
        let asked: serde_json::Map<String, Value> = self
            .runtime
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| capabilities.get(*name) == Some(&json!(true)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !asked.is_empty() {
            config["runtimeConfig"] = asked.into();
        }
        let mut call = Call::new(command).of(path).pod(pod, "eth0").config(&config);
        for (name, value) in iptables(node) {
            call = call.variable(name, &value);
        }
        node.run(&call)
    }
}
