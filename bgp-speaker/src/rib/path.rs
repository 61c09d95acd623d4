//! One path of a prefix in eight bytes, and why a received one is not used.

use std::fmt;

use super::intern::AttrId;

/// Stands for "this node" where a path names its peer.
pub(crate) const LOCAL: u16 = 0xfffd;
/// Stands for "more than one peer" in the memory of an update group.
pub(crate) const SEVERAL: u16 = 0xfffe;
/// Stands for "nobody".
pub(crate) const NOBODY: u16 = 0xffff;

/// A path: whose it is, its interned attributes, and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) attributes: AttrId,
    /// A peer's number, or [`LOCAL`], or [`NOBODY`] for a vacant place.
    pub(crate) peer: u16,
    flags: u16,
}

const VERDICT: u16 = 0x0f;
const STALE: u16 = 0x10;
const UNREFRESHED: u16 = 0x20;

impl Path {
    pub(crate) const NONE: Self = Self { attributes: AttrId(u32::MAX), peer: NOBODY, flags: 0 };

    pub(crate) fn new(attributes: AttrId, peer: u16, verdict: Verdict) -> Self {
        Self { attributes, peer, flags: verdict as u16 }
    }
    pub(crate) fn verdict(self) -> Verdict {
        match self.flags & VERDICT {
            0 => Verdict::Accepted,
            1 => Verdict::OwnAs,
            2 => Verdict::FirstAs,
            3 => Verdict::OwnNexthop,
            4 => Verdict::Martian,
            5 => Verdict::OwnPrefix,
            _ => Verdict::Filtered,
        }
    }
    pub(crate) fn with_verdict(self, verdict: Verdict) -> Self {
        Self { flags: self.flags & !VERDICT | verdict as u16, ..self }
    }
    /// Kept through a restart of its peer (RFC 4724 section 4.2).
    pub(crate) fn stale(self) -> bool {
        self.flags & STALE != 0
    }
    pub(crate) fn with_stale(self) -> Self {
        Self { flags: self.flags | STALE, ..self }
    }
    /// Not announced again since the peer's Beginning of Route Refresh (RFC 7313 section 4).
    pub(crate) fn unrefreshed(self) -> bool {
        self.flags & UNREFRESHED != 0
    }
    pub(crate) fn with_unrefreshed(self) -> Self {
        Self { flags: self.flags | UNREFRESHED, ..self }
    }
}

/// What import made of a received path. A rejected path is kept, shown and counted, and never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Takes part in the decision.
    Accepted = 0,
    /// Our own AS stands in the AS_PATH more often than `allowLocalAS` (RFC 4271 section 9.1.2).
    OwnAs = 1,
    /// The first AS is not the neighbour's (RFC 4271 section 6.3).
    FirstAs = 2,
    /// The next hop is an address of ours.
    OwnNexthop = 3,
    /// A prefix that is never routed: loopback, link-local, multicast, reserved.
    Martian = 4,
    /// This node originates the prefix or one that holds it.
    OwnPrefix = 5,
    /// Neither the default route nor in a pod range, and this node is no router (RFC 8212).
    Filtered = 6,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::OwnAs => "our AS is in the AS_PATH",
            Self::FirstAs => "the first AS is not the neighbour's",
            Self::OwnNexthop => "the next hop is this node",
            Self::Martian => "never a routed prefix",
            Self::OwnPrefix => "originated by this node",
            Self::Filtered => "outside the pod ranges",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_verdict_do_not_disturb_each_other() {
        let all = [
            Verdict::Accepted,
            Verdict::OwnAs,
            Verdict::FirstAs,
            Verdict::OwnNexthop,
            Verdict::Martian,
            Verdict::OwnPrefix,
            Verdict::Filtered,
        ];
        assert_eq!(size_of::<Path>(), 8);
        for verdict in all {
            let path = Path::new(AttrId(7), 3, Verdict::Accepted).with_stale().with_verdict(verdict);
            assert_eq!((path.verdict(), path.stale(), path.unrefreshed()), (verdict, true, false));
            assert!(path.with_unrefreshed().unrefreshed());
        }
    }
}
