//! The intermediate device, and taking it and the pod's wire away at once.

use netlink::read::{attributes, text, u32_at};
use netlink::{Batch, Error, Message, Socket, flags};

use super::BandwidthError;
use crate::IfName;
use crate::pod::names;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const IFINFOMSG: usize = 16;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFB: &str = "ifb";

/// An intermediate device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ifb {
    /// Name.
    pub name: IfName,
    /// Its `ifalias`: the mark of the attachment it was made for.
    pub mark: String,
}

/// `struct ifinfomsg`; index 0: by name.
fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut octets = [0; IFINFOMSG];
    for (place, word) in octets.chunks_exact_mut(4).zip([0, index, flags, change]) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    octets
}

/// Asks for a link; `None`: there is no such link.
fn get<T>(
    socket: &mut Socket,
    name: &IfName,
    read: impl FnMut(&Message<'_>) -> Option<T>,
) -> Result<Option<T>, Error> {
    let found = socket.get(
        "asking for an interface",
        RTM_GETLINK,
        |body| {
            body.header(&ifinfomsg(0, 0, 0));
            body.text(IFLA_IFNAME, name.as_str());
        },
        read,
    );
    match found {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        found => found,
    }
}

/// An interface's index; `None`: there is no such interface.
pub(super) fn index(socket: &mut Socket, name: &IfName) -> Result<Option<u32>, Error> {
    get(socket, name, |message| u32_at(message.payload, 4))
}

/// Whether an interface is set up.
pub(super) fn is_up(socket: &mut Socket, name: &IfName) -> Result<bool, Error> {
    let flags = get(socket, name, |message| u32_at(message.payload, 8))?;
    Ok(flags.is_some_and(|flags| flags & IFF_UP != 0))
}

/// Makes the device, marked and not yet up, and returns its index. One that is there already stays. Made and marked
/// in one system call: a kill leaves nothing or what is known for ours.
pub(super) fn make_ifb(socket: &mut Socket, name: &IfName, mark: &str, mtu_bytes: u32) -> Result<u32, Error> {
    let mut batch = Batch::new();
    batch.request("making the ifb", RTM_NEWLINK, flags::CREATE, |body| {
        body.header(&ifinfomsg(0, 0, 0));
        body.text(IFLA_IFNAME, name.as_str());
        body.u32(IFLA_MTU, mtu_bytes);
        body.u32(IFLA_NUM_TX_QUEUES, 1);
        body.u32(IFLA_NUM_RX_QUEUES, 1);
        body.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, IFB));
    });
    batch.request("marking the ifb", RTM_SETLINK, 0, |body| {
        body.header(&ifinfomsg(0, 0, 0));
        body.text(IFLA_IFNAME, name.as_str());
        body.text(IFLA_IFALIAS, mark);
    });
    socket.exchange(batch)?;
    let absent =
        || netlink::Refused { doing: "finding the new ifb", errno: libc::ENODEV, text: String::new() };
    index(socket, name)?.ok_or_else(|| absent().into())
}

/// `ip link set IFINDEX up`
pub(super) fn up(batch: &mut Batch, ifindex: u32) {
    batch.request("setting the ifb up", RTM_SETLINK, 0, |body| {
        body.header(&ifinfomsg(ifindex, IFF_UP, IFF_UP))
    });
}

/// Deletes those of the interfaces that are there, together; false: there was none.
///
/// The kernel waits tens of milliseconds for each deletion it is asked for, however many interfaces it deletes. So
/// they are put into one group, which is then deleted. The group's number is made of the first name and lies above
/// 2^31, where nobody's own numbers are; should another pod's ever be the same, that pod is being deleted at this
/// moment too, for nothing is ever in such a group otherwise.
///
/// # Errors
/// [`BandwidthError::Foreign`] when one of them does not carry a mark of ours: then none is touched.
pub(super) fn delete(names: &[&IfName]) -> Result<bool, BandwidthError> {
    let mut socket = Socket::route()?;
    let mut present = Vec::new();
    for name in names {
        let Some((index, alias)) = get(&mut socket, name, |message| {
            let alias = attributes(message.payload, IFINFOMSG).find(|(kind, _)| *kind == IFLA_IFALIAS);
            Some((u32_at(message.payload, 4)?, alias.map(|(_, value)| text(value)).unwrap_or_default()))
        })?
        else {
            continue;
        };
        if names::marked(&alias).is_none() {
            return Err(BandwidthError::Foreign { name: (*name).clone(), alias });
        }
        present.push((index, *name));
    }
    let Some((_, first)) = present.first() else { return Ok(false) };
    let group = group(first);
    let mut batch = Batch::new();
    for (index, _) in &present {
        batch.request("grouping an interface to be deleted", RTM_SETLINK, 0, |body| {
            body.header(&ifinfomsg(*index, 0, 0));
            body.u32(IFLA_GROUP, group);
        });
    }
    batch.request("deleting a pod's interfaces", RTM_DELLINK, 0, |body| {
        body.header(&ifinfomsg(0, 0, 0));
        body.u32(IFLA_GROUP, group);
    });
    for outcome in socket.outcomes(batch)? {
        match outcome {
            // The pod's network namespace went and took the wire along.
            Err(refused) if refused.errno == libc::ENODEV => {}
            outcome => outcome.map_err(Error::from)?,
        }
    }
    Ok(true)
}

/// FNV-1a of the name, with the topmost bit set.
fn group(name: &IfName) -> u32 {
    let hash = name
        .as_str()
        .bytes()
        .fold(0x811c_9dc5u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    hash | 1 << 31
}

/// Every intermediate device with a mark of ours.
///
/// # Errors
/// What the kernel refuses.
pub fn links() -> Result<Vec<Ifb>, Error> {
    Socket::route()?.dump(
        "listing ifb interfaces",
        RTM_GETLINK,
        |body| {
            body.header(&ifinfomsg(0, 0, 0));
            body.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, IFB));
        },
        |all: &mut Vec<Ifb>, message| all.extend(read_ifb(message)),
    )
}

fn read_ifb(message: &Message<'_>) -> Option<Ifb> {
    let find = |wanted| {
        attributes(message.payload, IFINFOMSG).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    let kind = netlink::Attributes(find(IFLA_LINKINFO)?).find(|(kind, _)| *kind == IFLA_INFO_KIND)?;
    let name = IfName::parse(&text(find(IFLA_IFNAME)?)).ok()?;
    let mark = find(IFLA_IFALIAS).map(text).unwrap_or_default();
    let ours = text(kind.1) == IFB && names::marked(&mark).is_some();
    ours.then_some(Ifb { name, mark })
}
