//! The body of an UPDATE under every kind of session: what is taken is written and read back equal.

#![no_main]

use bgp_speaker::wire::{AfiSafi, Codec, HEADER_LEN, MAX_EXTENDED_MESSAGE, Message, decode, encode};
use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;

/// The first octet chooses the session.
fn codec(choice: u8) -> Codec {
    let families = match choice >> 4 & 3 {
        0 | 1 => vec![AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast],
        2 => vec![AfiSafi::Ipv4Unicast],
        _ => vec![AfiSafi::Ipv6Unicast],
    };
    Codec {
        four_octet_as: choice & 1 == 0,
        extended_message: choice & 2 != 0,
        extended_nexthop_v4: choice & 4 != 0,
        ebgp: choice & 8 != 0,
        families,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    if body.len() > MAX_EXTENDED_MESSAGE - HEADER_LEN {
        return;
    }
    let codec = codec(choice);
    let mut frame = BytesMut::new();
    frame.put_bytes(0xff, 16);
    frame.put_u16((HEADER_LEN + body.len()) as u16);
    frame.put_u8(2);
    frame.put_slice(body);
    let Ok(Message::Update(mut update)) = decode(&frame, &codec) else { return };
    update.faults.clear();
    let message = Message::Update(update);
    let mut out = BytesMut::new();
    if encode(&message, &codec, &mut out).is_ok() {
        assert_eq!(decode(&out, &codec), Ok(message));
    }
});
