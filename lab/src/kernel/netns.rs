//! Work inside another network namespace.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread of its own inside `netns`: sockets it opens belong there and can be used
/// anywhere afterwards.
///
/// # Errors
/// When the namespace cannot be entered, or `work` panics.
pub(crate) fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> io::Result<T> {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the work panicked")))
    })
}
