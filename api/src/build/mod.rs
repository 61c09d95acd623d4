//! Resources to [`DesiredState`]: what fields and objects must agree on, defaults, this node's share.
//!
//! In: the objects of files or of a cluster, and a node's name. Out: the state, or every mistake as a
//! [`Finding`] that names its object and field; the reader of the objects knows where they stand. Objects of
//! other nodes are checked like this node's own. Pure.

mod advertisement;
mod node;
mod peer;
mod selector;
mod values;

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use crate::advertisement::AdvertisementSpec;
use crate::bgp::BGPPeerSpec;
use crate::desired::{DesiredState, Secret};
use crate::network::{IPPoolSpec, NetworkConfigSpec, NodeNetworkSpec};
use crate::problem::show;

/// One resource.
#[derive(Clone, Debug)]
pub struct Object {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, of a Secret.
    pub namespace: Option<String>,
    /// What it says.
    pub spec: Spec,
}

/// What a resource says, by kind.
#[derive(Clone, Debug)]
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
    /// It is there, but was refused: references to it are not missing.
    Unreadable(&'static str),
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
            Self::Unreadable(kind) => kind,
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
    let mut findings = Vec::new();
    duplicates(objects, &mut findings);
    let identity = node::identity(objects, node, &mut findings);
    let peers = peer::peers(objects, &identity, &mut findings);
    let advertisements = advertisement::advertisements(objects, &identity, &mut findings);
    let pod_ranges = pod_ranges(objects, &mut findings);
    if !findings.is_empty() {
        findings.sort_by_key(|finding| finding.object);
        return Err(findings);
    }
    Ok(DesiredState {
        node: identity.node,
        transit: identity.transit,
        listen: identity.listen,
        install: identity.install,
        log_level: identity.log_level,
        peers,
        advertisements,
        pod_ranges,
    })
}

/// A kind and name twice. Secrets are told apart by their namespace too.
fn duplicates(objects: &[Object], findings: &mut Vec<Finding>) {
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

fn pod_ranges(objects: &[Object], findings: &mut Vec<Finding>) -> Vec<IpNet> {
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
