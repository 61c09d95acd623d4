//! A pod's network namespace, under a name: bind-mounted into `/run/netns`, as `ip netns add` does it.

use std::ffi::CStr;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

/// Where `ip netns` looks.
const FOLDER: &str = "/run/netns";

/// Longest name, in octets: the host name of a pod has no more.
const LONGEST: usize = 63;

/// Settings of the node's own network that a pod's shall share, below `/proc/sys`: with automatic flow labels
/// a sender chooses the ECMP path of its IPv6 flows, without them each hop does, and that is the node's choice.
const SHARED: [&str; 1] = ["net/ipv6/auto_flowlabels"];

/// A network namespace that was made; it stays when the value goes.
#[derive(Debug)]
pub(super) struct Sandbox {
    path: PathBuf,
}

/// Refuses what is no name of a pod.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let good = ends(name.chars().next())
        && ends(name.chars().last())
        && name.len() <= LONGEST
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    ensure!(
        good,
        "{name:?} is no name of a pod; use letters, digits, '-' and '.', {LONGEST} at most, a letter or digit at both ends"
    );
    Ok(())
}

impl Sandbox {
    /// Makes the namespace `name`.
    ///
    /// # Errors
    /// When there is one of this name, or without the right to make it.
    pub(super) fn make(name: &str) -> anyhow::Result<Self> {
        let folder = Path::new(FOLDER);
        shared_folder(folder).with_context(|| format!("making {FOLDER} a folder of namespaces"))?;
        let path = folder.join(name);
        match File::create_new(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("there is a network namespace {name} already; remove it with `ip netns del {name}`")
            }
            Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
        }
        if let Err(error) = std::thread::scope(|scope| scope.spawn(|| mount_new(&path)).join())
            .unwrap_or_else(|_| bail!("making a network namespace panicked"))
        {
            // Nothing is mounted on it, so that it is an empty file.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes the name away; the namespace ends with the last process or socket in it. One that is gone is no failure.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        // Nothing mounted, or nothing there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("unmounting {}", path.display())),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Names made here are seen in other mount namespaces, such as a runtime's, and disappear there too.
fn shared_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let share = || mount_change(folder, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match share() {
        // It is no mount point yet.
        Err(rustix::io::Errno::INVAL) => {
            mount_bind_recursive(folder, folder)?;
            Ok(share()?)
        }
        outcome => Ok(outcome?),
    }
}

/// Moves this thread, which ends then, into a new network namespace and mounts that at `path`.
fn mount_new(path: &Path) -> anyhow::Result<()> {
    let settings: Vec<(PathBuf, String)> = SHARED
        .iter()
        .map(|name| Path::new("/proc/sys").join(name))
        // A kernel without the setting has nothing to share.
        .filter_map(|file| std::fs::read_to_string(&file).ok().map(|value| (file, value)))
        .collect();
    #[expect(deprecated, reason = "the replacement is unsafe because of CLONE_FILES, which is not passed")]
    rustix::thread::unshare(UnshareFlags::NEWNET).context("making a network namespace (root is needed)")?;
    for (file, value) in settings {
        std::fs::write(&file, value).with_context(|| format!("setting {} in the pod", file.display()))?;
    }
    const OWN: &CStr = c"/proc/thread-self/ns/net";
    mount_bind(OWN, path).with_context(|| format!("mounting the network namespace at {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_hosts() {
        for name in ["a", "pod1a", "web-0", "a.b"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "-a", "a-", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
