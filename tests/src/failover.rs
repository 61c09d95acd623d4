//! What happens to traffic when a ToR of `two-tor` dies, loses a cable, or comes back: one run each.
//!
//! Used by the tests (with generous bounds) and by the benchmark (medians of many runs). Packets are counted,
//! not routes, and a run counts only if the flows had used both ToRs before the event.

use std::time::Duration;

use anyhow::ensure;

use crate::meter::{Meter, Plan, Report};
use crate::two_tor::TwoTor;
use crate::wait::until;

/// How long flows run before the event, and after everything has settled.
const STEADY: Duration = Duration::from_millis(500);
/// How long the network may take to settle.
const PATIENCE: Duration = Duration::from_secs(15);
/// With every daemon frozen, how long flows run after the event.
const FROZEN: Duration = Duration::from_secs(2);

/// Whether towpath may react to the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// As always.
    Running,
    /// Every daemon gets SIGSTOP right before: what the kernels do alone.
    Frozen,
}

/// 16 flows at 1 kHz in all: four each way and family.
fn plan() -> Plan {
    Plan { flows: 4, ..Plan::default() }
}

/// tor1's daemon is killed and its forwarding stopped in the same instant; tor1 stays dead.
///
/// # Errors
/// When the flows did not use both ToRs, or (unless frozen) the nodes do not end up with one path.
pub fn tor_death(racks: &TwoTor, reaction: Reaction) -> anyhow::Result<Report> {
    let meter = start(racks)?;
    if reaction == Reaction::Frozen {
        racks.freeze(Some("tor1"))?;
    }
    racks.lab.kill_and_isolate("tor1")?;
    settle(racks, reaction, || racks.until_paths(1, PATIENCE))?;
    meter.stop()
}

/// The cable between tor1 and node1 loses its carrier at both ends.
///
/// # Errors
/// As [`tor_death`].
pub fn carrier_loss(racks: &TwoTor, reaction: Reaction) -> anyhow::Result<Report> {
    let meter = start(racks)?;
    if reaction == Reaction::Frozen {
        racks.freeze(None)?;
    }
    racks.lab.link_down("tor1:eth1")?;
    settle(racks, reaction, || racks.until_paths(1, PATIENCE))?;
    meter.stop()
}

/// The cable comes back: both paths again.
///
/// # Errors
/// As [`tor_death`].
pub fn carrier_return(racks: &TwoTor) -> anyhow::Result<Report> {
    let meter = Meter::start(&racks.pairs()?[..1], plan())?;
    racks.lab.link_up("tor1:eth1")?;
    settle(racks, Reaction::Running, || racks.until_converged(PATIENCE))?;
    meter.stop()
}

/// tor1 returns after its death: both paths again.
///
/// # Errors
/// As [`tor_death`].
pub fn tor_return(racks: &TwoTor) -> anyhow::Result<Report> {
    let meter = Meter::start(&racks.pairs()?[..1], plan())?;
    racks.revive("tor1")?;
    settle(racks, Reaction::Running, || racks.until_converged(PATIENCE))?;
    meter.stop()
}

fn start(racks: &TwoTor) -> anyhow::Result<Meter> {
    racks.until_converged(PATIENCE)?;
    let before = racks.tor_counters()?;
    let meter = Meter::start(&racks.pairs()?[..1], plan())?;
    let steady = meter.elapsed() + STEADY;
    until(PATIENCE, "flows through both ToRs", || {
        let packets = racks.tor_packets(Some(&before))?;
        Ok((meter.elapsed() >= steady && packets.iter().all(|packets| *packets > 500)).then_some(()))
    })?;
    let packets = racks.tor_packets(Some(&before))?;
    ensure!(packets.iter().all(|packets| *packets > 500), "the flows used only one ToR: {packets:?} packets");
    Ok(meter)
}

/// Waits for the new state, then lets the flows run on for a moment, so that late losses are seen.
fn settle(
    racks: &TwoTor,
    reaction: Reaction,
    settled: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let quiet = match reaction {
        Reaction::Running => {
            settled()?;
            STEADY
        }
        Reaction::Frozen => FROZEN,
    };
    let from = std::time::Instant::now();
    until(PATIENCE, "the flows to run on", || Ok((from.elapsed() >= quiet).then_some(())))?;
    // A lab that fell over meanwhile would count as perfect silence.
    racks.pod(1, 'a').map(drop)
}
