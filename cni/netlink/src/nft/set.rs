//! Sets and maps, and their elements with the comment that says whose they are.

use super::{NFGENMSG, NFT_MSG, Table, comment_of_userdata, comment_to_userdata};
use crate::flags::{CREATE, EXCL};
use crate::read::attributes;
use crate::{Attributes, Batch, Body, Error, Socket};

const NFT_MSG_NEWSET: u16 = NFT_MSG | 9;
const NFT_MSG_NEWSETELEM: u16 = NFT_MSG | 12;
const NFT_MSG_GETSETELEM: u16 = NFT_MSG | 13;
const NFT_MSG_DELSETELEM: u16 = NFT_MSG | 14;

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_DATA_VALUE: u16 = 1;
const NFT_SET_MAP: u32 = 0x8;

/// Elements in one attribute: what fits in its 64 KiB with room to spare.
const ELEMENTS_AT_ONCE: usize = 256;

/// A type that a key or a value consists of, by `nft`'s number and its length in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `ipv4_addr`.
    Ipv4Addr,
    /// `ipv6_addr`.
    Ipv6Addr,
    /// `inet_proto`.
    InetProto,
    /// `inet_service`.
    InetService,
}

/// A named set; with `data`, a map.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Name.
    pub name: &'static str,
    /// What the key consists of, at most five parts.
    pub key: &'static [Type],
    /// What the value consists of; empty: no map.
    pub data: &'static [Type],
}

/// One element: octets as registers hold them, each part padded to four.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Key.
    pub key: Vec<u8>,
    /// Value; empty in a set.
    pub data: Vec<u8>,
    /// Comment; empty without one.
    pub comment: String,
}

impl Type {
    const fn number(self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::InetProto => 12,
            Self::InetService => 13,
        }
    }

    const fn octets(self) -> u32 {
        match self {
            Self::Ipv6Addr => 16,
            _ => 4,
        }
    }
}

/// `nft` numbers a concatenation by its parts, six bits each.
fn concatenation(parts: &[Type]) -> u32 {
    parts.iter().fold(0, |number, part| (number << 6) | part.number())
}

fn octets(parts: &[Type]) -> u32 {
    parts.iter().map(|part| part.octets()).sum()
}

impl Table {
    /// `add set` or `add map`; `id` tells the sets of one transaction apart.
    pub fn add_set(&self, batch: &mut Batch, set: &Set, id: u32) {
        self.request(batch, "making a set", NFT_MSG_NEWSET, CREATE, |body| {
            body.text(NFTA_SET_TABLE, self.name);
            body.text(NFTA_SET_NAME, set.name);
            body.be32(NFTA_SET_FLAGS, if set.data.is_empty() { 0 } else { NFT_SET_MAP });
            body.be32(NFTA_SET_KEY_TYPE, concatenation(set.key));
            body.be32(NFTA_SET_KEY_LEN, octets(set.key));
            if !set.data.is_empty() {
                body.be32(NFTA_SET_DATA_TYPE, concatenation(set.data));
                body.be32(NFTA_SET_DATA_LEN, octets(set.data));
            }
            body.be32(NFTA_SET_ID, id);
        });
    }

