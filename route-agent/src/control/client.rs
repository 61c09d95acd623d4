//! The command's end of the control socket: blocking, one question at a time.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use super::{Answer, Request};

/// An answer that takes longer means a daemon in trouble.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the daemon behind `socket`.
///
/// # Errors
/// No daemon there, no permission, no answer in 30 s, or the daemon's own refusal; each says what to do.
pub fn ask<T: DeserializeOwned>(socket: &Path, request: &Request) -> anyhow::Result<T> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "is `towpath agent` running? Name its socket with --socket"
            }
            ErrorKind::PermissionDenied => "run as the user the daemon runs as, usually root",
            _ => "see the daemon's log",
        };
        anyhow::anyhow!("{}: {error}; {remedy}", socket.display())
    })?;
    stream.set_read_timeout(Some(PATIENCE)).context("control socket")?;
    let mut line = serde_json::to_vec(request).context("encoding the request")?;
    line.push(b'\n');
    (&stream).write_all(&line).with_context(|| format!("asking {}", socket.display()))?;
    let mut answer = String::new();
    BufReader::new(&stream)
        .read_line(&mut answer)
        .with_context(|| format!("waiting for {}", socket.display()))?;
    match serde_json::from_str(&answer)
        .context("the daemon's answer is not one; are command and daemon of one version?")?
    {
        Answer::Ok(value) => serde_json::from_value(value)
            .context("the daemon's answer has another shape; are command and daemon of one version?"),
        Answer::Error(text) => bail!(text),
    }
}
