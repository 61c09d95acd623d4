//! Loss on a cable by rule: of the packets that arrive at a device, a random share is dropped.
//!
//! The table `netdev towpath-lab` holds one chain per device, on its ingress hook, with one rule:
//! `numgen random mod 1000000 < N counter drop`. There it sees every frame (both families, ARP,
//! neighbour discovery, LLDP) before anything in the node but packet captures does, as a bad cable
//! would have it. Packets are dropped where they arrive and never where they are sent: a sender
//! whose own kernel drops a packet is told so, and TCP then holds back instead of retransmitting.

use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    NF_ACCEPT, NF_DROP, NFPROTO_NETDEV, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_GETRULE, NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE,
    NFTA_CHAIN_TYPE, NFTA_HOOK_DEV, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_TABLE_NAME, NLM_F_APPEND,
    NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, PRIORITY, Request, TABLE, batch, nested, nfgenmsg,
    number_attribute, text_attribute,
};
use crate::kernel::netlink::{Netlink, attributes, frame, ifindex};

const NF_NETDEV_INGRESS: u32 = 0;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_COUNTER_PACKETS: u16 = 2;

const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_NG_RANDOM: u32 = 1;
const NFT_BYTEORDER_HTON: u32 = 1;
const NFT_CMP_LT: u32 = 2;

/// A share of packets that is lost, to the ten-thousandth of a percent; `30`, `0.5` or `100 %` as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Loss {
    millionths: u32,
}

/// What is no share of packets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a loss of {0} % is not possible; write a percentage from 0 to 100, such as 0.5")]
pub struct BadLoss(String);

impl Loss {
    const ALL: u32 = 1_000_000;

    /// From a percentage.
    ///
    /// # Errors
    /// [`BadLoss`] when it is not from 0 to 100.
    pub fn percent(percent: f64) -> Result<Self, BadLoss> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(BadLoss(percent.to_string()));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1,000,000: checked above"
        )]
        let millionths = (percent * 10_000.0).round() as u32;
        Ok(Self { millionths })
    }

    /// As a percentage, 0 to 100.
    #[must_use]
    pub fn as_percent(self) -> f64 {
        f64::from(self.millionths) / 10_000.0
    }

    /// Nothing is lost.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.millionths == 0
    }
}

impl FromStr for Loss {
    type Err = BadLoss;

    fn from_str(text: &str) -> Result<Self, BadLoss> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        number.parse().map_err(|_| BadLoss(number.to_owned())).and_then(Self::percent)
    }
}

/// Loses this share of the packets that arrive at `device` from now on, instead of an earlier share.
pub(crate) fn set_loss(device: &str, loss: Loss) -> io::Result<()> {
    if loss.is_none() {
        return clear_loss(device);
    }
    ifindex(device)?;
    let outcome = Netlink::netfilter()?.exchange(&batch(NFPROTO_NETDEV, &requests(device, loss)), 4);
    outcome.map_err(|error| {
        let needs = "loss by rule needs a kernel with CONFIG_NF_TABLES_NETDEV and CONFIG_NFT_NUMGEN";
        match error.kind() {
            // The kernel's answers where a hook or an expression of the rule is unknown.
            io::ErrorKind::NotFound | io::ErrorKind::Unsupported => {
                io::Error::new(error.kind(), format!("{error}; {needs}"))
            }
            _ => error,
        }
    })
}

/// Loses nothing any more. Repeating it changes nothing.
pub(crate) fn clear_loss(device: &str) -> io::Result<()> {
    let chain = [text_attribute(NFTA_CHAIN_TABLE, TABLE), text_attribute(NFTA_CHAIN_NAME, device)].concat();
    match Netlink::netfilter()?.exchange(&batch(NFPROTO_NETDEV, &[(NFT_MSG_DELCHAIN, 0, chain)]), 1) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// What is lost at `device` by rule, and how many packets have been; `None`: no rule.
pub(crate) fn loss(device: &str) -> io::Result<Option<(Loss, u64)>> {
    let chain = [text_attribute(NFTA_RULE_TABLE, TABLE), text_attribute(NFTA_RULE_CHAIN, device)].concat();
    let body = [&nfgenmsg(NFPROTO_NETDEV, 0)[..], &chain].concat();
    let request = frame(NFT_MSG_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, 1, &body);
    let answers = match Netlink::netfilter()?.dump(&request) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        answers => answers?,
    };
    Ok(answers.iter().find_map(|(_, body)| read_rule(body.get(4..)?)))
}

