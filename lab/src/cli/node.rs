//! The main process of one node, and its forwarding.

use rustix::process::Signal;

use super::NodeAction;
use crate::Lab;

pub(super) fn act(lab: &Lab, action: NodeAction, name: &str) -> anyhow::Result<()> {
    let node = lab.find(name)?;
    match action {
        NodeAction::Kill => node.kill(Signal::KILL)?,
        NodeAction::Stop => node.stop()?,
        NodeAction::Start => node.start()?,
        NodeAction::Pause => node.kill(Signal::STOP)?,
        NodeAction::Resume => node.kill(Signal::CONT)?,
        NodeAction::Die => lab.kill_and_isolate(name)?,
        NodeAction::Isolate => node.stop_forwarding()?,
        NodeAction::Restore => node.restore_forwarding()?,
    }
    Ok(())
}
