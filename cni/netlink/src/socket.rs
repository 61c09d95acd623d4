//! A blocking netlink socket: a batch goes out in one system call, and each request's outcome comes back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{SocketAddr, protocols};
use rustix::net::sockopt;

use crate::flags::{ACK, DUMP, ECHO};
use crate::read::{Message, Messages, verdict};
use crate::write::{Batch, Body};

pub(crate) const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_MULTI: u16 = 0x2;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// The kernel answers within the send call; longer means that an answer was lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 64 << 10;
const DUMP_ATTEMPTS: u32 = 8;

/// Why a conversation did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel said no to one request.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The socket itself failed.
    #[error("netlink, {doing}: {source}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// What is read changes faster than it can be read.
    #[error("{doing}: the kernel's list changed during {DUMP_ATTEMPTS} readings in a row; try again")]
    Unstable {
        /// What was being read.
        doing: &'static str,
    },
}

/// One request the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {}{}{text}", io::Error::from_raw_os_error(*.errno), if .text.is_empty() { "" } else { ": " })]
pub struct Refused {
    /// What the request was to do, in words.
    pub doing: &'static str,
    /// Positive errno.
    pub errno: i32,
    /// The kernel's own words, if it had any.
    pub text: String,
}

impl Error {
    /// The errno of a refusal.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(refused) => Some(refused.errno),
            Self::Socket { source, .. } => source.raw_os_error(),
            Self::Unstable { .. } => None,
        }
    }
}

