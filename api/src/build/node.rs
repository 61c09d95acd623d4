//! Who this node is: NetworkConfig's defaults, and what a cluster knows, under NodeNetwork's overrides.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Finding, NodeFacts, Object, Report, Spec, values};
use crate::desired::{Install, Listen, LogLevel, Node};
use crate::network::{self, NetworkConfigSpec, NodeNetworkSpec};
use crate::problem::show;
use crate::words::IntOrText;

const DEFAULT_ASN: u32 = 64512;
const BGP_PORT: u16 = 179;
const MAIN_TABLE: u32 = 254;
/// Shortest prefix length of a pod block: a node with a pool of millions is a pool written in the wrong place.
const SHORTEST_BLOCK: u8 = 8;

/// What `DesiredState` says about the node itself, its labels, and what is known of the other nodes.
pub(super) struct Identity {
    pub(super) node: Node,
    pub(super) labels: BTreeMap<String, String>,
    /// By name.
    pub(super) others: BTreeMap<String, Other>,
    /// AS number of nodes without one of their own.
    asn: Asn,
    /// Index of NetworkConfig.
    pub(super) config: Option<usize>,
    /// Index of the object that gave this node's addresses.
    pub(super) addresses_from: Option<usize>,
    /// Pods get their blocks from the cluster, whose ranges nobody said.
    pub(super) in_cluster: bool,
    pub(super) transit: bool,
    pub(super) listen: Option<Listen>,
    pub(super) install: Install,
    pub(super) log_level: Option<LogLevel>,
}

/// Another node.
#[derive(Default)]
pub(super) struct Other {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) addresses: Vec<IpAddr>,
    asn: Option<u32>,
}

/// AS numbers of nodes by `asnMode`.
#[derive(Clone, Copy)]
enum Asn {
    Cluster(u32),
    PerNode,
}

impl Asn {
    fn of(self, node: &str) -> u32 {
        match self {
            Self::Cluster(asn) => asn,
            Self::PerNode => asn_of_node(node),
        }
    }
}

/// The AS number that `asnMode: PerNode` gives a node: of RFC 6996's private numbers of four octets, one from
/// 4200000000 on. It is made of the name, so two nodes may have the same.
pub fn asn_of_node(node: &str) -> u32 {
    const FIRST: u32 = 4_200_000_000;
    FIRST + (hash(node) & 0xff_ffff)
}

impl Identity {
    /// The AS number of another node.
    pub(super) fn asn_of(&self, name: &str, other: &Other) -> u32 {
        other.asn.unwrap_or_else(|| self.asn.of(name))
    }

    /// What an operator ought to know about AS numbers made of names.
    pub(super) fn doubts(&self) -> Vec<String> {
        let alike = |(name, other): (&String, &Other)| {
            let same = matches!(self.asn, Asn::PerNode) && self.asn_of(name, other) == self.node.asn;
            same.then(|| {
                format!(
                    "nodes {} and {name} have the AS number {}, so neither takes the other's routes; give one of them another in NodeNetwork/{name} spec.asn",
                    self.node.name, self.node.asn
                )
            })
        };
        self.others.iter().filter_map(alike).collect()
    }
}

