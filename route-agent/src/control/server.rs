//! The daemon's end of the control socket.
//!
//! In: request lines. Out: answer lines. One task a connection, at most [`CLIENTS`] at a time; a request line
//! is limited, and a broken one gets an answer that says so.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::debug;

use super::{Answer, Request};

/// Connections served at the same time; more wait.
const CLIENTS: usize = 32;
/// Longest request line.
const REQUEST_MAX: u64 = 64 * 1024;

/// Whoever can answer.
pub trait Responder: Send + Sync + 'static {
    /// The answer to one request.
    fn answer(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// A bound control socket; its file goes when it is dropped.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
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
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until dropped.
    pub async fn serve<R: Responder>(self, responder: Arc<R>) {
        let slots = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let responder = Arc::clone(&responder);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &*responder).await {
                            debug!(%error, "control connection ended");
                        }
                        drop(slot);
                    });
                }
                Err(error) => debug!(%error, "control socket"),
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Already gone is fine: `uninstall` may have removed the folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse<R: Responder>(stream: UnixStream, responder: &R) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = String::new();
        if (&mut reading).take(REQUEST_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => responder.answer(request).await,
            Err(error) => Answer::Error(format!("not a request of this version: {error}")),
        };
        let mut octets = serde_json::to_vec(&answer)?;
        octets.push(b'\n');
        writing.write_all(&octets).await?;
    }
}
