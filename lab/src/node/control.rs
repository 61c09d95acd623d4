//! What a node can be asked to do, over its unix socket: one JSON line each way.
//!
//! A request may carry three descriptors, which become standard input, output and error of the
//! program it starts; closing the connection ends that program. The socket is a file only the
//! lab's owner can open.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::kernel::netem::{self, Impairment};
use crate::kernel::nft::Loss;
use crate::node::health::Health;
use crate::node::launch::Program;
use crate::node::reaper::Exit;

/// A request to a node's process 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub(crate) enum Request {
    Status,
    /// Runs a program with the descriptors sent along; answered when it has ended.
    Exec(Program),
    /// Answered when the health check has succeeded.
    AwaitHealthy,
    /// Answered when the main process has ended once.
    AwaitExit,
    /// To the main process; SIGKILL, SIGSTOP and SIGCONT reach all it has started. SIGKILL also
    /// suspends its automatic restart.
    Signal {
        signal: i32,
    },
    /// SIGTERM, then SIGKILL after the grace; no restart until `Start`.
    Stop {
        grace_ms: u64,
    },
    Start,
    StopForwarding,
    RestoreForwarding,
    /// SIGKILL and the end of forwarding, back to back.
    KillAndIsolate,
    /// An interface by its name in the topology file.
    Link {
        device: String,
        up: bool,
    },
    /// A share of the packets that arrive at a device is lost; 0: none any more.
    Loss {
        device: String,
        loss: Loss,
    },
    /// Answered with the share and the number of packets lost so far, if a rule is in place.
    LossOf {
        device: String,
    },
    /// Answered with whether the kernel can.
    Netem {
        device: String,
        impairment: Impairment,
    },
    NetemReset {
        device: String,
    },
    /// Answered with the impairment, if there is one.
    NetemOf {
        device: String,
    },
    Write {
        path: PathBuf,
        text: String,
    },
    Read {
        path: PathBuf,
    },
}

/// The answer; what a request does not ask for is absent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Response {
    /// Why the request failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<Exit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<(Loss, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) netem: Option<netem::Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) impairment: Option<Impairment>,
}

/// What a node's main process is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process id inside the node, while it runs.
    pub pid: Option<u32>,
    /// Times it has been started.
    pub starts: u32,
    /// How it ended the last time.
    pub last_exit: Option<Exit>,
    /// Killed or stopped on request: it is not restarted until it is started.
    pub suspended: bool,
    /// It ended, and its restart policy leaves it so.
    pub finished: bool,
    /// What its health check has found; `None`: it has none.
    pub health: Option<Health>,
}

impl Response {
    pub(crate) fn about(status: Status) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    pub(crate) fn of(outcome: io::Result<()>) -> Self {
        Self { error: outcome.err().map(|error| error.to_string()), ..Self::default() }
    }
}

/// Sends `request` to the node behind `socket` and waits for its answer.
pub(crate) fn call(
    socket: &Path,
    request: &Request,
    fds: &[BorrowedFd<'_>],
    patience: Duration,
) -> io::Result<Response> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    send(&stream, request, fds)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::from(io::ErrorKind::TimedOut),
        _ => error,
    })?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node is gone"));
    }
    let response: Response = serde_json::from_str(&line)?;
    match response.error {
        Some(error) => Err(io::Error::other(error)),
        None => Ok(response),
    }
}

pub(crate) fn send(stream: &UnixStream, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than three descriptors"));
    }
    // The descriptors travel with the first byte; the rest may need more than one write.
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    let mut rest = stream;
    rest.write_all(line.get(sent..).unwrap_or_default())
}

/// Reads one request and the descriptors that came with it; `None` when the caller left.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut line = Vec::new();
    let mut fds = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while !line.ends_with(b"\n") {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut chunk)];
        let got = rustix::net::recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        line.extend(chunk.get(..got.bytes).unwrap_or_default());
    }
    Ok(Some((serde_json::from_slice(&line)?, fds)))
}

/// Answers; a caller that left does not need the answer.
pub(crate) fn reply(stream: &UnixStream, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    let mut stream = stream;
    stream.write_all(&line)
}
