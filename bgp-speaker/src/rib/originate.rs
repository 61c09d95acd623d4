//! What this node originates: its own paths in the Loc-RIB, set as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api::desired::Attributes;
use ipnet::IpNet;

use super::Rib;
use super::path::{LOCAL, Path, Verdict};
use crate::wire::{AttributesBuilder, EncodeError, Nexthop, Origin, PathAttributes};

/// How one prefix is originated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origination {
    /// Attributes put on it.
    pub attributes: Attributes,
    /// Peers it goes to, by name; `None` means all.
    pub peers: Option<Vec<String>>,
}

/// Everything originated, with the prefix lengths in use, so that "inside one of ours" is a few look-ups.
#[derive(Debug, Default)]
pub struct Originations {
    routes: BTreeMap<IpNet, Origination>,
    lengths: BTreeSet<(bool, u8)>,
}

impl Originations {
    /// How a prefix is originated.
    pub fn get(&self, prefix: &IpNet) -> Option<&Origination> {
        self.routes.get(prefix)
    }

    /// Is the prefix one of ours, or inside one? A default route holds everything and so says nothing: only the
    /// prefix itself counts then.
    pub fn covers(&self, prefix: &IpNet) -> bool {
        let ours =
            |len: u8| IpNet::new(prefix.addr(), len).is_ok_and(|net| self.routes.contains_key(&net.trunc()));
        let v6 = prefix.addr().is_ipv6();
        if prefix.prefix_len() == 0 {
            return ours(0);
        }
        self.lengths.range((v6, 1)..=(v6, prefix.prefix_len())).any(|(_, len)| ours(*len))
    }

    fn replace(&mut self, routes: BTreeMap<IpNet, Origination>) -> BTreeMap<IpNet, Origination> {
        self.lengths = routes.keys().map(|net| (net.addr().is_ipv6(), net.prefix_len())).collect();
        std::mem::replace(&mut self.routes, routes)
    }
}

impl Rib {
    /// Sets everything this node originates; the difference to before is applied.
    ///
    /// # Errors
    /// Prefixes whose attributes do not fit in a message, with the reason; all others are originated.
    pub fn set_originated(
        &mut self,
        routes: BTreeMap<IpNet, Origination>,
    ) -> Result<(), Vec<(IpNet, EncodeError)>> {
        let mut wanted: BTreeMap<IpNet, Origination> =
            routes.into_iter().map(|(prefix, origination)| (prefix.trunc(), origination)).collect();
        let mut refused = Vec::new();
        let mut built = BTreeMap::new();
        for (prefix, origination) in &wanted {
            if self.originated.get(prefix) != Some(origination) {
                match build(&origination.attributes) {
                    Ok(attributes) => drop(built.insert(*prefix, Arc::new(attributes))),
                    Err(error) => refused.push((*prefix, error)),
                }
            }
        }
        refused.iter().for_each(|(prefix, _)| drop(wanted.remove(prefix)));
        let same_prefixes = self.originated.routes.keys().eq(wanted.keys());
        let old = self.originated.replace(wanted);
        let mut gone = Vec::new();
        for prefix in old.keys().filter(|prefix| !self.originated.routes.contains_key(*prefix)) {
            let Some(id) = self.table.find(prefix) else { continue };
            let before = self.table.entry(id).best();
            if let Some(path) = self.table.remove_path(id, LOCAL) {
                self.attributes.release(path.attributes);
            }
            gone.push((id, before));
        }
        for (id, before) in gone {
            self.reselect(id, before, false);
        }
        for (prefix, attributes) in built {
            self.originate(&prefix, &attributes);
        }
        if !same_prefixes && !self.config.transit {
            self.reimport(None);
        }
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    fn originate(&mut self, prefix: &IpNet, attributes: &Arc<PathAttributes>) {
        let id = self.table.find(prefix).unwrap_or_else(|| self.table.insert(prefix));
        let before = self.best(id);
        // Its next hop is filled in for each peer; the unspecified address never leaves this table.
        let address = match prefix {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let number = self.attributes.acquire(attributes, &Nexthop { address, link_local: None });
        if let Some(old) = self.table.set_path(id, Path::new(number, LOCAL, Verdict::Accepted)) {
            self.attributes.release(old.attributes);
        }
        // Forced: for whom it is meant, or how often our AS is prepended, is not part of the attributes.
        self.reselect(id, before, true);
    }

    /// Everything originated.
    pub fn originated(&self) -> &BTreeMap<IpNet, Origination> {
        &self.originated.routes
    }
}

/// Prepending is left to the encoder: on iBGP sessions our AS must not stand in the path.
fn build(attributes: &Attributes) -> Result<PathAttributes, EncodeError> {
    let large: Vec<[u32; 3]> = attributes.large_communities.iter().map(|(a, b, c)| [*a, *b, *c]).collect();
    AttributesBuilder::default()
        .origin(Origin::Igp)
        .as_path(&[])
        .med(attributes.med)
        .local_pref(attributes.local_pref)
        .communities(&attributes.communities)
        .large_communities(&large)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_one_of_ours_means_equal_or_longer_but_never_by_the_default_route() {
        let mut ours = Originations::default();
        let routes = ["10.1.0.0/24", "0.0.0.0/0", "2001:db8::/64"]
            .map(|text| (text.parse().unwrap(), Origination::default()));
        ours.replace(routes.into_iter().collect());
        let cases = [
            ("10.1.0.0/24", true),
            ("10.1.0.7/32", true),
            ("10.1.0.0/16", false),
            ("10.1.1.0/24", false),
            ("0.0.0.0/0", true),
            ("::/0", false),
            ("2001:db8::1/128", true),
            ("2001:db8:1::/64", false),
        ];
        for (text, expected) in cases {
            assert_eq!(ours.covers(&text.parse().unwrap()), expected, "{text}");
        }
    }
}
