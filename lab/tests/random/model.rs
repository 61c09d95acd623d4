//! What a node must look like from inside, worked out from the description alone.
//!
//! Written from containerlab's rules and not from the runner: levels are node, group, kind, defaults;
//! single values come from the most specific one, mappings are merged, lists appended from the most
//! general one with equal entries dropped, and of binds on one target the most specific one stays.

use std::collections::BTreeMap;
use std::path::Path;

use crate::description::{Bind, Description, EndDescription, Level, Net, owner};

/// One interface by the name people gave it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) mtu: u32,
    /// As given, or the first three octets that a chosen one has.
    pub(crate) mac: String,
    /// Node and name of the other end.
    pub(crate) peer: (String, String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) hostname: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) interfaces: BTreeMap<String, Interface>,
    /// The words that its `exec` wrote.
    pub(crate) order: Vec<String>,
    /// Content and whether it is read only, by target.
    pub(crate) binds: BTreeMap<String, (String, bool)>,
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Global addresses of eth0 on the management network, IPv4 first.
    pub(crate) addresses: Vec<String>,
    /// Gateways of the default routes, IPv4 first.
    pub(crate) gateways: Vec<String>,
    /// IPv4 addresses that `/etc/hosts` has for the names of nodes.
    pub(crate) hosts: BTreeMap<String, String>,
    /// Of its main process; empty: it has none.
    pub(crate) command: Vec<String>,
}

pub(crate) fn expect(description: &Description, node: usize, folder: &Path) -> Expected {
    let own_hostname = hostname(description, node);
    let network = owner(&description.nodes, node);
    Expected {
        env: env(description, node, &own_hostname, folder),
        hostname: hostname(description, network),
        interfaces: interfaces(description, network),
        addresses: management(description).remove(&network).unwrap_or_default(),
        gateways: match description.nodes[network].net {
            Net::Managed(_) => ["172.20.20.1", "3fff:172:20:20::1"].map(str::to_owned).into(),
            _ => Vec::new(),
        },
        hosts: management(description)
            .into_iter()
            .map(|(node, addresses)| (description.nodes[node].name.clone(), addresses[0].clone()))
            .collect(),
        order: appended(&levels(description, node), |level| level.exec.clone()),
        binds: binds(&levels(description, node), folder),
        sysctls: sysctls(&levels(description, network)),
        command: match levels(description, node).iter().find_map(|level| level.cmd) {
            None => Vec::new(),
            Some("sleep 1000001") => ["sleep", "1000001"].map(str::to_owned).into(),
            Some(_) => ["sh", "-c", "sleep 1000002; true"].map(str::to_owned).into(),
        },
    }
}

/// The most specific one first.
fn levels(description: &Description, node: usize) -> Vec<&Level> {
    let node = &description.nodes[node];
    let group = node.group.and_then(|group| description.groups.get(group));
    [Some(&node.level), group, Some(&description.kind), Some(&description.defaults)]
        .into_iter()
        .flatten()
        .collect()
}

fn hostname(description: &Description, node: usize) -> String {
    let given = levels(description, node).iter().find_map(|level| level.hostname.clone());
    given.unwrap_or_else(|| description.nodes[node].name.clone())
}

