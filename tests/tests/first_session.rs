//! The first milestone: one session with FRR, one prefix each way, in both kernels, and a ping across.

use anyhow::ensure;
use towpath_tests::agent::LIMIT;
use towpath_tests::interop::{HUB_NETWORKS, Plan, Program, spoke_networks, until_path};
use towpath_tests::wait::until;

#[test]
fn one_session_with_frr_carries_a_prefix_each_way_and_then_packets() -> anyhow::Result<()> {
    let mut plan = Plan::new()?;
    plan.spoke(Program::Frr)?;
    plan.session(1, false)?;
    let bed = plan.up()?;
    bed.until_kernel(&spoke_networks(1)[0], &[1])?;
    until_path(&bed.others[0], HUB_NETWORKS[0], Some("65000"))?;
    until(LIMIT, "the route in FRR's kernel", || {
        let route = bed.others[0].netns.ip(&format!("-4 route show {}", HUB_NETWORKS[0]))?;
        ensure!(route.contains("via 10.0.1.2"), "{route}");
        Ok(Some(()))
    })?;
    bed.until_pings(1, false)
}
