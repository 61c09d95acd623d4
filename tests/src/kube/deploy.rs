//! towpath in the cluster, as its manifest installs it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;

use super::cluster::Cluster;
use super::machine::BOOT_ID;

/// The namespace of the manifest.
pub const NAMESPACE: &str = "towpath-system";

/// The image's archive: what `make image` made.
///
/// # Errors
/// When `TOWPATH_IMAGE` does not name one.
pub fn image() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("TOWPATH_IMAGE").map(PathBuf::from);
    let path =
        path.context("TOWPATH_IMAGE is not set: run `make labs`, or let it name what `make image` made")?;
    anyhow::ensure!(path.is_file(), "TOWPATH_IMAGE={}: no such archive; run: make image", path.display());
    Ok(path)
}

/// Gives all nodes the image, and applies `deploy/` as an administrator does. Waits for nothing.
///
/// # Errors
/// What is missing, or what kubectl says.
pub fn install(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.import(&image()?)?;
    apply(cluster, "deploy")
}

/// Applies an overlay of the repository (`deploy`, `deploy/flat-l2`), for machines that are not machines: see [`overlay`].
///
/// # Errors
/// What kubectl says.
pub fn apply(cluster: &Cluster, which: &str) -> anyhow::Result<()> {
    cluster.kubectl(&["apply", "-k", &folder(cluster, which)?]).map(drop)
}

/// Undoes [`apply`]: the pod network goes on without the daemons.
///
/// # Errors
/// What kubectl says.
pub fn delete(cluster: &Cluster, which: &str) -> anyhow::Result<()> {
    cluster.kubectl(&["delete", "--ignore-not-found", "-k", &folder(cluster, which)?]).map(drop)
}

/// The folder that [`apply`] applies, for other commands of kubectl with `-k`.
///
/// # Errors
/// When it cannot be written.
pub fn folder(cluster: &Cluster, which: &str) -> anyhow::Result<String> {
    Ok(overlay(cluster, which)?.display().to_string())
}

/// An overlay over one of the repository's with what is special here: all nodes of the test share the boot id of the machine
/// that runs it, so daemons are told of another one; and the API server has no address that leads to it before kube-proxy.
fn overlay(cluster: &Cluster, which: &str) -> anyhow::Result<PathBuf> {
    let folder = cluster.folder().join(format!("overlay-{}", which.replace('/', "-")));
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let base = relative(&folder, &repository.join(which));
    let url = cluster.server().url();
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: ['{}', api-server.yaml]\n\
         patches:\n- target: {{ kind: DaemonSet, name: towpath }}\n  patch: |\n    - op: add\n      \
         path: /spec/template/spec/containers/0/args/-\n      value: --boot-id-file={BOOT_ID}\n",
        base.display()
    );
    fs::write(folder.join("kustomization.yaml"), text)?;
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: towpath, namespace: {NAMESPACE} }}\n\
         data: {{ api-server: '{url}' }}\n"
    );
    fs::write(folder.join("api-server.yaml"), map)?;
    Ok(folder)
}

/// `to` as seen from the folder `from`; both absolute. kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let up =
        from.components().filter(|part| matches!(part, Component::Normal(_))).map(|_| Component::ParentDir);
    let down = to.components().filter(|part| matches!(part, Component::Normal(_)));
    up.chain(down).collect()
}
