//! Mappings as elements of the maps, and back into words. Pure but for the listing.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use netlink::nft::Element;
use netlink::nft::expression::octets;
use netlink::read::{address, u16_at};
use netlink::{Batch, Error, Socket};

use super::layout::{SETS, TABLE};
use super::{Published, RulesError, of_set};
use crate::spec::runtime::{PortMapping, Protocol};

/// An element and the set it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Installed {
    /// Which of [`SETS`].
    pub(super) set: usize,
    pub(super) element: Element,
}

/// Numbers of [`SETS`] for IPv4; IPv6 has the next one.
const ANYWHERE: usize = 0;
const AT_ADDRESS: usize = 2;
const HAIRPIN: usize = 4;

impl Installed {
    pub(super) fn owner(&self) -> &str {
        &self.element.comment
    }

    pub(super) fn is_same_key(&self, other: &Self) -> bool {
        self.set == other.set && self.element.key == other.element.key
    }

    /// The refusal that names this element's owner.
    pub(super) fn taken(&self) -> RulesError {
        RulesError::Taken { port: self.port(), owner: self.owner().to_owned(), target: self.target() }
    }

    /// `80/tcp` or `192.0.2.1:80/tcp`.
    fn port(&self) -> String {
        let key = &self.element.key;
        let Some(at) = key.len().checked_sub(8) else { return format!("{key:02x?}") };
        let (protocol, port) = (key.get(at).copied().unwrap_or_default(), be16(key, at + 4));
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|known| known.number() == protocol)
            .map_or_else(|| protocol.to_string(), |known| known.to_string());
        match key.get(..at).and_then(address) {
            Some(IpAddr::V6(host)) => format!("[{host}]:{port}/{protocol}"),
            Some(IpAddr::V4(host)) => format!("{host}:{port}/{protocol}"),
            None => format!("{port}/{protocol}"),
        }
    }

    /// `10.244.3.2:8080`.
    fn target(&self) -> String {
        let data = &self.element.data;
        let at = data.len().saturating_sub(4);
        match data.get(..at).and_then(address) {
            Some(IpAddr::V6(pod)) => format!("[{pod}]:{}", be16(data, at)),
            Some(IpAddr::V4(pod)) => format!("{pod}:{}", be16(data, at)),
            None => format!("{data:02x?}"),
        }
    }
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.element.data.is_empty() {
            return write!(f, "the hairpin of {}", self.owner());
        }
        write!(f, "hostPort {} to {} of {}", self.port(), self.target(), self.owner())
    }
}

