//! The world of the store on a real node: `<stateDir>/cni/` with the files `ledger` and `lock`, the clocks and links.
//!
//! No file is named after anything a runtime says.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};

use super::error::IpamError;
use super::ledger::Now;
use super::lock::{Lock, Place};
use super::process::{BootTime, Process};
use super::recover::Found;
use super::store::{Host, LogFile, Store};
use crate::{Attachment, pod};

/// How long a change waits for others: each of them takes a fraction of a millisecond.
const LOG_DEADLINE: Duration = Duration::from_secs(10);

const LOG: &str = "ledger";
const NEW: &str = "ledger.new";
const DAMAGED: &str = "ledger.damaged";
const LOCK: &str = "lock";

/// Tells which pods are wired, or in words why it cannot.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    /// `rtm_protocol` of the routes to pods, which hold their addresses.
    pub route_protocol: u8,
    /// Asks the kernel; its argument is `route_protocol`.
    pub list: fn(u8) -> Result<Vec<Found>, String>,
}

impl Links {
    /// The veths of this network namespace that carry our mark.
    #[must_use]
    pub fn of_node(route_protocol: u8) -> Self {
        let list = |route_protocol| {
            let links = pod::links(route_protocol).map_err(|error| error.to_string())?;
            let found = |link: pod::PodLink| Found { attachment: link.attachment, addresses: link.addresses };
            Ok(links.into_iter().map(found).collect())
        };
        Self { route_protocol, list }
    }
}

/// One `stateDir` of this node.
#[derive(Debug)]
pub struct Node {
    folder_path: PathBuf,
    folder: OnceCell<File>,
    links: Links,
}

/// The log file.
#[derive(Debug)]
pub struct NodeLog(File);

impl Store<Node> {
    /// The ledger below `state_dir`. Folder and files are made by the first change.
    ///
    /// See [`Store::new`]; `links` is asked when the log must be made anew.
    #[must_use]
    pub fn open(state_dir: &Path, boot_id: &str, reuse_delay: Duration, links: Links) -> Self {
        let host = Node { folder_path: state_dir.join("cni"), folder: OnceCell::new(), links };
        Self::new(host, boot_id, reuse_delay)
    }

    /// Takes the attachment's turn: ADD and DEL of the same attachment follow one another. Freed when dropped and when
    /// the process ends.
    ///
    /// # Errors
    /// [`IpamError::Locked`] after `deadline`; what making and opening the lock file can meet.
    pub fn attachment_lock(&self, who: &Attachment, deadline: Duration) -> Result<Lock, IpamError> {
        self.host.acquire(Place::of(who), deadline)
    }
}

impl Node {
    /// The folder, opened; made if `make`. `None`: there is none.
    fn folder(&self, make: bool) -> Result<Option<&File>, IpamError> {
        if let Some(folder) = self.folder.get() {
            return Ok(Some(folder));
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let open = || openat(CWD, &self.folder_path, flags, Mode::empty()).map(File::from);
        let folder = match open() {
            Err(rustix::io::Errno::NOENT) if make => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&self.folder_path)
                    .map_err(|error| self.failed("making", &self.folder_path, error))?;
                open()
            }
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            opened => opened,
        };
        let folder = folder.map_err(|error| self.failed("opening", &self.folder_path, error.into()))?;
        self.check_trust(&folder)?;
        Ok(Some(self.folder.get_or_init(|| folder)))
    }

    /// Whoever can write here can give pods each other's addresses.
    fn check_trust(&self, folder: &File) -> Result<(), IpamError> {
        let metadata = folder.metadata().map_err(|error| self.failed("reading", &self.folder_path, error))?;
        let (owner, us) = (metadata.uid(), rustix::process::geteuid().as_raw());
        let problem = if owner != us && owner != 0 {
            format!("belongs to user {owner}")
        } else if metadata.mode() & 0o022 != 0 {
            format!("may be written by others (mode {:04o})", metadata.mode() & 0o7777)
        } else {
            return Ok(());
        };
        Err(IpamError::Untrusted { path: self.folder_path.clone(), problem })
    }

    fn acquire(&self, place: Place, deadline: Duration) -> Result<Lock, IpamError> {
        let path = self.folder_path.join(LOCK);
        let failed = |error: io::Error| self.failed("locking", &path, error);
        let Some(folder) = self.folder(true)? else { return Err(failed(io::ErrorKind::NotFound.into())) };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(folder, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
        match Lock::acquire(file.into(), place, deadline).map_err(failed)? {
            Some(lock) => Ok(lock),
            None => Err(IpamError::Locked { path, waited: deadline }),
        }
    }

    fn failed(&self, doing: &'static str, path: &Path, source: io::Error) -> IpamError {
        IpamError::Io { doing, path: path.to_owned(), source }
    }
}

impl Host for Node {
    type Log = NodeLog;
    type Lock = Lock;

    fn lock(&self) -> Result<Lock, IpamError> {
        self.acquire(Place::LOG, LOG_DEADLINE)
    }

    fn open(&self) -> Result<Option<NodeLog>, IpamError> {
        let Some(folder) = self.folder(false)? else { return Ok(None) };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(folder, LOG, flags, Mode::empty()) {
            Ok(file) => Ok(Some(NodeLog(file.into()))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("opening", &self.path(), error.into())),
        }
    }

    fn replace(&self, log: &[u8]) -> Result<NodeLog, IpamError> {
        let path = self.folder_path.join(NEW);
        let failed = |error: io::Error| self.failed("writing", &path, error);
        let Some(folder) = self.folder(true)? else { return Err(failed(io::ErrorKind::NotFound.into())) };
        let write = || {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(openat(folder, NEW, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all_at(log, 0)?;
            file.sync_all()?;
            renameat(folder, NEW, folder, LOG)?;
            folder.sync_all()?;
            Ok(NodeLog(file))
        };
        write().map_err(|error| {
            // What is left would take the room that is missing; the error worth telling is the first.
            let _ = unlinkat(folder, NEW, AtFlags::empty());
            failed(error)
        })
    }

    fn sync_name(&self) -> Result<(), IpamError> {
        match self.folder(false)? {
            Some(folder) => {
                folder.sync_all().map_err(|error| self.failed("syncing", &self.folder_path, error))
            }
            None => Ok(()),
        }
    }

    fn keep_damaged(&self, log: &[u8]) -> Result<(), IpamError> {
        let path = self.folder_path.join(DAMAGED);
        let Some(folder) = self.folder(false)? else { return Ok(()) };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(folder, DAMAGED, flags, Mode::RUSR | Mode::WUSR)
            .map_err(io::Error::from)
            .and_then(|file| File::from(file).write_all_at(log, 0))
            .map_err(|error| self.failed("writing", &path, error))
    }

    fn now(&self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { unix_seconds: since_1970.as_secs(), boot_time: BootTime::now() }
    }

    fn links(&self) -> Result<Vec<Found>, String> {
        (self.links.list)(self.links.route_protocol)
    }

    fn is_alive(&self, process: Process) -> bool {
        process.is_alive()
    }

    fn path(&self) -> PathBuf {
        self.folder_path.join(LOG)
    }
}

impl LogFile for NodeLog {
    fn size(&self) -> io::Result<usize> {
        let octets = self.0.metadata()?.len();
        usize::try_from(octets).map_err(|_| io::ErrorKind::FileTooLarge.into())
    }

    fn read_at(&self, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], (offset + filled) as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.0.write_all_at(bytes, offset as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn is_current(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.nlink() > 0)
    }
}
