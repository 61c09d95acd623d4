//! Waits until configuration files change, however an editor or a config map writes them.
//!
//! In: the paths given with `-f`. Out: one return of [`Watch::wait`] for each burst of changes. Folders are
//! watched, never the files: an editor that renames a new file into place replaces the file, not the folder.
//! Blocking; the caller gives it a thread.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{Inotify, WatchMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A burst has ended when nothing changed for this long: an editor's write, rename and unlink are one change.
const QUIET: Duration = Duration::from_millis(50);
/// A burst is reported at the latest after this many quiet periods, so that a file written without end is read.
const BURST_MAX: u32 = 20;

/// Watches the folders of some paths.
pub struct Watch {
    inotify: Inotify,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Starts watching. Changes made after this returns are seen by the next [`Watch::wait`].
    ///
    /// # Errors
    /// A folder that does not exist, or no inotify instance left (`fs.inotify.max_user_instances`).
    pub fn new(paths: &[PathBuf]) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let folders = paths.iter().flat_map(|path| folders_of(path)).collect();
        let watch = Self { inotify, folders };
        watch.subscribe()?;
        Ok(watch)
    }

    /// Blocks until something changed in one of the folders and the burst of changes is over.
    ///
    /// # Errors
    /// What inotify answers.
    pub fn wait(&mut self) -> io::Result<()> {
        self.drain(None)?;
        for _ in 0..BURST_MAX {
            if !self.drain(Some(QUIET))? {
                break;
            }
        }
        // A folder that was replaced as a whole needs a new watch; one that is gone is tried at the next change.
        match self.subscribe() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn subscribe(&self) -> io::Result<()> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::CREATE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        for folder in &self.folders {
            self.inotify.watches().add(folder, mask)?;
        }
        Ok(())
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

/// The folder with the files, and the one with its name when that is a symlink somebody may point elsewhere.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    // Without a trailing slash, which would hide that this is a symlink.
    let path: PathBuf = path.components().collect();
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    match (path.is_dir(), path.is_symlink()) {
        (true, true) => vec![path, parent],
        (true, false) => vec![path],
        (false, _) => vec![parent],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_to_a_folder_is_watched_under_its_own_name_too() {
        let base = tempfile::tempdir().unwrap();
        let (folder, link) = (base.path().join("version1"), base.path().join("config"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        std::fs::write(folder.join("all.yaml"), "").unwrap();
        assert_eq!(folders_of(&folder), [folder.as_path()]);
        assert_eq!(folders_of(&folder.join("all.yaml")), [folder.as_path()]);
        assert_eq!(folders_of(&link), [link.as_path(), base.path()]);
        assert_eq!(folders_of(&link.join("")), [link.as_path(), base.path()]);
        assert_eq!(folders_of(Path::new("all.yaml")), [Path::new(".")]);
    }
}
