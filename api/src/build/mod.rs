//! Resources to [`DesiredState`]: what fields and objects must agree on, defaults, this node's share.
//!
//! In: the objects of files or of a cluster, and a node's name. Out: for files the state, or every mistake as a
//! [`Finding`] that names its object and field ([`build`]); the reader of the objects knows where they stand. For a
//! cluster always a state, without what is wrong or with what it was before ([`settle()`]). Objects of other nodes
//! are checked like this node's own. Pure.

mod advertisement;
mod node;
mod peer;
mod selector;
mod settle;
mod values;

use std::collections::{BTreeMap, HashMap};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub(crate) use self::node::route_protocol_owner;
pub(crate) use self::values::{NEVER_ROUTED, WELL_KNOWN_COMMUNITIES};

use crate::advertisement::AdvertisementSpec;
use crate::bgp::BGPPeerSpec;
use crate::desired::{DesiredState, Secret};
use crate::network::{IPPoolSpec, NetworkConfigSpec, NodeNetworkSpec};
use crate::problem::show;

pub use self::node::asn_of_node;
pub use self::settle::{Settled, Verdict, settle, settle_with_left};

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, of a Secret.
    pub namespace: Option<String>,
    /// What it says.
    pub spec: Spec,
}

/// What a resource says, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// NetworkConfig.
    NetworkConfig(NetworkConfigSpec),
    /// NodeNetwork.
    NodeNetwork(NodeNetworkSpec),
    /// BGPPeer.
    BGPPeer(Box<BGPPeerSpec>),
    /// Advertisement.
    Advertisement(AdvertisementSpec),
    /// IPPool.
    IPPool(IPPoolSpec),
    /// A Secret of the core group.
    Secret(BTreeMap<String, Secret>),
    /// A Node of the core group.
    Node(NodeFacts),
    /// It is there, but was refused: references to it are not missing.
    Unreadable {
        /// Its kind.
        kind: &'static str,
        /// Why, where that has not been said elsewhere: `spec.port: 0 is not allowed; use 1 to 65535`.
        problems: Vec<String>,
    },
}

/// What a cluster knows about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `status.addresses` of the type InternalIP, in their order.
    pub addresses: Vec<String>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<String>,
}

impl Spec {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NetworkConfig(_) => "NetworkConfig",
            Self::NodeNetwork(_) => "NodeNetwork",
            Self::BGPPeer(_) => "BGPPeer",
            Self::Advertisement(_) => "Advertisement",
            Self::IPPool(_) => "IPPool",
            Self::Secret(_) => "Secret",
            Self::Node(_) => "Node",
            Self::Unreadable { kind, .. } => kind,
        }
    }
}

/// A mistake in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Index of the object.
    pub object: usize,
    /// The field, `spec.timers.hold`.
    pub path: String,
    /// The value and the remedy.
    pub message: String,
    /// Index of the object it contradicts.
    pub other: Option<usize>,
    /// It names an object that is not among those given.
    pub missing: bool,
    /// Index of the object it names, when the fault lies in there.
    pub inside: Option<usize>,
    /// Index of an object that makes wrong what is right without it.
    pub depends: Option<usize>,
}

/// Where the mistakes of one object go.
struct Report<'a> {
    object: usize,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    /// Records a mistake; the `None` is what the caller has instead of a value.
    fn refuse<T>(&mut self, path: &str, message: impl Into<String>) -> Option<T> {
        self.findings.push(Finding {
            object: self.object,
            path: path.into(),
            message: message.into(),
            other: None,
            missing: false,
            inside: None,
            depends: None,
        });
        None
    }

    /// Records a reference to an object that is not there.
    fn misses<T>(&mut self, path: &str, message: impl Into<String>) -> Option<T> {
        self.refuse::<T>(path, message);
        if let Some(finding) = self.findings.last_mut() {
            finding.missing = true;
        }
        None
    }

    /// Records that `inside`, which the object names, does not hold what it needs.
    fn needs<T>(&mut self, inside: usize, path: &str, message: impl Into<String>) -> Option<T> {
        self.refuse::<T>(path, message);
        if let Some(finding) = self.findings.last_mut() {
            finding.inside = Some(inside);
        }
        None
    }

    /// Records a mistake that is one only because of what `depends` says.
    fn clashes(&mut self, depends: Option<usize>, path: &str, message: impl Into<String>) {
        self.refuse::<()>(path, message);
        if let Some(finding) = self.findings.last_mut() {
            finding.depends = depends;
        }
    }

    /// Records a contradiction with another object.
    fn contradicts(&mut self, other: usize, path: &str, message: impl Into<String>) {
        self.refuse::<()>(path, message);
        if let Some(finding) = self.findings.last_mut() {
            finding.other = Some(other).filter(|other| *other != self.object);
        }
    }
}

