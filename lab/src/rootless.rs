//! A user without root becomes the root of a user namespace, in which no other user exists.
//!
//! The runner does so for each lab. Whoever must enter the nodes' namespaces, such as `towpath lab test`,
//! does so for itself first ([`enter`]); the lab's own user namespace is then below that one, which
//! gives it all rights there.

use std::sync::OnceLock;

use anyhow::Context;
use rustix::process::Uid;
use rustix::thread::UnshareFlags;

use crate::start::helper;

/// Who called this program, where it has become another user since.
static CALLER: OnceLock<Uid> = OnceLock::new();

/// The user whose labs these are.
pub(crate) fn caller() -> Uid {
    CALLER.get().copied().unwrap_or_else(rustix::process::geteuid)
}

/// Becomes root of its own users, unless the caller is root anyway. Before any thread exists.
///
/// # Errors
/// When the machine forbids user namespaces.
pub(crate) fn enter() -> anyhow::Result<()> {
    let caller = caller();
    if caller.is_root() || CALLER.get().is_some() {
        return Ok(());
    }
    become_root_of_own_users(UnshareFlags::empty())?;
    CALLER.get_or_init(|| caller);
    Ok(())
}

/// Only this user exists in the new user namespace, as its root; `spaces` are made with it.
pub(crate) fn become_root_of_own_users(spaces: UnshareFlags) -> anyhow::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    helper::unshare(UnshareFlags::NEWUSER | spaces)
        .context("making namespaces: this machine forbids user namespaces; run as root")?;
    std::fs::write("/proc/self/setgroups", "deny").context("writing /proc/self/setgroups")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("writing /proc/self/uid_map")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("writing /proc/self/gid_map")
}
