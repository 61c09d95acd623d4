//! The expressions of a rule: each reads or writes registers, a comparison that fails ends the rule.
//!
//! Numbers from packets and addresses are in network byte order; what the kernel knows of a packet (`meta`, `ct`,
//! `fib`) is in the machine's, as `nft` has it.

use std::net::IpAddr;

use super::Family;
use crate::Body;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_JUMP: u32 = -3i32 as u32;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG32_00: u32 = 8;
const NFT_NAT_DNAT: u32 = 1;

/// The `n`th of sixteen registers of four octets each; longer values lie in consecutive ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(
    /// 0 to 15.
    pub u32,
);

/// What becomes of a packet that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Done with, for this base chain.
    Accept,
    /// Gone.
    Drop,
    /// On to this chain, then back.
    Jump(&'a str),
}

/// What the kernel knows of a packet (`enum nft_meta_keys`).
#[expect(missing_docs, reason = "the names are those of nft")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    Iifname = 6,
    Oifname = 7,
    Nfproto = 15,
    L4proto = 16,
    Iifkind = 26,
}

/// Which header a payload is read from (`enum nft_payload_bases`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Header {
    /// IPv4 or IPv6.
    Network = 1,
    /// TCP, UDP, SCTP and the like.
    Transport = 2,
}

/// What a route lookup of one of the packet's addresses shall say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fib {
    /// Type of the destination's route, `RTN_*`.
    DestinationType,
    /// Whether the source is reached through the interface on which the packet came: 1, else 0.
    SourceThroughIif,
}

/// The list being written.
pub struct Expressions<'a, 'b> {
    list: &'a mut Body<'b>,
}

impl<'a, 'b> Expressions<'a, 'b> {
    pub(crate) fn new(list: &'a mut Body<'b>) -> Self {
        Self { list }
    }

    /// `meta KEY`.
    pub fn meta(&mut self, key: Meta, to: Register) -> &mut Self {
        self.add("meta", |data| {
            data.be32(2, key as u32);
            data.be32(1, to.number());
        })
    }

    /// `ct status`.
    pub fn ct_status(&mut self, to: Register) -> &mut Self {
        const NFT_CT_STATUS: u32 = 2;
        self.add("ct", |data| {
            data.be32(2, NFT_CT_STATUS);
            data.be32(1, to.number());
        })
    }

    /// `length` octets of a header, from `offset` on.
    pub fn payload(&mut self, header: Header, offset: u32, length: u32, to: Register) -> &mut Self {
        self.add("payload", |data| {
            for (kind, number) in (1..).zip([to.number(), header as u32, offset, length]) {
                data.be32(kind, number);
            }
        })
    }

    /// A route lookup.
    pub fn fib(&mut self, what: Fib, to: Register) -> &mut Self {
        const SADDR: u32 = 1;
        const DADDR: u32 = 1 << 1;
        const IIF: u32 = 1 << 3;
        const PRESENT: u32 = 1 << 5;
        const RESULT_OIF: u32 = 1;
        const RESULT_ADDRTYPE: u32 = 3;
        let (flags, result) = match what {
            Fib::DestinationType => (DADDR, RESULT_ADDRTYPE),
            Fib::SourceThroughIif => (SADDR | IIF | PRESENT, RESULT_OIF),
        };
        self.add("fib", |data| {
            for (kind, number) in (1..).zip([to.number(), result, flags]) {
                data.be32(kind, number);
            }
        })
    }

    /// Goes on when the register begins with these octets.
    pub fn equals(&mut self, register: Register, value: &[u8]) -> &mut Self {
        self.compare(register, 0, value)
    }

    /// Goes on when the register does not begin with these octets.
    pub fn differs(&mut self, register: Register, value: &[u8]) -> &mut Self {
        self.compare(register, 1, value)
    }

    fn compare(&mut self, register: Register, operation: u32, value: &[u8]) -> &mut Self {
        self.add("cmp", |data| {
            data.be32(1, register.number());
            data.be32(2, operation);
            data.nest(3, |wanted| wanted.bytes(NFTA_DATA_VALUE, value));
        })
    }

