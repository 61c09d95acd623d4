//! Network policy's boundary types: what the compiler will read and what it will give.
//!
//! Compiling, diffing and applying come with a later release (ADR 0003 says how a pod is treated until its
//! policy is in the kernel). In: a [`ClusterView`]. Out: nftables text for one node, in the one table that is ours.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Name of the nftables table this crate will own; `inet towpath-cni` is the plugin's.
pub const TABLE: &str = "towpath";

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A node's name in the cluster: a DNS subdomain of RFC 1123, at most 253 octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

/// A name the API server would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a node name: lower-case letters, digits, '-' and '.', at most 253 octets, a letter or digit at both ends"
)]
pub struct NodeNameError(String);

/// Namespaces and pods as policy sees them; complete, replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Labels by namespace.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods by namespace and name.
    pub pods: BTreeMap<(String, String), PodView>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its labels.
    pub labels: Labels,
    /// Where it runs.
    pub node: NodeName,
    /// Its addresses, both families.
    pub addresses: Vec<IpAddr>,
}

impl NodeName {
    /// Checks a node's name.
    ///
    /// # Errors
    /// [`NodeNameError`].
    pub fn parse(text: &str) -> Result<Self, NodeNameError> {
        let edge = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
        let label = |label: &str| {
            let octets = label.as_bytes();
            let ends =
                octets.first().zip(octets.last()).is_some_and(|(first, last)| edge(*first) && edge(*last));
            ends && octets.iter().all(|octet| edge(*octet) || *octet == b'-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NodeNameError(text.to_owned()))
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_those_the_api_server_takes() {
        for good in ["n", "node-1", "worker-3.rack-2.example"] {
            assert_eq!(NodeName::parse(good).unwrap().to_string(), good);
        }
        let long = "a".repeat(254);
        for bad in ["", "Node", "-a", "a-", "a..b", ".a", "a_b", long.as_str()] {
            assert_eq!(NodeName::parse(bad), Err(NodeNameError(bad.to_owned())));
        }
    }
}