/// Reads NetworkConfig and the NodeNetworks; values that were refused are replaced by defaults, so that the
/// other objects can still be checked.
pub(super) fn identity(objects: &[&Object], name: &str, findings: &mut Vec<Finding>) -> Identity {
    let mut identity = Identity {
        node: Node {
            name: name.into(),
            asn: DEFAULT_ASN,
            router_id: hashed_router_id(name),
            addresses: Vec::new(),
            pod_blocks: Vec::new(),
        },
        labels: host_name(name),
        others: BTreeMap::new(),
        asn: Asn::Cluster(DEFAULT_ASN),
        config: None,
        addresses_from: None,
        in_cluster: false,
        transit: false,
        listen: Some(Listen { port: BGP_PORT, addresses: Vec::new() }),
        install: Install {
            metric: 20,
            table: MAIN_TABLE,
            max_paths: 8,
            protocol: 199,
            local_protocol: 200,
            advertise_after_install: false,
        },
        log_level: None,
    };
    let mut cluster_router_id = None;
    for (index, object) in objects.iter().enumerate() {
        if let Spec::NetworkConfig(spec) = &object.spec {
            let mut report = Report { object: index, findings };
            if object.name != "default" {
                let message = format!(
                    "{} is not allowed; a cluster has one NetworkConfig, named default",
                    show(&object.name)
                );
                report.refuse::<()>("metadata.name", message);
            }
            identity.config = Some(index);
            cluster_router_id = cluster_defaults(&mut report, spec, &mut identity);
        }
    }
    let mut own_router_id = None;
    let mut blocks = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        if let Spec::NodeNetwork(spec) = &object.spec {
            let overrides = node_overrides(&mut Report { object: index, findings }, spec);
            if object.name == name {
                identity.node.asn = overrides.asn.unwrap_or(identity.node.asn);
                own_router_id = overrides.router_id;
                identity.addresses_from = Some(index);
                identity.node.addresses = overrides.addresses;
                identity.node.pod_blocks = overrides.pod_blocks.iter().map(|(block, _)| *block).collect();
                identity.labels.extend(spec.labels.clone());
            } else {
                let mut labels = host_name(&object.name);
                labels.extend(spec.labels.clone());
                let other = Other { labels, addresses: overrides.addresses, asn: overrides.asn };
                identity.others.insert(object.name.clone(), other);
            }
            blocks.extend(overrides.pod_blocks.into_iter().map(|(block, entry)| (block, (index, entry))));
        }
    }
    for (index, object) in objects.iter().enumerate() {
        let Spec::Node(facts) = &object.spec else { continue };
        if object.name != name {
            let other = identity.others.entry(object.name.clone()).or_default();
            other.labels.extend(facts.labels.clone());
            if other.addresses.is_empty() {
                let mut report = Report { object: index, findings };
                other.addresses = addresses(&mut report, "status.addresses", &facts.addresses, false);
            }
        } else {
            from_cluster(&mut Report { object: index, findings }, facts, &mut identity);
            if identity.node.pod_blocks.is_empty() {
                let given = pod_blocks(&mut Report { object: index, findings }, &facts.pod_cidrs);
                identity.node.pod_blocks = given.iter().map(|(block, _)| *block).collect();
                blocks.extend(given.into_iter().map(|(block, entry)| (block, (index, entry))));
            }
        }
    }
    identity.node.pod_blocks.sort();
    identity.node.pod_blocks.dedup();
    once_in_the_cluster(&mut blocks, findings);
    let first_ipv4 = identity.node.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    if let Some(router_id) = own_router_id.or(cluster_router_id).or(first_ipv4) {
        identity.node.router_id = router_id;
    }
    identity
}

/// Fills `identity` and returns the router id, if one is given.
fn cluster_defaults(
    report: &mut Report<'_>,
    spec: &NetworkConfigSpec,
    identity: &mut Identity,
) -> Option<Ipv4Addr> {
    let asn = spec.asn.as_ref().and_then(|asn| values::asn(report, "spec.asn", asn));
    identity.asn = match spec.asn_mode.unwrap_or(network::AsnMode::Cluster) {
        network::AsnMode::Cluster => Asn::Cluster(asn.unwrap_or(DEFAULT_ASN)),
        network::AsnMode::PerNode => {
            if spec.asn.is_some() {
                report.refuse::<()>(
                    "spec.asn",
                    "is for all nodes, and asnMode PerNode gives each its own; remove one of both",
                );
            }
            Asn::PerNode
        }
    };
    identity.node.asn = identity.asn.of(&identity.node.name);
    identity.transit = spec.transit.unwrap_or(false);
    if let Some(listen) = &spec.listen {
        let port = listen.port.unwrap_or(BGP_PORT);
        let addresses = addresses(report, "spec.listen.addresses", &listen.addresses, true);
        identity.listen = (port != 0).then_some(Listen { port, addresses });
    }
    let default = network::Install::default();
    install(report, spec.install.as_ref().unwrap_or(&default), identity);
    identity.log_level = spec.log_level.map(|level| match level {
        network::LogLevel::Error => LogLevel::Error,
        network::LogLevel::Warn => LogLevel::Warn,
        network::LogLevel::Info => LogLevel::Info,
        network::LogLevel::Debug => LogLevel::Debug,
        network::LogLevel::Trace => LogLevel::Trace,
    });
    spec.router_id.as_ref().and_then(|id| values::router_id(report, "spec.routerID", id))
}

fn install(report: &mut Report<'_>, spec: &network::Install, identity: &mut Identity) {
    let install = &mut identity.install;
    install.metric = spec.metric.unwrap_or(install.metric);
    install.max_paths = spec.max_paths.unwrap_or(install.max_paths);
    install.advertise_after_install = spec.advertise_after_install.unwrap_or(identity.transit);
    if let Some(table) = &spec.table {
        install.table = self::table(report, table).unwrap_or(install.table);
    }
    let Some(protocol) = spec.protocol else { return };
    let owner = [protocol, protocol.saturating_add(1)]
        .into_iter()
        .find_map(|number| Some((number, route_protocol_owner(number)?)));
    if let Some((number, owner)) = owner {
        let message = format!(
            "{protocol} is not allowed: {number} is {owner}'s, whose routes we would remove; use 199 or another pair of free numbers"
        );
        report.refuse::<()>("spec.install.protocol", message);
    }
    install.protocol = protocol;
    install.local_protocol = protocol.saturating_add(1);
}

