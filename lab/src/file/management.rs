//! The management network: its settings, and which address each node has on it.
//!
//! In: the `mgmt` part of the file and the addresses that nodes ask for. Out: subnets with their
//! gateways, and per node the addresses of its eth0: the ones asked for, the others by node name
//! from the lowest free one on. No kernel; `eth0` puts it there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::file::fields::{At, did_you_mean, mapping, text};
use crate::file::problem::Findings;
use crate::file::yaml::Yaml;

/// Smallest MTU of a network with IPv6 (RFC 8200 section 5) and with IPv4 (RFC 791), in bytes.
const MIN_MTU_BYTES: [(bool, u32); 2] = [(true, 1280), (false, 68)];

/// The network that each node without `network-mode` has its eth0 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Management {
    /// containerlab's name for it; has no effect here.
    pub network: String,
    /// Its bridge in the lab's host namespace.
    pub bridge: String,
    /// At most one of each address family, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// MTU of eth0, in bytes.
    pub mtu_bytes: u32,
}

/// One address family of the management network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Where the addresses come from.
    pub prefix: IpNet,
    /// The bridge's own address, and the nodes' default route.
    pub gateway: IpAddr,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            network: "clab".to_owned(),
            bridge: "br-clab".to_owned(),
            subnets: DEFAULT_SUBNETS
                .into_iter()
                .filter_map(|text| text.parse().ok())
                .map(Subnet::of)
                .collect(),
            mtu_bytes: 1500,
        }
    }
}

const DEFAULT_SUBNETS: [&str; 2] = ["172.20.20.0/24", "3fff:172:20:20::/64"];

/// Keys that containerlab knows and that mean nothing on a network without exit.
const NO_EFFECT: [&str; 4] = ["ipv4-range", "ipv6-range", "external-access", "driver-opts"];
const KNOWN: [&str; 7] = ["network", "bridge", "ipv4-subnet", "ipv6-subnet", "ipv4-gw", "ipv6-gw", "mtu"];

impl Subnet {
    fn of(prefix: IpNet) -> Self {
        Self { prefix, gateway: nth(prefix, 1) }
    }

    /// Every address that a node may have, the lowest first.
    fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let last = match self.prefix {
            // The last one of an IPv4 subnet is its broadcast address.
            IpNet::V4(net) => (1_u128 << (32 - net.prefix_len())) - 2,
            IpNet::V6(net) => u128::MAX.checked_shr(net.prefix_len().into()).unwrap_or_default(),
        };
        (1..=last).map(move |index| nth(self.prefix, index)).filter(move |address| *address != self.gateway)
    }
}

fn nth(prefix: IpNet, index: u128) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let index = u32::try_from(index).unwrap_or_default();
            Ipv4Addr::from(u32::from(net.network()).wrapping_add(index)).into()
        }
        IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()).wrapping_add(index)).into(),
    }
}

