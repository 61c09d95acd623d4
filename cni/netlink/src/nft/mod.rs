//! nf_tables as requests: tables, chains, rules, sets and their elements.
//!
//! In: a [`Batch`] whose [`transaction`](Batch::transaction) the requests join. Out: bytes as `nft` sends them.
//! Everything is made with NLM_F_CREATE and without NLM_F_EXCL unless the name says otherwise: to make what is
//! there already is no error. Nothing here knows what a rule is for.
//!
//! ```text
//!   Table ──┬── chain ─── rule ─── expression::Expressions
//!           └── set::Set ── set::Element
//! ```
//!
//! Source: `linux/netfilter/nf_tables.h`; the listing that `nft --debug=netlink` prints.

pub mod expression;
pub mod set;

use crate::flags::{APPEND, CREATE};
use crate::read::{attributes, text};
use crate::{Batch, Body, Error, Message, Socket};

pub use expression::{Expressions, Register, Verdict};
pub use set::{Element, Set};

pub(crate) const NFT_MSG: u16 = 10 << 8;
const NFT_MSG_NEWTABLE: u16 = NFT_MSG;
const NFT_MSG_DELTABLE: u16 = NFT_MSG | 2;
const NFT_MSG_NEWCHAIN: u16 = NFT_MSG | 3;
const NFT_MSG_GETCHAIN: u16 = NFT_MSG | 4;
const NFT_MSG_DELCHAIN: u16 = NFT_MSG | 5;
const NFT_MSG_NEWRULE: u16 = NFT_MSG | 6;
const NFT_MSG_DELRULE: u16 = NFT_MSG | 8;
const NFT_MSG_GETGEN: u16 = NFT_MSG | 16;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_USE: u16 = 6;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_USERDATA: u16 = 12;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_GEN_ID: u16 = 1;

/// Where libnftnl keeps the comment of a table, chain or element inside its user data.
const UDATA_COMMENT: u8 = 0;
const NF_ACCEPT: u32 = 1;

/// `struct nfgenmsg`: its size, for readers of answers.
pub const NFGENMSG: usize = 4;

/// Address family of a table, and what `meta nfproto` says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6 together.
    Inet = 1,
    /// IPv4.
    Ipv4 = 2,
    /// IPv6.
    Ipv6 = 10,
}

/// Where a base chain sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Arrived, not yet routed.
    Prerouting = 0,
    /// For this node.
    Input = 1,
    /// Through this node.
    Forward = 2,
    /// Made by this node.
    Output = 3,
    /// About to leave.
    Postrouting = 4,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// `filter`, `nat` or `route`.
    pub kind: &'static str,
    /// Where it sees packets.
    pub hook: Hook,
    /// Lower is earlier.
    pub priority: i32,
}

/// A chain as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its comment; empty without one.
    pub comment: String,
    /// How many rules it has, and how many jump to it.
    pub uses: u32,
}

/// A table: everything in it is addressed by family and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Address family.
    pub family: Family,
    /// Name.
    pub name: &'static str,
}

impl Table {
    /// `add table`.
    pub fn add(&self, batch: &mut Batch) {
        self.request(batch, "making the table", NFT_MSG_NEWTABLE, CREATE, |body| {
            body.text(NFTA_TABLE_NAME, self.name);
        });
    }

    /// `delete table`, with everything in it.
    pub fn delete(&self, batch: &mut Batch) {
        self.request(batch, "deleting the table", NFT_MSG_DELTABLE, 0, |body| {
            body.text(NFTA_TABLE_NAME, self.name);
        });
    }

    /// `add chain`; `base`: on a hook, with policy accept.
    pub fn add_chain(&self, batch: &mut Batch, chain: &str, base: Option<Base>, comment: &str) {
        self.request(batch, "making a chain", NFT_MSG_NEWCHAIN, CREATE, |body| {
            body.text(NFTA_CHAIN_TABLE, self.name);
            body.text(NFTA_CHAIN_NAME, chain);
            if let Some(base) = base {
                body.text(NFTA_CHAIN_TYPE, base.kind);
                body.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
                body.nest(NFTA_CHAIN_HOOK, |hook| {
                    hook.be32(NFTA_HOOK_HOOKNUM, base.hook as u32);
                    hook.be32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
                });
            }
            if !comment.is_empty() {
                body.bytes(NFTA_CHAIN_USERDATA, &comment_to_userdata(comment));
            }
        });
    }

