//! Two socket calls that the standard library and rustix lack: receiving many datagrams in one
//! call, each with the time at which the kernel got it.

#![expect(unsafe_code, reason = "recvmmsg and SO_TIMESTAMPNS have no safe wrapper in our dependencies")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes kept of each datagram; the rest is cut off by the kernel.
pub(super) const KEPT: usize = 32;
const BATCH: usize = 32;
/// Room for the one control message asked for (a `timespec`), aligned by its element type.
const CONTROL_WORDS: usize = 8;

/// Asks the kernel to stamp what arrives with CLOCK_REALTIME in nanoseconds.
pub(super) fn stamp_arrivals(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`, which outlives the call; the descriptor is borrowed
    // and so open; the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes what is waiting at the socket, at most [`BATCH`] datagrams, without blocking.
///
/// `each` gets the first [`KEPT`] bytes at most and the arrival time (ns since 1970). Returns how many
/// there were; 0 when nothing waits.
pub(super) fn receive(socket: &impl AsFd, mut each: impl FnMut(&[u8], u64)) -> io::Result<usize> {
    let mut bytes = [[0u8; KEPT]; BATCH];
    let mut control = [[0u64; CONTROL_WORDS]; BATCH];
    // SAFETY: both are plain C structs for which all zeroes is a valid value.
    let mut parts: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for (((message, part), bytes), control) in
        messages.iter_mut().zip(&mut parts).zip(&mut bytes).zip(&mut control)
    {
        part.iov_base = bytes.as_mut_ptr().cast();
        part.iov_len = KEPT;
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = control.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>();
    }
    // SAFETY: every header points to one iovec and one control buffer of the given sizes, all of them
    // locals that outlive the call and are not touched by Rust during it.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_fd().as_raw_fd(),
            messages.as_mut_ptr(),
            BATCH as libc::c_uint,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    };
    if count < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        };
    }
    let count = count as usize;
    for (message, bytes) in messages.iter().zip(&bytes).take(count) {
        let length = (message.msg_len as usize).min(KEPT);
        each(&bytes[..length], arrival(&message.msg_hdr));
    }
    Ok(count)
}

/// The time in the control messages of one datagram; 0 when the kernel gave none.
fn arrival(header: &libc::msghdr) -> u64 {
    // SAFETY: the header is as recvmmsg left it: msg_control and msg_controllen describe a live
    // buffer of ours. CMSG_FIRSTHDR and CMSG_NXTHDR stay within it, and a message of type
    // SCM_TIMESTAMPNS carries a timespec, read unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                return (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    0
}
