//! A container runtime's side of CNI: configurations, chains, capabilities and results, as libcni handles them.
//!
//! Source: CNI specification 1.1, sections 3 and 4; libcni `api.go`.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::call::{Answer, Call};

/// A network as a runtime knows it: a list of plugins and where to find them.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// `CNI_PATH`; a plugin's `type` is looked up there.
    pub path: Vec<PathBuf>,
    /// `cniVersion` of the list.
    pub version: String,
    /// `name` of the list.
    pub network: String,
    /// The plugins' own objects, in order.
    pub plugins: Vec<Value>,
    /// More environment, for plugins that run other programs.
    pub environment: Vec<(&'static str, String)>,
}

/// A container to be attached.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: PathBuf,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// Capability arguments (`portMappings`, `bandwidth`, ...), for the plugins that declare them.
    pub capabilities: Value,
}

/// A plugin's error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `type` of the plugin that refused.
    pub plugin: String,
    /// `code`.
    pub code: u64,
    /// `msg`.
    pub msg: String,
    /// `details`.
    pub details: String,
}

/// Why a command of a chain did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A plugin refused with an error object.
    Refused(Refusal),
    /// A plugin did not follow the protocol, or could not be run.
    Broken(anyhow::Error),
}

impl Pod {
    /// A container with `eth0` and no wishes.
    pub fn new(container_id: impl Into<String>, netns: &Path) -> Self {
        Self {
            container_id: container_id.into(),
            netns: netns.to_owned(),
            ifname: "eth0".to_owned(),
            args: String::new(),
            capabilities: json!({}),
        }
    }
}

impl Runtime {
    /// A network of one version, without environment of its own.
    pub fn new(folder: &Path, version: &str, network: &str, plugins: Vec<Value>) -> Self {
        Self {
            path: vec![folder.to_owned()],
            version: version.to_owned(),
            network: network.to_owned(),
            plugins,
            environment: Vec::new(),
        }
    }

    /// ADD through the chain; the last plugin's result.
    ///
    /// # Errors
    /// The first plugin's that fails. As after every failed ADD, the caller then calls [`Runtime::del`].
    pub fn add(&self, pod: &Pod) -> Result<Value, Failure> {
        let mut result = None;
        for plugin in &self.plugins {
            let answer = self.call("ADD", plugin, Some(pod), result.as_ref())?.run()?;
            result = Some(self.parsed(plugin, &answer)?);
        }
        Ok(result.context("a network without plugins")?)
    }

    /// DEL through the chain, last plugin first.
    ///
    /// # Errors
    /// The first plugin's that fails.
    pub fn del(&self, pod: &Pod, result: Option<&Value>) -> Result<(), Failure> {
        self.plugins.iter().rev().try_for_each(|plugin| self.silent("DEL", plugin, Some(pod), result))
    }

    /// CHECK through the chain.
    ///
    /// # Errors
    /// The first plugin's that finds a difference.
    pub fn check(&self, pod: &Pod, result: &Value) -> Result<(), Failure> {
        self.plugins.iter().try_for_each(|plugin| self.silent("CHECK", plugin, Some(pod), Some(result)))
    }

    /// STATUS of each plugin.
    ///
    /// # Errors
    /// The first plugin's that cannot serve an ADD.
    pub fn status(&self) -> Result<(), Failure> {
        self.plugins.iter().try_for_each(|plugin| self.silent("STATUS", plugin, None, None))
    }

    /// GC: everything but `valid` may go.
    ///
    /// # Errors
    /// The first plugin's that fails.
    pub fn gc(&self, valid: &[&Pod]) -> Result<(), Failure> {
        let valid: Vec<Value> =
            valid.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": pod.ifname})).collect();
        for plugin in &self.plugins {
            let call = self.gc_call(plugin, &valid)?;
            self.expect_silence(plugin, &call.run()?)?;
        }
        Ok(())
    }

    /// The call of one command for one plugin of the list.
    ///
    /// # Errors
    /// When no folder of `CNI_PATH` has the plugin.
    pub fn call(
        &self,
        command: &str,
        plugin: &Value,
        pod: Option<&Pod>,
        result: Option<&Value>,
    ) -> anyhow::Result<Call> {
        let mut conf = self.configuration(plugin, pod);
        if let Some(result) = result {
            conf["prevResult"] = result.clone();
        }
        let mut environment = self.environment.clone();
        environment.extend([("CNI_COMMAND", command.to_owned()), ("CNI_PATH", self.cni_path()?)]);
        if let Some(pod) = pod {
            environment.extend([
                ("CNI_CONTAINERID", pod.container_id.clone()),
                ("CNI_NETNS", pod.netns.display().to_string()),
                ("CNI_IFNAME", pod.ifname.clone()),
                ("CNI_ARGS", pod.args.clone()),
            ]);
        }
        Ok(Call { plugin: self.find(plugin)?, environment, stdin: serde_json::to_vec(&conf)? })
    }

    /// GC as libcni sends it: the list under the specification's key and under the older one (cni#1101).
    ///
    /// # Errors
    /// When no folder of `CNI_PATH` has the plugin.
    pub fn gc_call(&self, plugin: &Value, valid: &[Value]) -> anyhow::Result<Call> {
        let mut plugin = plugin.clone();
        plugin["cni.dev/valid-attachments"] = json!(valid);
        plugin["cni.dev/attachments"] = json!(valid);
        self.call("GC", &plugin, None, None)
    }

