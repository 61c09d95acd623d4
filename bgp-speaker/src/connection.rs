//! One TCP connection of a peer: octets in and out, cut into messages.
//!
//! Reads only when asked, so that a busy router slows the sender down; writes whatever is queued. Knows
//! framing and the codec in force, nothing of sessions.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tracing::warn;

use crate::outbound;
use crate::rib::{OutboundBatch, PeerExport, PeerId};
use crate::session::ConnId;
use crate::status::Messages;
use crate::wire::notification::cease;
use crate::wire::{self, Codec, Message, MessageError, Notification};

/// Octets read at a time, and the most that waits undecoded.
const READ_CHUNK: usize = 256 * 1024;
/// Below this much unwritten output the next batch is asked for.
const LOW_WATER: usize = 64 * 1024;

/// How long a closing connection may take to write what is queued.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

pub(crate) struct Connection {
    id: ConnId,
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    codec: Codec,
}

/// What one round of input and output did.
pub(crate) enum Progress {
    Read,
    Wrote,
    /// The connection ended; the text says how.
    Closed(String),
}

impl Connection {
    pub(crate) fn new(id: ConnId, stream: TcpStream) -> Self {
        Self { id, stream, input: BytesMut::new(), output: BytesMut::new(), codec: Codec::before_open() }
    }

    pub(crate) fn id(&self) -> ConnId {
        self.id
    }

    pub(crate) fn use_codec(&mut self, codec: Codec) {
        self.codec = codec;
    }

    /// Waits until something was read or written.
    pub(crate) async fn io(&mut self, may_read: bool) -> Progress {
        let interest = match (may_read, !self.output.is_empty()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        loop {
            let ready = match self.stream.ready(interest).await {
                Ok(ready) => ready,
                Err(error) => return Progress::Closed(describe(&error)),
            };
            if ready.is_writable() && !self.output.is_empty() {
                match self.stream.try_write(&self.output) {
                    Ok(written) => {
                        self.output.advance(written);
                        if self.output.is_empty() {
                            self.output = BytesMut::new(); // an idle session keeps no buffer
                        }
                        return Progress::Wrote;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // The peer's last words may still be unread: they come first, then the end.
                    Err(error) => {
                        return if self.fill_once() {
                            Progress::Read
                        } else {
                            Progress::Closed(describe(&error))
                        };
                    }
                }
            }
            if ready.is_readable() || ready.is_read_closed() {
                match self.fill() {
                    Ok(0) => return Progress::Closed("closed by the peer".to_owned()),
                    Ok(_) => return Progress::Read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Progress::Closed(describe(&error)),
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_CHUNK.min(16 * 1024).max(self.input.len().min(READ_CHUNK)));
        self.stream.try_read_buf(&mut self.input)
    }

    /// Reads what is there without waiting; true when something came.
    pub(crate) fn fill_once(&mut self) -> bool {
        self.input.len() < READ_CHUNK && matches!(self.fill(), Ok(octets) if octets > 0)
    }

    /// The next complete message of what was read.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, MessageError> {
        let Some(frame) = wire::frame::next(&mut self.input, &self.codec)? else {
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            return Ok(None);
        };
        wire::decode(&frame, &self.codec).map(Some)
    }

    pub(crate) fn queue(&mut self, message: &Message) {
        if let Err(error) = wire::encode(message, &self.codec, &mut self.output) {
            warn!(%error, "message could not be encoded");
        }
    }

    /// Encodes this peer's part of a batch; returns how many messages of each type it became.
    pub(crate) fn queue_batch(
        &mut self,
        batch: &OutboundBatch,
        peer: PeerId,
        export: &PeerExport,
    ) -> Messages {
        outbound::encode_all(batch, peer, export, &self.codec, &mut self.output)
    }

    pub(crate) fn drained(&self) -> bool {
        self.output.len() < LOW_WATER
    }

    /// Writes what is queued, says that nothing more comes, and waits for the peer to do the same: closing
    /// with unread input would reset the connection and lose a NOTIFICATION on its way.
    pub(crate) async fn finish(mut self) {
        let closing = async {
            self.stream.write_all(&self.output).await?;
            self.stream.shutdown().await?;
            self.input.clear();
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok::<(), io::Error>(())
        };
        // Whether it ended well, with an error or too late: the connection is closed by the drop.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

/// A panic ends one session, and its peer is told: it then drops the routes at once instead of keeping them for a restart.
impl Drop for Connection {
    fn drop(&mut self) {
        // Behind half a message these octets would be read as the rest of it.
        if std::thread::panicking() && self.output.is_empty() {
            self.queue(&Message::Notification(Notification::cease(cease::OUT_OF_RESOURCES)));
            // Without room in the socket buffer the peer only sees the connection end.
            let _ = self.stream.try_write(&self.output);
        }
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "reset by the peer".to_owned(),
        io::ErrorKind::BrokenPipe => "closed by the peer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_tells_its_peer_before_the_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let task = tokio::spawn(async move {
            ours.writable().await.unwrap();
            let _connection = Connection::new(ConnId(0), ours);
            panic!("on purpose, for this test");
        });
        assert!(task.await.unwrap_err().is_panic());
        let mut octets = BytesMut::new();
        while theirs.read_buf(&mut octets).await.unwrap() > 0 {}
        let frame = wire::frame::next(&mut octets, &Codec::before_open()).unwrap().unwrap();
        let message = wire::decode(&frame, &Codec::before_open()).unwrap();
        assert_eq!(message, Message::Notification(Notification::cease(cease::OUT_OF_RESOURCES)));
    }
}
