//! One call of one plugin: its environment, its standard input, and what it answers.
//!
//! Source: CNI specification 1.1, sections 2 (environment), 4 (execution) and 5 (results and errors).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// For whom a plugin is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Environment<'e> {
    pub(super) container_id: &'e str,
    /// Empty when it is gone, which plugins must accept on DEL.
    pub(super) netns: &'e str,
    pub(super) ifname: &'e str,
    pub(super) pod: &'e str,
    /// Folders of the plugins.
    pub(super) path: &'e str,
}

/// An error as a plugin tells it.
#[derive(Debug, Deserialize)]
struct Told {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// Calls the plugin that `config` names; `None`: it succeeded and had nothing to say.
///
/// # Errors
/// When it cannot be started, or with the code and the words it answers.
pub(super) fn call(
    command: &str,
    environment: &Environment<'_>,
    config: &Map<String, Value>,
) -> anyhow::Result<Option<Value>> {
    let name = config.get("type").and_then(Value::as_str).context("a plugin has no \"type\"; add it")?;
    let program = find(name, environment.path)?;
    let input = serde_json::to_vec(config)?;
    let args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", "default"),
        ("K8S_POD_NAME", environment.pod),
        ("K8S_POD_INFRA_CONTAINER_ID", environment.container_id),
    ];
    let args: Vec<String> = args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut child = Command::new(&program)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", environment.container_id)
        .env("CNI_NETNS", environment.netns)
        .env("CNI_IFNAME", environment.ifname)
        .env("CNI_ARGS", args.join(";"))
        .env("CNI_PATH", environment.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let stdin = child.stdin.take();
    let (written, output) = std::thread::scope(|scope| {
        // Beside the reading: a plugin may answer before it has read everything.
        let writer = scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(&input)));
        (writer.join(), child.wait_with_output())
    });
    let output = output.with_context(|| format!("waiting for {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{command} of {name}: {}", failure(&said, output.status));
    }
    written
        .map_err(|_| anyhow::anyhow!("handing over the configuration panicked"))?
        .with_context(|| format!("handing the configuration to {name}"))?;
    if said.trim().is_empty() {
        return Ok(None);
    }
    let result = serde_json::from_str(&said);
    Ok(Some(result.with_context(|| format!("{command} of {name} answered no JSON: {}", said.trim()))?))
}

fn failure(said: &str, status: std::process::ExitStatus) -> String {
    match serde_json::from_str::<Told>(said) {
        Ok(Told { code, msg, details }) if details.is_empty() => format!("code {code}: {msg}"),
        Ok(Told { code, msg, details }) => format!("code {code}: {msg}; {details}"),
        Err(_) if said.trim().is_empty() => format!("{status}, without a word"),
        Err(_) => format!("{status}: {}", said.trim()),
    }
}

fn find(name: &str, path: &str) -> anyhow::Result<PathBuf> {
    if name.is_empty() || name.contains('/') {
        bail!("\"type\": \"{name}\" is no name of a plugin; name a file of {path}");
    }
    let found = path.split(':').map(|folder| Path::new(folder).join(name)).find(|file| file.is_file());
    found.with_context(|| format!("there is no plugin {name} in {path}; install it there"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn errors_are_shown_with_code_message_and_details() {
        let status = || std::process::ExitStatus::from_raw(1 << 8);
        let rows = [
            (
                r#"{"cniVersion": "1.0.0", "code": 11, "msg": "full", "details": "256 of 256"}"#,
                "code 11: full; 256 of 256",
            ),
            (r#"{"code": 7, "msg": "no blocks"}"#, "code 7: no blocks"),
            ("panic", "exit status: 1: panic"),
            ("", "exit status: 1, without a word"),
        ];
        for (said, expected) in rows {
            assert_eq!(failure(said, status()), expected);
        }
    }

    #[test]
    fn plugins_are_files_of_their_folders_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        let path = format!("/nowhere:{}", folder.path().display());
        assert_eq!(find("a", &path).unwrap(), folder.path().join("a"));
        for name in ["b", "../a", "", "/bin/sh"] {
            assert!(find(name, &path).is_err(), "{name}");
        }
    }
}
