//! Advertisement to [`Advertisement`]: what this node originates.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use super::node::Identity;
use super::{Finding, Object, Report, Spec, peer, selector, values};
use crate::advertisement::{self as spec, AdvertisementSpec};
use crate::desired::{Advertisement, AdvertisementSource, Attributes, Peer};
use crate::problem::{nearest, show};

/// Name of the advertisement nobody wrote: no resource can have it, and it stands before all of them, so that what
/// somebody wrote about the same prefix counts.
const IMPLIED: &str = "(pod blocks)";

/// The advertisements of this node, sorted by name. Those of other nodes are checked and left out.
pub(super) fn advertisements(
    objects: &[&Object],
    identity: &Identity,
    sessions: &[Peer],
    findings: &mut Vec<Finding>,
) -> Vec<Advertisement> {
    let mut advertisements: Vec<Advertisement> = Vec::new();
    let mut originated = HashMap::new();
    let known = peer::names(objects);
    let sessions = by_resource(sessions);
    let mut pod_blocks_said = false;
    for (index, object) in objects.iter().enumerate() {
        let Spec::Advertisement(spec) = &object.spec else { continue };
        pod_blocks_said |= spec.source.pod_blocks.is_some();
        let mut report = Report { object: index, findings };
        let ours = selector::selects(
            &mut report,
            "spec.nodeSelector",
            spec.node_selector.as_ref(),
            &identity.labels,
        );
        let source = source(&mut report, &spec.source);
        let peers = peers(&mut report, spec, &known);
        let attributes = attributes(&mut report, spec.attributes.as_ref());
        let (Some(source), Some(peers), Some(attributes), true) = (source, peers, attributes, ours) else {
            continue;
        };
        match &source {
            AdvertisementSource::Static { cidrs, .. } => {
                originate_once(&mut report, "spec.source.static.cidrs", cidrs, &mut originated);
            }
            AdvertisementSource::PodBlocks => {
                let blocks = &identity.node.pod_blocks;
                originate_once(&mut report, "spec.source.podBlocks", blocks, &mut originated);
            }
            AdvertisementSource::Interfaces { .. } => {}
        }
        let peers = peers.map(|names| to_sessions(names, &sessions));
        advertisements.push(Advertisement { name: object.name.clone(), source, peers, attributes });
    }
    // A network without a word about it: each node's pods are reachable from everywhere.
    if !pod_blocks_said && !identity.node.pod_blocks.is_empty() {
        advertisements.push(Advertisement {
            name: IMPLIED.to_owned(),
            source: AdvertisementSource::PodBlocks,
            peers: None,
            attributes: Attributes::default(),
        });
    }
    advertisements.sort_by(|a, b| a.name.cmp(&b.name));
    advertisements
}

/// The sessions of each BGPPeer with `neighbor.nodes`.
fn by_resource(sessions: &[Peer]) -> HashMap<&str, Vec<String>> {
    let mut of: HashMap<&str, Vec<String>> = HashMap::new();
    for session in sessions.iter().filter(|session| session.resource() != session.name) {
        of.entry(session.resource()).or_default().push(session.name.clone());
    }
    of
}

/// BGPPeers as the sessions they stand for.
fn to_sessions(names: Vec<String>, sessions: &HashMap<&str, Vec<String>>) -> Vec<String> {
    let of = |name: String| sessions.get(name.as_str()).cloned().unwrap_or_else(|| vec![name]);
    let mut all: Vec<String> = names.into_iter().flat_map(of).collect();
    all.sort();
    all
}

/// `list`: the field; its entries are numbered when the prefixes are written there.
fn originate_once(
    report: &mut Report<'_>,
    list: &str,
    cidrs: &[IpNet],
    originated: &mut HashMap<IpNet, usize>,
) {
    for (entry, cidr) in cidrs.iter().enumerate() {
        if let Some(first) = originated.insert(*cidr, report.object) {
            let message = format!("{cidr} is originated on this node twice; keep one");
            let path = if list.ends_with("cidrs") { format!("{list}[{entry}]") } else { list.to_owned() };
            report.contradicts(first, &path, message);
        }
    }
}

