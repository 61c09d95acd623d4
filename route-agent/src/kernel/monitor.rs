//! Listening: what others, and the kernel itself, change.
//!
//! One socket for links, addresses, routes and nexthops. Notifications our own writer causes are
//! dropped in the kernel by a socket filter on the sender's port, so a full table costs no wake-up.
//! A full receive buffer shows as [`KernelEvent::Overrun`]: the answer to that is to read everything anew.

use std::io;
use std::os::fd::AsFd;

use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use socket2::{SockFilter, SockRef};

use super::dump::{
    RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, parse_address, parse_link, parse_nexthop, parse_route,
};
use super::encode::{NLM_F_REPLACE, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_NEWNEXTHOP, RTM_NEWROUTE};
use super::nexthop::RTNLGRP_NEXTHOP;
use super::socket::grow_receive_buffer;
use super::{Address, KernelError, KernelRoute, Link, NexthopObject};
use netlink::read::{Message, Messages};

const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
const GROUPS: [u32; 6] = [
    1,  // RTNLGRP_LINK
    5,  // RTNLGRP_IPV4_IFADDR
    7,  // RTNLGRP_IPV4_ROUTE
    9,  // RTNLGRP_IPV6_IFADDR
    11, // RTNLGRP_IPV6_ROUTE
    RTNLGRP_NEXTHOP,
];

/// Something changed. `port` is the netlink port of who asked for it, mostly a process id; 0: the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A link appeared or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(Link),
    /// An address appeared, changed (true) or is gone (false).
    Address(Address, bool),
    /// A route appeared; `replaced`: in the place of another with the same key.
    Route {
        /// The route as it is now.
        route: KernelRoute,
        /// Another route gave way.
        replaced: bool,
        /// Who did it.
        port: u32,
    },
    /// A route is gone.
    RouteGone {
        /// The route as it was.
        route: KernelRoute,
        /// Who did it.
        port: u32,
    },
    /// A nexthop object or group appeared or changed.
    Nexthop {
        /// As it is now.
        object: NexthopObject,
        /// Who did it.
        port: u32,
    },
    /// A nexthop object or group is gone.
    NexthopGone {
        /// Its id.
        id: u32,
        /// Who did it.
        port: u32,
    },
    /// Notifications were lost.
    Overrun,
}

/// The subscribed socket.
pub struct Monitor {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes in the calling thread's network namespace; needs a tokio runtime. Notifications that
    /// the socket with port `ours` causes are not delivered.
    ///
    /// # Errors
    /// [`KernelError::Socket`] when the system refuses.
    pub fn subscribe(ours: u32) -> Result<Self, KernelError> {
        let failed = |doing| move |source| KernelError::Socket { doing, source };
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed("opening"))?;
        grow_receive_buffer(socket.socket_ref().as_fd(), RECEIVE_BUFFER_BYTES);
        SockRef::from(socket.socket_ref())
            .attach_filter(&drop_from(ours))
            .map_err(failed("attaching the filter"))?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0)).map_err(failed("binding"))?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group).map_err(failed("subscribing"))?;
        }
        Ok(Self { socket, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Waits for the next notifications, at most one datagram's. Cancel-safe.
    ///
    /// # Errors
    /// [`KernelError::Socket`] when the socket is unusable.
    pub async fn next(&mut self) -> Result<Vec<KernelEvent>, KernelError> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(_) => return Ok(Messages(&self.buffer).filter_map(|message| event(&message)).collect()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(vec![KernelEvent::Overrun]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(KernelError::Socket { doing: "listening", source }),
            }
        }
    }
}

/// Classic BPF on the first message's header: drop when `nlmsg_pid` is `port`, else take all.
fn drop_from(port: u32) -> [SockFilter; 4] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const NLMSG_PID_OFFSET: u32 = 12;
    [
        SockFilter::new(LOAD_WORD, 0, 0, NLMSG_PID_OFFSET),
        // The filter loads in network order, netlink writes in the machine's.
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, port.to_be()),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

fn event(message: &Message<'_>) -> Option<KernelEvent> {
    let port = message.port;
    Some(match message.kind {
        RTM_NEWLINK => KernelEvent::Link(parse_link(message)?),
        RTM_DELLINK => KernelEvent::LinkGone(parse_link(message)?),
        RTM_NEWADDR => KernelEvent::Address(parse_address(message)?, true),
        RTM_DELADDR => KernelEvent::Address(parse_address(message)?, false),
        RTM_NEWROUTE => {
            let replaced = message.flags & NLM_F_REPLACE != 0;
            KernelEvent::Route { route: parse_route(message)?, replaced, port }
        }
        RTM_DELROUTE => KernelEvent::RouteGone { route: parse_route(message)?, port },
        RTM_NEWNEXTHOP => KernelEvent::Nexthop { object: parse_nexthop(message)?, port },
        RTM_DELNEXTHOP => KernelEvent::NexthopGone { id: parse_nexthop(message)?.id, port },
        _ => return None,
    })
}
