//! Impaired cables of a running lab: netem where the kernel has it, loss by rule where it has not.

use std::fmt;

use crate::file::links::{End, device_name};
use crate::kernel::netem::{Impairment, Outcome};
use crate::kernel::nft::Loss;
use crate::lab::{Lab, LabError};
use crate::node::control::Request;

/// What does the impairing of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A netem queue at the interface.
    Netem,
    /// An nftables rule at the other end of its cable; loss only.
    Rule,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netem => "netem",
            Self::Rule => "rule",
        })
    }
}

impl Lab {
    /// From now on what leaves `end` (`tor1:eth1`) is treated like this, instead of an earlier
    /// impairment. Where the kernel has no netem, loss alone is done by an nftables rule at the
    /// other end of the cable.
    ///
    /// # Errors
    /// [`LabError::UnknownEnd`], an impossible impairment, one that needs netem where there is none,
    /// or the kernel's refusal.
    pub fn impair(&self, end: &str, impairment: &Impairment) -> Result<Means, LabError> {
        let what = format!("impairing {end}");
        let other = |error: String| self.io(&what, std::io::Error::other(error));
        impairment.check().map_err(|error| other(error.to_string()))?;
        let [near, far] = self.cable(end)?;
        let request = Request::Netem { device: device_name(&near.interface), impairment: *impairment };
        match self.ask_at(near, &request, &what)?.netem {
            Some(Outcome::Done) => {
                self.rule(far, Loss::default())?;
                Ok(Means::Netem)
            }
            Some(Outcome::Lacking) if impairment.is_loss_only() => {
                self.rule(far, impairment.loss)?;
                Ok(Means::Rule)
            }
            Some(Outcome::Lacking) => Err(other(
                "this kernel has no netem (CONFIG_NET_SCH_NETEM); load the module sch_netem or boot a \
                 kernel that has it, or set --loss alone, which works without"
                    .to_owned(),
            )),
            None => Err(other("the node did not answer".to_owned())),
        }
    }

    /// Undoes [`Lab::impair`], and [`Lab::set_loss`] for what leaves `end`. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`LabError::UnknownEnd`], or the kernel's refusal.
    pub fn heal(&self, end: &str) -> Result<(), LabError> {
        let [near, far] = self.cable(end)?;
        let request = Request::NetemReset { device: device_name(&near.interface) };
        self.ask_at(near, &request, &format!("healing {end}"))?;
        self.rule(far, Loss::default())
    }

    /// What happens to packets that leave `end`, and what does it; `None`: nothing.
    ///
    /// # Errors
    /// [`LabError::UnknownEnd`], or the kernel's refusal.
    pub fn impairment(&self, end: &str) -> Result<Option<(Impairment, Means)>, LabError> {
        let [near, far] = self.cable(end)?;
        let what = format!("looking at {end}");
        let request = Request::NetemOf { device: device_name(&near.interface) };
        if let Some(impairment) = self.ask_at(near, &request, &what)?.impairment {
            return Ok(Some((impairment, Means::Netem)));
        }
        let request = Request::LossOf { device: device_name(&far.interface) };
        let rule = self.ask_at(far, &request, &what)?.loss;
        Ok(rule.map(|(loss, _)| (Impairment { loss, ..Impairment::default() }, Means::Rule)))
    }

    fn rule(&self, end: &End, loss: Loss) -> Result<(), LabError> {
        let request = Request::Loss { device: device_name(&end.interface), loss };
        let what = format!("setting the loss at {}", end.interface);
        self.ask_at(end, &request, &what).map(|_| ())
    }
}
