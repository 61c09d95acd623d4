//! ROUTE-REFRESH (RFC 2918, RFC 7313).

use bytes::{BufMut, BytesMut};

use super::{AfiSafi, ErrorCode, MessageError, nlri};

/// ROUTE-REFRESH. Families we do not know are kept as numbers so that they can be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// AFI as received.
    pub afi: u16,
    /// SAFI as received.
    pub safi: u8,
    /// What it asks or says.
    pub kind: RefreshKind,
}

/// Message subtype (RFC 7313 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: please send everything again.
    Request,
    /// 1: Beginning of Route Refresh.
    Begin,
    /// 2: End of Route Refresh.
    End,
    /// Anything else is ignored.
    Unknown(u8),
}

impl RouteRefresh {
    /// A message for a family of ours.
    pub fn new(family: AfiSafi, kind: RefreshKind) -> Self {
        let (afi, safi) = nlri::numbers(family);
        Self { afi, safi, kind }
    }

    /// The family, when it is one we know.
    pub fn family(&self) -> Option<AfiSafi> {
        nlri::family(self.afi, self.safi)
    }

    /// `frame` is the whole message: the data of ROUTE-REFRESH Message Error 7/1 (RFC 7313 section 5).
    pub(super) fn decode(frame: &[u8], body: &[u8]) -> Result<Self, MessageError> {
        let &[high, low, subtype, safi] = body else {
            return Err(MessageError::new(ErrorCode::RouteRefresh, 1, frame));
        };
        let kind = match subtype {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            other => RefreshKind::Unknown(other),
        };
        Ok(Self { afi: u16::from_be_bytes([high, low]), safi, kind })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.afi);
        out.put_u8(match self.kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
            RefreshKind::Unknown(other) => other,
        });
        out.put_u8(self.safi);
    }
}
