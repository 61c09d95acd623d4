//! OPEN (RFC 4271 section 4.2, RFC 5492, RFC 6793, RFC 9072).

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

pub use super::capability::{Capability, GracefulRestartCapability};
use super::{AS_TRANS, EncodeError, ErrorCode, MessageError, capability, patch_u16};

/// BGP-4.
const VERSION: u8 = 4;
/// Optional parameter that holds capabilities (RFC 5492).
const PARAMETER_CAPABILITIES: u8 = 2;
/// First parameter type of the extended format (RFC 9072 section 2).
const PARAMETER_EXTENDED: u8 = 255;

/// OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The real AS number: from the 4-octet AS capability when present, else My Autonomous System.
    pub asn: u32,
    /// Hold Time offered, seconds, as received: 1 and 2 are refused by the session.
    pub hold_time: u16,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities in order, unknown ones kept.
    pub capabilities: Vec<Capability>,
}

/// OPEN Message Error.
pub(super) fn error(subcode: u8, data: &[u8]) -> MessageError {
    MessageError::new(ErrorCode::Open, subcode, data)
}

/// Malformed: RFC 4271 section 6.2, subcode Unspecific.
pub(super) fn malformed() -> MessageError {
    error(0, &[])
}

/// Reads the body of an OPEN.
///
/// # Errors
/// 2/1 with the version we speak, 2/2 for AS 0 (RFC 7607), 2/3 for BGP Identifier 0 (RFC 6286), 2/4 for an
/// optional parameter other than capabilities, 2/0 when lengths do not fit.
pub(super) fn decode(body: &[u8]) -> Result<Open, MessageError> {
    let Some((&[version, as_high, as_low, hold_high, hold_low, a, b, c, d], rest)) =
        body.split_first_chunk::<9>()
    else {
        return Err(malformed());
    };
    if version != VERSION {
        return Err(error(1, &u16::from(VERSION).to_be_bytes()));
    }
    let capabilities = parameters(rest)?;
    let my_as = u16::from_be_bytes([as_high, as_low]);
    // The first one counts, as with every repeated capability.
    let four_octet = capabilities.iter().find_map(|capability| match capability {
        Capability::FourOctetAs(asn) => Some(*asn),
        _ => None,
    });
    let asn = four_octet.unwrap_or(u32::from(my_as));
    if asn == 0 || my_as == 0 {
        return Err(error(2, &[]));
    }
    let router_id = Ipv4Addr::new(a, b, c, d);
    if router_id.is_unspecified() {
        return Err(error(3, &[]));
    }
    Ok(Open { asn, hold_time: u16::from_be_bytes([hold_high, hold_low]), router_id, capabilities })
}

/// Optional Parameters, from the length octet on, in either format.
fn parameters(octets: &[u8]) -> Result<Vec<Capability>, MessageError> {
    let (extended, mut rest) = match octets {
        // RFC 9072 section 2: the one-octet length only has to be non-zero.
        [1..=255, PARAMETER_EXTENDED, high, low, rest @ ..] => {
            if usize::from(u16::from_be_bytes([*high, *low])) != rest.len() {
                return Err(malformed());
            }
            (true, rest)
        }
        [length, rest @ ..] if usize::from(*length) == rest.len() => (false, rest),
        _ => return Err(malformed()),
    };
    let mut capabilities = Vec::new();
    while !rest.is_empty() {
        let (kind, length, tail) = match rest {
            [kind, high, low, tail @ ..] if extended => {
                (*kind, u16::from_be_bytes([*high, *low]).into(), tail)
            }
            [kind, length, tail @ ..] if !extended => (*kind, usize::from(*length), tail),
            _ => return Err(malformed()),
        };
        let Some((value, tail)) = tail.split_at_checked(length) else {
            return Err(malformed());
        };
        if kind != PARAMETER_CAPABILITIES {
            return Err(error(4, &[]));
        }
        capability::decode_all(value, &mut capabilities)?;
        rest = tail;
    }
    Ok(capabilities)
}

