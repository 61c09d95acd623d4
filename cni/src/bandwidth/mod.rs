//! How fast a pod may receive and send: token buckets of the kernel.
//!
//! ```text
//!  towards the pod:  node ──> tbf on the host interface ──> pod
//!  from the pod:     pod ──> host interface ──> clsact, u32, mirred ──> tbf on an ifb ──> node
//! ```
//!
//! A queueing discipline holds back only what leaves an interface, so what comes from the pod is sent through an
//! intermediate device (`ifb`) of the pod's own. In: names and a [`Bandwidth`]. Out: rtnetlink requests in the calling
//! thread's network namespace. [`tbf`] computes the bucket as the reference bandwidth plugin does.
//!
//! Source: `linux/pkt_sched.h`, `linux/pkt_cls.h`, tc-tbf(8).

mod link;
mod tbf;
mod traffic;

use netlink::{Batch, Error, Socket};

use crate::IfName;
use crate::spec::runtime::Bandwidth;

pub use link::{Ifb, links};
use tbf::Tbf;

/// Why a pod's traffic is not limited as asked.
#[derive(Debug, thiserror::Error)]
pub enum BandwidthError {
    /// The kernel said no.
    #[error("{0}")]
    Netlink(#[from] Error),
    /// A kernel without one of the parts.
    #[error(
        "{0}; the kernel needs ifb, tbf, clsact, u32 and mirred (CONFIG_IFB, NET_SCH_TBF, NET_SCH_INGRESS, NET_CLS_U32, NET_ACT_MIRRED)"
    )]
    Unsupported(Error),
    /// The host interface is gone.
    #[error("limiting the pod's bandwidth: there is no interface {0}; the pod's wire must be made first")]
    NoInterface(IfName),
    /// An interface with one of our names, but not of our making.
    #[error("interface {name} is not ours (its alias is {alias:?}): rename or remove it")]
    Foreign {
        /// Name.
        name: IfName,
        /// What it carries instead of our mark.
        alias: String,
    },
}

/// Limits what goes through `host_ifname`. Repeating it changes nothing; another limit replaces the earlier one.
/// `ifb_name` is made when what the pod sends is limited, and carries `mark`, by which [`links`] finds it.
///
/// # Errors
/// [`BandwidthError`]; what is half made then goes with [`unshape`] and with the host interface.
pub fn shape(
    host_ifname: &IfName,
    ifb_name: &IfName,
    mark: &str,
    mtu_bytes: u32,
    bandwidth: &Bandwidth,
) -> Result<(), BandwidthError> {
    let mut socket = Socket::route()?;
    let host = link::index(&mut socket, host_ifname)?
        .ok_or_else(|| BandwidthError::NoInterface(host_ifname.clone()))?;
    let mut batch = Batch::new();
    if let Some(rate) = &bandwidth.ingress {
        traffic::add_tbf(&mut batch, host, &Tbf::new(rate, mtu_bytes));
    }
    if let Some(rate) = &bandwidth.egress {
        let ifb = link::make_ifb(&mut socket, ifb_name, mark, mtu_bytes).map_err(unsupported)?;
        // Before the device is up nothing waits for packets on their way.
        traffic::add_tbf(&mut batch, ifb, &Tbf::new(rate, mtu_bytes));
        link::up(&mut batch, ifb);
        if !traffic::has_redirect(&mut socket, host, ifb)? {
            traffic::redirect(&mut batch, host, ifb);
        }
    }
    for outcome in socket.outcomes(batch)? {
        match outcome {
            Err(refused) if refused.errno == libc::EEXIST && refused.doing == traffic::MAKING_CLSACT => {}
            outcome => outcome.map_err(|refused| unsupported(refused.into()))?,
        }
    }
    Ok(())
}

/// Takes the intermediate device away; false: there was none. What is on the host interface goes with that.
///
/// # Errors
/// [`BandwidthError::Foreign`], [`BandwidthError::Netlink`].
pub fn unshape(ifb_name: &IfName) -> Result<bool, BandwidthError> {
    link::delete(&[ifb_name])
}

/// Takes the pod's wire and its intermediate device away together, in the time of one; false: neither was there.
///
/// # Errors
/// [`BandwidthError::Foreign`], and nothing is touched; [`BandwidthError::Netlink`].
pub fn remove(host_ifname: &IfName, ifb_name: &IfName) -> Result<bool, BandwidthError> {
    link::delete(&[host_ifname, ifb_name])
}

/// What is not as [`shape`] has left it, in words; empty: all is well.
///
/// # Errors
/// [`BandwidthError::Netlink`].
pub fn check(
    host_ifname: &IfName,
    ifb_name: &IfName,
    mtu_bytes: u32,
    bandwidth: &Bandwidth,
) -> Result<Vec<String>, BandwidthError> {
    let mut differences = Vec::new();
    let mut socket = Socket::route()?;
    let Some(host) = link::index(&mut socket, host_ifname)? else {
        return Ok(vec![format!("there is no interface {host_ifname} to limit")]);
    };
    if let Some(rate) = &bandwidth.ingress {
        let found = traffic::tbf(&mut socket, host)?;
        differences.extend(Tbf::new(rate, mtu_bytes).difference(found.as_ref(), host_ifname));
    }
    if let Some(rate) = &bandwidth.egress {
        let Some(ifb) = link::index(&mut socket, ifb_name)? else {
            differences.push(format!("there is no interface {ifb_name} to limit what the pod sends"));
            return Ok(differences);
        };
        let found = traffic::tbf(&mut socket, ifb)?;
        differences.extend(Tbf::new(rate, mtu_bytes).difference(found.as_ref(), ifb_name));
        if !traffic::has_redirect(&mut socket, host, ifb)? {
            differences.push(format!("what arrives on {host_ifname} is not redirected to {ifb_name}"));
        }
        if !link::is_up(&mut socket, ifb_name)? {
            differences.push(format!("{ifb_name} is down"));
        }
    }
    Ok(differences)
}

/// The kernel's answers where a kind of link, queueing discipline, filter or action is unknown.
fn unsupported(error: Error) -> BandwidthError {
    match error.errno() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => BandwidthError::Unsupported(error),
        _ => error.into(),
    }
}
