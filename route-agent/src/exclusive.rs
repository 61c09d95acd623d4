//! One daemon for a network namespace, and one for a state folder.
//!
//! Two daemons in one namespace would sweep each other's routes, whatever their sockets and folders are
//! called. The namespace is claimed by the name of an abstract unix socket, which lives exactly as long as
//! the process and is seen by every process of the namespace, in whatever container it runs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};

const NAME: &str = "towpath-fib";

/// Why the daemon may not run.
#[derive(Debug, thiserror::Error)]
pub enum ExclusiveError {
    /// Another keeps this namespace's routes.
    #[error(
        "another towpath ({holder}) keeps the kernel routes of this network namespace; stop it first, or run this one in a namespace of its own"
    )]
    Namespace {
        /// Which process.
        holder: String,
    },
    /// Another uses the state folder.
    #[error("another towpath uses {}; stop it, or name another folder with --state-dir", .0.display())]
    StateFolder(PathBuf),
    /// The claim itself failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// The claim; given up when dropped.
#[derive(Debug)]
pub struct Exclusive {
    _namespace: UnixListener,
    _state: File,
}

impl Exclusive {
    /// Claims the calling thread's network namespace and `state_dir`, which is made if there is none.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// Another daemon has one of the two.
    pub fn claim(state_dir: &Path) -> Result<Self, ExclusiveError> {
        let failed = |what: String| move |source| ExclusiveError::Io { what, source };
        let namespace = claim_namespace()?;
        let remedy = |path: &Path| format!("{}; name another folder with --state-dir", path.display());
        fs::create_dir_all(state_dir).map_err(failed(remedy(state_dir)))?;
        let path = state_dir.join("lock");
        let state = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed(remedy(&path)))?;
        match flock(&state, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _namespace: namespace, _state: state }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(ExclusiveError::StateFolder(state_dir.to_owned())),
            Err(errno) => Err(failed(remedy(&path))(errno.into())),
        }
    }
}

/// Claims only the calling thread's network namespace, as long as the listener lives. Needs a tokio runtime.
///
/// # Errors
/// A daemon runs in it.
pub fn claim_namespace() -> Result<UnixListener, ExclusiveError> {
    let failed = |what: String| move |source| ExclusiveError::Io { what, source };
    let address = SocketAddr::from_abstract_name(NAME).map_err(failed("abstract socket".into()))?;
    UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ExclusiveError::Namespace { holder: holder() },
        _ => failed(format!("abstract socket {NAME}"))(error),
    })
}

/// Who holds the namespace's name, as far as this process may know.
fn holder() -> String {
    let pid = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).ok()?;
        // Nobody accepts: with a full queue this must fail, not wait.
        socket.set_nonblocking(true).ok()?;
        socket.connect(&SockAddr::unix(format!("\0{NAME}")).ok()?).ok()?;
        let stream = std::os::unix::net::UnixStream::from(OwnedFd::from(socket));
        tokio::net::UnixStream::from_std(stream).ok()?.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    };
    match pid() {
        None => "a process not to be seen from here".into(),
        Some(pid) => match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("process {pid}, {}", name.trim()),
            Err(_) => format!("process {pid}"),
        },
    }
}
