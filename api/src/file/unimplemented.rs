//! Fields, words and kinds that towpath's API names but this release does not act on: refused by name.
//!
//! Silently ignoring one of them would leave an operator believing in a filter or a limit that is not there.

/// Kinds of towpath.io that come later.
pub(crate) const KINDS: &[&str] = &[
    "BGPPeerProfile",
    "BFDProfile",
    "RoutePolicy",
    "CommunitySet",
    "IPReservation",
    "IPBlock",
    "TorProfile",
    "EgressGateway",
    "ReachabilityProbe",
    "RouteSimulation",
];

/// Fields that come later, by kind; list indexes are written `[]`.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "NetworkConfig",
        &[
            "spec.mesh",
            "spec.podCIDRSource",
            "spec.nodeAddresses",
            "spec.ignoreInterfaces",
            "spec.mtu",
            "spec.masquerade",
            "spec.policy",
            "spec.metrics",
            "spec.bmp",
        ],
    ),
    (
        "BGPPeer",
        &[
            "spec.neighbor.interface",
            "spec.neighbor.discover",
            "spec.neighbor.workloads",
            "spec.localASMode",
            "spec.vrf",
            "spec.profileRef",
            "spec.auth.tcpAO",
            "spec.bfdProfileRef",
            "spec.bfd",
            "spec.gracefulRestart.llgr",
            "spec.gracefulRestart.notification",
            "spec.families[].addPath",
            "spec.families[].maxPrefix.sent",
            "spec.role",
            "spec.strict",
            "spec.removePrivateAS",
            "spec.asOverride",
            "spec.importPolicies",
            "spec.exportPolicies",
            "spec.install",
            "spec.reachableBy",
            "spec.torProfileRef",
        ],
    ),
    (
        "Advertisement",
        &[
            "spec.source.services",
            "spec.source.egress",
            "spec.peerSelector",
            "spec.attributes.linkBandwidth",
            "spec.attributes.prepend.asn",
            "spec.gates",
            "spec.onDrain",
        ],
    ),
    (
        "IPPool",
        &[
            "spec.uses",
            "spec.blockSize",
            "spec.nodeSelector",
            "spec.namespaceSelector",
            "spec.rackKey",
            "spec.natOutgoing",
            "spec.nonMasqueradeCIDRs",
            "spec.advertise",
            "spec.assignment",
            "spec.warmBlocks",
            "spec.reuseDelay",
            "spec.sticky",
        ],
    ),
    ("NodeNetwork", &["spec.peersDisabled", "spec.drain"]),
];

/// Words of an enumeration that come later.
const WORDS: &[(&str, &str, &str)] = &[
    ("BGPPeer", "spec.neighbor.nodes.topology", "Reflector"),
    ("BGPPeer", "spec.neighbor.nodes.topology", "Rack"),
];

/// Whether a field of a kind comes later; `path` is `spec.families[0].addPath`.
pub(crate) fn field(kind: &str, path: &str) -> bool {
    let path = without_indexes(path);
    FIELDS.iter().any(|(owner, paths)| *owner == kind && paths.contains(&path.as_str()))
}

/// Whether a word of an enumeration comes later.
pub(crate) fn word(kind: &str, path: &str, word: &str) -> bool {
    WORDS.contains(&(kind, path, word))
}

fn without_indexes(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|c| {
            inside = (inside || *c == '[') && *c != ']';
            !inside || *c == '['
        })
        .collect()
}
