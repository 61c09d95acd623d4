//! What an UPDATE says beside the path comes through them and through us as it was.
//!
//! A feeder announces to a router, which tells the hub, which tells a second router, which tells another
//! feeder: what that one reads has gone from them to us and from us to them. A program that passes nothing on
//! says and shows it itself.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use bgp_speaker::query::RouteStatus;
use ipnet::IpNet;

use super::{Bed, Peer, Plan, Program, until_path};
use crate::agent::LIMIT;
use crate::feeder::message::{self, Attributes};
use crate::feeder::{Config, Feeder};
use crate::netns::Netns;
use crate::speakers::Neighbor;
use crate::wait::until;

const SOURCE_AS: u32 = 65_098;
const SINK_AS: u32 = 65_099;
const PREFIX: &str = "10.77.0.0/16";

const COMMUNITIES: u8 = 8;
const EXTENDED_COMMUNITIES: u8 = 16;
const LARGE_COMMUNITIES: u8 = 32;
/// Of an attribute that nobody knows.
const UNKNOWN: u8 = 199;
const OPTIONAL_TRANSITIVE: u8 = 0xc0;
const PARTIAL: u8 = 0x20;
const EXTENDED_LENGTH: u8 = 0x10;

/// Feeder, router, hub, router, feeder.
struct Chain {
    bed: Bed,
    source: Feeder,
    sink: Feeder,
    _namespaces: [Netns; 2],
}

impl Chain {
    fn up(program: Program) -> anyhow::Result<Self> {
        let mut plan = Plan::new()?;
        let mut namespaces = Vec::new();
        for (n, asn) in [(1, SOURCE_AS), (2, SINK_AS)] {
            let router = plan.spoke(program)?.netns.clone();
            plan.session(n, false)?;
            let netns = Netns::fresh()?;
            let [theirs, ours] = [1, 2].map(|end| format!("10.0.{}.{end}", 90 + n));
            netns.link(
                ("eth0", &[&format!("{theirs}/24")]),
                &router,
                ("feeder", &[&format!("{ours}/24")]),
            )?;
            let mut neighbor = Neighbor::new(theirs.parse()?, asn);
            (neighbor.v6, neighbor.passive) = (false, true);
            plan.spokes[n - 1].router.neighbors.push(neighbor);
            namespaces.push(netns);
        }
        let bed = plan.up_but_for_feeders()?;
        let feeder = |n: usize, asn: u32| {
            let config = Config::extended(asn, [7, 7, 7, u8::try_from(n)?].into());
            let address = format!("10.0.{}.2:179", 90 + n);
            Feeder::connect(&namespaces[n - 1], None, address.parse()?, &config, LIMIT)
        };
        let (source, sink) = (feeder(1, SOURCE_AS)?, feeder(2, SINK_AS)?);
        let namespaces = namespaces.try_into().ok().context("two namespaces")?;
        Ok(Self { bed, source, sink, _namespaces: namespaces })
    }

    /// Announces [`PREFIX`] at one end, and waits until it has arrived at the other with the same attribute.
    fn carry(program: Program, case: &Case<'_>) -> anyhow::Result<()> {
        let chain = Self::up(program)?;
        let prefix: IpNet = PREFIX.parse()?;
        chain.source.send(&case.announcement("10.0.91.1".parse()?)?)?;
        let route = chain.bed.until_best(PREFIX, &format!("65001 {SOURCE_AS}"))?;
        ensure!((case.is_in)(&route), "{route:?}");
        until_path(&chain.bed.others[1], PREFIX, Some(&format!("65000 65001 {SOURCE_AS}")))?;
        let (flags, value) = until(LIMIT, &format!("{PREFIX} at the end of the chain"), || {
            let heard = chain.sink.heard();
            ensure!(
                heard.routes.contains_key(&prefix),
                "there are {:?}, {:?}",
                heard.routes,
                heard.notification
            );
            let (flags, value) = heard
                .attribute(&prefix, case.kind)
                .with_context(|| format!("no attribute of type {}", case.kind))?;
            Ok(Some((flags & !EXTENDED_LENGTH, value.to_vec())))
        })?;
        let partial = if case.kind == UNKNOWN { PARTIAL } else { 0 };
        ensure!(
            (flags, &value) == (OPTIONAL_TRANSITIVE | partial, &case.value),
            "{flags:#x} {value:x?} at the end"
        );
        Ok(())
    }
}

/// An attribute on its way.
struct Case<'a> {
    kind: u8,
    value: Vec<u8>,
    /// As ExaBGP says it, in its commands and in its lists.
    words: String,
    /// Whether our route has it.
    is_in: &'a dyn Fn(&RouteStatus) -> bool,
}

