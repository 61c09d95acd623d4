//! The one image of the tests: busybox and links to it, in the form of `docker save`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;

/// The image's name; containerd is told to start every pod from it too, so none is ever pulled.
pub(super) const NAME: &str = "towpath.test/busybox:1";

/// The programs of busybox that tests run in containers.
const PROGRAMS: [&str; 6] = ["httpd", "ip", "nc", "ping", "sh", "tail"];

/// Writes the image to `path`, to be known as `name`.
///
/// # Errors
/// When the unpacked packages have no busybox, or tar or sha256sum fail.
pub(crate) fn write(path: &Path, name: &str) -> anyhow::Result<()> {
    let busybox = crate::tools::folder()?.join("usr/bin/busybox");
    let folder = tempfile::tempdir()?;
    let bin = folder.path().join("root/bin");
    fs::create_dir_all(&bin)?;
    fs::create_dir(folder.path().join("root/tmp"))?;
    fs::copy(&busybox, bin.join("busybox"))
        .with_context(|| format!("copying {}; run: make setup", busybox.display()))?;
    for program in PROGRAMS {
        symlink("busybox", bin.join(program))?;
    }
    run(folder.path(), &["tar", "--numeric-owner", "-C", "root", "-cf", "layer.tar", "."])?;
    let digest = run(folder.path(), &["sha256sum", "layer.tar"])?;
    let digest = digest.split(' ').next().unwrap_or_default();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        // What a pod's own container runs. As process 1 it ends at SIGKILL only, which is what containerd sends it.
        "config": { "Cmd": ["/bin/tail", "-f", "/dev/null"], "Env": ["PATH=/bin"], "StopSignal": "SIGKILL" },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    fs::write(folder.path().join("config.json"), config.to_string())?;
    fs::write(folder.path().join("manifest.json"), manifest.to_string())?;
    let path = path.to_str().context("the image's path is no text")?;
    run(folder.path(), &["tar", "-cf", path, "manifest.json", "config.json", "layer.tar"])?;
    Ok(())
}

/// This machine's architecture as images spell it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn run(folder: &Path, argv: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(argv[0]).args(&argv[1..]).current_dir(folder).output();
    let output = output.with_context(|| format!("running {}", argv[0]))?;
    ensure!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