fn source(report: &mut Report<'_>, spec: &spec::Source) -> Option<AdvertisementSource> {
    match (&spec.fixed, &spec.interfaces, &spec.pod_blocks) {
        (Some(fixed), None, None) => {
            let cidrs = all(&fixed.cidrs, |index, text| {
                values::announceable(report, &format!("spec.source.static.cidrs[{index}]"), text)
            })?;
            if cidrs.is_empty() {
                return report.refuse(
                    "spec.source.static.cidrs",
                    "an empty list is not allowed; give at least one entry",
                );
            }
            Some(AdvertisementSource::Static { cidrs, require_route: fixed.require_route.unwrap_or(false) })
        }
        (None, Some(interfaces), None) => {
            let names = all(&interfaces.names, |index, text| {
                values::interface(report, &format!("spec.source.interfaces.names[{index}]"), text)
            })?;
            if names.is_empty() {
                return report.refuse(
                    "spec.source.interfaces.names",
                    "an empty list is not allowed; give at least one entry",
                );
            }
            Some(AdvertisementSource::Interfaces { names })
        }
        (None, None, Some(spec::PodBlocksSource {})) => Some(AdvertisementSource::PodBlocks),
        (None, None, None) => {
            report.refuse("spec.source", "names no source; give static, interfaces or podBlocks")
        }
        (fixed, interfaces, pod_blocks) => {
            let given = [
                fixed.as_ref().map(|_| "static"),
                interfaces.as_ref().map(|_| "interfaces"),
                pod_blocks.as_ref().map(|_| "podBlocks"),
            ];
            let given: Vec<&str> = given.into_iter().flatten().collect();
            report.refuse(
                "spec.source",
                format!("{} are given together; make an Advertisement of each", given.join(" and ")),
            )
        }
    }
}

/// `None` inside: all peers.
fn peers(
    report: &mut Report<'_>,
    spec: &AdvertisementSpec,
    known: &BTreeSet<&str>,
) -> Option<Option<Vec<String>>> {
    let written = match (spec.all, &spec.peers) {
        (Some(_), Some(_)) => return report.refuse("spec.all", "is given beside peers; keep one"),
        (Some(true) | None, None) => return Some(None),
        (Some(false), None) => return Some(Some(Vec::new())),
        (None, Some(peers)) => peers,
    };
    if written.is_empty() {
        return report.refuse(
            "spec.peers",
            "an empty list selects nothing; name peers, or say all: true or all: false",
        );
    }
    let mut names = all(written, |index, name| {
        if known.contains(name) {
            return Some(name.to_owned());
        }
        let remedy = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {}?", show(near)),
            None => "name a BGPPeer that is given".into(),
        };
        let message = format!("there is no BGPPeer {}; {remedy}", show(name));
        report.misses::<()>(&format!("spec.peers[{index}]"), message);
        Some(name.to_owned())
    })?;
    names.sort();
    names.dedup();
    Some(Some(names))
}

fn attributes(report: &mut Report<'_>, spec: Option<&spec::Attributes>) -> Option<Attributes> {
    let Some(spec) = spec else { return Some(Attributes::default()) };
    let communities = all(&spec.communities, |index, text| {
        values::community(report, &format!("spec.attributes.communities[{index}]"), text)
    });
    let large_communities = all(&spec.large_communities, |index, text| {
        values::large_community(report, &format!("spec.attributes.largeCommunities[{index}]"), text)
    });
    Some(Attributes {
        communities: sorted(communities?),
        large_communities: sorted(large_communities?),
        local_pref: spec.local_pref,
        med: spec.med,
        prepend: spec.prepend.as_ref().map_or(0, |prepend| prepend.count),
    })
}

/// Attributes are sets on the wire: order and repetition carry nothing.
fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values.dedup();
    values
}

/// Reads every entry, also those behind a refused one.
fn all<T>(written: &[String], mut read: impl FnMut(usize, &str) -> Option<T>) -> Option<Vec<T>> {
    let values: Vec<Option<T>> = written.iter().enumerate().map(|(index, text)| read(index, text)).collect();
    values.into_iter().collect()
}
