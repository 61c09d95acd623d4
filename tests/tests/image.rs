//! The container image: what is in it, that a runtime takes it, and that the Dockerfile makes the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use towpath_tests::containers::{Cluster, Runtime};
use towpath_tests::packaging;

/// What a node has to fetch and to keep.
const MOST_BYTES: u64 = 30_000_000;

/// An image out of an archive of `docker save`: its configuration and its files.
struct Unpacked {
    config: Value,
    root: tempfile::TempDir,
}

fn unpack(archive: &Path) -> anyhow::Result<Unpacked> {
    let folder = tempfile::tempdir()?;
    run(Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(archive))?;
    let read = |path: &str| -> anyhow::Result<Value> {
        let file = folder.path().join(path);
        let text = fs::read(&file).with_context(|| format!("{}: no {path}", archive.display()))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let manifest = read("manifest.json")?;
    let config = read(manifest[0]["Config"].as_str().context("no Config")?)?;
    let root = tempfile::tempdir()?;
    for layer in manifest[0]["Layers"].as_array().context("no Layers")? {
        let layer = folder.path().join(layer.as_str().context("a layer without a path")?);
        run(Command::new("tar").arg("-C").arg(root.path()).arg("-xf").arg(layer))?;
    }
    Ok(Unpacked { config, root })
}

impl Unpacked {
    /// Every file with its mode and its content.
    fn files(&self) -> anyhow::Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.root.path())? {
            let path = entry?.path();
            let mode = fs::metadata(&path)?.permissions().mode();
            files.insert(path.strip_prefix(self.root.path())?.to_owned(), (mode, fs::read(&path)?));
        }
        Ok(files)
    }
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("running {command:?}"))?;
    let words = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{command:?}: {words}{}", String::from_utf8_lossy(&stdout));
    Ok(String::from_utf8(stdout)?)
}

#[test]
fn the_image_is_two_small_programs_that_need_nothing_else() -> anyhow::Result<()> {
    let archive = packaging::image()?;
    let image = unpack(&archive)?;
    let files = image.files()?;
    let names: Vec<&Path> = files.keys().map(PathBuf::as_path).collect();
    ensure!(names == [Path::new("towpath"), Path::new("towpath-cni")], "{names:?}");
    let bytes: usize = files.values().map(|(_, content)| content.len()).sum();
    println!("unpacked {bytes} bytes, archive {}", fs::metadata(&archive)?.len());
    ensure!(u64::try_from(bytes)? < MOST_BYTES, "{bytes} bytes");
    for (name, (mode, content)) in &files {
        ensure!(mode & 0o7777 == 0o755, "{}: mode {mode:o}", name.display());
        // The program header PT_INTERP names a loader, which the image does not have.
        ensure!(!segments(content)?.contains(&3), "{}: linked dynamically", name.display());
    }
    // In the image, with nothing else in sight.
    let version = run(Command::new("chroot")
        .arg(image.root.path())
        .args(["/towpath", "--version"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))?;
    ensure!(version.trim() == format!("towpath {}", env!("CARGO_PKG_VERSION")), "{version}");
    Ok(())
}

/// Kinds of the program headers of a little-endian 64-bit ELF file.
fn segments(file: &[u8]) -> anyhow::Result<Vec<u32>> {
    ensure!(file.starts_with(b"\x7fELF\x02\x01"), "no little-endian 64-bit ELF file");
    let number = |at: usize, bytes: usize| -> anyhow::Result<usize> {
        let field = file.get(at..at + bytes).context("the file ends in its header")?;
        Ok(field.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).map(|index| Ok(u32::try_from(number(start + index * size, 4)?)?)).collect()
}

#[test]
fn containerd_takes_the_archive_and_runs_the_image() -> anyhow::Result<()> {
    let archive = packaging::image()?.display().to_string();
    let cluster = Cluster::up(Runtime::Containerd2)?;
    let node = cluster.node(1);
    let ctr = |arguments: &[&str]| node.run(&[&["ctr", "--namespace", "k8s.io"], arguments].concat());
    ctr(&["images", "import", "--snapshotter", "native", &archive])?;
    // The name by which a kubelet looks for `towpath:VERSION`.
    let name = format!("docker.io/library/towpath:{}", env!("CARGO_PKG_VERSION"));
    let run = ["run", "--rm", "--snapshotter", "native", "--read-only", "--net-host", &name, "try"];
    let said = ctr(
        &[&run[..], &["/towpath", "install", "--dry-run", "--only-drop-ins", "--root", "/host"]].concat()
    )?;
    ensure!(said.contains("would write /host/etc/iproute2/rt_protos.d/towpath.conf"), "{said}");
    Ok(())
}

/// The parts of a configuration that decide how a container runs.
fn essence(config: &Value) -> Value {
    let mut labels = config["config"]["Labels"].clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.remove("io.buildah.version");
    }
    json!({
        "architecture": config["architecture"],
        "os": config["os"],
        "Entrypoint": config["config"]["Entrypoint"],
        "Env": config["config"]["Env"],
        "Labels": labels,
    })
}

/// With Debian's buildah, in a mount namespace of its own.
#[test]
fn a_builder_makes_the_same_image_of_the_dockerfile() -> anyhow::Result<()> {
    let ours = unpack(&packaging::image()?)?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
    fs::write(path("storage.conf"), "[storage]\ndriver = \"vfs\"\n")?;
    fs::write(path("empty.conf"), "")?;
    let buildah = towpath_tests::tools::packaging()?.join("buildah");
    let libraries = buildah.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let builder = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(buildah.join("usr/bin/buildah"));
        command.args(["--root", &path("store"), "--runroot", &path("run"), "--storage-driver", "vfs"]);
        command.env("LD_LIBRARY_PATH", &libraries).env("CONTAINERS_STORAGE_CONF", path("storage.conf"));
        command
            .env("CONTAINERS_CONF", path("empty.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", path("empty.conf"));
        run(command.args(arguments))
    };
    let policy = path("policy.json");
    let dockerfile = packaging::repository().join("deploy/Dockerfile").display().to_string();
    let context = ours.root.path().display().to_string();
    let build = ["build", "--isolation", "chroot", "--signature-policy", &policy, "--tag", "towpath:test"];
    builder(&[&build[..], &["--file", &dockerfile, &context]].concat())?;
    let out = path("out.tar");
    let to = format!("docker-archive:{out}:towpath:test");
    builder(&["push", "--signature-policy", &policy, "towpath:test", &to])?;
    builder(&["rmi", "--all"])?;

    let theirs = unpack(Path::new(&out))?;
    ensure!(theirs.files()? == ours.files()?, "other files, or other modes");
    let (theirs, ours) = (essence(&theirs.config), essence(&ours.config));
    ensure!(theirs == ours, "the Dockerfile makes {theirs:#}\ndeploy/image/archive.sh {ours:#}");
    Ok(())
}
