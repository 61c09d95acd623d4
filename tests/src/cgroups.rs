//! The cgroups of a test cluster: the one thing of it that outlives its processes and belongs to none of its namespaces.
//!
//! With cgroup v1 runc freezes a container while it kills it. A runc that is killed at that moment, as happens when a
//! machine loses its power, leaves processes that cannot even die; nobody but us would ever thaw them.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context;

use crate::wait::until;

/// cgroup v1 mounts a hierarchy per controller below it; v2 is mounted here, or beside them.
const ROOT: &str = "/sys/fs/cgroup";

/// How often it is looked for what is frozen.
const THAW: Duration = Duration::from_millis(200);

/// Patience for processes that are being killed.
const LIMIT: Duration = Duration::from_secs(30);

/// $1: the name, $2: a folder. The end of the input comes when the process that holds the other end does, however it ends.
const GUARD: &str = r#"
cat >/dev/null
for second in $(seq 60); do
    set -- "$1" "$2" $(ls -d /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1" 2>/dev/null)
    [ $# -gt 2 ] || break
    (shift 2; for state in $(find "$@" -name freezer.state); do echo THAWED >"$state"; done
        find "$@" -depth -type d -exec rmdir {} + 2>/dev/null)
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

    /// Does `work`, which ends all processes and waits for their end, and sees to it that none is frozen.
    pub(crate) fn ending<T>(&self, work: impl FnOnce() -> T) -> T {
        let (done, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Until the other end of the channel is gone.
                while ended.recv_timeout(THAW) == Err(RecvTimeoutError::Timeout) {
                    for cgroup in self.all().unwrap_or_default() {
                        thaw(&cgroup);
                    }
                }
            });
            let outcome = work();
            drop(done);
            outcome
        })
    }

    /// Where there is one.
    fn all(&self) -> anyhow::Result<Vec<PathBuf>> {
        let root = Path::new(ROOT);
        let hierarchies = fs::read_dir(root)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let places = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&self.name));
        Ok(places.filter(|place| place.is_dir()).collect())
    }

    fn remove(&self) -> anyhow::Result<()> {
        // A process that was killed is in its cgroup until it is gone.
        until(LIMIT, "the cgroups' processes to be gone", || {
            for cgroup in self.all()? {
                thaw(&cgroup);
                remove_tree(&cgroup).with_context(|| format!("removing {}", cgroup.display()))?;
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

/// Lets all processes of a v1 freezer cgroup run again, and of those below. In v2 what is killed dies, frozen or not.
fn thaw(cgroup: &Path) {
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.is_dir()).for_each(|path| thaw(&path));
    let state = cgroup.join("freezer.state");
    if state.exists() {
        // It may be gone by now, which is as good.
        drop(fs::write(state, "THAWED"));
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

    /// In one hierarchy, with a child that has a process; frozen, where cgroups are of version 1.
    fn make(name: &str) -> Child {
        let mut places: Vec<PathBuf> =
            fs::read_dir(ROOT).unwrap().flatten().map(|entry| entry.path()).collect();
        places.retain(|path| path.join("cgroup.procs").exists());
        let freezer = places.iter().find(|path| path.ends_with("freezer")).or(places.first()).cloned();
        let container = freezer.unwrap_or_else(|| PathBuf::from(ROOT)).join(name).join("pod/container");
        fs::create_dir_all(&container).unwrap();
        assert_eq!(left(name), 1);
        let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(container.join("cgroup.procs"), process.id().to_string()).unwrap();
        let state = container.join("freezer.state");
        if state.exists() {
            fs::write(&state, "FROZEN").unwrap();
            until(LIMIT, "it to freeze", || {
                Ok((fs::read_to_string(&state)?.trim() == "FROZEN").then_some(()))
            })
            .unwrap();
        }
        process.kill().unwrap();
        process
    }

    #[test]
    fn they_go_with_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("cgroups-{}-value", std::process::id());
        let cgroups = Cgroups::of(&name, folder.path()).unwrap();
        let mut process = make(&name);
        drop(cgroups);
        assert_eq!(left(&name), 0);
        assert!(folder.path().exists());
        process.wait().unwrap();
    }

    #[test]
    fn what_is_frozen_ends() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("cgroups-{}-frozen", std::process::id());
        let cgroups = Cgroups::of(&name, folder.path()).unwrap();
        let mut process = make(&name);
        cgroups.ending(|| process.wait().unwrap());
    }

    #[test]
    fn they_and_the_folder_go_with_a_process_that_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("cgroups-{}-killed", std::process::id());
        let mut cgroups = Cgroups::of(&name, folder.path()).unwrap();
        let mut process = make(&name);
        // What the kernel does when this process ends.
        drop(cgroups.guard.stdin.take());
        until(LIMIT, "the guard to end", || Ok(cgroups.guard.try_wait()?)).unwrap();
        assert_eq!(left(&name), 0);
        assert!(!folder.path().exists());
        process.wait().unwrap();
    }
}
