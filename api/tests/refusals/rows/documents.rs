//! Texts, documents and shapes that are refused.

use super::{Row, advertisement, documents, joined, named, network, peer, peer_named, resource};

pub(crate) fn text_and_documents() -> Vec<Row> {
    vec![
        (
            "a tab in the indentation",
            resource("kind: BGPPeer\nmetadata:\n\tname: tor"),
            &["4: a tab stands in the indentation; YAML indents with spaces"],
        ),
        (
            "an unclosed list",
            network("listen: {addresses: [10.0.0.1}"),
            &["5: not YAML: while parsing a flow sequence, expected ',' or ']'"],
        ),
        (
            "a key twice",
            network("asn: 65000\ntransit: true\nasn: 65001"),
            &["7: asn is given twice, first in line 5; keep one"],
        ),
        (
            "an alias before its anchor",
            network("asn: *later"),
            &["5: not YAML: while parsing node, found unknown anchor"],
        ),
        (
            "a merge key",
            network("listen: &l {port: 179}\ninstall:\n  <<: *l"),
            &["7: NetworkConfig/default spec.install.<<: merge keys are not read; write the fields out"],
        ),
        ("a tag", network("asn: !!int 65000"), &["5: the tag !!int has no meaning here; remove it"]),
        ("a list as key", network("[a, b]: 1"), &["5: a list or map cannot be a key; write text"]),
        (
            "a document that is a list",
            "- a\n- b".to_owned(),
            &["1: is no resource; start with apiVersion, kind, metadata and spec"],
        ),
        (
            "no apiVersion",
            "kind: BGPPeer\nmetadata: {name: tor}".to_owned(),
            &["1: BGPPeer/tor apiVersion: is missing; write apiVersion: towpath.io/v1alpha1"],
        ),
        (
            "no kind",
            resource("metadata: {name: tor}"),
            &[
                "1: tor kind: is missing; use one of NetworkConfig, BGPPeer, Advertisement, IPPool, NodeNetwork",
            ],
        ),
        (
            "another version",
            "apiVersion: towpath.io/v1\nkind: BGPPeer".to_owned(),
            &["1: BGPPeer apiVersion: towpath.io/v1 is not known; write towpath.io/v1alpha1"],
        ),
        (
            "a resource of somebody else",
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: towpath}".to_owned(),
            &["2: DaemonSet/towpath kind: DaemonSet is no resource of towpath; keep it in another folder"],
        ),
        (
            "a kind with a typo",
            resource("kind: BgpPeer\nmetadata: {name: tor}"),
            &["2: BgpPeer/tor kind: BgpPeer is not known; did you mean BGPPeer?"],
        ),
        (
            "a kind that comes later",
            resource("kind: RoutePolicy\nmetadata: {name: tor-in}"),
            &["2: RoutePolicy/tor-in kind: RoutePolicy is not implemented yet; remove it"],
        ),
        (
            "no metadata",
            resource("kind: NetworkConfig"),
            &["1: NetworkConfig metadata: is missing; give the resource a name"],
        ),
        (
            "no name",
            resource("kind: BGPPeer\nmetadata: {}\nspec: {neighbor: {address: 10.0.1.1}, remoteASN: 65000}"),
            &["3: BGPPeer metadata.name: is missing; give the resource a name"],
        ),
        (
            "a name with a line break",
            documents(&[&peer_named(r#""a\nb""#, ""), &peer_named(r#""a\nb""#, "")]),
            &[
                r"3: BGPPeer/a\nb metadata.name: a\nb is not allowed; use lower-case letters, digits, - and .",
                r"10: BGPPeer/a\nb metadata.name: a\nb is not allowed; use lower-case letters, digits, - and .",
                r"12: BGPPeer/a\nb spec.neighbor.address: 10.0.1.1 is the neighbour of BGPPeer/a\nb too; keep one (first in fabric.yaml:5)",
            ],
        ),
        (
            "a name with capitals",
            peer_named("ToR_1", ""),
            &[
                "3: BGPPeer/ToR_1 metadata.name: ToR_1 is not allowed; use lower-case letters, digits, - and .",
            ],
        ),
        (
            "a namespace",
            resource("kind: NetworkConfig\nmetadata: {name: default, namespace: kube-system}"),
            &[
                "3: NetworkConfig/default metadata.namespace: a NetworkConfig belongs to no namespace; remove it",
            ],
        ),
        (
            "no spec",
            resource("kind: BGPPeer\nmetadata: {name: tor}"),
            &["1: BGPPeer/tor spec: is missing; give at least neighbor"],
        ),
        (
            "a spec that is text",
            resource("kind: BGPPeer\nmetadata: {name: tor}\nspec: later"),
            &["4: BGPPeer/tor spec: later is not allowed; give a map"],
        ),
        (
            "an unknown field at the top",
            joined(&[&network("asn: 65000"), "specs: {}"]),
            &["6: NetworkConfig/default specs: unknown field; did you mean spec?"],
        ),
    ]
}

pub(crate) fn shapes() -> Vec<Row> {
    vec![
        (
            "an unknown field, near",
            peer("pasive: Never"),
            &["7: BGPPeer/tor spec.pasive: unknown field; did you mean passive?"],
        ),
        (
            "an unknown field, far from all",
            network("listen: {interfaces: [eth0]}"),
            &["5: NetworkConfig/default spec.listen.interfaces: unknown field; known here: addresses, port"],
        ),
        (
            "a list where a map belongs",
            peer("timers: [90s]"),
            &["7: BGPPeer/tor spec.timers: a list is not allowed; give a map"],
        ),
        (
            "a map where a list belongs",
            peer("families: {afi: ipv4, safi: unicast}"),
            &["7: BGPPeer/tor spec.families: a map is not allowed; give a list, with - before each entry"],
        ),
        (
            "text where a list belongs",
            network("listen: {addresses: 10.0.0.1}"),
            &[
                "5: NetworkConfig/default spec.listen.addresses: 10.0.0.1 is not allowed; give a list, with - before each entry",
            ],
        ),
        (
            "a list where text belongs",
            peer("sourceInterface: [eth0]"),
            &["7: BGPPeer/tor spec.sourceInterface: a list is not allowed; give text"],
        ),
        (
            "a map where a number or word belongs",
            network("asn: {number: 65000}"),
            &["5: NetworkConfig/default spec.asn: a map is not allowed; give a number or a word"],
        ),
        (
            "an empty entry of a list",
            network("listen:\n  addresses:\n  - 10.0.0.1\n  -"),
            &["8: NetworkConfig/default spec.listen.addresses[1]: an empty entry is not allowed; remove it"],
        ),
        (
            "a quoted number",
            network(r#"install: {metric: "20"}"#),
            &[r#"5: NetworkConfig/default spec.install.metric: "20" is text; write it without quotes"#],
        ),
        (
            "a number above the range",
            network("install: {maxPaths: 257}"),
            &["5: NetworkConfig/default spec.install.maxPaths: 257 is not allowed; use 1 to 256"],
        ),
        (
            "a number below the range",
            network("install: {metric: 0}"),
            &["5: NetworkConfig/default spec.install.metric: 0 is not allowed; use 1 to 4294967295"],
        ),
        (
            "a port out of range",
            named("BGPPeer", "tor", "neighbor: {address: 10.0.1.1, port: 70000}\nremoteASN: 65000"),
            &["5: BGPPeer/tor spec.neighbor.port: 70000 is not allowed; use 1 to 65535"],
        ),
        (
            "a fraction",
            peer("allowLocalAS: 1.5"),
            &["7: BGPPeer/tor spec.allowLocalAS: 1.5 is not allowed; use 0 to 10"],
        ),
        (
            "a word where a number belongs",
            peer("allowLocalAS: two"),
            &["7: BGPPeer/tor spec.allowLocalAS: two is not allowed; use 0 to 10"],
        ),
        (
            "yes for true",
            network("transit: yes"),
            &["5: NetworkConfig/default spec.transit: yes is not allowed; write true, without quotes"],
        ),
        (
            "a quoted boolean",
            network(r#"transit: "true""#),
            &[r#"5: NetworkConfig/default spec.transit: "true" is not allowed; write true, without quotes"#],
        ),
        (
            "a word for a boolean",
            network("transit: maybe"),
            &["5: NetworkConfig/default spec.transit: maybe is not allowed; use true or false"],
        ),
        (
            "an enum word with the wrong case",
            peer("passive: always"),
            &[
                "7: BGPPeer/tor spec.passive: always is not allowed; did you mean Always? Known: Auto, Always, Never",
            ],
        ),
        (
            "no for an enum word",
            peer("passive: no"),
            &["7: BGPPeer/tor spec.passive: no is not allowed; use Auto, Always, Never"],
        ),
        (
            "a word that comes later",
            named("BGPPeer", "rr", "neighbor: {nodes: {topology: Reflector}}"),
            &["5: BGPPeer/rr spec.neighbor.nodes.topology: Reflector is not implemented yet; use Mesh"],
        ),
        (
            "an octal number",
            network("asn: 0644"),
            &[
                "5: NetworkConfig/default spec.asn: 0644 is an octal number to older YAML readers; write it as a decimal number",
            ],
        ),
        (
            "a boolean label",
            named("NodeNetwork", "node-1", "labels: {edge: true, rack: 7, zone: on}"),
            &[
                r#"5: NodeNetwork/node-1 spec.labels.edge: true is a boolean; write "true" in quotes"#,
                r#"5: NodeNetwork/node-1 spec.labels.rack: 7 is a number; write "7" in quotes"#,
                r#"5: NodeNetwork/node-1 spec.labels.zone: older YAML readers take on for a boolean; write "on" in quotes"#,
            ],
        ),
        (
            "a label of base 60",
            named("NodeNetwork", "node-1", "labels: {slot: 12:30}"),
            &[
                r#"5: NodeNetwork/node-1 spec.labels.slot: older YAML readers take 12:30 for a number of base 60; write "12:30" in quotes"#,
            ],
        ),
        (
            "an interval without unit",
            peer("timers: {hold: 90}"),
            &["7: BGPPeer/tor spec.timers.hold: 90 has no unit; write 90s for seconds"],
        ),
        (
            "a community of base 60",
            advertisement("source: {static: {cidrs: [10.1.0.0/24]}}\nattributes: {communities: [65001:10]}"),
            &[
                r#"6: Advertisement/adv spec.attributes.communities[0]: older YAML readers take 65001:10 for a number of base 60; write "65001:10" in quotes"#,
            ],
        ),
    ]
}

pub(crate) fn fields_that_come_later() -> Vec<Row> {
    vec![
        (
            "fields of a peer that come later",
            peer(
                "profileRef: {name: rack}\nimportPolicies: [{name: tor-in}]\nrole: Customer\nauth: {tcpAO: {}}\ngracefulRestart: {llgr: 1h}\nfamilies:\n- {afi: ipv4, safi: unicast, addPath: {receive: true}, maxPrefix: {sent: {limit: 100}}}\ninstall: {metric: 20}",
            ),
            &[
                "7: BGPPeer/tor spec.profileRef: is not implemented yet; remove it",
                "8: BGPPeer/tor spec.importPolicies: is not implemented yet; remove it",
                "9: BGPPeer/tor spec.role: is not implemented yet; remove it",
                "10: BGPPeer/tor spec.auth.tcpAO: is not implemented yet; remove it",
                "11: BGPPeer/tor spec.gracefulRestart.llgr: is not implemented yet; remove it",
                "13: BGPPeer/tor spec.families[0].addPath: is not implemented yet; remove it",
                "13: BGPPeer/tor spec.families[0].maxPrefix.sent: is not implemented yet; remove it",
                "14: BGPPeer/tor spec.install: is not implemented yet; remove it",
            ],
        ),
        (
            "ways to find a neighbour that come later",
            named("BGPPeer", "tor", "neighbor: {discover: {mode: DefaultGateway}}\nremoteASN: external"),
            &["5: BGPPeer/tor spec.neighbor.discover: is not implemented yet; remove it"],
        ),
        (
            "fields of other kinds that come later",
            documents(&[
                &network("mesh: Disabled\nmasquerade: {mode: Auto}\nbmp: []"),
                &named("IPPool", "pods", "cidrs: [10.42.0.0/16]\nblockSize: 26\nnatOutgoing: Never"),
                &advertisement("source: {podBlocks: {}}\ngates: [NodeReady]\nonDrain: Withdraw"),
                &named("NodeNetwork", "node-1", "drain: true"),
            ]),
            &[
                "5: NetworkConfig/default spec.mesh: is not implemented yet; remove it",
                "6: NetworkConfig/default spec.masquerade: is not implemented yet; remove it",
                "7: NetworkConfig/default spec.bmp: is not implemented yet; remove it",
                "14: IPPool/pods spec.blockSize: is not implemented yet; remove it",
                "15: IPPool/pods spec.natOutgoing: is not implemented yet; remove it",
                "22: Advertisement/adv spec.gates: is not implemented yet; remove it",
                "23: Advertisement/adv spec.onDrain: is not implemented yet; remove it",
                "29: NodeNetwork/node-1 spec.drain: is not implemented yet; remove it",
            ],
        ),
    ]
}

pub(crate) fn what_follows_from_what() -> Vec<Row> {
    vec![
        (
            "a mistake beside a refused field is found too",
            named("BGPPeer", "tor", "neighbor: {adress: 10.0.1.1}\nremoteASN: 65000.10\ntimers: {hold: 2s}"),
            &[
                "5: BGPPeer/tor spec.neighbor.adress: unknown field; did you mean address?",
                r#"6: BGPPeer/tor spec.remoteASN: 65000.10 is read as a decimal fraction; write "65000.10" in quotes"#,
                "7: BGPPeer/tor spec.timers.hold: 2s is not allowed; use 0s (off) or at least 3s",
            ],
        ),
        (
            "a missing peer is not reported while something was not read",
            documents(&[
                &advertisement("source: {static: {cidrs: [10.1.0.0/24]}}\npeers: [spine]"),
                &resource("kind: BgpPeer\nmetadata: {name: spine}"),
            ]),
            &["9: BgpPeer/spine kind: BgpPeer is not known; did you mean BGPPeer?"],
        ),
        (
            "a label key that is a boolean",
            named("NodeNetwork", "node-1", "labels: {on: rack}"),
            &[
                r#"5: NodeNetwork/node-1 spec.labels.on: older YAML readers take the key on for a boolean; write "on" in quotes"#,
            ],
        ),
        (
            "a problem of another node's peer",
            peer("nodeSelector: {matchLabels: {rack: b}}\ntimers: {hold: 1s}"),
            &["8: BGPPeer/tor spec.timers.hold: 1s is not allowed; use 0s (off) or at least 3s"],
        ),
    ]
}