/// What the pod's mappings are in the maps, each element once.
pub(super) fn wanted(published: &Published) -> Result<Vec<Installed>, RulesError> {
    let mut all: Vec<Installed> = Vec::new();
    for mapping in &published.mappings {
        if mapping.host_ip == Some(Ipv6Addr::LOCALHOST.into()) {
            return Err(RulesError::Ipv6Loopback { mapping: *mapping });
        }
        let before = all.len();
        for pod in published.addresses.iter() {
            let Some(element) = of_mapping(mapping, pod, published.owner.as_str()) else { continue };
            match all.iter().find(|other| other.is_same_key(&element)) {
                Some(other) if *other != element => return Err(RulesError::Twice { port: element.port() }),
                _ => all.push(element),
            }
            let family = usize::from(pod.is_ipv6());
            let key = octets(pod).repeat(2);
            let comment = published.owner.as_str().to_owned();
            all.push(Installed {
                set: HAIRPIN + family,
                element: Element { key, data: Vec::new(), comment },
            });
        }
        if all.len() == before {
            return Err(RulesError::NoAddress { mapping: *mapping });
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The mapping to one of the pod's addresses; `None`: hostIP is of the other family.
fn of_mapping(mapping: &PortMapping, pod: IpAddr, owner: &str) -> Option<Installed> {
    let host_ip = match mapping.host_ip {
        Some(host_ip) if host_ip.is_ipv4() != pod.is_ipv4() => return None,
        Some(host_ip) if host_ip.is_unspecified() => None,
        host_ip => host_ip,
    };
    let mut key = host_ip.map(octets).unwrap_or_default();
    key.extend([mapping.protocol.number(), 0, 0, 0]);
    key.extend(padded(mapping.host_port.get()));
    let mut data = octets(pod);
    data.extend(padded(mapping.container_port.get()));
    let kind = if host_ip.is_some() { AT_ADDRESS } else { ANYWHERE };
    let element = Element { key, data, comment: owner.to_owned() };
    Some(Installed { set: kind + usize::from(pod.is_ipv6()), element })
}

/// A port as a register holds it.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16_at(bytes, at).map(u16::from_be).unwrap_or_default()
}

/// Adds them all; refused when one is there.
pub(super) fn create(batch: &mut Batch, elements: &[Installed]) {
    for (number, set) in SETS.iter().enumerate() {
        TABLE.create_elements(batch, set, of_set(elements, number));
    }
}

/// Deletes them all; refused when one is gone.
pub(super) fn delete(batch: &mut Batch, elements: &[Installed]) {
    for (number, set) in SETS.iter().enumerate() {
        TABLE.delete_elements(batch, set, of_set(elements, number));
    }
}

/// Everything that is in the maps.
pub(super) fn list(socket: &mut Socket) -> Result<Vec<Installed>, Error> {
    let mut all = Vec::new();
    for (number, set) in SETS.iter().enumerate() {
        let elements = TABLE.list_elements(socket, set)?;
        all.extend(elements.into_iter().map(|element| Installed { set: number, element }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Addresses;
    use crate::names::IfName;

    fn published(mappings: &[(u16, u16, Protocol, Option<&str>)]) -> Published {
        let mapping = |&(host, pod, protocol, host_ip): &(u16, u16, Protocol, Option<&str>)| PortMapping {
            host_port: host.try_into().unwrap(),
            container_port: pod.try_into().unwrap(),
            protocol,
            host_ip: host_ip.map(|text| text.parse().unwrap()),
        };
        Published {
            owner: IfName::parse("tw0").unwrap(),
            addresses: Addresses { v4: Some([10, 0, 0, 2].into()), v6: Some("fd00::2".parse().unwrap()) },
            mappings: mappings.iter().map(mapping).collect(),
        }
    }

    fn words(published: &Published) -> Vec<String> {
        wanted(published).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_mapping_is_one_element_for_each_family_and_its_hairpin() {
        let everywhere = words(&published(&[(80, 8080, Protocol::Tcp, None)]));
        assert_eq!(
            everywhere,
            [
                "hostPort 80/tcp to 10.0.0.2:8080 of tw0",
                "hostPort 80/tcp to [fd00::2]:8080 of tw0",
                "the hairpin of tw0",
                "the hairpin of tw0"
            ]
        );
        let at_one = words(&published(&[(53, 5353, Protocol::Udp, Some("192.0.2.1"))]));
        assert_eq!(at_one, ["hostPort 192.0.2.1:53/udp to 10.0.0.2:5353 of tw0", "the hairpin of tw0"]);
        let any_v6 = words(&published(&[(53, 5353, Protocol::Sctp, Some("::"))]));
        assert_eq!(any_v6, ["hostPort 53/sctp to [fd00::2]:5353 of tw0", "the hairpin of tw0"]);
    }

    #[test]
    fn a_mapping_given_twice_is_one_and_a_contradiction_is_refused() {
        let mut twice = published(&[(80, 8080, Protocol::Tcp, None), (80, 8080, Protocol::Tcp, None)]);
        assert_eq!(wanted(&twice).unwrap().len(), 4);
        twice.mappings[1].container_port = 8081.try_into().unwrap();
        let error = wanted(&twice).unwrap_err().to_string();
        assert!(error.starts_with("hostPort 80/tcp is mapped twice"), "{error}");
    }

    #[test]
    fn the_ipv6_loopback_address_is_refused() {
        let error = wanted(&published(&[(80, 8080, Protocol::Tcp, Some("::1"))])).unwrap_err().to_string();
        assert!(error.contains("hostIP ::1 for tcp port 80 cannot lead into a pod"), "{error}");
    }

    #[test]
    fn a_host_address_of_a_family_that_the_pod_has_not_is_refused() {
        let mut alone = published(&[(80, 8080, Protocol::Tcp, Some("fd00::1"))]);
        alone.addresses.v6 = None;
        let error = wanted(&alone).unwrap_err().to_string();
        assert!(
            error.contains("hostIP fd00::1 for tcp port 80, but the pod has no address of that family"),
            "{error}"
        );
    }
}
