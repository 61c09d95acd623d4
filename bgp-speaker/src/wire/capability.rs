//! Capabilities of an OPEN, as type, length, value (RFC 5492 section 4).

use bytes::{BufMut, BytesMut};

use super::open::malformed;
use super::{EncodeError, MessageError};

/// One capability. `afi`/`safi` are raw numbers: peers offer families we do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// 1 (RFC 4760)
    MultiProtocol {
        /// AFI
        afi: u16,
        /// SAFI
        safi: u8,
    },
    /// 2 (RFC 2918)
    RouteRefresh,
    /// 5 (RFC 8950): (NLRI AFI, NLRI SAFI, next hop AFI)
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// 6 (RFC 8654)
    ExtendedMessage,
    /// 64 (RFC 4724)
    GracefulRestart(GracefulRestartCapability),
    /// 65 (RFC 6793)
    FourOctetAs(u32),
    /// 70 (RFC 7313)
    EnhancedRouteRefresh,
    /// 73 (draft-walton-bgp-hostname-capability): host name, domain
    Fqdn {
        /// Host name.
        host: String,
        /// Domain, may be empty.
        domain: String,
    },
    /// Any other, kept for display.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

/// Capability 64 (RFC 4724 section 3, RFC 8538 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GracefulRestartCapability {
    /// R bit: the sender has restarted.
    pub restarting: bool,
    /// N bit (RFC 8538).
    pub notification: bool,
    /// Restart Time, seconds, 12 bits.
    pub restart_time: u16,
    /// (AFI, SAFI, F bit: forwarding state was preserved)
    pub families: Vec<(u16, u8, bool)>,
}

/// R bit of the first two octets.
const RESTARTING: u16 = 0x8000;
/// N bit of the first two octets.
const NOTIFICATION: u16 = 0x4000;
/// The Restart Time in the first two octets.
const RESTART_TIME: u16 = 0x0fff;
/// F bit of a family's flags.
const FORWARDING: u8 = 0x80;

/// Reads the capabilities of one optional parameter.
///
/// # Errors
/// 2/0 when a length does not fit: what follows could not be told apart.
pub(super) fn decode_all(mut octets: &[u8], into: &mut Vec<Capability>) -> Result<(), MessageError> {
    while !octets.is_empty() {
        let &[code, length, ref rest @ ..] = octets else {
            return Err(malformed());
        };
        let Some((value, rest)) = rest.split_at_checked(length.into()) else {
            return Err(malformed());
        };
        into.push(decode(code, value).ok_or_else(malformed)?);
        octets = rest;
    }
    Ok(())
}

/// `None`: the value does not have the form its RFC gives it.
fn decode(code: u8, value: &[u8]) -> Option<Capability> {
    Some(match (code, value) {
        (1, &[high, low, _, safi]) => {
            Capability::MultiProtocol { afi: u16::from_be_bytes([high, low]), safi }
        }
        (2, []) => Capability::RouteRefresh,
        (5, _) => {
            let (entries, []) = value.as_chunks::<6>() else { return None };
            let entry = |&[a, b, c, d, e, f]: &[u8; 6]| {
                (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), u16::from_be_bytes([e, f]))
            };
            Capability::ExtendedNextHop(entries.iter().map(entry).collect())
        }
        (6, []) => Capability::ExtendedMessage,
        (64, &[high, low, ref families @ ..]) => {
            let (families, []) = families.as_chunks::<4>() else { return None };
            let head = u16::from_be_bytes([high, low]);
            let family =
                |&[a, b, safi, flags]: &[u8; 4]| (u16::from_be_bytes([a, b]), safi, flags & FORWARDING != 0);
            Capability::GracefulRestart(GracefulRestartCapability {
                restarting: head & RESTARTING != 0,
                notification: head & NOTIFICATION != 0,
                restart_time: head & RESTART_TIME,
                families: families.iter().map(family).collect(),
            })
        }
        (65, &[a, b, c, d]) => Capability::FourOctetAs(u32::from_be_bytes([a, b, c, d])),
        (70, []) => Capability::EnhancedRouteRefresh,
        // Only a name for people: a peer that writes it differently is not turned away.
        (73, _) => fqdn(value).unwrap_or_else(|| Capability::Unknown { code, value: value.to_vec() }),
        // The value of these has one form only, and it was not it.
        (1 | 64 | 65, _) => return None,
        // RFC 2918, 8654 and 7313 give no value; one that comes all the same changes nothing for us.
        _ => Capability::Unknown { code, value: value.to_vec() },
    })
}

