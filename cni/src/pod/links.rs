//! All wires of this node, by their marks.

use std::collections::HashMap;

use netlink::{Body, Message, Socket};

use super::link::Link;
use super::routes::{self, Filter};
use super::rtnetlink::{
    AF_INET, AF_INET6, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_GETLINK, host_bits, which_link,
};
use super::{PodError, names};
use crate::{Addresses, Attachment};

/// The node's end of one wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Whose it says it is.
    pub attachment: Attachment,
    /// What the node's routes of our protocol number lead to by it. None: an ADD has not come that far.
    pub addresses: Addresses,
}

/// The node's end of every wire: the veths that carry our mark.
///
/// `protocol`: the number of routes to pods. The node's tables are walked as a whole; this is for recovery and for
/// cleaning up, not for an ADD.
///
/// # Errors
/// What the kernel refused.
pub fn links(protocol: u8) -> Result<Vec<PodLink>, PodError> {
    let mut node = Socket::route()?;
    let write = |body: &mut Body<'_>| {
        which_link(body, 0, None);
        body.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "veth"));
    };
    let each = |found: &mut Vec<PodLink>, message: &Message<'_>| found.extend(marked(message));
    let mut found = node.dump("listing links", RTM_GETLINK, write, each)?;
    let mut by_index: HashMap<u32, &mut PodLink> =
        found.iter_mut().map(|link| (link.ifindex, link)).collect();
    for family in [AF_INET, AF_INET6] {
        for route in routes::list(&mut node, family, Filter { protocol, ..Filter::default() })? {
            let by = route.interfaces.first().and_then(|index| by_index.get_mut(index));
            if let Some(link) = by.filter(|_| route.prefix_len == host_bits(route.destination)) {
                link.addresses.set(route.destination);
            }
        }
    }
    Ok(found)
}

fn marked(message: &Message<'_>) -> Option<PodLink> {
    let link = Link::parse(message)?;
    let attachment = names::marked(&link.alias)?;
    Some(PodLink { ifindex: link.index, name: link.name, attachment, addresses: Addresses::default() })
}
