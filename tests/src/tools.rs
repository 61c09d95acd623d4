//! Where `tests/setup/packages.sh`, `containerd.sh`, `cluster.sh` and `packaging.sh` put the programs of other projects.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The folder with the unpacked packages (`usr/`, `etc/`, `var/`), to be laid over `/`.
///
/// # Errors
/// When `make setup` has not run to its end.
pub fn folder() -> anyhow::Result<PathBuf> {
    complete("towpath/tools", "the test daemons are missing")
}

/// The folder with containerd 2, `cri` and `cni-gc`, as `tests/setup/containerd.sh` built it.
///
/// # Errors
/// When `make setup` has not run to its end.
pub fn containerd() -> anyhow::Result<PathBuf> {
    complete("towpath/containerd", "containerd 2 is missing")
}

/// The folder with helm (`bin/helm`) and buildah (unpacked in `buildah/`), as `tests/setup/packaging.sh` made it.
///
/// # Errors
/// When `make setup` has not run to its end.
pub fn packaging() -> anyhow::Result<PathBuf> {
    complete("towpath/packaging", "helm and buildah are missing")
}

/// The folder with the programs and the image of the test cluster, as `tests/setup/cluster.sh` made it.
///
/// # Errors
/// When `make setup` has not run to its end.
pub fn cluster() -> anyhow::Result<PathBuf> {
    complete("towpath/cluster", "the programs of Kubernetes are missing")
}

/// The folder that a link in the cache leads to.
fn complete(link: &str, missing: &str) -> anyhow::Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => Path::new(&std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    let link = cache.join(link);
    let folder = std::fs::canonicalize(&link)
        .with_context(|| format!("{}: {missing}; run: make setup", link.display()))?;
    if !folder.join(".complete").exists() {
        bail!("{}: there only in part; remove it and run: make setup", folder.display());
    }
    Ok(folder)
}
