//! What an attachment's devices are called on the node, and how they say whose they are.
//!
//! A DEL has nothing but the attachment, and must find the devices of an ADD that was killed at any instruction. So
//! their names follow from the attachment alone, today as after an upgrade: the hash below never changes. The mark,
//! the device's `ifalias`, leads back from a device to its attachment.

use crate::{Attachment, ContainerId, IfName, NetworkName};

/// Most octets of a device's `ifalias` (`IFALIASZ` of linux/if.h, less the final zero).
pub const MARK_OCTETS: usize = 255;

const MARK: &str = "towpath-cni";

/// The host's end of the attachment's veth pair.
#[must_use]
pub fn host_ifname(attachment: &Attachment) -> IfName {
    device("tw", attachment)
}

/// The intermediate device that shapes what the pod sends.
#[must_use]
pub fn ifb_name(attachment: &Attachment) -> IfName {
    device("ti", attachment)
}

/// The hardware address of the pod's interface when none is asked for: locally administered, the same on each ADD of
/// the attachment.
#[must_use]
pub fn pod_mac(attachment: &Attachment) -> [u8; 6] {
    let [.., a, b, c, d, e] = hash(attachment).to_be_bytes();
    [0x0a, a, b, c, d, e]
}

/// The `ifalias` of the attachment's devices.
#[must_use]
pub fn mark(attachment: &Attachment) -> String {
    format!("{MARK} {attachment}")
}

/// Whether the kernel can keep the attachment's mark. An attachment whose names are too long for it is refused before
/// anything is made.
#[must_use]
pub fn mark_fits(attachment: &Attachment) -> bool {
    mark(attachment).len() <= MARK_OCTETS
}

/// Whose device it is that carries this `ifalias`; `None`: not one of ours.
#[must_use]
pub fn marked(ifalias: &str) -> Option<Attachment> {
    let mut words = ifalias.split(' ');
    if words.next() != Some(MARK) {
        return None;
    }
    let attachment = Attachment {
        network: NetworkName::parse(words.next()?).ok()?,
        container_id: ContainerId::parse(words.next()?).ok()?,
        ifname: IfName::parse(words.next()?).ok()?,
    };
    words.next().is_none().then_some(attachment)
}

/// 65 bits of the hash, as 13 digits of RFC 4648's base32 in lower case: 15 octets with the prefix, as many as the
/// kernel takes.
fn device(prefix: &str, attachment: &Attachment) -> IfName {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = hash(attachment);
    let folded = hash ^ (hash >> 65);
    let digits = (0..13).map(|place| char::from(DIGITS[(folded >> (5 * place)) as usize & 31]));
    let name: String = prefix.chars().chain(digits).collect();
    IfName::parse(&name).expect("fifteen letters and digits are an interface name")
}

/// FNV-1a of 128 bits over the three names, each ended by an octet that no name holds.
fn hash(attachment: &Attachment) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let names = [attachment.network.as_str(), attachment.container_id.as_str(), attachment.ifname.as_str()];
    let octets = names.iter().flat_map(|name| name.bytes().chain([0]));
    octets.fold(OFFSET, |hash, octet| (hash ^ u128::from(octet)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn attachment(network: &str, container_id: &str, ifname: &str) -> Attachment {
        Attachment {
            network: NetworkName::parse(network).unwrap(),
            container_id: ContainerId::parse(container_id).unwrap(),
            ifname: IfName::parse(ifname).unwrap(),
        }
    }

    /// Devices made by one version are taken away by another: a changed line here is a leak on every node.
    #[test]
    fn names_never_change() {
        let eth0 = attachment("towpath", "0123456789abcdef", "eth0");
        assert_eq!(host_ifname(&eth0).as_str(), "twb6f6hlpudn3cw");
        assert_eq!(ifb_name(&eth0).as_str(), "tib6f6hlpudn3cw");
        assert_eq!(pod_mac(&eth0), [0x0a, 0xd8, 0x5a, 0x5d, 0x9a, 0xd1]);
        assert_eq!(mark(&eth0), "towpath-cni towpath 0123456789abcdef eth0");
        let other = attachment("a", "b", "c");
        assert_eq!(host_ifname(&other).as_str(), "twks336xuzmheiq");
    }

    #[test]
    fn attachments_that_differ_little_have_names_that_differ() {
        let mut names = BTreeSet::new();
        for number in 0..2000 {
            for ifname in ["eth0", "eth1", "net1"] {
                names.insert(host_ifname(&attachment("towpath", &format!("pod{number}"), ifname)));
            }
        }
        names.insert(host_ifname(&attachment("towpathpod1", "eth0", "x")));
        names.insert(host_ifname(&attachment("towpath", "pod1eth0", "x")));
        assert_eq!(names.len(), 6002);
    }

    #[test]
    fn a_mark_leads_back_to_its_attachment() {
        let eth0 = attachment("net_1", "a.b-c", "eth0");
        assert_eq!(marked(&mark(&eth0)), Some(eth0));
        for foreign in [
            "",
            "towpath-cni",
            "towpath-cni a b",
            "towpath-cni a b c d",
            "towpath-cni a /b c",
            "towpath-cnia b c",
            "uplink",
        ] {
            assert_eq!(marked(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn a_mark_longer_than_the_kernel_keeps_does_not_fit() {
        let longest = MARK_OCTETS - mark(&attachment("n", "c", "eth0")).len() + 1;
        assert!(mark_fits(&attachment("n", &"c".repeat(longest), "eth0")));
        assert!(!mark_fits(&attachment("n", &"c".repeat(longest + 1), "eth0")));
    }
}
