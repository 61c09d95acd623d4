//! Any JSON as an object of a cluster, alone and as an edit of what was there: an answer, never a panic or a loop.
#![no_main]

use api::build::{Object, settle};
use api::cluster::object;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A first line is what was there, the rest what came.
    let mut texts = bytes.splitn(2, |byte| *byte == b'\n');
    let mut read = || -> Option<Object> {
        let json = serde_json::from_slice(texts.next()?).ok()?;
        Some(object(&json).unwrap_or_else(|unreadable| {
            assert!(!unreadable.problems.is_empty(), "refused without a reason");
            unreadable.into()
        }))
    };
    let (before, after) = (read(), read());
    let before: Vec<Object> = before.into_iter().collect();
    let after: Vec<Object> = after.into_iter().collect();
    let settled = settle(&before, &[], "node-1");
    let settled = settle(&after, &settled.in_force, "node-1");
    assert_eq!(settled.verdicts.len(), after.len(), "a verdict for each");
});