/// A socket in the network namespace in which it was opened; it stays there whoever uses it.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// `NETLINK_ROUTE` in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn route() -> Result<Self, Error> {
        Self::open(protocols::NETLINK_ROUTE)
    }

    /// `NETLINK_NETFILTER` in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn netfilter() -> Result<Self, Error> {
        Self::open(protocols::NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> Result<Self, Error> {
        let failed = |doing| move |source| Error::Socket { doing, source };
        let socket = netlink_sys::Socket::new(protocol).map_err(failed("opening"))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_LIMIT))
            .map_err(|errno| Error::Socket { doing: "setting SO_RCVTIMEO", source: errno.into() })?;
        socket.set_cap_ack(true).map_err(failed("setting NETLINK_CAP_ACK"))?;
        socket.set_ext_ack(true).map_err(failed("setting NETLINK_EXT_ACK"))?;
        if protocol == protocols::NETLINK_ROUTE {
            socket.set_netlink_get_strict_chk(true).map_err(failed("setting NETLINK_GET_STRICT_CHK"))?;
        }
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connecting"))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Sends the batch. Every request is tried; the first refusal is the outcome.
    ///
    /// # Errors
    /// The first refusal, or what the socket says.
    pub fn exchange(&mut self, batch: Batch) -> Result<(), Error> {
        for outcome in self.outcomes(batch)? {
            outcome?;
        }
        Ok(())
    }

    /// Sends the batch and returns what became of each request, in order. Of a refused transaction at least one
    /// request says why; the others, which did not happen either, may read as done.
    ///
    /// # Errors
    /// What the socket says.
    pub fn outcomes(&mut self, batch: Batch) -> Result<Vec<Result<(), Refused>>, Error> {
        self.converse(batch, |_, _| {})
    }

    /// As [`Socket::outcomes`], for a batch that also asks: `each` gets what answers the request of that place.
    ///
    /// # Errors
    /// What the socket says.
    pub fn converse(
        &mut self,
        mut batch: Batch,
        mut each: impl FnMut(usize, &Message<'_>),
    ) -> Result<Vec<Result<(), Refused>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = !batch.brackets.is_empty();
        if !transaction {
            batch.acknowledge_last();
        }
        let first = self.number(&mut batch);
        self.send("sending", &batch.bytes)?;
        let mut outcomes: Vec<Option<Result<(), Refused>>> = vec![None; batch.requests.len()];
        let mut missing = outcomes.len();
        let mut ended = false;
        while !ended {
            let mut bracket_refused = None;
            self.receive("waiting for acknowledgements", |message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR {
                    if index < batch.requests.len() {
                        each(index, message);
                    }
                    return;
                }
                let (errno, text) = verdict(message);
                if let (Some(slot), Some((doing, _))) = (outcomes.get_mut(index), batch.requests.get(index)) {
                    missing -= usize::from(slot.is_none());
                    let refused = Refused { doing, errno, text };
                    // The first word on a request stands.
                    slot.get_or_insert(if errno == 0 { Ok(()) } else { Err(refused) });
                } else if errno != 0 {
                    bracket_refused = Some(Refused { doing: "a transaction", errno, text });
                }
            })?;
            if let Some(refused) = bracket_refused {
                return Err(refused.into());
            }
            // Refusals come in order, so the last word of a plain batch leaves nothing to wait for. Of a refused
            // transaction not every request is answered; what is, came with the first datagram's kin.
            ended = match transaction {
                false => outcomes.last().is_some_and(Option::is_some),
                true => missing == 0 || outcomes.iter().flatten().any(Result::is_err),
            };
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(Ok(()))).collect())
    }

    /// Asks for a list and hands each entry to `each`, in one consistent pass: an interrupted one is repeated, and
    /// `each` then starts from a fresh `T`.
    ///
    /// # Errors
    /// The kernel's refusal, what the socket says, or a list that never holds still.
    pub fn dump<T: Default>(
        &mut self,
        doing: &'static str,
        kind: u16,
        write: impl Fn(&mut Body<'_>),
        mut each: impl FnMut(&mut T, &Message<'_>),
    ) -> Result<T, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut collected = T::default();
            if self.ask(doing, kind, DUMP, &write, |message| each(&mut collected, message))? {
                return Ok(collected);
            }
        }
        Err(Error::Unstable { doing })
    }

    /// Asks for one thing. `None`: the kernel answered without it.
    ///
    /// # Errors
    /// The kernel's refusal (often "no such"), or what the socket says.
    pub fn get<T>(
        &mut self,
        doing: &'static str,
        kind: u16,
        write: impl Fn(&mut Body<'_>),
        mut parse: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut found = None;
        // Traffic control answers a question as it tells of a change: to whoever asks for an echo.
        self.ask(doing, kind, ACK | ECHO, write, |message| found = found.take().or_else(|| parse(message)))?;
        Ok(found)
    }

    /// One question; false when its answer was interrupted by a change.
    fn ask(
        &mut self,
        doing: &'static str,
        kind: u16,
        flags: u16,
        write: impl Fn(&mut Body<'_>),
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<bool, Error> {
        let mut batch = Batch::new();
        batch.request(doing, kind, flags & !ACK, |body| write(body));
        let sequence = self.number(&mut batch);
        // A dump ends by itself; an acknowledgement beside its end would be one message too many.
        if flags & DUMP == DUMP
            && let Some(octets) = batch.bytes.get_mut(6..8)
        {
            octets.copy_from_slice(&(flags | crate::flags::REQUEST).to_ne_bytes());
        }
        self.send(doing, &batch.bytes)?;
        let (mut consistent, mut end) = (true, None);
        while end.is_none() {
            self.receive(doing, |message| {
                if message.sequence != sequence || end.is_some() {
                    return;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0 || message.flags & NLM_F_MULTI == 0;
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
            Some((errno, text)) => Err(Refused { doing, errno, text }.into()),
        }
    }

    /// Gives the requests consecutive sequence numbers and returns the first; brackets get 0.
    fn number(&mut self, batch: &mut Batch) -> u32 {
        let count = u32::try_from(batch.requests.len()).expect("a batch has few requests");
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        for ((_, start), sequence) in batch.requests.iter().zip(first..) {
            if let Some(place) = batch.bytes.get_mut(start + 8..start + 12) {
                place.copy_from_slice(&sequence.to_ne_bytes());
            }
        }
        self.sequence += count;
        first
    }

    fn send(&self, doing: &'static str, bytes: &[u8]) -> Result<(), Error> {
        self.socket.send(bytes, 0).map(drop).map_err(|source| Error::Socket { doing, source })
    }

    fn receive(&mut self, doing: &'static str, mut each: impl FnMut(&Message<'_>)) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Socket { doing, source }),
            }
        }
        Messages(&self.buffer).for_each(|message| each(&message));
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{attributes, text};

    const RTM_GETLINK: u16 = 18;
    const RTM_SETLINK: u16 = 19;

    fn ifinfomsg(index: u32) -> [u8; 16] {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header
    }

    #[test]
    fn links_are_listed_and_one_is_asked_for() {
        let mut socket = Socket::route().unwrap();
        let name = |message: &Message<'_>| {
            attributes(message.payload, 16).find(|(kind, _)| *kind == 3).map(|(_, value)| text(value))
        };
        let all: Vec<String> = socket
            .dump(
                "listing links",
                RTM_GETLINK,
                |body| body.header(&ifinfomsg(0)),
                |all: &mut Vec<_>, message| {
                    all.extend(name(message));
                },
            )
            .unwrap();
        assert!(all.contains(&"lo".to_owned()), "{all:?}");
        let one = socket.get("asking for lo", RTM_GETLINK, |body| body.header(&ifinfomsg(1)), name).unwrap();
        assert_eq!(one.as_deref(), Some("lo"));
    }

    #[test]
    fn each_request_of_a_batch_has_its_own_outcome() {
        let mut socket = Socket::route().unwrap();
        let mut batch = Batch::new();
        for index in [0x7fff_ff01, 1, 0x7fff_ff02] {
            // Without a change to make, setting lo succeeds as any user with the right to.
            batch.request("setting nothing", RTM_SETLINK, 0, |body| body.header(&ifinfomsg(index)));
        }
        let outcomes = socket.outcomes(batch).unwrap();
        assert_eq!(outcomes.len(), 3);
        for absent in [0, 2] {
            let refused = outcomes[absent].clone().unwrap_err();
            assert!(matches!(refused.errno, libc::ENODEV | libc::EPERM), "{refused}");
            assert!(refused.to_string().starts_with("setting nothing: "), "{refused}");
        }
    }
    #[test]
    fn a_batch_asks_and_changes_in_one_conversation() {
        let mut socket = Socket::route().unwrap();
        let mut batch = Batch::new();
        batch.request("setting nothing", RTM_SETLINK, 0, |body| body.header(&ifinfomsg(0x7fff_ff01)));
        for _ in 0..2 {
            batch.request("asking for lo", RTM_GETLINK, 0, |body| body.header(&ifinfomsg(1)));
        }
        let mut answers = Vec::new();
        let outcomes = socket.converse(batch, |index, message| answers.push((index, message.kind))).unwrap();
        assert_eq!(answers, [(1, 16), (2, 16)]);
        assert!(outcomes[0].is_err() && outcomes[1..] == [Ok(()), Ok(())], "{outcomes:?}");
    }
}
