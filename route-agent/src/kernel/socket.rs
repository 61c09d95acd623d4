//! A blocking route-netlink socket: open, send, dump. Used by the worker thread only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt;

use super::KernelError;
use netlink::read::{Message, Messages, verdict};

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Room for the answers to one batch in which every request is refused.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// The kernel answers within the send call; longer means that an answer was lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const DUMP_ATTEMPTS: u32 = 8;

/// A bound request socket.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`KernelError::Socket`] when the system refuses.
    pub fn open() -> Result<Self, KernelError> {
        let failed = |doing| move |source| KernelError::Socket { doing, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("opening"))?;
        let address = socket.bind_auto().map_err(failed("binding"))?;
        socket.set_cap_ack(true).map_err(failed("setting NETLINK_CAP_ACK"))?;
        socket.set_ext_ack(true).map_err(failed("setting NETLINK_EXT_ACK"))?;
        socket.set_netlink_get_strict_chk(true).map_err(failed("setting NETLINK_GET_STRICT_CHK"))?;
        grow_receive_buffer(socket.as_fd(), RECEIVE_BUFFER_BYTES);
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_LIMIT))
            .map_err(|errno| KernelError::Socket { doing: "setting SO_RCVTIMEO", source: errno.into() })?;
        Ok(Self { port: address.port_number(), socket, buffer: Vec::with_capacity(1 << 17), sequence: 0 })
    }

    /// Our port id: notifications caused by this socket carry it.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Reserves `count` sequence numbers and returns the first. Never 0, which belongs to notifications.
    pub(crate) fn sequences(&mut self, count: u32) -> u32 {
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        match self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0) {
            Ok(_) => Ok(()),
            Err(source) => Err(KernelError::Socket { doing: "sending", source }),
        }
    }

    /// Reads one datagram and hands out its messages.
    pub(crate) fn receive(
        &mut self,
        doing: &'static str,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), KernelError> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer, 0) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(KernelError::Overrun),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(KernelError::NoAnswer { doing });
            }
            Err(source) => return Err(KernelError::Socket { doing: "receiving", source }),
        }
        for message in Messages(&self.buffer) {
            each(&message);
        }
        Ok(())
    }

    /// Sends a dump request and collects what `parse` makes of each message, in one consistent pass:
    /// a dump that the kernel marks as interrupted is read again.
    pub(crate) fn dump<T>(
        &mut self,
        doing: &'static str,
        mut request: impl FnMut(u32) -> Vec<u8>,
        mut parse: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.sequences(1);
            self.send(&request(sequence))?;
            let mut items = Vec::new();
            if self.collect(doing, sequence, |message| items.extend(parse(message)))? {
                return Ok(items);
            }
        }
        Err(KernelError::Unstable { doing, attempts: DUMP_ATTEMPTS })
    }

    /// Reads until the end of the dump; false when it was interrupted by a change.
    fn collect(
        &mut self,
        doing: &'static str,
        sequence: u32,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<bool, KernelError> {
        let mut consistent = true;
        let mut end = None;
        while end.is_none() {
            self.receive(doing, |message| {
                if message.sequence != sequence || end.is_some() {
                    return;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => end = Some(verdict(message)),
                    NLMSG_OVERRUN => consistent = false,
                    _ => each(message),
                }
            })?;
        }
        match end {
            Some((0, _)) | None => Ok(consistent),
            Some((libc::EINTR | libc::EAGAIN, _)) => Ok(false),
            Some((errno, text)) => Err(KernelError::Refused { doing, errno, text }),
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks for a large buffer: beyond `rmem_max` as root, up to it otherwise. A smaller one only makes a
/// resync after an overrun more likely, so failure is not an error.
pub(crate) fn grow_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) {
    if sockopt::set_socket_recv_buffer_size_force(fd, bytes).is_err()
        && let Err(error) = sockopt::set_socket_recv_buffer_size(fd, bytes)
    {
        tracing::debug!(%error, "netlink receive buffer stays small");
    }
}
