//! NO_EXPORT, NO_ADVERTISE and NO_EXPORT_SUBCONFED (RFC 1997) are obeyed on both sides.

use anyhow::ensure;
use bgp_speaker::query::RibView;

use super::{Plan, Program, peer_name, spoke_networks, until_path};
use crate::agent::LIMIT;
use crate::feeder::{Config, Feeder};
use crate::netns::Netns;
use crate::speakers::Neighbor;

/// The community's second half (the first is 65535), and its name.
const WELL_KNOWN: [(u16, &str); 3] =
    [(0xff01, "no-export"), (0xff02, "no-advertise"), (0xff03, "no-export-subconfed")];

/// What they announce with a well-known community is used here, and told to nobody.
///
/// # Errors
/// When it is not, or is, as for every scenario.
pub fn we_obey_well_known_communities(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    for (n, (low, _)) in (1..).zip(WELL_KNOWN) {
        plan.spoke(program)?;
        plan.session(n, false)?.1.community = Some((0xffff, low));
    }
    // The fourth is told what may be told: the hub's own networks.
    plan.spoke(program)?;
    plan.session(4, false)?;
    let mut bed = plan.up()?;
    for (n, (low, _)) in (1..).zip(WELL_KNOWN) {
        let prefix = &spoke_networks(n)[0];
        let route = bed.until_best(prefix, &(65_000 + n).to_string())?;
        ensure!(route.communities == [format!("65535:{low}")], "{route:?}");
        bed.until_kernel(prefix, &[n])?;
    }
    // Whatever was to be said of them was said before this.
    bed.edit(|config| config.networks.push("10.210.0.0/16".to_owned()))?;
    until_path(&bed.others[3], "10.210.0.0/16", Some("65000"))?;
    for n in 1..=WELL_KNOWN.len() {
        let prefix = &spoke_networks(n)[0];
        let told = bed.agent.routes(RibView::Advertised, Some(prefix))?;
        ensure!(told.is_empty(), "{told:?}");
        until_path(&bed.others[3], prefix, None)?;
    }
    Ok(())
}

/// What we announce with a well-known community is taken there, and told to nobody.
///
/// # Errors
/// As for every scenario.
pub fn they_obey_well_known_communities(program: Program) -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    let router = plan.spoke(program)?.netns.clone();
    plan.session(1, false)?;
    let tagged: Vec<(String, String)> =
        (1..).zip(WELL_KNOWN).map(|(n, (_, name))| (format!("10.21{n}.0.0/16"), name.to_owned())).collect();
    plan.config.tagged.clone_from(&tagged);
    let sink = Netns::fresh()?;
    sink.link(("eth0", &["10.0.9.1/24"]), &router, ("feeder", &["10.0.9.2/24"]))?;
    let mut neighbor = Neighbor::new("10.0.9.1".parse()?, 65_099);
    (neighbor.v6, neighbor.passive) = (false, true);
    plan.spokes[0].router.neighbors.push(neighbor);

    let mut bed = plan.up_but_for_feeders()?;
    let config = Config::new(65_099, [7, 7, 7, 7].into());
    let feeder = Feeder::connect(&sink, None, "10.0.9.2:179".parse()?, &config, LIMIT)?;
    for (prefix, _) in &tagged {
        until_path(&bed.others[0], prefix, Some("65000"))?;
    }
    // The router's own network and two plain ones of ours; the last is announced after all others.
    bed.edit(|config| config.networks.push("10.220.0.0/16".to_owned()))?;
    feeder.until_routes(3, LIMIT)?;
    let heard = feeder.heard().routes.clone();
    for (prefix, name) in &tagged {
        ensure!(!heard.contains_key(&prefix.parse()?), "{prefix} with {name} was passed on: {heard:?}");
    }
    ensure!(bed.agent.peer(&peer_name(1, false))?.down_count == 0);
    Ok(())
}
