//! A table comes, goes and comes again with other communities, back to back: time until the receiver holds the last
//! state. A daemon may skip what is outdated before it is told.

use towpath_tests::feeder::load;
use towpath_tests::feeder::tape::Counts;

use crate::compare;
use crate::contender::Contender;
use crate::converge::{SEED, milliseconds};
use crate::results::{Family, Sample};
use crate::rig::{self, FEEDER, LIMIT, RECEIVER, Rig};

/// On everything of the last state.
const AGAIN: u32 = 65_001 << 16 | 2;

pub(crate) fn run(contender: Contender, family: Family, routes: usize) -> anyhow::Result<(Sample, String)> {
    let first = rig::table(family, FEEDER, routes, SEED);
    let mut last = first.clone();
    last.iter_mut().for_each(|group| group.attributes.communities.push(AGAIN));
    let bytes = [load::announcements(&first), load::withdrawals(&first), load::announcements(&last)].concat();
    let rig = Rig::new(contender, family, 2, 2)?;
    let next_hop = rig::daemon(family, RECEIVER);
    let installed = rig.installed(&last)?;
    let count = routes as u64;
    let all = Counts { announced: 2 * count, withdrawn: count };
    let phase = rig.phase(FEEDER, &bytes, all, installed.as_ref(), |heard| {
        heard.routes.len() == routes && compare::receiver(&last, heard, next_hop).is_ok()
    })?;
    if let Some(installed) = installed {
        installed.until(true, LIMIT)?;
        compare::kernel(&last, &rig.links.daemon, &[rig::neighbor(family, FEEDER)])?;
    }
    let told = rig.tape(RECEIVER).counts();
    let sample = vec![
        ("receiver ms", milliseconds(phase.receiver)),
        ("CPU s", phase.spent.daemon.as_secs_f64()),
        ("told", (told.announced + told.withdrawn) as f64),
        ("others' CPU s", phase.spent.others.as_secs_f64()),
    ];
    Ok((sample, rig.version))
}
