//! Cutting the TCP stream into messages (RFC 4271 sections 4.1 and 6.1, RFC 8654).
//!
//! In: octets as they arrive. Out: one whole message at a time, header included, without a copy.

use bytes::{Bytes, BytesMut};

use super::{Codec, ErrorCode, HEADER_LEN, MAX_MESSAGE, MessageError};

/// Message type (RFC 4271 section 4.1, RFC 2918).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Update,
    Notification,
    Keepalive,
    RouteRefresh,
}

impl Kind {
    fn read(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    /// Shortest and longest message of the type. A ROUTE-REFRESH of a wrong length has an error code of
    /// its own (RFC 7313 section 5), so it passes here.
    fn limits(self, codec: &Codec) -> (usize, usize) {
        match self {
            Self::Open => (29, MAX_MESSAGE),
            Self::Update => (23, codec.max_message()),
            Self::Notification => (21, codec.max_message()),
            Self::Keepalive => (HEADER_LEN, HEADER_LEN),
            Self::RouteRefresh => (HEADER_LEN, codec.max_message()),
        }
    }
}

/// The fixed header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Octets of the whole message.
    pub(super) length: usize,
}

impl Header {
    /// `None` while fewer than 19 octets are there.
    pub(super) fn read(buffer: &[u8], codec: &Codec) -> Result<Option<Self>, MessageError> {
        let Some(&[ref marker @ .., high, low, code]) = buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        if marker.iter().any(|&octet| octet != 0xff) {
            return Err(MessageError::new(ErrorCode::MessageHeader, 1, &[]));
        }
        let field = u16::from_be_bytes([high, low]);
        let length = usize::from(field);
        // RFC 4271 section 6.1 names the length before the type: a wild length is not a question of type.
        if length < HEADER_LEN || length > codec.max_message() {
            return Err(bad_length(field));
        }
        let Some(kind) = Kind::read(code) else {
            return Err(MessageError::new(ErrorCode::MessageHeader, 3, &[code]));
        };
        let (shortest, longest) = kind.limits(codec);
        if length < shortest || length > longest {
            return Err(bad_length(field));
        }
        Ok(Some(Self { kind, length }))
    }
}

/// Bad Message Length, with the length as data.
pub(super) fn bad_length(field: u16) -> MessageError {
    MessageError::new(ErrorCode::MessageHeader, 2, &field.to_be_bytes())
}

/// Takes the next whole message off the front of `buffer`, sharing its memory; `None`: more octets are needed.
///
/// # Errors
/// Message Header Error 1/1, 1/2 (data: the length) or 1/3 (data: the type), as soon as the header shows
/// it; the stream cannot be read any further.
pub fn next(buffer: &mut BytesMut, codec: &Codec) -> Result<Option<Bytes>, MessageError> {
    match Header::read(buffer, codec)? {
        Some(header) if buffer.len() >= header.length => Ok(Some(buffer.split_to(header.length).freeze())),
        Some(header) => {
            // One growth to the size that is needed, instead of one for each read.
            buffer.reserve(header.length - buffer.len());
            Ok(None)
        }
        None => Ok(None),
    }
}

/// A receive buffer with the cutting: fill [`FrameReader::buffer`], then call [`FrameReader::next`] until `None`.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// A reader whose buffer starts with room for `capacity` octets.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity) }
    }

    /// Where received octets are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// See [`next`]. The codec may change between two calls (after the OPENs).
    ///
    /// # Errors
    /// As [`next`].
    pub fn next(&mut self, codec: &Codec) -> Result<Option<Bytes>, MessageError> {
        next(&mut self.buffer, codec)
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    fn header(length: u16, code: u8) -> Vec<u8> {
        let mut octets = vec![0xff; 16];
        octets.extend(length.to_be_bytes());
        octets.push(code);
        octets
    }

    #[test]
    fn headers_are_refused_as_rfc_4271_says() {
        let plain = Codec::before_open();
        let extended = Codec { extended_message: true, ..Codec::before_open() };
        type Refusal<'a> = Option<(u8, &'a [u8])>;
        let cases: &[(&str, &Codec, u16, u8, Refusal<'_>)] = &[
            ("KEEPALIVE", &plain, 19, 4, None),
            ("KEEPALIVE of 20", &plain, 20, 4, Some((2, &hex!("0014")))),
            ("length under 19", &plain, 18, 4, Some((2, &hex!("0012")))),
            ("length 0 of an unknown type", &plain, 0, 9, Some((2, &hex!("0000")))),
            ("UPDATE of 4096", &plain, 4096, 2, None),
            ("UPDATE of 4097", &plain, 4097, 2, Some((2, &hex!("1001")))),
            ("extended UPDATE of 65535", &extended, 65535, 2, None),
            ("extended OPEN of 4097", &extended, 4097, 1, Some((2, &hex!("1001")))),
            ("extended KEEPALIVE of 4097", &extended, 4097, 4, Some((2, &hex!("1001")))),
            ("OPEN of 28", &plain, 28, 1, Some((2, &hex!("001c")))),
            ("OPEN of 29", &plain, 29, 1, None),
            ("UPDATE of 22", &plain, 22, 2, Some((2, &hex!("0016")))),
            ("NOTIFICATION of 20", &plain, 20, 3, Some((2, &hex!("0014")))),
            ("NOTIFICATION of 21", &plain, 21, 3, None),
            ("ROUTE-REFRESH of 24 has its own error code", &plain, 24, 5, None),
            ("type 0", &plain, 19, 0, Some((3, &hex!("00")))),
            ("type 6", &plain, 19, 6, Some((3, &hex!("06")))),
            ("type 255", &plain, 19, 255, Some((3, &hex!("ff")))),
        ];
        for (name, codec, length, code, expected) in cases {
            let got = Header::read(&header(*length, *code), codec);
            let expected = expected.map(|(sub, data)| MessageError::new(ErrorCode::MessageHeader, sub, data));
            assert_eq!(got.err(), expected, "{name}");
        }
    }

    #[test]
    fn a_wrong_marker_is_not_synchronized() {
        for at in 0..16 {
            let mut octets = header(19, 4);
            octets[at] = 0xfe;
            let error = next(&mut BytesMut::from(&octets[..]), &Codec::before_open()).unwrap_err();
            assert_eq!((error.code, error.subcode), (ErrorCode::MessageHeader, 1), "octet {at}");
        }
    }

    #[test]
    fn messages_come_out_whole_whatever_the_reads() {
        let mut stream = header(19, 4);
        stream.extend(header(23, 2));
        stream.extend([0; 4]);
        stream.extend(header(19, 4));
        let codec = Codec::before_open();
        for step in 1..=stream.len() {
            let mut reader = FrameReader::with_capacity(1);
            let mut lengths = Vec::new();
            for chunk in stream.chunks(step) {
                reader.buffer().extend_from_slice(chunk);
                while let Some(frame) = reader.next(&codec).unwrap() {
                    lengths.push(frame.len());
                }
            }
            assert_eq!(lengths, [19, 23, 19], "reads of {step} octets");
            assert!(reader.buffer().is_empty());
        }
    }

    #[test]
    fn a_frame_shares_the_memory_it_arrived_in() {
        let mut buffer = BytesMut::from(&header(19, 4)[..]);
        let place = buffer.as_ptr();
        let frame = next(&mut buffer, &Codec::before_open()).unwrap().unwrap();
        assert_eq!(frame.as_ptr(), place);
    }
}
