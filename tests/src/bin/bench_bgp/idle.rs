//! What a daemon costs that has its routes and nothing to do: sessions with a hold time of 90 s stay up.

use std::time::Duration;

use towpath_tests::feeder::load;
use towpath_tests::feeder::tape::Counts;

use crate::contender::Contender;
use crate::converge::{SEED, megabytes, milliseconds};
use crate::results::{Family, Sample};
use crate::rig::{self, Clocks, FEEDER, Rig};

/// Longer than what a daemon may put off to the second, or gives back when its start is over.
pub(crate) const REST: Duration = Duration::from_secs(3);
/// How long its idleness is watched.
const WATCHED: Duration = Duration::from_secs(10);

pub(crate) fn run(contender: Contender, family: Family, routes: usize) -> anyhow::Result<(Sample, String)> {
    let table = rig::table(family, FEEDER, routes, SEED);
    let rig = Rig::new(contender, family, 2, 2)?;
    let installed = rig.installed(&table)?;
    let counts = Counts { announced: routes as u64, withdrawn: 0 };
    rig.phase(FEEDER, &load::announcements(&table), counts, installed.as_ref(), |heard| {
        heard.routes.len() == routes
    })?;
    std::thread::sleep(REST);
    let clocks = Clocks::read(rig.processes())?;
    std::thread::sleep(WATCHED);
    let spent = clocks.spent(rig.processes())?;
    let sample = vec![
        ("CPU ms in 10 s", milliseconds(spent.daemon)),
        ("RSS MB", megabytes(rig.usage().resident_bytes)),
        ("others' CPU s", spent.others.as_secs_f64()),
    ];
    Ok((sample, rig.version))
}
