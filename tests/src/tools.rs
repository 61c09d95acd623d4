//! Where `tests/setup/packages.sh` put the routing daemons of other projects.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The folder with the unpacked packages (`usr/`, `etc/`, `var/`), to be laid over `/`.
///
/// # Errors
/// When `make setup` has not run to its end.
pub fn folder() -> anyhow::Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => Path::new(&std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    let link = cache.join("towpath/tools");
    let folder = std::fs::canonicalize(&link)
        .with_context(|| format!("{}: the test daemons are missing; run: make setup", link.display()))?;
    if !folder.join(".complete").exists() {
        bail!("{}: unpacked only in part; remove it and run: make setup", folder.display());
    }
    Ok(folder)
}