    /// `create element`: refused with `EEXIST` when one of the keys is there.
    pub fn create_elements<'a>(
        &self,
        batch: &mut Batch,
        set: &Set,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        self.elements(
            batch,
            "adding an element",
            (NFT_MSG_NEWSETELEM, CREATE | EXCL),
            set,
            elements,
            |body, e| {
                body.nest(NFTA_SET_ELEM_KEY, |key| key.bytes(NFTA_DATA_VALUE, &e.key));
                if !e.data.is_empty() {
                    body.nest(NFTA_SET_ELEM_DATA, |data| data.bytes(NFTA_DATA_VALUE, &e.data));
                }
                if !e.comment.is_empty() {
                    body.bytes(NFTA_SET_ELEM_USERDATA, &comment_to_userdata(&e.comment));
                }
            },
        );
    }

    /// `delete element`, by key; refused with `ENOENT` when one is not there.
    pub fn delete_elements<'a>(
        &self,
        batch: &mut Batch,
        set: &Set,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        self.elements(batch, "deleting an element", (NFT_MSG_DELSETELEM, 0), set, elements, |body, e| {
            body.nest(NFTA_SET_ELEM_KEY, |key| key.bytes(NFTA_DATA_VALUE, &e.key));
        });
    }

    fn elements<'a>(
        &self,
        batch: &mut Batch,
        doing: &'static str,
        (kind, flags): (u16, u16),
        set: &Set,
        elements: impl IntoIterator<Item = &'a Element>,
        write: impl Fn(&mut Body<'_>, &Element),
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.request(batch, doing, kind, flags, |body| {
                body.text(NFTA_SET_ELEM_LIST_TABLE, self.name);
                body.text(NFTA_SET_ELEM_LIST_SET, set.name);
                body.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                    for element in elements.by_ref().take(ELEMENTS_AT_ONCE) {
                        list.nest(NFTA_LIST_ELEM, |body| write(body, element));
                    }
                });
            });
        }
    }

    /// Every element of the set; none where set or table are absent.
    ///
    /// # Errors
    /// The kernel's refusal, or what the socket says.
    pub fn list_elements(&self, socket: &mut Socket, set: &Set) -> Result<Vec<Element>, Error> {
        let listed = socket.dump(
            "listing a set",
            NFT_MSG_GETSETELEM,
            |body| {
                self.header(body);
                body.text(NFTA_SET_ELEM_LIST_TABLE, self.name);
                body.text(NFTA_SET_ELEM_LIST_SET, set.name);
            },
            |all: &mut Vec<Element>, message| {
                let lists = attributes(message.payload, NFGENMSG)
                    .filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
                all.extend(
                    lists.flat_map(|(_, list)| Attributes(list)).map(|(_, element)| read_element(element)),
                );
            },
        );
        match listed {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            listed => listed,
        }
    }
}

fn read_element(bytes: &[u8]) -> Element {
    let value =
        |data| Attributes(data).find(|(kind, _)| *kind == NFTA_DATA_VALUE).map(|(_, value)| value.to_vec());
    let mut element = Element { key: Vec::new(), data: Vec::new(), comment: String::new() };
    for (kind, content) in Attributes(bytes) {
        match kind {
            NFTA_SET_ELEM_KEY => element.key = value(content).unwrap_or_default(),
            NFTA_SET_ELEM_DATA => element.data = value(content).unwrap_or_default(),
            NFTA_SET_ELEM_USERDATA => element.comment = comment_of_userdata(content).unwrap_or_default(),
            _ => {}
        }
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_element_is_read_as_it_is_written() {
        const SET: Set =
            Set { name: "s", key: &[Type::InetProto, Type::InetService], data: &[Type::Ipv4Addr] };
        const TABLE: Table = Table { family: super::super::Family::Inet, name: "t" };
        let element = Element {
            key: vec![6, 0, 0, 0, 0, 80, 0, 0],
            data: vec![10, 0, 0, 2],
            comment: "tw0".to_owned(),
        };
        let mut batch = Batch::new();
        TABLE.create_elements(&mut batch, &SET, [&element]);
        let message = crate::Messages(&batch.bytes).next().unwrap();
        let (_, list) = attributes(message.payload, NFGENMSG).last().unwrap();
        let (_, written) = Attributes(list).next().unwrap();
        assert_eq!(read_element(written), element);
    }

    #[test]
    fn a_concatenation_is_numbered_by_its_parts() {
        // As nft numbers `inet_proto . inet_service` and `ipv4_addr . inet_proto . inet_service`.
        assert_eq!(concatenation(&[Type::InetProto, Type::InetService]), 0x30d);
        assert_eq!(concatenation(&[Type::Ipv4Addr, Type::InetProto, Type::InetService]), 0x730d);
        assert_eq!(octets(&[Type::Ipv6Addr, Type::InetService]), 20);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_some_element_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_element(&bytes);
        }
    }
}
