//! Requests about one device of the network namespace they are answered in: a node's process 1
//! answers for the node's, the holder for those of the host namespace.

use std::io;

use crate::kernel::netlink::{Netlink, ifindex};
use crate::kernel::{netem, nft};
use crate::node::control::{Request, Response};

/// Does what is asked; a request that is about no device is refused.
pub(crate) fn answer(request: Request) -> Response {
    let outcome = match request {
        Request::Link { device, up } => set_link(&device, up).map(|()| Response::default()),
        Request::Loss { device, loss } => nft::set_loss(&device, loss).map(|()| Response::default()),
        Request::LossOf { device } => nft::loss(&device).map(|loss| Response { loss, ..Response::default() }),
        Request::Netem { device, impairment } => netem::set(&device, &impairment)
            .map(|outcome| Response { netem: Some(outcome), ..Response::default() }),
        Request::NetemReset { device } => netem::reset(&device).map(|()| Response::default()),
        Request::NetemOf { device } => {
            netem::show(&device).map(|impairment| Response { impairment, ..Response::default() })
        }
        other => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the host namespace runs nothing, so it cannot do {other:?}; use a node of `kind: host`"),
        )),
    };
    outcome.unwrap_or_else(|error| Response::of(Err(error)))
}

fn set_link(device: &str, up: bool) -> io::Result<()> {
    Netlink::route()?.set_up(ifindex(device)?, up)
}
