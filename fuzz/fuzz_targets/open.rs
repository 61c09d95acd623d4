//! The body of an OPEN: what is accepted is written and read back equal.

#![no_main]

use bgp_speaker::wire::{Codec, HEADER_LEN, MAX_MESSAGE, decode, encode};
use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if body.len() > MAX_MESSAGE - HEADER_LEN {
        return;
    }
    let codec = Codec::before_open();
    let mut frame = BytesMut::new();
    frame.put_bytes(0xff, 16);
    frame.put_u16((HEADER_LEN + body.len()) as u16);
    frame.put_u8(1);
    frame.put_slice(body);
    let Ok(message) = decode(&frame, &codec) else { return };
    let mut out = BytesMut::new();
    if encode(&message, &codec, &mut out).is_ok() {
        assert_eq!(decode(&out, &codec), Ok(message));
    }
});