fn table(report: &mut Report<'_>, written: &IntOrText) -> Option<u32> {
    let number = match written {
        IntOrText::Int(number) => u32::try_from(*number).ok(),
        IntOrText::Text(text) if text == "main" => Some(MAIN_TABLE),
        IntOrText::Text(_) => None,
    };
    // 0 means "unspecified" to the kernel, 255 is its own table of local addresses.
    number.filter(|number| !matches!(number, 0 | 255)).or_else(|| {
        let shown = show(&written.to_string());
        report.refuse(
            "spec.install.table",
            format!("{shown} is not allowed; use main or a number from 1 to 4294967295, but not 255"),
        )
    })
}

/// Who marks kernel routes with this number (rt_protos of iproute2).
pub(crate) fn route_protocol_owner(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0..=4 => "the kernel",
        8 => "gated",
        9 => "the router advertisement daemon",
        10 => "mrtd",
        11 => "zebra",
        12 => "BIRD",
        13 => "DECnet",
        14 => "XORP",
        15 => "Netsukuku",
        16 => "the DHCP client",
        17 => "the multicast daemon",
        18 => "keepalived",
        42 => "Babel",
        84 => "OVN",
        99 => "Open/R",
        186..=189 | 192 => "FRR",
        _ => return None,
    })
}

struct Overrides {
    asn: Option<u32>,
    router_id: Option<Ipv4Addr>,
    addresses: Vec<IpAddr>,
    /// With the place in the list.
    pod_blocks: Vec<(IpNet, usize)>,
}

fn node_overrides(report: &mut Report<'_>, spec: &NodeNetworkSpec) -> Overrides {
    Overrides {
        asn: spec.asn.as_ref().and_then(|asn| values::asn(report, "spec.asn", asn)),
        router_id: spec.router_id.as_ref().and_then(|id| values::router_id(report, "spec.routerID", id)),
        addresses: addresses(report, "spec.addresses", &spec.addresses, false),
        pod_blocks: pod_blocks(report, &spec.pod_cidrs),
    }
}

/// What a cluster knows about this node, where its NodeNetwork says nothing. A Node's labels outweigh.
fn from_cluster(report: &mut Report<'_>, facts: &NodeFacts, identity: &mut Identity) {
    identity.in_cluster = true;
    identity.labels.extend(facts.labels.clone());
    if identity.node.addresses.is_empty() {
        identity.node.addresses = addresses(report, "status.addresses", &facts.addresses, false);
        identity.addresses_from = Some(report.object);
    }
    if !facts.uid.is_empty() {
        identity.node.router_id = hashed_router_id(&facts.uid);
    }
}

/// Each with its place in the list.
fn pod_blocks(report: &mut Report<'_>, written: &[String]) -> Vec<(IpNet, usize)> {
    let read = written.iter().enumerate();
    read.filter_map(|(entry, text)| Some((pod_block(report, entry, text)?, entry))).collect()
}

/// A range pods can get addresses from: routed between hosts, and with room for one.
fn pod_block(report: &mut Report<'_>, entry: usize, text: &str) -> Option<IpNet> {
    let path = format!("spec.podCIDRs[{entry}]");
    let block = values::announceable(report, &path, text)?;
    if block.prefix_len() < SHORTEST_BLOCK {
        return report.refuse(
            &path,
            format!("{block} is too large for the pods of one node; use a /{SHORTEST_BLOCK} or longer"),
        );
    }
    Some(block)
}

/// Two nodes that give out the same addresses, or one that does so twice.
fn once_in_the_cluster(blocks: &mut [(IpNet, (usize, usize))], findings: &mut Vec<Finding>) {
    for ((block, (object, entry)), (other, (first, _))) in values::overlaps(blocks) {
        let path = format!("spec.podCIDRs[{entry}]");
        let message = format!("{block} overlaps {other}; give each node blocks of its own");
        Report { object, findings }.contradicts(first, &path, message);
    }
}

/// A list of addresses without duplicates. To listen on, the wildcard of one family is an address too.
fn addresses(report: &mut Report<'_>, path: &str, written: &[String], to_listen: bool) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut seen = HashSet::new();
    for (index, text) in written.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let wildcard = text.parse::<IpAddr>().ok().filter(|address| to_listen && address.is_unspecified());
        let Some(address) = wildcard.or_else(|| values::address(report, &path, text)) else { continue };
        if !seen.insert(address) {
            report.refuse::<()>(&path, format!("{address} is given twice; remove one"));
        } else {
            addresses.push(address);
        }
    }
    addresses
}

/// Never 0 (RFC 6286).
fn hashed_router_id(text: &str) -> Ipv4Addr {
    Ipv4Addr::from(hash(text).max(1))
}

/// The same for a name or a uid on every machine and in every release: FNV-1a, 32 bits.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The label a kubelet gives every node.
fn host_name(node: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("kubernetes.io/hostname".to_owned(), node.to_owned())])
}
