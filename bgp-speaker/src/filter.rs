//! The safe import default (RFC 8212): what a node takes without having been told to.
//!
//! In: a prefix. Out: a [`Verdict`]. A router (`transit`) takes every prefix that can be routed; any other node
//! takes the default route and this cluster's pod ranges, and nothing that it originates itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::rib::Verdict;

/// The import filter of all peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportFilter {
    /// Take every valid route.
    pub transit: bool,
    /// `IPPool.spec.cidrs`.
    pub pod_ranges: Vec<IpNet>,
}

impl ImportFilter {
    /// What becomes of a received prefix; `originated` says whether this node originates it or one that holds it.
    pub fn verdict(&self, prefix: &IpNet, originated: impl FnOnce(&IpNet) -> bool) -> Verdict {
        if martian(prefix) {
            Verdict::Martian
        } else if self.transit {
            Verdict::Accepted
        } else if originated(prefix) {
            Verdict::OwnPrefix
        } else if prefix.prefix_len() == 0 || self.pod_ranges.iter().any(|range| range.contains(prefix)) {
            Verdict::Accepted
        } else {
            Verdict::Filtered
        }
    }
}

/// Never a destination on a routed network: this host, loopback, link-local, multicast, reserved (RFC 6890),
/// and IPv4-mapped IPv6. The default route is none of them.
pub fn martian(prefix: &IpNet) -> bool {
    const V4: [(Ipv4Addr, u8); 4] = [
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    const V6: [(Ipv6Addr, u8); 4] = [
        (Ipv6Addr::UNSPECIFIED, 127),
        (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
        (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    ];
    match prefix {
        IpNet::V4(prefix) => {
            V4.iter().any(|(base, len)| Ipv4Net::new(*base, *len).is_ok_and(|range| range.contains(prefix)))
        }
        IpNet::V6(prefix) => {
            V6.iter().any(|(base, len)| Ipv6Net::new(*base, *len).is_ok_and(|range| range.contains(prefix)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_the_default_route_and_pod_ranges_and_a_router_everything() {
        let pod_ranges = vec!["10.1.0.0/16".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
        let node = ImportFilter { transit: false, pod_ranges: pod_ranges.clone() };
        let router = ImportFilter { transit: true, pod_ranges };
        let own: IpNet = "10.1.7.0/24".parse().unwrap();
        let cases = [
            ("0.0.0.0/0", Verdict::Accepted, Verdict::Accepted),
            ("::/0", Verdict::Accepted, Verdict::Accepted),
            ("10.1.0.0/16", Verdict::Accepted, Verdict::Accepted),
            ("10.1.3.0/26", Verdict::Accepted, Verdict::Accepted),
            ("10.0.0.0/8", Verdict::Filtered, Verdict::Accepted),
            ("10.2.0.0/24", Verdict::Filtered, Verdict::Accepted),
            ("2001:db8:1:2::/64", Verdict::Accepted, Verdict::Accepted),
            ("2001:db8:2::/64", Verdict::Filtered, Verdict::Accepted),
            ("10.1.7.0/24", Verdict::OwnPrefix, Verdict::Accepted),
            ("10.1.7.9/32", Verdict::OwnPrefix, Verdict::Accepted),
            ("0.0.0.0/8", Verdict::Martian, Verdict::Martian),
            ("127.0.0.1/32", Verdict::Martian, Verdict::Martian),
            ("169.254.1.0/24", Verdict::Martian, Verdict::Martian),
            ("239.1.0.0/16", Verdict::Martian, Verdict::Martian),
            ("255.255.255.255/32", Verdict::Martian, Verdict::Martian),
            ("::1/128", Verdict::Martian, Verdict::Martian),
            ("fe80::/64", Verdict::Martian, Verdict::Martian),
            ("ff02::/16", Verdict::Martian, Verdict::Martian),
            ("::ffff:10.0.0.0/104", Verdict::Martian, Verdict::Martian),
            ("128.0.0.0/1", Verdict::Filtered, Verdict::Accepted),
        ];
        for (text, on_node, on_router) in cases {
            let prefix: IpNet = text.parse().unwrap();
            let inside_own = |prefix: &IpNet| own.contains(prefix);
            assert_eq!(node.verdict(&prefix, inside_own), on_node, "{text}");
            assert_eq!(router.verdict(&prefix, inside_own), on_router, "{text}");
        }
    }
}
