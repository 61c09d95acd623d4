//! nf_tables as a lab needs it: the messages of a batch, and in the files below what they say.
//!
//! Requests are encoded here and travel over [`Netlink`](crate::kernel::netlink::Netlink). Tables are named
//! `towpath-lab`, so that `nft list ruleset` in a node shows what the lab did to it.

mod forwarding;
mod loss;

use std::io;

use crate::kernel::netlink::{attribute, frame};

pub(crate) use forwarding::{restore, stop};
pub use loss::{BadLoss, Loss};
pub(crate) use loss::{loss, set_loss};

const TABLE: &str = "towpath-lab";

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_DELTABLE: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 2;
const NFT_MSG_NEWCHAIN: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 3;
const NFT_MSG_DELCHAIN: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 5;
const NFT_MSG_NEWRULE: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 6;
const NFT_MSG_GETRULE: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 7;
const NFT_MSG_DELRULE: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 8;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_NETDEV: u8 = 5;
/// Before every filter, so that no rule of the node lets a packet through first.
const PRIORITY: i32 = -300;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// One request of a batch: message type, flags and attributes.
type Request = (u16, u16, Vec<u8>);

/// Messages between BEGIN and END are applied together or not at all.
fn batch(family: u8, requests: &[Request]) -> Vec<u8> {
    let edge = nfgenmsg(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
    let mut bytes = frame(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, &edge);
    for (sequence, (kind, flags, attributes)) in (1..).zip(requests) {
        let body = [&nfgenmsg(family, 0)[..], attributes].concat();
        bytes.extend(frame(*kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, &body));
    }
    bytes.extend(frame(NFNL_MSG_BATCH_END, NLM_F_REQUEST, u32::MAX, &edge));
    bytes
}

/// `struct nfgenmsg`: family, version 0, resource id in network byte order.
fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn number_attribute(kind: u16, number: u32) -> Vec<u8> {
    attribute(kind, &number.to_be_bytes())
}

fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, &attributes.concat())
}

fn lacks_nf_tables(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL))
}