    /// What a plugin reads: its own object with the list's name and version, and of the pod's capability
    /// arguments those it declares.
    fn configuration(&self, plugin: &Value, pod: Option<&Pod>) -> Value {
        let mut conf = plugin.clone();
        conf["cniVersion"] = json!(self.version);
        conf["name"] = json!(self.network);
        let declared = |name: &str| plugin["capabilities"][name] == json!(true);
        let arguments: serde_json::Map<String, Value> = pod
            .and_then(|pod| pod.capabilities.as_object())
            .into_iter()
            .flatten()
            .filter(|(name, _)| declared(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !arguments.is_empty() {
            conf["runtimeConfig"] = Value::Object(arguments);
        }
        conf
    }

    fn silent(
        &self,
        command: &str,
        plugin: &Value,
        pod: Option<&Pod>,
        result: Option<&Value>,
    ) -> Result<(), Failure> {
        let answer = self.call(command, plugin, pod, result)?.run()?;
        self.expect_silence(plugin, &answer)
    }

    fn expect_silence(&self, plugin: &Value, answer: &Answer) -> Result<(), Failure> {
        if !answer.status.success() {
            return Err(refusal(plugin, answer));
        }
        if !answer.stdout.is_empty() {
            let said = String::from_utf8_lossy(&answer.stdout);
            return Err(anyhow::anyhow!("{} must print nothing, but said: {said}", plugin["type"]).into());
        }
        Ok(())
    }

    fn parsed(&self, plugin: &Value, answer: &Answer) -> Result<Value, Failure> {
        if !answer.status.success() {
            return Err(refusal(plugin, answer));
        }
        let result: Value =
            serde_json::from_slice(&answer.stdout).context("a plugin's result is not JSON")?;
        if result["cniVersion"] != json!(self.version) {
            return Err(anyhow::anyhow!("cniVersion {} was asked for: {result}", self.version).into());
        }
        Ok(result)
    }

    fn find(&self, plugin: &Value) -> anyhow::Result<PathBuf> {
        let name = plugin["type"].as_str().context("a plugin without type")?;
        let candidates = self.path.iter().map(|folder| folder.join(name));
        candidates
            .into_iter()
            .find(|path| path.exists())
            .with_context(|| format!("no plugin {name} in {:?}", self.path))
    }

    fn cni_path(&self) -> anyhow::Result<String> {
        let joined = std::env::join_paths(&self.path)?;
        joined.into_string().map_err(|path| anyhow::anyhow!("CNI_PATH is not UTF-8: {path:?}"))
    }
}

/// What a failed plugin said, or how it broke.
pub(super) fn refusal(plugin: &Value, answer: &Answer) -> Failure {
    let name = plugin["type"].as_str().unwrap_or_default().to_owned();
    match refused(&name, answer) {
        Ok(refused) => Failure::Refused(refused),
        Err(error) => Failure::Broken(error),
    }
}

fn refused(plugin: &str, answer: &Answer) -> anyhow::Result<Refusal> {
    let Ok(error) = serde_json::from_slice::<Value>(&answer.stdout) else {
        bail!("{plugin}: {}: no error object: {answer:?}", answer.status);
    };
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let code = error["code"].as_u64().with_context(|| format!("{plugin}: no code in {error}"))?;
    Ok(Refusal { plugin: plugin.to_owned(), code, msg: text("msg"), details: text("details") })
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: code {}: {}; {}", self.plugin, self.code, self.msg, self.details)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Broken(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::super::{Node, reference_plugins};
    use super::*;

    fn ptp(node: &Node, subnet: &str) -> Value {
        let ipam = json!({"type": "host-local", "dataDir": node.state(), "ranges": [[{"subnet": subnet}]]});
        json!({"type": "ptp", "ipam": ipam})
    }

    fn refused(failure: Failure) -> Refusal {
        match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Broken(error) => panic!("{error:#}"),
        }
    }

    #[test]
    fn a_chain_is_called_as_libcni_does_it() {
        let node = Node::new(2, &std::env::temp_dir()).unwrap();
        let tuning = json!({"type": "tuning", "capabilities": {"mac": true}});
        let plugins = vec![ptp(&node, "10.77.0.0/30"), tuning];
        let runtime = Runtime::new(&reference_plugins().unwrap(), "1.0.0", "reference", plugins);
        let before = node.remains().unwrap();
        let mut pod = Pod::new("first", &node.pods[0].path());
        pod.capabilities = json!({"mac": "02:00:00:00:00:07", "portMappings": [{"not": "declared"}]});

        let result = node.netns.run(|| Ok(runtime.add(&pod)?)).unwrap();
        assert_eq!(result["ips"][0]["address"], json!("10.77.0.2/30"));
        assert!(
            result.to_string().contains("02:00:00:00:00:07"),
            "the second plugin saw its capability: {result}"
        );
        assert!(node.remains().unwrap().beyond(&before).contains("02:00:00:00:00:07"));
        node.netns.run(|| Ok(runtime.check(&pod, &result)?)).unwrap();

        let second = Pod::new("second", &node.pods[1].path());
        let full = refused(node.netns.run(|| Ok(runtime.add(&second).unwrap_err())).unwrap());
        assert!(full.msg.contains("no IP addresses available"), "{full}");
        node.netns.run(|| Ok(runtime.del(&pod, Some(&result))?)).unwrap();
        assert_eq!(node.remains().unwrap().beyond(&before), "");
    }
}
