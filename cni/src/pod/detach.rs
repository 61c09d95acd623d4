//! Taking a wire away.

use netlink::Socket;

use super::link::Link;
use super::{PodError, names};
use crate::IfName;

/// Removes the host end, and with it the pod end, all addresses, routes and neighbours. False: there was none.
///
/// The kernel returns when nothing uses the link any more, which takes some 30 ms, mostly waiting.
///
/// # Errors
/// [`PodError::ForeignLink`] when the link of this name is not one of ours; what the kernel refused.
pub fn detach(host_ifname: &IfName) -> Result<bool, PodError> {
    let mut node = Socket::route()?;
    let Some(link) = Link::named(&mut node, host_ifname.as_str())? else {
        return Ok(false);
    };
    if names::marked(&link.alias).is_none() {
        return Err(PodError::ForeignLink { name: link.name, alias: link.alias });
    }
    Link::delete(&mut node, link.index)?;
    Ok(true)
}

/// Whether there is a link of this name, ours or not.
///
/// # Errors
/// What the kernel refused.
pub fn is_there(host_ifname: &IfName) -> Result<bool, PodError> {
    Ok(Link::named(&mut Socket::route()?, host_ifname.as_str())?.is_some())
}