fn requests(device: &str, loss: Loss) -> [Request; 4] {
    let hook = [
        number_attribute(NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS),
        number_attribute(NFTA_HOOK_PRIORITY, PRIORITY.cast_unsigned()),
        text_attribute(NFTA_HOOK_DEV, device),
    ];
    let chain = [
        text_attribute(NFTA_CHAIN_TABLE, TABLE),
        text_attribute(NFTA_CHAIN_NAME, device),
        text_attribute(NFTA_CHAIN_TYPE, "filter"),
        number_attribute(NFTA_CHAIN_POLICY, NF_ACCEPT),
        nested(NFTA_CHAIN_HOOK, &hook),
    ];
    let of_chain = [text_attribute(NFTA_RULE_TABLE, TABLE), text_attribute(NFTA_RULE_CHAIN, device)];
    [
        (NFT_MSG_NEWTABLE, NLM_F_CREATE, text_attribute(NFTA_TABLE_NAME, TABLE)),
        (NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain.concat()),
        // The rule of an earlier share, if there is one.
        (NFT_MSG_DELRULE, 0, of_chain.concat()),
        (NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule(device, loss)),
    ]
}

/// `numgen random mod 1000000 < N counter drop`.
fn rule(device: &str, loss: Loss) -> Vec<u8> {
    let numbers = |numbers: &[u32]| -> Vec<Vec<u8>> {
        (1..).zip(numbers).map(|(kind, number)| number_attribute(kind, *number)).collect()
    };
    let drop = nested(NFTA_DATA_VERDICT, &[number_attribute(NFTA_VERDICT_CODE, NF_DROP)]);
    let expressions = [
        // Register, modulus, kind, offset.
        expression("numgen", &numbers(&[NFT_REG_1, Loss::ALL, NFT_NG_RANDOM, 0])),
        // From register, to register, operation, length, size: what is compared is in network order.
        expression("byteorder", &numbers(&[NFT_REG_1, NFT_REG_1, NFT_BYTEORDER_HTON, 4, 4])),
        expression(
            "cmp",
            &[
                number_attribute(NFTA_CMP_SREG, NFT_REG_1),
                number_attribute(NFTA_CMP_OP, NFT_CMP_LT),
                nested(NFTA_CMP_DATA, &[number_attribute(NFTA_DATA_VALUE, loss.millionths)]),
            ],
        ),
        expression("counter", &[]),
        expression("immediate", &[number_attribute(1, NFT_REG_VERDICT), nested(2, &[drop])]),
    ];
    [
        text_attribute(NFTA_RULE_TABLE, TABLE),
        text_attribute(NFTA_RULE_CHAIN, device),
        nested(NFTA_RULE_EXPRESSIONS, &expressions),
    ]
    .concat()
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(NFTA_LIST_ELEM, &[text_attribute(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, data)])
}

/// The share and the counter out of a rule as [`rule`] writes it.
fn read_rule(rule: &[u8]) -> Option<(Loss, u64)> {
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let expressions = find(rule, NFTA_RULE_EXPRESSIONS)?;
    let data = |name: &[u8]| {
        let mut all = attributes(expressions).map(|(_, expression)| expression);
        let named = all.find(|expression| find(expression, NFTA_EXPR_NAME) == Some(name))?;
        find(named, NFTA_EXPR_DATA)
    };
    let share = find(find(data(b"cmp\0")?, NFTA_CMP_DATA)?, NFTA_DATA_VALUE)?;
    let packets = find(data(b"counter\0")?, NFTA_COUNTER_PACKETS)?;
    let millionths = u32::from_be_bytes(share.try_into().ok()?);
    Some((Loss { millionths }, u64::from_be_bytes(packets.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_packets_is_a_percentage() {
        let cases = [("30", 300_000), ("0.5", 5_000), ("100 %", 1_000_000), ("0", 0), ("0.00001", 0)];
        for (text, millionths) in cases {
            assert_eq!(text.parse(), Ok(Loss { millionths }), "{text}");
        }
        for text in ["-1", "100.1", "nan", "inf", "much", ""] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
    }

    /// Captured with strace from nft 1.0.6, which was given
    /// `table netdev towpath-lab { chain v0 { ... numgen random mod 1000000 < 300000 counter drop } }`.
    #[test]
    fn the_rule_is_what_nft_sends() {
        const NFT: &str = "10000100746f77706174682d6c61620007000200763000 00e80004803400018 00b0001006e756d67656e0000\
            24000280080001000000000108000200000f424008000300000000010800040000000000\
            400001800e000100627974656f726465720000002c0002800800010000000001080002000000000108000300000000010800040000000004\
            0800050000000004\
            2c0001800800010063 6d70002000028008000100000000010800020000000002 0c00038008000100000493e0\
            140001800c000100636f756e7465720004000280\
            300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c0002800800010000000000";
        let expected: Vec<char> = NFT.chars().filter(|c| c.is_ascii_hexdigit()).collect();
        let bytes: String =
            rule("v0", Loss { millionths: 300_000 }).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes, expected.iter().collect::<String>());
    }
}
