//! Any environment and standard input as a call of the CNI plugin: an answer, never a panic or a loop. Errors say
//! something; results can be read again and then say the same.
//!
//! Input: lines of `CNI_NAME=value`, an empty line, standard input.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use cni::spec::fields::Fields;
use cni::spec::{AddResult, Call, CniError, Command, Input, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (environment, stdin) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (&[][..], bytes),
    };
    let variable = |name: &str| -> Option<OsString> {
        let lines = environment.split(|octet| *octet == b'\n');
        let mut values = lines.filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.next().map(|value| OsString::from_vec(value.to_vec()))
    };
    let call = Call::parse(variable);
    if let Err(error) = &call {
        said(error);
    }
    let call = call.unwrap_or(Call::Gc);
    for command in [call.command(), Command::Add] {
        let input = match Input::parse(stdin, command) {
            Ok(input) => input,
            Err(error) => return said(&error),
        };
        input.conf().map_or_else(|error| said(&error), drop);
        input.state_place().map_or_else(|error| said(&error), drop);
        input.wanted(&call).map_or_else(|error| said(&error), drop);
        input.valid_attachments().map_or_else(|error| said(&error), drop);
        match input.prev_result() {
            Ok(result) => same_again(&result.unwrap_or_else(AddResult::empty)),
            Err(error) => said(&error),
        }
    }
});

/// A runtime gets a code and words, in one line.
fn said(error: &CniError) {
    assert!(!error.msg.is_empty() && error.code.number() > 0);
    let line = error.to_json(Version::NEWEST);
    assert!(!line.contains('\n') && serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
}

fn same_again(result: &AddResult) {
    for version in Version::ALL {
        let line = result.to_json(version);
        let value: serde_json::Value = serde_json::from_str(&line).expect("a result is JSON");
        let again = AddResult::read(&Fields::new(value.as_object().expect("a result is an object")));
        assert_eq!(again.expect("a result can be read").to_json(version), line);
    }
}