    /// Keeps the bits of the mask.
    pub fn mask(&mut self, register: Register, mask: &[u8]) -> &mut Self {
        let length = u32::try_from(mask.len()).expect("a register has 64 octets at most");
        self.add("bitwise", |data| {
            data.be32(1, register.number());
            data.be32(2, register.number());
            data.be32(3, length);
            data.nest(4, |value| value.bytes(NFTA_DATA_VALUE, mask));
            data.nest(5, |value| value.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]));
        })
    }

    /// Goes on when the set holds what the registers from `key` on say; `to`: and puts the map's value there.
    pub fn lookup(&mut self, set: &str, key: Register, to: Option<Register>) -> &mut Self {
        self.add("lookup", |data| {
            data.be32(2, key.number());
            if let Some(to) = to {
                data.be32(3, to.number());
            }
            data.text(1, set);
        })
    }

    /// `dnat FAMILY to`: the address and port in registers.
    pub fn dnat(&mut self, family: Family, address: Register, port: Register) -> &mut Self {
        self.add("nat", |data| {
            data.be32(1, NFT_NAT_DNAT);
            data.be32(2, (family as u8).into());
            data.be32(3, address.number());
            data.be32(5, port.number());
        })
    }

    /// `masquerade`: the source becomes an address of this node.
    pub fn masquerade(&mut self) -> &mut Self {
        self.add("masq", |_| {})
    }

    /// `counter`.
    pub fn counter(&mut self) -> &mut Self {
        self.add("counter", |_| {})
    }

    /// What becomes of the packet.
    pub fn verdict(&mut self, verdict: Verdict<'_>) -> &mut Self {
        self.add("immediate", |data| {
            data.be32(1, NFT_REG_VERDICT);
            data.nest(2, |value| {
                value.nest(NFTA_DATA_VERDICT, |code| match verdict {
                    Verdict::Drop => code.be32(NFTA_VERDICT_CODE, 0),
                    Verdict::Accept => code.be32(NFTA_VERDICT_CODE, 1),
                    Verdict::Jump(chain) => {
                        code.be32(NFTA_VERDICT_CODE, NFT_JUMP);
                        code.text(NFTA_VERDICT_CHAIN, chain);
                    }
                });
            });
        })
    }

    /// Goes on for packets of this family.
    pub fn family(&mut self, family: Family) -> &mut Self {
        self.meta(Meta::Nfproto, Register(0)).equals(Register(0), &[family as u8])
    }

    /// Puts the packet's source address there; the caller has asked for the family.
    pub fn source(&mut self, family: Family, to: Register) -> &mut Self {
        match family {
            Family::Ipv6 => self.payload(Header::Network, 8, 16, to),
            Family::Ipv4 | Family::Inet => self.payload(Header::Network, 12, 4, to),
        }
    }

    /// Puts the packet's destination address there; the caller has asked for the family.
    pub fn destination(&mut self, family: Family, to: Register) -> &mut Self {
        match family {
            Family::Ipv6 => self.payload(Header::Network, 24, 16, to),
            Family::Ipv4 | Family::Inet => self.payload(Header::Network, 16, 4, to),
        }
    }

    fn add(&mut self, name: &str, write: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        self.list.nest(NFTA_LIST_ELEM, |expression| {
            expression.text(NFTA_EXPR_NAME, name);
            expression.nest(NFTA_EXPR_DATA, write);
        });
        self
    }
}

impl Register {
    const fn number(self) -> u32 {
        NFT_REG32_00 + self.0
    }
}

/// An interface name as a register holds it whole: 16 octets, zeros behind.
#[must_use]
pub fn name16(name: &str) -> [u8; 16] {
    let mut octets = [0; 16];
    for (octet, from) in octets.iter_mut().zip(name.bytes()) {
        *octet = from;
    }
    octets
}

/// The octets of an address, as packets, registers and set keys hold them.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
