//! The few sysctls forwarding over nexthop groups needs, set at start and reported with their old value.
//!
//! Nothing else is ever changed. `nexthop_compat_mode=0` makes replacing a group independent of the
//! number of routes on it; the hash policy lets flows of one pod pair use all paths; forwarding makes
//! the node a router. IPv6 forwarding makes the kernel ignore router advertisements, so interfaces
//! that accept them (`accept_ra=1`) are first told to keep doing so (`accept_ra=2`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::state;

/// A value that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlChange {
    /// Below `/proc/sys`, e.g. `net/ipv4/ip_forward`.
    pub path: String,
    /// What it was, to be restored when towpath is uninstalled.
    pub old: String,
    /// What it is now.
    pub new: String,
}

/// A value that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("sysctl {path}: {source}; set it to {wanted} by hand")]
pub struct SysctlError {
    /// Below `/proc/sys`.
    pub path: String,
    /// What it should be.
    pub wanted: String,
    /// Why it failed.
    pub source: io::Error,
}

const WANTED: &[(&str, &str)] = &[
    ("net/ipv4/nexthop_compat_mode", "0"),
    ("net/ipv4/fib_multipath_hash_policy", "1"),
    ("net/ipv6/fib_multipath_hash_policy", "1"),
    ("net/ipv4/ip_forward", "1"),
];
const IPV6_FORWARDING: (&str, &str) = ("net/ipv6/conf/all/forwarding", "1");

/// Sets what is not yet as wanted. `root` is `/proc/sys`; the calling thread's network namespace counts.
/// Goes on after a failure and returns all of them, with every change of this run and of earlier ones.
///
/// `record` is the file that keeps old values, written before the first change. The first old value of a
/// sysctl is the one kept: later ones are our own.
pub fn apply(root: &Path, record: Option<&Path>) -> (Vec<SysctlChange>, Vec<SysctlError>) {
    let (fresh, mut errors) = differing(root);
    let mut changes = record.map(recorded).unwrap_or_default();
    let known = |changes: &[SysctlChange], path: &str| changes.iter().any(|change| change.path == path);
    for change in &fresh {
        if !known(&changes, &change.path) {
            changes.push(change.clone());
        }
    }
    if let Some(file) = record.filter(|_| !changes.is_empty())
        && let Err(error) = state::write_json(file, &changes)
    {
        warn!(%error, file = %file.display(), "old values of sysctls could not be kept for later");
    }
    for SysctlChange { path, old, new } in fresh {
        match fs::write(root.join(&path), &new) {
            Ok(()) => info!(sysctl = path, old, new, "sysctl set"),
            Err(source) => {
                changes.retain(|change| change.path != path);
                errors.push(SysctlError { path, wanted: new, source });
            }
        }
    }
    (changes, errors)
}

/// What was changed by this and earlier runs and is still as we set it, from the record of [`apply`].
///
/// # Errors
/// The record cannot be read.
pub fn restorable(root: &Path, record: &Path) -> io::Result<Vec<SysctlChange>> {
    let changes: Vec<SysctlChange> = state::read_json(record)?.unwrap_or_default();
    // A value that somebody else has set since is theirs.
    let as_set = |change: &SysctlChange| read(&root.join(&change.path)).is_ok_and(|now| now == change.new);
    Ok(changes.into_iter().filter(as_set).collect())
}

/// Gives a sysctl its old value back.
///
/// # Errors
/// As the kernel answers.
pub fn restore(root: &Path, change: &SysctlChange) -> io::Result<()> {
    fs::write(root.join(&change.path), &change.old)
}

fn recorded(file: &Path) -> Vec<SysctlChange> {
    state::read_json(file).map_or_else(
        |error| {
            warn!(%error, file = %file.display(), "old values of sysctls set by earlier runs are unknown");
            Vec::new()
        },
        Option::unwrap_or_default,
    )
}

/// What is not as wanted, with its value now.
fn differing(root: &Path) -> (Vec<SysctlChange>, Vec<SysctlError>) {
    let mut changes = Vec::new();
    let mut errors = Vec::new();
    let mut look = |path: &str, wanted: &str| match read(&root.join(path)) {
        Ok(old) if old == wanted => {}
        Ok(old) => changes.push(SysctlChange { path: path.into(), old, new: wanted.into() }),
        // A kernel without IPv6 has nothing to set.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.starts_with("net/ipv6/") => {}
        Err(source) => errors.push(SysctlError { path: path.into(), wanted: wanted.into(), source }),
    };
    for (path, wanted) in WANTED {
        look(path, wanted);
    }
    if read(&root.join(IPV6_FORWARDING.0)).is_ok_and(|value| value != IPV6_FORWARDING.1) {
        for path in accepting_advertisements(root) {
            look(&path, "2");
        }
    }
    look(IPV6_FORWARDING.0, IPV6_FORWARDING.1);
    (changes, errors)
}

fn read(file: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(file)?.trim().to_owned())
}

/// Interfaces (and `all`, `default`) whose `accept_ra` is 1.
fn accepting_advertisements(root: &Path) -> Vec<String> {
    let conf = PathBuf::from("net/ipv6/conf");
    let Ok(entries) = fs::read_dir(root.join(&conf)) else { return Vec::new() };
    let mut paths: Vec<String> = entries
        .flatten()
        .filter(|entry| read(&entry.path().join("accept_ra")).is_ok_and(|value| value == "1"))
        .map(|entry| conf.join(entry.file_name()).join("accept_ra").to_string_lossy().into_owned())
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, value) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, value).unwrap();
        }
        root
    }

    #[test]
    fn only_values_that_differ_are_changed_and_reported() {
        let root = tree(&[
            ("net/ipv4/nexthop_compat_mode", "1\n"),
            ("net/ipv4/fib_multipath_hash_policy", "1\n"),
            ("net/ipv6/fib_multipath_hash_policy", "0\n"),
            ("net/ipv4/ip_forward", "1\n"),
            ("net/ipv6/conf/all/forwarding", "0\n"),
            ("net/ipv6/conf/eth0/accept_ra", "1\n"),
            ("net/ipv6/conf/eth1/accept_ra", "0\n"),
        ]);
        let record = root.path().join("sysctls.json");
        let (changes, errors) = apply(root.path(), Some(&record));
        assert!(errors.is_empty(), "{errors:?}");
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "net/ipv4/nexthop_compat_mode",
                "net/ipv6/fib_multipath_hash_policy",
                "net/ipv6/conf/eth0/accept_ra",
                "net/ipv6/conf/all/forwarding"
            ]
        );
        assert_eq!((changes[2].old.as_str(), changes[2].new.as_str()), ("1", "2"));
        assert!(differing(root.path()).0.is_empty(), "a second run has nothing to do");
        // Somebody sets one back to a third value; what it was before us stays on record.
        fs::write(root.path().join("net/ipv4/nexthop_compat_mode"), "7").unwrap();
        assert_eq!(apply(root.path(), Some(&record)).0, changes, "the next run shows what the first one did");
        assert_eq!(apply(root.path(), Some(&record)).0, changes);
    }

    #[test]
    fn a_missing_ipv4_value_is_an_error_that_names_the_remedy() {
        let (_, errors) = apply(tree(&[]).path(), None);
        assert!(errors[0].to_string().contains("net/ipv4/nexthop_compat_mode"), "{}", errors[0]);
        assert!(errors[0].to_string().ends_with("set it to 0 by hand"));
    }
}
