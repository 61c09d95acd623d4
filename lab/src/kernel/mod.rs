//! What a lab asks the kernel for: links, addresses, impaired cables, stopped forwarding.

pub(crate) mod devices;
pub(crate) mod netem;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod nft;
