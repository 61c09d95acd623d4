//! The daemon's end of the control socket.
//!
//! In: request lines. Out: answer lines. One task a connection, at most [`CLIENTS`] at a time; a request line
//! is limited, a client that neither asks nor reads is let go, and a broken request gets an answer that says so.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Answer, Request};

/// Connections served at the same time; more wait.
const CLIENTS: usize = 32;
/// Longest request line.
const REQUEST_MAX: u64 = 64 * 1024;
/// A client that asks nothing, or takes nothing of its answer, for this long loses its place.
const PATIENCE: Duration = Duration::from_secs(30);
/// After an accept that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whoever can answer.
pub trait Responder: Send + Sync + 'static {
    /// The answer to one request, encoded, with its newline.
    fn answer(&self, request: Request) -> impl Future<Output = Vec<u8>> + Send;
}

/// A bound control socket; its file goes when it is dropped, if it is still this socket's.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
}

impl ControlSocket {
    /// Binds `path`, which only its owner may use. A file left by a killed daemon is replaced; a socket on
    /// which somebody answers is not.
    ///
    /// # Errors
    /// The folder cannot be made, or another daemon is running there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!(
                    "another towpath answers on {}; stop it, or name another socket with --socket",
                    path.display()
                ),
            ));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), file: identity(path) })
    }

    /// Serves until the future is dropped.
    pub async fn serve<R: Responder>(&self, responder: Arc<R>) {
        let slots = Arc::new(Semaphore::new(CLIENTS));
        let mut failing = false;
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    failing = false;
                    let responder = Arc::clone(&responder);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &*responder, PATIENCE).await {
                            debug!(%error, "control connection ended");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "the control socket takes no connections; it is tried again until it does");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            // Already gone is fine: `uninstall` may have removed the folder.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

async fn converse<R: Responder>(stream: UnixStream, responder: &R, patience: Duration) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = String::new();
        if timeout(patience, (&mut reading).take(REQUEST_MAX).read_line(&mut line)).await?? == 0 {
            return Ok(());
        }
        let octets = match serde_json::from_str(&line) {
            Ok(request) => responder.answer(request).await,
            Err(error) => {
                let answer = Answer::<()>::Error(format!("not a request of this version: {error}"));
                answer.line().map_err(io::Error::from)?
            }
        };
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            let written = timeout(patience, writing.write(rest)).await??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_file_that_another_has_bound_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(ControlSocket::bind(&path).unwrap());
        assert!(!path.exists(), "ours goes");
        let old = ControlSocket::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = ControlSocket::bind(&path).unwrap();
        drop(old);
        assert!(path.exists(), "another's stays");
        assert!(ControlSocket::bind(&path).is_err_and(|error| error.to_string().contains("--socket")));
        drop(new);
        assert!(!path.exists());
    }

    struct Parrot;

    impl Responder for Parrot {
        async fn answer(&self, request: Request) -> Vec<u8> {
            Answer::Ok(request).line().unwrap()
        }
    }

    #[tokio::test]
    async fn a_broken_request_is_answered_and_a_silent_client_is_let_go() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let serving =
            tokio::spawn(async move { converse(theirs, &Parrot, Duration::from_millis(100)).await });
        let (reading, mut writing) = ours.into_split();
        let mut lines = BufReader::new(reading).lines();
        writing.write_all(b"{\"command\":\"dance\"}\n{\"command\":\"peers\"}\n").await.unwrap();
        let refused = lines.next_line().await.unwrap().unwrap();
        assert!(refused.starts_with("{\"error\":\"not a request of this version"), "{refused}");
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "{\"ok\":{\"command\":\"peers\"}}");
        assert_eq!(lines.next_line().await.unwrap(), None);
        assert_eq!(serving.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