fn fqdn(value: &[u8]) -> Option<Capability> {
    let (&length, rest) = value.split_first()?;
    let (host, rest) = rest.split_at_checked(length.into())?;
    let (&length, rest) = rest.split_first()?;
    let (domain, []) = rest.split_at_checked(length.into())? else { return None };
    let text = |octets: &[u8]| std::str::from_utf8(octets).ok().map(str::to_owned);
    Some(Capability::Fqdn { host: text(host)?, domain: text(domain)? })
}

impl Capability {
    /// Code in the IANA registry.
    pub fn code(&self) -> u8 {
        match self {
            Self::MultiProtocol { .. } => 1,
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(_) => 5,
            Self::ExtendedMessage => 6,
            Self::GracefulRestart(_) => 64,
            Self::FourOctetAs(_) => 65,
            Self::EnhancedRouteRefresh => 70,
            Self::Fqdn { .. } => 73,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Appends code, length and value.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let mut value = BytesMut::new();
        match self {
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::MultiProtocol { afi, safi } => {
                value.put_u16(*afi);
                value.put_u8(0);
                value.put_u8(*safi);
            }
            Self::ExtendedNextHop(entries) => {
                for (afi, safi, nexthop_afi) in entries {
                    value.put_u16(*afi);
                    value.put_u16(*safi);
                    value.put_u16(*nexthop_afi);
                }
            }
            Self::GracefulRestart(restart) => restart.encode(&mut value)?,
            Self::FourOctetAs(asn) => value.put_u32(*asn),
            Self::Fqdn { host, domain } => {
                for name in [host, domain] {
                    value.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
                    value.put_slice(name.as_bytes());
                }
            }
            Self::Unknown { value: octets, .. } => value.put_slice(octets),
        }
        // A name of more than 255 octets, whose own length field was capped, is refused here with the rest.
        let code = self.code();
        let length = u8::try_from(value.len())
            .map_err(|_| EncodeError::CapabilityTooLong { code, length: value.len() })?;
        out.put_u8(code);
        out.put_u8(length);
        out.put_slice(&value);
        Ok(())
    }
}

impl GracefulRestartCapability {
    fn encode(&self, value: &mut BytesMut) -> Result<(), EncodeError> {
        if self.restart_time > RESTART_TIME {
            return Err(EncodeError::RestartTime { seconds: self.restart_time });
        }
        let restarting = if self.restarting { RESTARTING } else { 0 };
        let notification = if self.notification { NOTIFICATION } else { 0 };
        value.put_u16(restarting | notification | self.restart_time);
        for (afi, safi, forwarding) in &self.families {
            value.put_u16(*afi);
            value.put_u8(*safi);
            value.put_u8(if *forwarding { FORWARDING } else { 0 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn an_fqdn_with_a_domain_is_read() {
        let value = hex!("03 746f72 07 6578616d706c65");
        let expected = Capability::Fqdn { host: "tor".into(), domain: "example".into() };
        assert_eq!(decode(73, &value), Some(expected));
    }

    #[test]
    fn an_odd_fqdn_or_flag_capability_is_kept_as_unknown() {
        for (code, value) in
            [(73, &hex!("03 746f") as &[u8]), (73, &[]), (2, &[1]), (6, &[0]), (200, &[1, 2])]
        {
            assert_eq!(decode(code, value), Some(Capability::Unknown { code, value: value.to_vec() }));
        }
    }

    #[test]
    fn graceful_restart_keeps_each_bit() {
        let Some(Capability::GracefulRestart(restart)) = decode(64, &hex!("c078 0001 01 80 0002 01 00"))
        else {
            panic!("not read as graceful restart");
        };
        assert!(restart.restarting && restart.notification);
        assert_eq!(restart.restart_time, 120);
        assert_eq!(restart.families, [(1, 1, true), (2, 1, false)]);
    }

    #[test]
    fn what_does_not_fit_its_length_field_is_refused() {
        let long = Capability::Fqdn { host: "h".repeat(300), domain: String::new() };
        let error = long.encode(&mut BytesMut::new()).unwrap_err();
        assert_eq!(error, EncodeError::CapabilityTooLong { code: 73, length: 302 });
        let restart = GracefulRestartCapability {
            restarting: false,
            notification: false,
            restart_time: 4096,
            families: Vec::new(),
        };
        let error = Capability::GracefulRestart(restart).encode(&mut BytesMut::new()).unwrap_err();
        assert_eq!(error, EncodeError::RestartTime { seconds: 4096 });
    }
}
