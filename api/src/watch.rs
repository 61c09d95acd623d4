//! Waits until configuration files change, however an editor or a config map writes them.
//!
//! In: the paths given with `-f`. Out: one return of [`Watch::wait`] for each burst of changes. Folders are
//! watched, never the files: an editor that renames a new file into place replaces the file, not the folder. Of
//! a symbolic link, the folder of its target is watched too. A folder that is gone, or was replaced as a whole,
//! is looked for until it is there. Blocking; the caller gives it a thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{Inotify, WatchDescriptor, WatchMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A burst has ended when nothing changed for this long: an editor's write, rename and unlink are one change.
const QUIET: Duration = Duration::from_millis(50);
/// A burst is reported at the latest after this many quiet periods, so that a file written without end is read.
const BURST_MAX: u32 = 20;
/// How often a folder that is gone is looked for.
const MISSING: Duration = Duration::from_secs(2);

/// Watches the folders of some paths.
pub struct Watch {
    inotify: Inotify,
    paths: Vec<PathBuf>,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    missing: Duration,
}

impl Watch {
    /// Starts watching. Changes made after this returns are seen by the next [`Watch::wait`].
    ///
    /// # Errors
    /// A folder that does not exist, no inotify instance left (`fs.inotify.max_user_instances`), no watch left
    /// (`fs.inotify.max_user_watches`).
    pub fn new(paths: &[PathBuf]) -> io::Result<Self> {
        let mut watch = Self {
            inotify: Inotify::init()?,
            // Without trailing slashes, which would hide that a path is a symlink.
            paths: paths.iter().map(|path| path.components().collect()).collect(),
            watched: BTreeMap::new(),
            missing: MISSING,
        };
        match watch.subscribe() {
            Subscribed { lacking: Some(error), .. } => Err(error),
            Subscribed { .. } => Ok(watch),
        }
    }

    /// Blocks until something changed in one of the folders and the burst of changes is over.
    ///
    /// # Errors
    /// What inotify answers.
    pub fn wait(&mut self) -> io::Result<()> {
        loop {
            // A folder may have been replaced, and a link may lead elsewhere, since the last return: what was
            // written there before its watch is reported with it.
            let subscribed = self.subscribe();
            if subscribed.new {
                break;
            }
            let patience = subscribed.lacking.is_some().then_some(self.missing);
            if self.drain(patience)? {
                break;
            }
        }
        for _ in 0..BURST_MAX {
            if !self.drain(Some(QUIET))? {
                break;
            }
        }
        Ok(())
    }

    /// Sees to it that every folder has a watch.
    fn subscribe(&mut self) -> Subscribed {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::CREATE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let mut subscribed = Subscribed { new: false, lacking: None };
        let folders: BTreeSet<PathBuf> = self.paths.iter().flat_map(|path| folders_of(path)).collect();
        self.watched.retain(|folder, _| folders.contains(folder));
        for folder in folders {
            // For a folder that has a watch, this is that watch; for a new one of the same name, another.
            match self.inotify.watches().add(&folder, mask) {
                Ok(watch) => {
                    subscribed.new |= self.watched.insert(folder, watch.clone()) != Some(watch);
                }
                Err(error) => {
                    // Its end has been reported by the watch it had.
                    self.watched.remove(&folder);
                    subscribed.lacking = Some(error);
                }
            }
        }
        subscribed
    }

    /// Reads waiting events; false when none came within `patience` (`None`: for ever).
    fn drain(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let timeout = patience.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let ready =
            poll(&mut [PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN)], timeout.as_ref());
        match ready {
            Ok(0) => return Ok(false),
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let mut buffer = [0; 4096];
        match self.inotify.read_events(&mut buffer) {
            Ok(events) => Ok(events.count() > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

struct Subscribed {
    /// A folder got a watch that had none.
    new: bool,
    /// A folder has none, and why.
    lacking: Option<io::Error>,
}

/// The folders in which a change may change what `path` says.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders = Vec::new();
    // What a link in the folder leads to may be rewritten where it is.
    let mut add_target = |link: &Path| {
        if link.is_symlink()
            && let Ok(target) = link.canonicalize()
        {
            folders.push(if target.is_dir() { target } else { parent(&target) });
        }
    };
    add_target(path);
    if path.is_dir() {
        if let Ok(files) = crate::file::yaml_files(path) {
            files.iter().for_each(|file| add_target(file));
        }
        folders.push(path.to_owned());
        // A folder reached by a link is replaced by changing the link.
        if path.is_symlink() {
            folders.push(parent(path));
        }
    } else {
        folders.push(parent(path));
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Reports of a watch on a thread of its own.
    fn reports(paths: &[PathBuf]) -> Receiver<()> {
        let mut watch = Watch::new(paths).unwrap();
        watch.missing = Duration::from_millis(20);
        let (report, reports) = channel();
        std::thread::spawn(move || while watch.wait().is_ok() && report.send(()).is_ok() {});
        reports
    }

    fn reported(reports: &Receiver<()>, what: &str) {
        reports.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{what} was not reported"));
        while reports.recv_timeout(Duration::from_millis(300)).is_ok() {}
    }

    #[test]
    fn a_folder_that_is_removed_and_made_again_later_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let (folder, other) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&other).unwrap();
        let reports = reports(&[folder.clone(), other.clone()]);
        fs::write(folder.join("x.yaml"), "1").unwrap();
        reported(&reports, "a first file");
        fs::remove_dir_all(&folder).unwrap();
        reported(&reports, "the removal");
        fs::write(other.join("y.yaml"), "1").unwrap();
        reported(&reports, "a change in the other folder, with this one gone,");
        fs::create_dir(&folder).unwrap();
        reported(&reports, "the return");
        fs::write(folder.join("x.yaml"), "2").unwrap();
        reported(&reports, "a file in the new folder");
        fs::rename(&folder, root.path().join("old")).unwrap();
        fs::create_dir(&folder).unwrap();
        reported(&reports, "the exchange");
        fs::write(folder.join("x.yaml"), "3").unwrap();
        reported(&reports, "a file in the exchanged folder");
    }

    #[test]
    fn a_link_to_a_file_elsewhere_reports_what_happens_there() {
        let root = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (root.path().join("conf"), root.path().join("elsewhere"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("real.yaml"), "1").unwrap();
        symlink(elsewhere.join("real.yaml"), folder.join("x.yaml")).unwrap();
        for paths in [vec![folder.clone()], vec![folder.join("x.yaml")]] {
            let reports = reports(&paths);
            fs::write(elsewhere.join("real.yaml"), "2").unwrap();
            reported(&reports, "a change of the target");
        }
    }

    #[test]
    fn a_folder_reached_by_a_link_reports_that_the_link_leads_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("one")).unwrap();
        fs::create_dir(at("two")).unwrap();
        symlink(at("one"), at("conf")).unwrap();
        let reports = reports(&[at("conf")]);
        symlink(at("two"), at("new")).unwrap();
        fs::rename(at("new"), at("conf")).unwrap();
        reported(&reports, "the new target");
        fs::write(at("two").join("x.yaml"), "1").unwrap();
        reported(&reports, "a file in the new target");
    }

    #[test]
    fn a_folder_that_is_not_there_at_the_start_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let watch = Watch::new(&[root.path().join("none")]).map(drop);
        // The folder of a file that does not exist is its parent's: that one is there.
        assert!(watch.is_ok());
        let watch = Watch::new(&[root.path().join("none/x.yaml")]).map(drop);
        assert_eq!(watch.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
