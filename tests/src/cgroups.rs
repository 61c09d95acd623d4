//! The cgroups of a test cluster: the one thing of it that outlives its processes and belongs to none of its namespaces.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::wait::until;

/// cgroup v1 mounts a hierarchy per controller below it; v2 is mounted here, or beside them.
const ROOT: &str = "/sys/fs/cgroup";

/// Patience for processes that are being killed.
const LIMIT: Duration = Duration::from_secs(30);

/// $1: the name, $2: a folder. The end of the input comes when the process that holds the other end does, however it ends.
const GUARD: &str = r#"
cat >/dev/null
for second in $(seq 60); do
    set -- "$1" "$2" $(ls -d /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1" 2>/dev/null)
    [ $# -gt 2 ] || break
    (shift 2; find "$@" -depth -type d -exec rmdir {} + 2>/dev/null)
    sleep 1
done
rm -rf "$2"
"#;

/// All cgroups of one name, and below. They go with the value, for which everything in them must be about to end; and when
/// this process is killed, with the folder of the cluster.
#[derive(Debug)]
pub(crate) struct Cgroups {
    name: String,
    guard: Child,
}

impl Cgroups {
    /// Those of `name`, which others make, for the cluster in `folder`.
    pub(crate) fn of(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", name])
            .arg(folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("starting the guard of the cgroups")?;
        Ok(Self { name: name.to_owned(), guard })
    }

    fn remove(&self) -> anyhow::Result<()> {
        let root = Path::new(ROOT);
        let hierarchies = fs::read_dir(root)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let all: Vec<PathBuf> =
            hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&self.name)).collect();
        // A process that was killed is in its cgroup until it is gone.
        until(LIMIT, "the cgroups' processes to be gone", || {
            for cgroup in all.iter().filter(|cgroup| cgroup.is_dir()) {
                remove_tree(cgroup).with_context(|| format!("removing {}", cgroup.display()))?;
            }
            Ok(Some(()))
        })
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // The guard first: there is nothing left for it to do. What is gone already needs no killing.
        drop(self.guard.kill());
        drop(self.guard.wait());
        if let Err(error) = self.remove() {
            eprintln!("removing the cgroups {}: {error:#}", self.name);
        }
    }
}

/// Files of a cgroup cannot be removed, only its folders, innermost first.
fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(name: &str) -> usize {
        let hierarchies = fs::read_dir(ROOT).unwrap().flatten().map(|entry| entry.path());
        hierarchies.chain([PathBuf::from(ROOT)]).filter(|path| path.join(name).exists()).count()
    }

    /// In one hierarchy, with a child.
    fn make(name: &str) {
        let mut hierarchies: Vec<PathBuf> =
            fs::read_dir(ROOT).unwrap().flatten().map(|entry| entry.path()).collect();
        hierarchies.retain(|path| path.join("cgroup.procs").exists());
        let place = hierarchies.first().cloned().unwrap_or_else(|| PathBuf::from(ROOT));
        fs::create_dir_all(place.join(name).join("pod/container")).unwrap();
        assert_eq!(left(name), 1);
    }

    #[test]
    fn they_go_with_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("cgroups-{}-value", std::process::id());
        let cgroups = Cgroups::of(&name, folder.path()).unwrap();
        make(&name);
        drop(cgroups);
        assert_eq!(left(&name), 0);
        assert!(folder.path().exists());
    }

    #[test]
    fn they_and_the_folder_go_with_a_process_that_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("cgroups-{}-killed", std::process::id());
        let mut cgroups = Cgroups::of(&name, folder.path()).unwrap();
        make(&name);
        // What the kernel does when this process ends.
        drop(cgroups.guard.stdin.take());
        until(LIMIT, "the guard to end", || Ok(cgroups.guard.try_wait()?)).unwrap();
        assert_eq!(left(&name), 0);
        assert!(!folder.path().exists());
    }
}