impl Management {
    /// Reads the `mgmt` part of a topology.
    pub(crate) fn read(yaml: &Yaml, findings: &mut Findings) -> Self {
        let mut given: BTreeMap<&str, At> = BTreeMap::new();
        for (key, value) in mapping("\"mgmt\"", yaml, findings) {
            let word = key.text.as_str();
            if NO_EFFECT.contains(&word) {
                findings.warn(key.line, format!("mgmt: \"{word}\" has no effect here"));
            } else if !KNOWN.contains(&word) {
                let hint = did_you_mean(word, KNOWN.into_iter().chain(NO_EFFECT));
                findings.refuse(key.line, format!("mgmt: unknown field \"{word}\"; {hint}"));
            } else if let Some(value) = text(&format!("mgmt: \"{word}\""), value, findings) {
                given.insert(word, value);
            }
        }
        let mut management = Self::default();
        if let Some(network) = given.get("network") {
            management.network.clone_from(&network.text);
        }
        if let Some(bridge) = given.get("bridge") {
            match possible_device(&bridge.text) {
                true => management.bridge.clone_from(&bridge.text),
                false => findings.refuse(bridge.line, format!("mgmt: bridge \"{}\" {DEVICE}", bridge.text)),
            }
        }
        // With one subnet given the other family is off, as in containerlab.
        let asked: Vec<Subnet> = [("ipv4-subnet", "ipv4-gw"), ("ipv6-subnet", "ipv6-gw")]
            .into_iter()
            .filter_map(|(subnet, gateway)| {
                let subnet = given.get(subnet).filter(|subnet| subnet.text != "auto")?;
                read_subnet(subnet, given.get(gateway), findings)
            })
            .collect();
        if !asked.is_empty() {
            management.subnets = asked;
        }
        if let Some(mtu) = given.get("mtu") {
            let v6 = management.subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6());
            let min = MIN_MTU_BYTES.into_iter().find(|(ipv6, _)| *ipv6 == v6).map_or(68, |(_, min)| min);
            match mtu.text.parse() {
                Ok(0) => {}
                Ok(bytes) if (min..=65_535).contains(&bytes) => management.mtu_bytes = bytes,
                _ => {
                    let text = format!("mgmt: mtu {} is not possible; use {min} to 65535", mtu.text);
                    findings.refuse(mtu.line, text);
                }
            }
        }
        management
    }
}

/// What is said about a name that the kernel would not take for a device.
pub(crate) const DEVICE: &str =
    "is not a possible name of a device; use at most 15 letters, digits, \"-\", \"_\" and \".\"";

/// Whether the kernel takes `name` for a device as it is.
pub(crate) fn possible_device(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 15 && name.chars().all(good) && !matches!(name, "lo" | "." | "..")
}

fn read_subnet(subnet: &At, gateway: Option<&At>, findings: &mut Findings) -> Option<Subnet> {
    let mut refuse = |at: &At, text: String| {
        findings.refuse(at.line, format!("mgmt: {text}"));
        None
    };
    let Ok(prefix) = subnet.text.parse::<IpNet>() else {
        return refuse(subnet, format!("\"{}\" is no subnet; write it as 172.20.20.0/24", subnet.text));
    };
    if prefix.trunc() != prefix {
        return refuse(subnet, format!("subnet {prefix} has host bits set; write {}", prefix.trunc()));
    }
    if prefix.max_prefix_len() - prefix.prefix_len() < 2 {
        let longest = prefix.max_prefix_len() - 2;
        return refuse(subnet, format!("subnet {prefix} has no room for nodes; use /{longest} or shorter"));
    }
    let Some(given) = gateway else { return Some(Subnet::of(prefix)) };
    match given.text.parse::<IpAddr>() {
        Ok(gateway)
            if prefix.contains(&gateway) && gateway != prefix.network() && gateway != prefix.broadcast() =>
        {
            Some(Subnet { prefix, gateway })
        }
        _ => refuse(given, format!("gateway {} is no address of {prefix}; choose one in it", given.text)),
    }
}

/// What a node says about its address on the management network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Where the node is in the file.
    pub(crate) line: usize,
    pub(crate) ipv4: Option<At>,
    pub(crate) ipv6: Option<At>,
}

/// The addresses of every node that is on the management network, checked and complete.
pub(crate) fn assign(
    management: &Management,
    wishes: &BTreeMap<String, Wish>,
    findings: &mut Findings,
) -> BTreeMap<String, Vec<IpNet>> {
    for (node, wish) in wishes {
        refuse_absent_family(management, node, wish, findings);
    }
    let mut addresses: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    for subnet in &management.subnets {
        let wanted = wanted(*subnet, wishes, findings);
        let taken: BTreeSet<IpAddr> = wanted.values().copied().collect();
        let mut free = subnet.addresses().filter(|address| !taken.contains(address));
        for (node, wish) in wishes {
            let Some(address) = wanted.get(node.as_str()).copied().or_else(|| free.next()) else {
                let prefix = subnet.prefix;
                let text = format!(
                    "node {node}: subnet {prefix} has no address left; choose a larger one in \"mgmt\""
                );
                findings.refuse(wish.line, text);
                break;
            };
            if let Ok(net) = IpNet::new(address, subnet.prefix.prefix_len()) {
                addresses.entry(node.clone()).or_default().push(net);
            }
        }
    }
    addresses
}