/// Everything `node` must do, with defaults filled in.
///
/// # Errors
/// Every mistake of every object, in the order of the objects.
pub fn build(objects: &[Object], node: &str) -> Result<DesiredState, Vec<Finding>> {
    let objects: Vec<&Object> = objects.iter().collect();
    let (state, findings) = assemble(&objects, node, peer::namespace(None));
    if findings.is_empty() { Ok(state) } else { Err(findings) }
}

/// The state, without what the findings are about, and the findings in the order of the objects.
/// `namespace`: where Secrets are that are named without one.
fn assemble(objects: &[&Object], node: &str, namespace: &str) -> (DesiredState, Vec<Finding>) {
    let mut findings = Vec::new();
    duplicates(objects, &mut findings);
    let identity = node::identity(objects, node, &mut findings);
    let peer::Sessions { peers, mut notes } = peer::peers(objects, &identity, namespace, &mut findings);
    let advertisements = advertisement::advertisements(objects, &identity, &peers, &mut findings);
    let mut pod_ranges = pod_ranges(objects, &mut findings);
    if pod_ranges.is_empty() && identity.in_cluster {
        pod_ranges = guessed_ranges(&identity.node.pod_blocks);
        let ranges: Vec<String> = pod_ranges.iter().map(ToString::to_string).collect();
        if !ranges.is_empty() {
            notes.push(format!(
                "no IPPool says which ranges this cluster's pods have: routes inside {} are taken; give an IPPool to take fewer",
                ranges.join(", ")
            ));
        }
    }
    notes.extend(identity.doubts());
    findings.sort_by_key(|finding| finding.object);
    let state = DesiredState {
        node: identity.node,
        transit: identity.transit,
        listen: identity.listen,
        install: identity.install,
        log_level: identity.log_level,
        peers,
        advertisements,
        pod_ranges,
        notes,
    };
    (state, findings)
}

/// A kind and name twice. Secrets are told apart by their namespace too.
fn duplicates(objects: &[&Object], findings: &mut Vec<Finding>) {
    let mut seen = HashMap::new();
    for (index, object) in objects.iter().enumerate() {
        let kind = object.spec.kind();
        let namespace = (kind == "Secret").then(|| peer::namespace(object.namespace.as_deref()));
        if let Some(first) = seen.insert((kind, namespace, object.name.as_str()), index) {
            let message =
                format!("a {kind} named {} is given twice; rename or remove one", show(&object.name));
            Report { object: index, findings }.contradicts(first, "metadata.name", message);
        }
    }
}

/// Without an IPPool a node of a cluster knows its own blocks only, and that they were cut out of ranges which
/// its controllers hold to be at most this much shorter (for IPv6 they refuse more, for IPv4 a /24 is out of a /8 then).
fn guessed_ranges(blocks: &[IpNet]) -> Vec<IpNet> {
    const CUT: u8 = 16;
    let range = |block: &IpNet| match block {
        IpNet::V4(block) => {
            Ipv4Net::new(block.addr(), block.prefix_len().saturating_sub(CUT).max(8)).map(IpNet::V4)
        }
        IpNet::V6(block) => {
            Ipv6Net::new(block.addr(), block.prefix_len().saturating_sub(CUT).max(8)).map(IpNet::V6)
        }
    };
    let ranges = blocks.iter().filter_map(|block| range(block).ok()).map(|range| range.trunc());
    IpNet::aggregate(&ranges.collect())
}

fn pod_ranges(objects: &[&Object], findings: &mut Vec<Finding>) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let Spec::IPPool(pool) = &object.spec else { continue };
        for (entry, text) in pool.cidrs.iter().enumerate() {
            let path = format!("spec.cidrs[{entry}]");
            let mut report = Report { object: index, findings };
            let Some(cidr) = values::prefix(&mut report, &path, text) else { continue };
            if cidr.prefix_len() == 0 {
                report
                    .refuse::<()>(&path, format!("{cidr} is not allowed; a pool is not the whole Internet"));
                continue;
            }
            ranges.push((cidr, (index, entry)));
        }
    }
    for ((cidr, (object, entry)), (other, (first, _))) in values::overlaps(&mut ranges) {
        let path = format!("spec.cidrs[{entry}]");
        Report { object, findings }.contradicts(first, &path, format!("{cidr} overlaps {other}; keep one"));
    }
    ranges.into_iter().map(|(cidr, _)| cidr).collect()
}
