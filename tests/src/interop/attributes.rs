//! What an UPDATE says beside the path comes through them and through us as it was.
//!
//! A feeder announces to a router, which tells the hub, which tells a second router, which tells another
//! feeder: what that one reads has gone from them to us and from us to them.

use anyhow::{Context, ensure};
use bgp_speaker::query::RouteStatus;
use ipnet::IpNet;

use super::{Bed, Plan, Program, until_path};
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

    /// Announces [`PREFIX`] at one end, and waits until it has arrived at the other: the hub's route, and the
    /// attribute of type `kind` at the end.
    fn carry(
        program: Program,
        kind: u8,
        set: impl FnOnce(&mut Attributes),
    ) -> anyhow::Result<(RouteStatus, u8, Vec<u8>)> {
        let chain = Self::up(program)?;
        let mut attributes = Attributes::new(&[SOURCE_AS], "10.0.91.1".parse()?);
        set(&mut attributes);
        let prefix: IpNet = PREFIX.parse()?;
        chain.source.send(&message::announce(&attributes, &[prefix]))?;
        let route = chain.bed.until_best(PREFIX, &format!("65001 {SOURCE_AS}"))?;
        until_path(&chain.bed.others[1], PREFIX, Some(&format!("65000 65001 {SOURCE_AS}")))?;
        let (flags, value) = until(LIMIT, &format!("{PREFIX} at the end of the chain"), || {
            let heard = chain.sink.heard();
            ensure!(
                heard.routes.contains_key(&prefix),
                "there are {:?}, {:?}",
                heard.routes,
                heard.notification
            );
            let (flags, value) =
                heard.attribute(&prefix, kind).with_context(|| format!("no attribute of type {kind}"))?;
            Ok(Some((flags & !EXTENDED_LENGTH, value.to_vec())))
        })?;
        Ok((route, flags, value))
    }
}

/// Standard communities (RFC 1997).
///
/// # Errors
/// When they do not arrive as they were, as for every scenario.
pub fn standard_communities_pass_through(program: Program) -> anyhow::Result<()> {
    let communities = [SOURCE_AS << 16 | 100, SOURCE_AS << 16 | 200];
    let (route, flags, value) =
        Chain::carry(program, COMMUNITIES, |attributes| attributes.communities = communities.to_vec())?;
    ensure!(route.communities == ["65098:100", "65098:200"], "{route:?}");
    ensure!(
        (flags, value) == (OPTIONAL_TRANSITIVE, communities.map(u32::to_be_bytes).concat()),
        "at the end"
    );
    Ok(())
}

/// Extended communities (RFC 4360): a route target, and one of an unknown transitive type.
///
/// # Errors
/// As for every scenario.
pub fn extended_communities_pass_through(program: Program) -> anyhow::Result<()> {
    let value = [[0x00, 0x02, 0xfe, 0x4a, 0, 0, 0, 7], [0x0f, 0x77, 1, 2, 3, 4, 5, 6]].concat();
    let raw = [&[OPTIONAL_TRANSITIVE, EXTENDED_COMMUNITIES, 16], value.as_slice()].concat();
    let (route, flags, found) =
        Chain::carry(program, EXTENDED_COMMUNITIES, |attributes| attributes.raw = raw)?;
    ensure!(route.ext_communities == ["0002fe4a00000007", "0f77010203040506"], "{route:?}");
    ensure!((flags, &found) == (OPTIONAL_TRANSITIVE, &value), "{flags:#x} {found:x?} at the end");
    Ok(())
}

/// Large communities (RFC 8092).
///
/// # Errors
/// As for every scenario.
pub fn large_communities_pass_through(program: Program) -> anyhow::Result<()> {
    let large = [4_200_000_098, 1, 2];
    let (route, flags, value) =
        Chain::carry(program, LARGE_COMMUNITIES, |attributes| attributes.large_communities = vec![large])?;
    ensure!(route.large_communities == ["4200000098:1:2"], "{route:?}");
    ensure!((flags, value) == (OPTIONAL_TRANSITIVE, large.map(u32::to_be_bytes).concat()), "at the end");
    Ok(())
}

/// An optional transitive attribute that nobody knows is passed on with the Partial bit (RFC 4271 section 5).
///
/// # Errors
/// As for every scenario.
pub fn unknown_transitive_attributes_pass_through(program: Program) -> anyhow::Result<()> {
    let raw = vec![OPTIONAL_TRANSITIVE, UNKNOWN, 4, 0xde, 0xad, 0xbe, 0xef];
    let (route, flags, value) = Chain::carry(program, UNKNOWN, |attributes| attributes.raw = raw)?;
    ensure!(route.unknown_attributes == ["199 0xe0 deadbeef"], "{route:?}");
    ensure!(
        (flags, value.as_slice()) == (OPTIONAL_TRANSITIVE | PARTIAL, &[0xde, 0xad, 0xbe, 0xef]),
        "{flags:#x} {value:x?} at the end"
    );
    Ok(())
}

/// A path whose attributes need more than 4096 octets (RFC 8654): 500 large communities.
///
/// # Errors
/// As for every scenario.
pub fn messages_longer_than_4096_octets_pass(program: Program) -> anyhow::Result<()> {
    let large: Vec<[u32; 3]> = (0..500).map(|n| [SOURCE_AS, 7, n]).collect();
    let (route, _, value) = Chain::carry(program, LARGE_COMMUNITIES, |attributes| {
        attributes.large_communities.clone_from(&large)
    })?;
    ensure!(route.large_communities.len() == large.len(), "{}", route.large_communities.len());
    let expected: Vec<u8> = large.iter().flatten().flat_map(|part| part.to_be_bytes()).collect();
    ensure!(value == expected, "{} octets at the end", value.len());
    Ok(())
}
