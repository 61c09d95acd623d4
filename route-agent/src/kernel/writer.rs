//! The bulk writer: many requests in few datagrams, one acknowledgement each.
//!
//! The kernel handles every message of a datagram before `send` returns and answers those that fail,
//! plus the last one, which asks for an acknowledgement. So silence is success, errors are matched by
//! sequence number, and a batch costs two system calls (64 KiB hold about 1,200 routes).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fib::{Refusal, Request};

use super::KernelError;
use super::encode;
use super::socket::{NLMSG_ERROR, Netlink};
use netlink::read::verdict;

/// Size of a datagram. Larger ones do not help (measured), smaller ones cost system calls.
const DATAGRAM_BYTES: usize = 64 << 10;
/// No request of ours is larger: a group of 256 members is about 2 KiB.
const LARGEST_REQUEST_BYTES: usize = 4 << 10;

/// Writes batches of [`Request`]s on a [`Netlink`] socket.
#[derive(Debug)]
pub struct Writer {
    protocol: u8,
    sent: Arc<AtomicU64>,
    datagram: Vec<u8>,
}

impl Writer {
    /// `protocol` marks nexthop objects; `sent` counts the requests written.
    pub fn new(protocol: u8, sent: Arc<AtomicU64>) -> Self {
        Self { protocol, sent, datagram: Vec::with_capacity(DATAGRAM_BYTES) }
    }

    /// Writes `requests` in order; returns those the kernel refused, by index.
    ///
    /// # Errors
    /// When the socket fails or answers are lost: which requests took effect is then unknown.
    pub fn write(
        &mut self,
        netlink: &mut Netlink,
        requests: &[Request],
    ) -> Result<Vec<(usize, Refusal)>, KernelError> {
        let mut refused = Vec::new();
        let mut done = 0;
        while let Some(rest) = requests.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.datagram(netlink, rest, done, &mut refused)?;
        }
        Ok(refused)
    }

    /// Sends one datagram from the front of `requests`; returns how many it held.
    fn datagram(
        &mut self,
        netlink: &mut Netlink,
        requests: &[Request],
        offset: usize,
        refused: &mut Vec<(usize, Refusal)>,
    ) -> Result<usize, KernelError> {
        let bound = u32::try_from(requests.len().min(DATAGRAM_BYTES / 16)).expect("at most 4096");
        let first = netlink.sequences(bound);
        self.datagram.clear();
        let mut count = 0u32;
        for request in requests {
            let full = self.datagram.len() + 2 * LARGEST_REQUEST_BYTES > DATAGRAM_BYTES;
            let last = full || count + 1 == bound;
            encode::request(&mut self.datagram, request, first + count, self.protocol, last);
            count += 1;
            if last {
                break;
            }
        }
        netlink.send(&self.datagram)?;
        self.sent.fetch_add(count.into(), Ordering::Relaxed);
        let mut acknowledged = false;
        while !acknowledged {
            netlink.receive("write routes", |message| {
                let index = message.sequence.wrapping_sub(first);
                if message.kind != NLMSG_ERROR || index >= count {
                    return;
                }
                let (errno, text) = verdict(message);
                if errno != 0 {
                    refused.push((offset + index as usize, Refusal { errno, text }));
                }
                acknowledged |= index + 1 == count;
            })?;
        }
        Ok(count as usize)
    }
}
