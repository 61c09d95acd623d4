//! A TCP stream in reads of any size: the messages are the same as in one read, and none breaks the decoder.

#![no_main]

use bgp_speaker::wire::{Codec, FrameReader, decode};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// Messages up to the first error, cut from reads of `step` octets.
fn frames(octets: &[u8], step: usize, codec: &Codec) -> (Vec<Bytes>, bool) {
    let mut reader = FrameReader::default();
    let mut frames = Vec::new();
    for chunk in octets.chunks(step) {
        reader.buffer().extend_from_slice(chunk);
        loop {
            match reader.next(codec) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, stream)) = data.split_first() else { return };
    let codec = Codec { extended_message: first & 1 == 1, ..Codec::before_open() };
    let whole = frames(stream, stream.len().max(1), &codec);
    assert_eq!(frames(stream, usize::from(first >> 1) + 1, &codec), whole);
    for frame in &whole.0 {
        let _ = decode(frame, &codec);
    }
});
