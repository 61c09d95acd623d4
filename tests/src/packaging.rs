//! What is shipped for clusters: the image, the manifests rendered by kustomize, the chart rendered by helm.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::kube::program;

/// The work tree.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// helm, as `tests/setup/packaging.sh` built it.
///
/// # Errors
/// When `make setup` has not run to its end.
pub fn helm() -> anyhow::Result<PathBuf> {
    Ok(crate::tools::packaging()?.join("bin/helm"))
}

/// The image's archive, as `make image` made it: `TOWPATH_IMAGE`, which the Makefile sets.
///
/// # Errors
/// When it is not there.
pub fn image() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("TOWPATH_IMAGE")
        .context("TOWPATH_IMAGE is not set; run: make image, or make labs")?;
    let path = PathBuf::from(path);
    ensure!(path.exists(), "TOWPATH_IMAGE={}: not there; run: make image", path.display());
    Ok(path)
}

/// What a folder with a kustomization.yaml makes.
///
/// # Errors
/// kubectl's words.
pub fn kustomize(folder: &Path) -> anyhow::Result<String> {
    run(Command::new(program("kubectl")?).arg("kustomize").arg(folder))
}

/// What the chart makes in the namespace towpath-system, for the Kubernetes of the tests.
///
/// # Errors
/// helm's words.
pub fn render(arguments: &[&str]) -> anyhow::Result<String> {
    let chart = repository().join("deploy/helm/towpath");
    let start = ["template", "towpath", "--namespace", "towpath-system", "--kube-version", "1.36.0"];
    run(Command::new(helm()?).args(start).args(arguments).arg(chart))
}

/// Objects of a YAML text, as `Kind/name`.
///
/// # Errors
/// When something in it is no object, or stands there twice.
pub fn by_name(yaml: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut objects = BTreeMap::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let object = Value::deserialize(document)?;
        if object.is_null() {
            continue;
        }
        let word = |path: &str| object.pointer(path).and_then(Value::as_str);
        let name = word("/metadata/name").with_context(|| format!("no name: {object}"))?;
        let kind = word("/kind").with_context(|| format!("no kind: {object}"))?;
        let name = format!("{kind}/{name}");
        ensure!(objects.insert(name.clone(), object).is_none(), "{name} stands there twice");
    }
    Ok(objects)
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {}", command.get_program().display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {words}", command.get_args());
    Ok(String::from_utf8(output.stdout)?)
}