    /// `flush chain`: its rules go, the chain stays.
    pub fn flush_chain(&self, batch: &mut Batch, chain: &str) {
        self.request(batch, "flushing a chain", NFT_MSG_DELRULE, 0, |body| {
            body.text(NFTA_RULE_TABLE, self.name);
            body.text(NFTA_RULE_CHAIN, chain);
        });
    }

    /// `delete chain`, which must be empty.
    pub fn delete_chain(&self, batch: &mut Batch, chain: &str) {
        self.request(batch, "deleting a chain", NFT_MSG_DELCHAIN, 0, |body| {
            body.text(NFTA_CHAIN_TABLE, self.name);
            body.text(NFTA_CHAIN_NAME, chain);
        });
    }

    /// `add rule`: behind those that are there.
    pub fn add_rule(&self, batch: &mut Batch, chain: &str, write: impl FnOnce(&mut Expressions<'_, '_>)) {
        self.request(batch, "adding a rule", NFT_MSG_NEWRULE, CREATE | APPEND, |body| {
            body.text(NFTA_RULE_TABLE, self.name);
            body.text(NFTA_RULE_CHAIN, chain);
            body.nest(NFTA_RULE_EXPRESSIONS, |list| write(&mut Expressions::new(list)));
        });
    }

    /// What the kernel has under this chain's name; `None`: nothing, or not even the table.
    ///
    /// # Errors
    /// The kernel's refusal, or what the socket says.
    pub fn chain(&self, socket: &mut Socket, chain: &str) -> Result<Option<Chain>, Error> {
        let found = socket.get(
            "asking for a chain",
            NFT_MSG_GETCHAIN,
            |body| {
                self.header(body);
                body.text(NFTA_CHAIN_TABLE, self.name);
                body.text(NFTA_CHAIN_NAME, chain);
            },
            |message| Some(read_chain(message)),
        );
        match found {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            found => found,
        }
    }

    pub(crate) fn header(&self, body: &mut Body<'_>) {
        body.header(&[self.family as u8, 0, 0, 0]);
    }

    pub(crate) fn request(
        &self,
        batch: &mut Batch,
        doing: &'static str,
        kind: u16,
        flags: u16,
        write: impl FnOnce(&mut Body<'_>),
    ) {
        batch.request(doing, kind, flags, |body| {
            self.header(body);
            write(body);
        });
    }
}

/// The generation of the namespace's ruleset: another number after each change of any table.
///
/// # Errors
/// The kernel's refusal, or what the socket says.
pub fn generation(socket: &mut Socket) -> Result<u32, Error> {
    let generation = |message: &Message<'_>| {
        attributes(message.payload, NFGENMSG)
            .find(|(kind, _)| *kind == NFTA_GEN_ID)
            .and_then(|(_, value)| be32(value))
    };
    let found =
        socket.get("asking for the generation", NFT_MSG_GETGEN, |body| body.header(&[0; 4]), generation)?;
    Ok(found.unwrap_or_default())
}

fn read_chain(message: &Message<'_>) -> Chain {
    let mut chain = Chain { comment: String::new(), uses: 0 };
    for (kind, value) in attributes(message.payload, NFGENMSG) {
        match kind {
            NFTA_CHAIN_USE => chain.uses = be32(value).unwrap_or_default(),
            NFTA_CHAIN_USERDATA => chain.comment = comment_of_userdata(value).unwrap_or_default(),
            _ => {}
        }
    }
    chain
}

/// A number in network byte order.
pub(crate) fn be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// User data as libnftnl writes it, so that `nft` shows the comment: type, length, text with its final zero.
pub(crate) fn comment_to_userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).expect("comments are short");
    [&[UDATA_COMMENT, length], comment.as_bytes(), &[0]].concat()
}

/// The comment in user data; `None` where there is no such thing.
pub(crate) fn comment_of_userdata(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(text(value));
        }
        data = rest.get(usize::from(*length)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        assert_eq!(comment_to_userdata("twabc"), b"\x00\x06twabc\0");
        assert_eq!(comment_of_userdata(b"\x07\x01x\x00\x06twabc\0").as_deref(), Some("twabc"));
        assert_eq!(comment_of_userdata(b"\x00\x09short"), None);
    }

    proptest! {
        #[test]
        fn foreign_user_data_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = comment_of_userdata(&bytes);
        }
    }
}