impl Case<'_> {
    fn announcement(&self, next_hop: IpAddr) -> anyhow::Result<Vec<u8>> {
        let mut attributes = Attributes::new(&[SOURCE_AS], next_hop);
        let length = u16::try_from(self.value.len())?.to_be_bytes();
        attributes.raw = [OPTIONAL_TRANSITIVE | EXTENDED_LENGTH, self.kind].to_vec();
        attributes.raw.extend(length.iter().chain(&self.value));
        Ok(message::announce(&attributes, &[PREFIX.parse()?]))
    }

    fn holds(&self, program: Program) -> anyhow::Result<()> {
        if program.passes_on() { Chain::carry(program, self) } else { self.ends_at(program) }
    }

    /// With a program that passes nothing on: what a feeder tells us arrives there as it was, and what its
    /// operator says arrives here.
    fn ends_at(&self, program: Program) -> anyhow::Result<()> {
        let mut plan = Plan::new()?;
        plan.spoke(program)?;
        plan.session(1, false)?;
        let source = Netns::fresh()?;
        source.link(("eth0", &["10.0.9.2/24"]), &plan.hub, ("feeder", &["10.0.9.1/24"]))?;
        plan.config.peers.push(Peer {
            name: "feeder".to_owned(),
            address: "10.0.9.2".parse()?,
            remote_as: SOURCE_AS,
            spec: vec!["passive: Always".to_owned()],
            ..plan.config.peers[0].clone()
        });
        let bed = plan.up_but_for_feeders()?;
        let config = Config::extended(SOURCE_AS, [7, 7, 7, 7].into());
        let feeder = Feeder::connect(&source, None, "10.0.9.1:179".parse()?, &config, LIMIT)?;
        feeder.send(&self.announcement("10.0.9.2".parse()?)?)?;
        until_path(&bed.others[0], PREFIX, Some(&format!("65000 {SOURCE_AS}")))?;
        let shown = bed.others[0].describe(PREFIX)?;
        // We have set the Partial bit, as whoever passes on what it does not know.
        let words = self.words.replace("0xC7 0xC0", "0xC7 0xE0");
        ensure!(shown.contains(&words), "{words} is not in {shown}");

        bed.others[0].announce_with("10.78.0.0/16", &self.words)?;
        let route = bed.until_best("10.78.0.0/16", "65001")?;
        ensure!((self.is_in)(&route), "{route:?}");
        Ok(())
    }
}

/// Standard communities (RFC 1997).
///
/// # Errors
/// When they do not arrive as they were, as for every scenario.
pub fn standard_communities_pass_through(program: Program) -> anyhow::Result<()> {
    let communities = [SOURCE_AS << 16 | 100, SOURCE_AS << 16 | 200];
    let case = Case {
        kind: COMMUNITIES,
        value: communities.map(u32::to_be_bytes).concat(),
        words: "community [ 65098:100 65098:200 ]".to_owned(),
        is_in: &|route| route.communities == ["65098:100", "65098:200"],
    };
    case.holds(program)
}

/// Extended communities (RFC 4360): a route target, and one of an unknown transitive type.
///
/// # Errors
/// As for every scenario.
pub fn extended_communities_pass_through(program: Program) -> anyhow::Result<()> {
    let case = Case {
        kind: EXTENDED_COMMUNITIES,
        value: [[0x00, 0x02, 0xfe, 0x4a, 0, 0, 0, 7], [0x0f, 0x77, 1, 2, 3, 4, 5, 6]].concat(),
        words: "extended-community [ target:65098:7 0x0F77010203040506 ]".to_owned(),
        is_in: &|route| route.ext_communities == ["0002fe4a00000007", "0f77010203040506"],
    };
    case.holds(program)
}

/// Large communities (RFC 8092).
///
/// # Errors
/// As for every scenario.
pub fn large_communities_pass_through(program: Program) -> anyhow::Result<()> {
    let large = [[4_200_000_098_u32, 1, 2], [4_200_000_098, 1, 3]];
    let case = Case {
        kind: LARGE_COMMUNITIES,
        value: large.as_flattened().iter().flat_map(|part| part.to_be_bytes()).collect(),
        words: "large-community [ 4200000098:1:2 4200000098:1:3 ]".to_owned(),
        is_in: &|route| route.large_communities == ["4200000098:1:2", "4200000098:1:3"],
    };
    case.holds(program)
}

/// An optional transitive attribute that nobody knows is passed on with the Partial bit (RFC 4271 section 5).
///
/// # Errors
/// As for every scenario.
pub fn unknown_transitive_attributes_pass_through(program: Program) -> anyhow::Result<()> {
    let case = Case {
        kind: UNKNOWN,
        value: vec![0xde, 0xad, 0xbe, 0xef],
        words: "attribute [ 0xC7 0xC0 0xdeadbeef ]".to_owned(),
        is_in: &|route| route.unknown_attributes == ["199 0xe0 deadbeef"],
    };
    case.holds(program)
}

/// A path whose attributes need more than 4096 octets (RFC 8654): 500 large communities.
///
/// # Errors
/// As for every scenario.
pub fn messages_longer_than_4096_octets_pass(program: Program) -> anyhow::Result<()> {
    let large: Vec<[u32; 3]> = (0..500).map(|n| [SOURCE_AS, 7, n]).collect();
    let words: Vec<String> = large.iter().map(|[asn, one, two]| format!("{asn}:{one}:{two}")).collect();
    let case = Case {
        kind: LARGE_COMMUNITIES,
        value: large.as_flattened().iter().flat_map(|part| part.to_be_bytes()).collect(),
        words: format!("large-community [ {} ]", words.join(" ")),
        is_in: &|route| route.large_communities == words,
    };
    case.holds(program)
}
