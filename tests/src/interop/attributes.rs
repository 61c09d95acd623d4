//! What an UPDATE says beside the path goes through a transit towpath as it came.

use anyhow::ensure;
use bgp_speaker::query::RibView;
use ipnet::IpNet;

use super::{Plan, Program, until_path};
use crate::agent::LIMIT;
use crate::feeder::message::{self, Attributes};
use crate::feeder::{Config, Feeder};
use crate::wait::until;

const FEEDER_AS: u32 = 65_099;
/// EXTENDED COMMUNITIES: route target 65099:7, and one of an unknown transitive type.
const EXTENDED: [u8; 19] = [0xc0, 16, 16, 0x00, 0x02, 0xfe, 0x4b, 0, 0, 0, 7, 0x0f, 0x77, 1, 2, 3, 4, 5, 6];
/// An attribute that nobody knows, optional and transitive.
const UNKNOWN: [u8; 7] = [0xc0, 199, 4, 0xde, 0xad, 0xbe, 0xef];

/// A feeder behind one router announces communities of every kind and an attribute nobody knows; the
/// router on the other side of the hub, of the other program, has all of them.
///
/// # Errors
/// When it has not, as for every scenario.
pub fn communities_of_every_kind_pass_through(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    let netns = plan.spoke(program)?.netns.clone();
    plan.session(1, false)?;
    plan.spoke(program.counterpart())?;
    plan.session(2, false)?;
    let source = crate::netns::Netns::fresh()?;
    source.link(("eth0", &["10.0.9.2/24"]), &netns, ("feeder", &["10.0.9.1/24"]))?;
    let neighbors = &mut plan.spokes[0].router.neighbors;
    let mut neighbor = crate::speakers::Neighbor::new("10.0.9.2".parse()?, FEEDER_AS);
    (neighbor.v6, neighbor.passive) = (false, true);
    neighbors.push(neighbor);
    let bed = plan.start()?;
    let config = Config::new(FEEDER_AS, [7, 7, 7, 7].into());
    let feeder = Feeder::connect(&source, None, "10.0.9.1:179".parse()?, &config, LIMIT)?;
    let mut attributes = Attributes::new(&[FEEDER_AS], "10.0.9.2".parse()?);
    attributes.communities = vec![65_099 << 16 | 100, 65_099 << 16 | 200];
    attributes.large_communities = vec![[4_200_000_099, 1, 2]];
    attributes.raw = [EXTENDED.as_slice(), &UNKNOWN].concat();
    let prefix: IpNet = "10.77.0.0/16".parse()?;
    feeder.send(&message::announce(&attributes, &[prefix]))?;

    let route = bed.until_best("10.77.0.0/16", "65001 65099")?;
    ensure!(route.communities == ["65099:100", "65099:200"], "{route:?}");
    ensure!(route.large_communities == ["4200000099:1:2"], "{route:?}");
    ensure!(route.ext_communities == ["0002fe4b00000007", "0f77010203040506"], "{route:?}");
    // RFC 4271 section 5: whoever passes on what it does not know sets Partial.
    ensure!(route.unknown_attributes == ["199 0xe0 deadbeef"], "{route:?}");

    until_path(&bed.others[1], "10.77.0.0/16", Some("65000 65001 65099"))?;
    let advertised = bed.agent.routes(RibView::Advertised, Some("10.77.0.0/16"))?;
    let to_second = advertised.iter().find(|route| route.peer.as_deref() == Some("router2-v4"));
    ensure!(
        to_second.is_some_and(|route| route.unknown_attributes == ["199 0xe0 deadbeef"]
            && route.ext_communities == ["0002fe4b00000007", "0f77010203040506"]),
        "{advertised:?}"
    );
    let expected: &[&str] = match bed.others[1].program {
        // It shows attributes it does not know nowhere.
        Program::Frr => &["65099:100 65099:200", "4200000099:1:2", "RT:65099:7"],
        _ => &[
            "(65099,100) (65099,200)",
            "(4200000099, 1, 2)",
            "(rt, 65099, 7)",
            "(generic, 0xf770102, 0x3040506)",
            "de ad be ef",
        ],
    };
    until(LIMIT, "all communities at the other side", || {
        let text = bed.others[1].describe("10.77.0.0/16")?;
        for words in expected {
            ensure!(text.contains(words), "{words} is not in:\n{text}");
        }
        Ok(Some(()))
    })
}
