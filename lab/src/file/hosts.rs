//! `/etc/hosts` and `/etc/resolv.conf` of a node, as texts.
//!
//! A lab has no name server. Docker's answers for the names of a containerlab network; here every
//! node's short name, container name, aliases and management addresses stand in `/etc/hosts`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::file::space;
use crate::file::topology::{Network, NodeSpec, Topology};

/// What `dns` of a node says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains to search in.
    pub search: Vec<String>,
    /// Resolver options such as `ndots:2`.
    pub options: Vec<String>,
}

/// `/etc/hosts` of `node`; a node inside another one's network has that one's.
pub(crate) fn hosts(topology: &Topology, node: &str) -> String {
    let owner = space::network_owner(node, &topology.nodes);
    let Some(spec) = topology.nodes.get(owner) else { return String::new() };
    let own = names(owner, spec);
    // Without a management address a node's own name still leads to itself.
    let own_names = if spec.management.is_empty() { format!(" {}", own.join(" ")) } else { String::new() };
    let mut text =
        format!("127.0.0.1 localhost{own_names}\n::1 localhost ip6-localhost ip6-loopback{own_names}\n");
    // Its own line comes first: a reverse lookup takes the first match, and the host name leads there.
    let others = topology.nodes.iter().filter(|(name, _)| *name != owner);
    for (name, spec) in [(owner, spec)].into_iter().chain(others.map(|(name, spec)| (name.as_str(), spec))) {
        let known = if name == owner { own.clone() } else { known_as(name, spec) };
        for address in &spec.management {
            text += &format!("{} {}\n", address.addr(), known.join(" "));
        }
    }
    text
}

/// How the others know a node: short name, container name, aliases.
fn known_as(name: &str, spec: &NodeSpec) -> Vec<String> {
    let all = [name.to_owned(), spec.container.clone()].into_iter().chain(spec.aliases.clone());
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How a node knows itself: by its host name too.
fn names(name: &str, spec: &NodeSpec) -> Vec<String> {
    let mut names = vec![spec.hostname.clone()];
    names.extend(known_as(name, spec).into_iter().filter(|known| *known != spec.hostname));
    names
}

/// `/etc/resolv.conf`: what `dns` of the node says, else no name server at all, so that a lookup of
/// a name the lab does not know fails at once instead of waiting for a server it cannot reach.
pub(crate) fn resolv_conf(dns: Option<&Dns>) -> String {
    let Some(dns) = dns else {
        return "# this lab has no name server; names of its nodes are in /etc/hosts\n".to_owned();
    };
    let mut text = String::new();
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    for (word, values) in [("search", &dns.search), ("options", &dns.options)] {
        if !values.is_empty() {
            text += &format!("{word} {}\n", values.join(" "));
        }
    }
    text
}

/// The address of the given family, as `lab list` and containerlab show it: with its length, or `N/A`.
pub(crate) fn shown(spec: &NodeSpec, ipv6: bool) -> String {
    let of_family = |net: &&IpNet| net.addr().is_ipv6() == ipv6;
    match spec.network {
        Network::Management => spec.management.iter().find(of_family).map(IpNet::to_string),
        _ => None,
    }
    .unwrap_or_else(|| "N/A".to_owned())
}