fn env(description: &Description, node: usize, hostname: &str, folder: &Path) -> BTreeMap<String, String> {
    let name = &description.nodes[node].name;
    let links = description.links.iter().flat_map(|link| &link.ends).filter(|end| end.node == node).count();
    let container = format!("clab-{}-{name}", description.lab);
    let mut env: BTreeMap<String, String> = [
        ("HOSTNAME", hostname),
        ("HOME", "/root"),
        ("CLAB_INTFS", &links.to_string()),
        ("CLAB_LABEL_CONTAINERLAB", &description.lab),
        ("CLAB_LABEL_CLAB_NODE_NAME", name),
        ("CLAB_LABEL_CLAB_NODE_KIND", "linux"),
        ("CLAB_LABEL_CLAB_NODE_GROUP", description.nodes[node].group.unwrap_or_default()),
        ("CLAB_LABEL_CLAB_NODE_LAB_DIR", &format!("{}/clab-{}/{name}", folder.display(), description.lab)),
        ("CLAB_LABEL_CLAB_NODE_LONGNAME", &container),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let mut names: Vec<&str> = description.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    let no_proxy = format!("localhost,127.0.0.1,::1,*.local,{}", names.join(","));
    env.extend(["NO_PROXY", "no_proxy"].map(|key| (key.to_owned(), no_proxy.clone())));
    for level in levels(description, node).iter().rev() {
        for (label, value) in &level.labels {
            let key = label.to_uppercase().replace(['-', '+', '.', '/'], "_");
            env.insert(format!("CLAB_LABEL_{key}"), (*value).to_owned());
        }
        env.extend(level.env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    }
    env
}

fn interfaces(description: &Description, network: usize) -> BTreeMap<String, Interface> {
    let mut interfaces = BTreeMap::new();
    // Where the kernel takes no such name, people find it as an alternative one, `/` as `-`.
    let found = |end: &EndDescription| match end.interface.len() > 15 || end.interface.contains('/') {
        true => end.interface.replace('/', "-"),
        false => end.interface.clone(),
    };
    if let Some([ipv4, _]) = management(description).remove(&network).as_deref() {
        // Docker's way of a MAC address: the IPv4 address is in it.
        let octets = ipv4.split('.').map(|octet| format!(":{:02x}", octet.parse::<u8>().unwrap()));
        let mac = format!("02:42{}", octets.collect::<String>());
        interfaces.insert("eth0".to_owned(), Interface { mtu: 1500, mac, peer: Default::default() });
    }
    for link in &description.links {
        let [a, b] = &link.ends;
        for (near, far) in [(a, b), (b, a)] {
            if owner(&description.nodes, near.node) == network {
                let far_node = &description.nodes[owner(&description.nodes, far.node)].name;
                let interface = Interface {
                    mtu: link.mtu.unwrap_or(9500),
                    mac: near.mac.clone().unwrap_or_else(|| "aa:c1:ab".to_owned()),
                    peer: (far_node.clone(), found(far)),
                };
                interfaces.insert(found(near), interface);
            }
        }
    }
    interfaces
}

/// Addresses by node: those asked for, and for the others in the order of their names from .2 on.
fn management(description: &Description) -> BTreeMap<usize, Vec<String>> {
    let nodes = description.nodes.iter().enumerate();
    let mut managed: Vec<(&str, usize, Option<u8>)> = nodes
        .filter_map(|(index, node)| match node.net {
            Net::Managed(last) => Some((node.name.as_str(), index, last)),
            _ => None,
        })
        .collect();
    managed.sort_unstable();
    let mut next = 2_u8..;
    let sixth = 2_u8..;
    let addresses = managed.into_iter().zip(sixth).map(|((_, index, last), sixth)| {
        let last = last.unwrap_or_else(|| next.next().unwrap());
        (index, vec![format!("172.20.20.{last}"), format!("3fff:172:20:20::{sixth:x}")])
    });
    addresses.collect()
}

fn appended<T: PartialEq>(levels: &[&Level], list: impl Fn(&Level) -> Vec<T>) -> Vec<T> {
    let mut all = Vec::new();
    for item in levels.iter().rev().flat_map(|level| list(level)) {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

fn binds(levels: &[&Level], folder: &Path) -> BTreeMap<String, (String, bool)> {
    let mut all: Vec<(Bind, String)> = Vec::new();
    for bind in levels.iter().rev().flat_map(|level| &level.binds) {
        if !all.iter().any(|(_, text)| *text == bind.text(folder)) {
            all.push((bind.clone(), bind.text(folder)));
        }
    }
    all.into_iter()
        .map(|(bind, _)| (bind.target.to_owned(), (bind.file.to_string(), bind.read_only)))
        .collect()
}

fn sysctls(levels: &[&Level]) -> BTreeMap<String, String> {
    let unset = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv6.conf.all.forwarding", "0"),
    ];
    let given = levels.iter().rev().flat_map(|level| level.sysctls.iter().map(|(key, value)| (*key, *value)));
    unset.into_iter().chain(given).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
