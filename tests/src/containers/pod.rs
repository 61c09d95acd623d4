//! A pod with one container, as a kubelet asks for it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::image;
use super::machine::Machine;

/// Patience for one answer of a web server.
const LIMIT: Duration = Duration::from_secs(10);

/// A pod of a name that was there before is another pod.
static UID: AtomicU32 = AtomicU32::new(1);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct PodSpec {
    /// Name, and host name. Its web server answers with it.
    pub name: String,
    /// (port of the node, port of the pod), TCP.
    pub ports: Vec<(u16, u16)>,
    /// As a pod's manifest carries them.
    pub annotations: Vec<(&'static str, &'static str)>,
}

/// A running pod: a sandbox, and in it a container with a web server on port 80.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Id of the sandbox; the plugin knows it as the container's.
    pub sandbox: String,
    container: String,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    pub v6: Ipv6Addr,
}

impl PodSpec {
    /// A pod without ports.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn config(&self, cgroup: &str) -> Value {
        let ports: Vec<Value> = (self.ports.iter())
            .map(|(host, pod)| json!({ "protocol": "TCP", "host_port": host, "container_port": pod }))
            .collect();
        let uid = UID.fetch_add(1, Ordering::Relaxed);
        let annotations: serde_json::Map<String, Value> =
            self.annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        json!({
            "metadata": { "name": self.name, "uid": uid.to_string(), "namespace": "default" },
            "hostname": self.name,
            "port_mappings": ports,
            "annotations": annotations,
            "linux": { "cgroup_parent": cgroup },
        })
    }
}

impl Machine {
    /// Starts a pod and waits until containerd says that it runs.
    ///
    /// # Errors
    /// containerd's words, and through them the plugin's.
    pub fn start(&self, spec: &PodSpec) -> anyhow::Result<Pod> {
        let config = spec.config(&self.cgroup);
        let sandbox = self.cri("RunPodSandbox", &json!({ "config": config }))?;
        let sandbox = word(&sandbox, "podSandboxId")?;
        let serve = format!("echo {} >/tmp/name && exec httpd -f -p 80 -h /tmp", spec.name);
        let container = self.cri(
            "CreateContainer",
            &json!({
                "pod_sandbox_id": sandbox,
                "config": {
                    "metadata": { "name": "main" },
                    "image": { "image": image::NAME },
                    "command": ["sh", "-c", serve],
                    "linux": {},
                },
                "sandbox_config": config,
            }),
        )?;
        let container = word(&container, "containerId")?;
        self.cri("StartContainer", &json!({ "container_id": container }))?;
        let (v4, v6) = self.addresses(&sandbox)?;
        Ok(Pod { sandbox, container, v4, v6 })
    }

    /// The addresses of a sandbox, one of each family.
    fn addresses(&self, sandbox: &str) -> anyhow::Result<(Ipv4Addr, Ipv6Addr)> {
        let status = self.cri("PodSandboxStatus", &json!({ "pod_sandbox_id": sandbox }))?;
        let network = &status["status"]["network"];
        let further = network["additionalIps"].as_array().cloned().unwrap_or_default();
        let texts = further.iter().map(|entry| &entry["ip"]).chain([&network["ip"]]);
        let parsed: Vec<IpAddr> = texts.filter_map(|text| text.as_str()?.parse().ok()).collect();
        let v4 = parsed.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None });
        let v6 = parsed.iter().find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None });
        v4.zip(v6).with_context(|| format!("not one address of each family: {status}"))
    }

    /// Runs a program in the pod's container, for at most `seconds`, and gives its standard output.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn exec(&self, pod: &Pod, seconds: u32, argv: &[&str]) -> anyhow::Result<String> {
        let request = json!({ "container_id": pod.container, "cmd": argv, "timeout": seconds.to_string() });
        let answer = self.cri("ExecSync", &request)?;
        let [stdout, stderr] =
            ["stdout", "stderr"].map(|key| base64(answer[key].as_str().unwrap_or_default()));
        ensure!(answer["exitCode"] == 0, "{argv:?} in {}: {answer}: {stdout}{stderr}", pod.sandbox);
        Ok(stdout)
    }

    /// What the web server at `server` says its pod's name is, asked from inside `pod`.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn name_at(&self, pod: &Pod, server: SocketAddr) -> anyhow::Result<String> {
        let (ip, port) = (server.ip(), server.port());
        // wget of a static busybox looks for port names in a library that is not there, and dies of it.
        let ask = format!("printf 'GET /name HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {ip} {port} | tail -n 1");
        Ok(self.exec(pod, 20, &["sh", "-c", &ask])?.trim().to_owned())
    }

    /// As [`Machine::name_at`], asked by the node itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn name_at_from_node(&self, server: SocketAddr) -> anyhow::Result<String> {
        let ask = || -> anyhow::Result<String> {
            let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(b"GET /name HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.lines().last().unwrap_or_default().to_owned())
        };
        self.node.in_netns(ask)?.with_context(|| format!("node{} asks {server}", self.number))
    }

    /// Stops a sandbox: its containers end and the plugin is told to take its network away.
    ///
    /// # Errors
    /// containerd's words.
    pub fn stop(&self, sandbox: &str) -> anyhow::Result<()> {
        self.cri("StopPodSandbox", &json!({ "pod_sandbox_id": sandbox })).map(|_| ())
    }

    /// Stops a sandbox and forgets it.
    ///
    /// # Errors
    /// containerd's words.
    pub fn remove(&self, sandbox: &str) -> anyhow::Result<()> {
        self.stop(sandbox)?;
        self.cri("RemovePodSandbox", &json!({ "pod_sandbox_id": sandbox })).map(|_| ())
    }

    /// The ids of all sandboxes that containerd knows, running or not.
    ///
    /// # Errors
    /// containerd's words.
    pub fn sandboxes(&self) -> anyhow::Result<Vec<String>> {
        let list = self.cri("ListPodSandbox", &json!({}))?;
        list["items"].as_array().into_iter().flatten().map(|item| word(item, "id")).collect()
    }
}

fn word(value: &Value, key: &str) -> anyhow::Result<String> {
    Ok(value[key].as_str().with_context(|| format!("no {key} in {value}"))?.to_owned())
}

/// Decodes what protobuf's JSON makes of bytes; what is no UTF-8 is replaced.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0_u32);
    for sextet in text.bytes().filter_map(|byte| ALPHABET.iter().position(|known| *known == byte)) {
        buffer = (buffer << 6) | u32::try_from(sextet).expect("the alphabet has 64 letters");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).expect("masked to eight bits"));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_base64() {
        for (text, expected) in
            [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJjCg==", "abc\n"), ("w7w=", "ü")]
        {
            assert_eq!(base64(text), expected, "{text}");
        }
    }
}
