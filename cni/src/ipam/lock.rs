//! Locks that a killed process cannot keep: bytes of one file, locked by open file description.
//!
//! Byte 0 is the log's; the others belong to attachments, each at a place its names give. Waiting has a deadline,
//! which the kernel's locks do not know: whoever finds a lock taken waits for it in a thread.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::Attachment;

/// Which byte of the lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(i64);

impl Place {
    /// The log's.
    pub const LOG: Self = Self(0);

    /// An attachment's. Two attachments share one as good as never, and then only take turns.
    #[must_use]
    pub fn of(attachment: &Attachment) -> Self {
        let names =
            [attachment.network.as_str(), attachment.container_id.as_str(), attachment.ifname.as_str()];
        // FNV-1a, 64 bits: ADD and DEL may be of different releases, so it never changes.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for octet in names.iter().flat_map(|name| name.bytes().chain([0])) {
            hash = (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self((hash >> 2) as i64 + 1)
    }
}

/// A lock, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    /// Closing it frees the lock: each lock has an open file description of its own.
    _file: Arc<File>,
}

enum Wait {
    Waiting,
    Done(io::Result<()>),
    GivenUp,
}

impl Lock {
    /// Locks `place` of a freshly opened `file`, which the lock keeps. `None`: not to be had within `deadline`.
    ///
    /// # Errors
    /// What the kernel says; a file system without such locks.
    pub fn acquire(file: File, place: Place, deadline: Duration) -> io::Result<Option<Self>> {
        let file = Arc::new(file);
        match set(&file, place, |range| FcntlArg::F_OFD_SETLK(range)) {
            Ok(()) => return Ok(Some(Self { _file: file })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            Err(error) => return Err(error),
        }
        let shared = Arc::new((Mutex::new(Wait::Waiting), Condvar::new()));
        let theirs = (Arc::clone(&file), Arc::clone(&shared));
        thread::Builder::new().stack_size(64 * 1024).spawn(move || wait(theirs.0, place, &theirs.1))?;
        let (state, changed) = &*shared;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_waiting = |state: &mut Wait| matches!(state, Wait::Waiting);
        let (mut state, _) =
            changed.wait_timeout_while(state, deadline, is_waiting).unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, Wait::GivenUp) {
            Wait::Done(outcome) => outcome.map(|()| Some(Self { _file: file })),
            Wait::Waiting | Wait::GivenUp => Ok(None),
        }
    }
}

/// Waits without end. A lock that nobody wants any more is freed by closing the file, at this function's end.
fn wait(file: Arc<File>, place: Place, shared: &(Mutex<Wait>, Condvar)) {
    let outcome = loop {
        match set(&file, place, |range| FcntlArg::F_OFD_SETLKW(range)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            outcome => break outcome,
        }
    };
    // Closed before the other side learns of it: from then on it alone decides how long the lock is held.
    drop(file);
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, Wait::Waiting) {
        *state = Wait::Done(outcome);
        shared.1.notify_one();
    }
}

fn set(file: &File, place: Place, command: fn(&libc::flock) -> FcntlArg<'_>) -> io::Result<()> {
    let range = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: place.0,
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), command(&range)) {
        Ok(_) => Ok(()),
        Err(Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::{ContainerId, IfName, NetworkName};

    fn open(folder: &Path) -> File {
        File::options().create(true).truncate(false).read(true).write(true).open(folder.join("lock")).unwrap()
    }

    fn acquire(folder: &Path, place: Place, deadline: Duration) -> Option<Lock> {
        Lock::acquire(open(folder), place, deadline).unwrap()
    }

    fn attachment(id: &str) -> Attachment {
        Attachment {
            network: NetworkName::parse("net").unwrap(),
            container_id: ContainerId::parse(id).unwrap(),
            ifname: IfName::parse("eth0").unwrap(),
        }
    }

    #[test]
    fn a_lock_is_waited_for_until_its_deadline_and_had_when_it_is_freed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let short = Duration::from_millis(30);
        let held = acquire(folder, Place::LOG, short).unwrap();
        let began = Instant::now();
        assert!(acquire(folder, Place::LOG, short).is_none());
        assert!(began.elapsed() >= short);
        assert!(acquire(folder, Place::of(&attachment("a")), short).is_some(), "another place is free");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| acquire(folder, Place::LOG, Duration::from_secs(20)));
            drop(held);
            assert!(waiting.join().unwrap().is_some());
        });
        // The thread of the attempt that was given up does not keep the lock.
        assert!(acquire(folder, Place::LOG, Duration::from_secs(20)).is_some());
    }

    #[test]
    fn an_attachments_place_never_changes() {
        assert_eq!(Place::of(&attachment("a")), Place(2_669_440_830_987_628_817));
        assert_ne!(Place::of(&attachment("a")), Place::of(&attachment("b")));
    }
}