fn refuse_absent_family(management: &Management, node: &str, wish: &Wish, findings: &mut Findings) {
    for (field, given, ipv6) in [("mgmt-ipv4", &wish.ipv4, false), ("mgmt-ipv6", &wish.ipv6, true)] {
        let there = management.subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6() == ipv6);
        if let (Some(given), false) = (given, there) {
            let family = if ipv6 { "ipv6-subnet" } else { "ipv4-subnet" };
            let text =
                format!("node {node}: \"{field}\" needs a subnet; add \"{family}\" to \"mgmt\" or remove it");
            findings.refuse(given.line, text);
        }
    }
}

/// The addresses asked for in this subnet, without those that cannot be given.
fn wanted<'a>(
    subnet: Subnet,
    wishes: &'a BTreeMap<String, Wish>,
    findings: &mut Findings,
) -> BTreeMap<&'a str, IpAddr> {
    let mut wanted = BTreeMap::new();
    let mut first: BTreeMap<IpAddr, (&str, usize)> = BTreeMap::new();
    for (node, wish) in wishes {
        let given = if subnet.prefix.addr().is_ipv6() { &wish.ipv6 } else { &wish.ipv4 };
        let Some(given) = given else { continue };
        match check(subnet, given, &first) {
            Ok(address) => {
                first.insert(address, (node, given.line));
                wanted.insert(node.as_str(), address);
            }
            Err(why) => findings.refuse(given.line, format!("node {node}: address {} {why}", given.text)),
        }
    }
    wanted
}

