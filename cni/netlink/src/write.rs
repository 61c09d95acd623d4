//! Requests as bytes: any number of messages one after the other, attributes that hold attributes.

use std::net::IpAddr;

use crate::flags::{ACK, REQUEST};

const NLA_F_NESTED: u16 = 0x8000;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_BATCH_GENID: u16 = 1;

/// Requests in the order in which the kernel shall work them off. Their sequence numbers are set when they are sent.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// What each message that is to be acknowledged does, in words, and where it begins.
    pub(crate) requests: Vec<(&'static str, usize)>,
    /// Messages that bracket a transaction are not acknowledged.
    pub(crate) brackets: Vec<usize>,
}

/// The body of one message, or of a nested attribute, being written.
pub struct Body<'a> {
    out: &'a mut Vec<u8>,
}

impl Batch {
    /// Nothing to do yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests it holds; the place of the next one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether it holds no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds a request that the kernel acknowledges. `doing` completes the sentence "... was refused", for example
    /// "making the veth pair"; `flags` are those beside REQUEST and ACK.
    pub fn request(&mut self, doing: &'static str, kind: u16, flags: u16, write: impl FnOnce(&mut Body<'_>)) {
        self.requests.push((doing, self.bytes.len()));
        self.message(kind, flags | REQUEST | ACK, write);
    }

    /// What `write` adds is one nf_tables transaction: applied as a whole or not at all.
    pub fn transaction(&mut self, write: impl FnOnce(&mut Self)) {
        self.bracket(NFNL_MSG_BATCH_BEGIN, None);
        write(self);
        self.bracket(NFNL_MSG_BATCH_END, None);
    }

    /// Like [`Batch::transaction`], but refused with `ERESTART` when anything of nf_tables changed in the network
    /// namespace since `generation` was read ([`nft::generation`](crate::nft::generation)): what a change was
    /// computed from is then still so when it is made.
    pub fn transaction_since(&mut self, generation: u32, write: impl FnOnce(&mut Self)) {
        self.bracket(NFNL_MSG_BATCH_BEGIN, Some(generation));
        write(self);
        self.bracket(NFNL_MSG_BATCH_END, None);
    }

    /// Leaves the acknowledgement to the last request: the kernel works in order and reports each refusal unasked, so
    /// that its last word says all, and one message comes back instead of many.
    pub(crate) fn acknowledge_last(&mut self) {
        let Some((_, earlier)) = self.requests.split_last() else { return };
        for (_, start) in earlier {
            if let Some(flags) = self.bytes.get_mut(start + 6..start + 8) {
                let kept = u16::from_ne_bytes([flags[0], flags[1]]) & !ACK;
                flags.copy_from_slice(&kept.to_ne_bytes());
            }
        }
    }

    fn bracket(&mut self, kind: u16, generation: Option<u32>) {
        self.brackets.push(self.bytes.len());
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        self.message(kind, REQUEST, |body| {
            body.header(&[0, 0, high, low]);
            if let Some(generation) = generation {
                body.be32(NFNL_BATCH_GENID, generation);
            }
        });
    }

    fn message(&mut self, kind: u16, flags: u16, write: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        write(&mut Body { out: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).expect("one message is far below 4 GiB");
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

impl Body<'_> {
    /// The fixed part behind the netlink header, padded to a multiple of four octets.
    pub fn header(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute of these octets.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |body| body.out.extend_from_slice(value));
    }

    /// A number in the machine's byte order, as rtnetlink wants it.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order, as nf_tables wants it.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// One octet.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// A C string.
    pub fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |body| {
            body.out.extend_from_slice(text.as_bytes());
            body.out.push(0);
        });
    }

    /// 4 or 16 octets.
    pub fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.bytes(kind, &v4.octets()),
            IpAddr::V6(v6) => self.bytes(kind, &v6.octets()),
        }
    }

    /// An attribute that holds attributes, marked `NLA_F_NESTED`.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Body<'_>)) {
        self.attribute(kind | NLA_F_NESTED, write);
    }

    fn attribute(&mut self, kind: u16, write: impl FnOnce(&mut Body<'_>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 2]);
        self.out.extend_from_slice(&kind.to_ne_bytes());
        write(&mut Body { out: self.out });
        // The length is that without padding.
        let length = u16::try_from(self.out.len() - start).expect("an attribute is below 64 KiB");
        if let Some(place) = self.out.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Messages, attributes};

    #[test]
    fn what_is_written_is_read_back() {
        let mut batch = Batch::new();
        batch.request("trying", 16, 0x400, |body| {
            body.header(&[1, 2, 3, 4, 5]);
            body.text(3, "eth0");
            body.nest(18, |info| {
                info.u8(1, 7);
                info.nest(2, |data| data.u32(1, 0x0102_0304));
            });
        });
        batch.request("again", 17, 0, |body| body.be32(1, 1));
        let messages: Vec<_> = Messages(&batch.bytes).collect();
        assert_eq!(messages.iter().map(|m| (m.kind, m.flags)).collect::<Vec<_>>(), [(16, 0x405), (17, 5)]);
        let found: Vec<_> = attributes(messages[0].payload, 8).collect();
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        assert_eq!(found[1].0, 18);
        let nested: Vec<_> = attributes(found[1].1, 0).collect();
        assert_eq!(nested[0], (1, &[7u8][..]));
        assert_eq!(attributes(nested[1].1, 0).next(), Some((1, &0x0102_0304u32.to_ne_bytes()[..])));
        assert_eq!(attributes(messages[1].payload, 0).next(), Some((1, &[0u8, 0, 0, 1][..])));
    }
}
