//! The pod's network namespace, opened once and entered by the calling thread.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace other than the one this thread is in.
#[derive(Debug)]
pub struct Netns {
    pod: OwnedFd,
    own: OwnedFd,
    identity: Identity,
}

/// What a namespace is told apart by while it exists; the kernel may give the number to another one afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device of the kernel's namespace file system.
    pub device: u64,
    /// Inode there.
    pub inode: u64,
}

/// Why a path is no network namespace to put a pod into.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing there, or no right to open it.
    #[error("CNI_NETNS {}: {source}", .path.display())]
    Open {
        /// `CNI_NETNS`.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file, a folder, or a namespace of another kind.
    #[error(
        "CNI_NETNS {} is not a network namespace; runtimes give /run/netns/NAME or /proc/PID/ns/net",
        .path.display()
    )]
    Other {
        /// `CNI_NETNS`.
        path: PathBuf,
    },
    /// The plugin's own: a pod wired there would change the node's own routes.
    #[error(
        "CNI_NETNS {} is the plugin's own network namespace; CNI_NETNS_OVERRIDE=1 allows it",
        .path.display()
    )]
    Own {
        /// `CNI_NETNS`.
        path: PathBuf,
    },
    /// No right to enter it.
    #[error("entering CNI_NETNS {}: {source}; the plugin needs CAP_SYS_ADMIN", .path.display())]
    Enter {
        /// `CNI_NETNS`.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The plugin's own namespace cannot be opened or entered.
    #[error("the plugin's own network namespace: {0}; the plugin needs /proc and CAP_SYS_ADMIN")]
    Home(io::Error),
}

impl Netns {
    /// Opens a network namespace and makes sure that this thread can enter it and come back.
    ///
    /// `own_too`: the plugin's own namespace is accepted (`CNI_NETNS_OVERRIDE`).
    ///
    /// # Errors
    /// [`NetnsError`]: not there, not a network namespace, or the plugin's own.
    pub fn open(path: &Path, own_too: bool) -> Result<Self, NetnsError> {
        let own = File::open("/proc/thread-self/ns/net").map_err(NetnsError::Home)?;
        // Not waiting: the path may name a pipe that nobody writes.
        let open = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let pod = open.map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        let home = Identity::of(&own).map_err(NetnsError::Home)?;
        let identity =
            Identity::of(&pod).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        if identity.device != home.device {
            return Err(NetnsError::Other { path: path.to_owned() });
        }
        if identity == home && !own_too {
            return Err(NetnsError::Own { path: path.to_owned() });
        }
        let netns = Self { pod: pod.into(), own: own.into(), identity };
        // The way back is tried before the way there.
        move_into(&netns.own).map_err(NetnsError::Home)?;
        match netns.enter(|| ()) {
            // Namespaces of all kinds are files of one device.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Err(NetnsError::Other { path: path.to_owned() })
            }
            Err(source) => Err(NetnsError::Enter { path: path.to_owned(), source }),
            Ok(()) => Ok(netns),
        }
    }

    /// What tells this namespace from others of its time.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Does `work` with this thread inside. Sockets opened there stay there.
    pub(super) fn enter<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        move_into(&self.pod)?;
        let done = work();
        move_into(&self.own).expect("the way back was open when the namespace was opened");
        Ok(done)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pod.as_fd()
    }
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

fn move_into(namespace: &OwnedFd) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_network_namespace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (file, missing, pipe) =
            (folder.path().join("file"), folder.path().join("missing"), folder.path().join("pipe"));
        std::fs::write(&file, "").unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, 0o600.into(), 0).unwrap();
        let refused = |path: &Path| Netns::open(path, false).unwrap_err();
        assert!(matches!(refused(&missing), NetnsError::Open { .. }));
        for path in [&file, &pipe, folder.path(), Path::new("/proc/self/ns/mnt")] {
            assert!(matches!(refused(path), NetnsError::Other { .. }), "{}", path.display());
        }
        assert!(matches!(refused(Path::new("/proc/self/ns/net")), NetnsError::Own { .. }));
        Netns::open(Path::new("/proc/self/ns/net"), true).unwrap();
    }
}