fn check(subnet: Subnet, given: &At, first: &BTreeMap<IpAddr, (&str, usize)>) -> Result<IpAddr, String> {
    let Subnet { prefix, gateway } = subnet;
    let address: IpAddr = given
        .text
        .parse()
        .map_err(|_| format!("is no address; write one of {prefix}, without its length"))?;
    if !prefix.contains(&address) {
        return Err(format!("is not in {prefix}; choose one that is, or change the subnet in \"mgmt\""));
    }
    if address == gateway {
        return Err("is the gateway's; choose another one".to_owned());
    }
    if address == prefix.network() || (address.is_ipv4() && address == prefix.broadcast()) {
        return Err(format!("is not a host's in {prefix}; choose another one"));
    }
    match first.get(&address) {
        Some((node, line)) => Err(format!("is node {node}'s already, in line {line}; choose another one")),
        None => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::yaml;

    fn read(text: &str) -> (Management, Vec<String>) {
        let mut findings = Findings::default();
        let yaml = yaml::parse(text, &mut findings).unwrap();
        let management = Management::read(&yaml, &mut findings);
        (management, findings.problems.into_iter().map(|problem| problem.text).collect())
    }

    /// A node, and the IPv4 and IPv6 address it asks for.
    type Asked<'a> = (&'a str, &'a str, &'a str);

    fn wishes(wishes: &[Asked<'_>]) -> BTreeMap<String, Wish> {
        let at = |text: &str| (!text.is_empty()).then(|| At { line: 7, text: text.to_owned() });
        let wish = |ipv4, ipv6| Wish { line: 5, ipv4: at(ipv4), ipv6: at(ipv6) };
        wishes.iter().map(|(node, ipv4, ipv6)| ((*node).to_owned(), wish(ipv4, ipv6))).collect()
    }

    fn assigned(management: &Management, asked: &[Asked<'_>]) -> (String, Vec<String>) {
        let mut findings = Findings::default();
        let addresses = assign(management, &wishes(asked), &mut findings);
        let shown = addresses.iter().map(|(node, nets)| {
            let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
            format!("{node} {}", nets.join(" "))
        });
        (shown.collect::<Vec<_>>().join(", "), findings.problems.into_iter().map(|p| p.text).collect())
    }

    #[test]
    fn defaults_are_containerlabs_and_one_given_subnet_turns_the_other_family_off() {
        let (default, problems) = read("{}");
        assert_eq!(problems, [] as [String; 0]);
        let shown: Vec<String> =
            default.subnets.iter().map(|s| format!("{} {}", s.prefix, s.gateway)).collect();
        assert_eq!(shown, ["172.20.20.0/24 172.20.20.1", "3fff:172:20:20::/64 3fff:172:20:20::1"]);
        assert_eq!((default.mtu_bytes, default.bridge.as_str()), (1500, "br-clab"));
        let (one, _) = read("{ipv6-subnet: \"fd00::/64\", bridge: b0, mtu: 1400, ipv4-subnet: auto}");
        assert_eq!(one.subnets.len(), 1);
        assert_eq!((one.mtu_bytes, one.bridge.as_str()), (1400, "b0"));
        let (gateway, _) = read("{ipv4-subnet: 10.0.0.0/24, ipv4-gw: 10.0.0.2}");
        assert_eq!(assigned(&gateway, &[("a", "", ""), ("b", "", "")]).0, "a 10.0.0.1/24, b 10.0.0.3/24");
    }

    #[test]
    fn static_addresses_come_first_and_the_rest_go_by_name() {
        let asked = [("a", "", ""), ("b", "172.20.20.2", "3fff:172:20:20::3"), ("c", "", "")];
        let (shown, problems) = assigned(&Management::default(), &asked);
        assert_eq!(problems, [] as [String; 0]);
        let expected = "a 172.20.20.3/24 3fff:172:20:20::2/64, b 172.20.20.2/24 3fff:172:20:20::3/64, \
                        c 172.20.20.4/24 3fff:172:20:20::4/64";
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_the_reason() {
        let cases: &[(&[Asked<'_>], &str)] = &[
            (&[("a", "10.0.0.5", "")], "address 10.0.0.5 is not in 172.20.20.0/24"),
            (&[("a", "172.20.20.1", "")], "is the gateway's"),
            (&[("a", "172.20.20.255", "")], "is not a host's"),
            (&[("a", "172.20.20.5/24", "")], "without its length"),
            (&[("a", "172.20.20.5", ""), ("b", "172.20.20.5", "")], "is node a's already, in line 7"),
        ];
        for (asked, expected) in cases {
            let (_, problems) = assigned(&Management::default(), asked);
            assert!(matches!(problems.as_slice(), [one] if one.contains(expected)), "{problems:?}");
        }
        let (small, _) = read("{ipv4-subnet: 10.0.0.0/30}");
        let (_, problems) = assigned(&small, &[("a", "", ""), ("b", "", "")]);
        assert!(matches!(problems.as_slice(), [one] if one.contains("no address left")), "{problems:?}");
        let (_, problems) = assigned(&small, &[("a", "", "fd00::1")]);
        assert!(matches!(problems.as_slice(), [one] if one.contains("ipv6-subnet")), "{problems:?}");
    }

    #[test]
    fn bad_settings_are_refused_with_a_remedy() {
        let cases = [
            ("{ipv4-subnet: 10.0.0.5/24}", "write 10.0.0.0/24"),
            ("{ipv4-subnet: 10.0.0.0/31}", "use /30 or shorter"),
            ("{ipv4-subnet: ten}", "is no subnet"),
            ("{ipv4-subnet: 10.0.0.0/24, ipv4-gw: 10.0.1.1}", "choose one in it"),
            ("{mtu: 1000}", "use 1280 to 65535"),
            ("{bridge: a-name-that-is-too-long}", "at most 15"),
            ("{ipv4_subnet: 10.0.0.0/24}", "did you mean \"ipv4-subnet\"?"),
        ];
        for (text, expected) in cases {
            let (_, problems) = read(text);
            assert!(matches!(problems.as_slice(), [one] if one.contains(expected)), "{text}: {problems:?}");
        }
    }
}