impl Open {
    /// Writes the body: all capabilities in one parameter, in the extended format when they need it.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let has_capability = self.capabilities.contains(&Capability::FourOctetAs(self.asn));
        let my_as = match u16::try_from(self.asn) {
            Ok(short) => short,
            Err(_) if has_capability => AS_TRANS,
            Err(_) => return Err(EncodeError::AsnNeedsCapability { asn: self.asn }),
        };
        out.put_u8(VERSION);
        out.put_u16(my_as);
        out.put_u16(self.hold_time);
        out.put_slice(&self.router_id.octets());
        let mut value = BytesMut::new();
        for capability in &self.capabilities {
            capability.encode(&mut value)?;
        }
        match u8::try_from(value.len()) {
            Ok(0) => out.put_u8(0),
            Ok(length @ ..=253) => out.put_slice(&[length + 2, PARAMETER_CAPABILITIES, length]),
            // RFC 9072: one length of two octets for all parameters, one for this one. A length that
            // does not fit two octets makes a message that is refused by its own length.
            _ => {
                out.put_slice(&[255, PARAMETER_EXTENDED, 0, 0, PARAMETER_CAPABILITIES, 0, 0]);
                let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
                let end = out.len();
                patch_u16(out, end - 5, length.saturating_add(3));
                patch_u16(out, end - 2, length);
            }
        }
        out.put_slice(&value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn opens_are_refused_with_the_subcode_of_their_rfc() {
        type Refusal<'a> = (u8, &'a [u8]);
        let cases: &[(&str, &[u8], Refusal<'_>)] = &[
            ("version 3", &hex!("03 fde9 005a 0a000001 00"), (1, &[0, 4])),
            ("AS 0", &hex!("04 0000 005a 0a000001 00"), (2, &[])),
            ("4-octet AS 0", &hex!("04 5ba0 005a 0a000001 08 0206 4104 00000000"), (2, &[])),
            ("identifier 0.0.0.0", &hex!("04 fde9 005a 00000000 00"), (3, &[])),
            ("authentication parameter", &hex!("04 fde9 005a 0a000001 03 0101 00"), (4, &[])),
            ("parameters longer than said", &hex!("04 fde9 005a 0a000001 00 00"), (0, &[])),
            ("parameters shorter than said", &hex!("04 fde9 005a 0a000001 04 0200"), (0, &[])),
            ("half a parameter header", &hex!("04 fde9 005a 0a000001 01 02"), (0, &[])),
            ("parameter past the end", &hex!("04 fde9 005a 0a000001 03 0202 46"), (0, &[])),
            ("capability past the end", &hex!("04 fde9 005a 0a000001 04 0202 4601"), (0, &[])),
            ("multiprotocol of 3 octets", &hex!("04 fde9 005a 0a000001 07 0205 0103 000100"), (0, &[])),
            ("4-octet AS of 2 octets", &hex!("04 fde9 005a 0a000001 06 0204 4102 fde9"), (0, &[])),
            (
                "graceful restart of 5 octets",
                &hex!("04 fde9 005a 0a000001 09 0207 4005 0078 000101"),
                (0, &[]),
            ),
            (
                "extended next hop of 5 octets",
                &hex!("04 fde9 005a 0a000001 09 0207 0505 0001000100"),
                (0, &[]),
            ),
            ("extended length too short", &hex!("04 fde9 005a 0a000001 ff ff 0001 02 0000"), (0, &[])),
            ("extended, half a header", &hex!("04 fde9 005a 0a000001 ff ff 0002 02 00"), (0, &[])),
        ];
        for (name, body, (subcode, data)) in cases {
            assert_eq!(decode(body), Err(error(*subcode, data)), "{name}");
        }
    }

    #[test]
    fn both_parameter_formats_read_alike() {
        let plain = decode(&hex!("04 5ba0 005a 0a000001 10 0202 0200 0206 4104 00010000 0202 4600")).unwrap();
        let extended =
            decode(&hex!("04 5ba0 005a 0a000001 01 ff 0013 02 0002 0200 02 0006 4104 00010000 02 0002 4600"));
        assert_eq!(extended.unwrap(), plain);
        assert_eq!(plain.asn, 65536);
        assert_eq!(plain.capabilities.len(), 3);
    }

    #[test]
    fn a_repeated_capability_is_no_error_and_the_first_counts() {
        let open = decode(&hex!("04 fde9 005a 0a000001 10 020e 4104 00010000 4104 00020000 0200")).unwrap();
        assert_eq!((open.asn, open.capabilities.len()), (65536, 3));
    }

    #[test]
    fn a_large_as_without_its_capability_is_not_sent() {
        let open =
            Open { asn: 70000, hold_time: 90, router_id: Ipv4Addr::LOCALHOST, capabilities: Vec::new() };
        let error = open.encode(&mut BytesMut::new()).unwrap_err();
        assert_eq!(error, EncodeError::AsnNeedsCapability { asn: 70000 });
    }
}
