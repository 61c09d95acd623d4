//! The commands: what is done in which order, and what is undone when a step fails.
//!
//! In: the environment and standard input of a runtime's call. Out: what is to be printed, and whether it is an
//! error. The order of checks is that of the reference library: environment, standard input, version, name, then
//! the configuration.

mod add;
mod attachment;
mod check;
mod codes;
mod del;
mod gc;
mod loopback;
mod node;
mod status;

pub use attachment::collect;

use std::ffi::OsString;
use std::io::{self, Read as _};

use crate::spec::input::{self, Input, MOST_OCTETS};
use crate::spec::result::version_json;
use crate::spec::{Call, CniError, Code, Version};

/// What the program prints and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Success with a result.
    Result(String),
    /// Success without words, as DEL, CHECK, GC and STATUS have it.
    Done,
    /// An error object.
    Refused(String),
}

/// What the program was called with.
#[derive(Debug)]
pub struct Invocation<F, R> {
    /// Looks a variable of the environment up.
    pub variable: F,
    /// Standard input.
    pub stdin: R,
    /// Whether the program was called by the name `loopback`.
    pub is_loopback: bool,
}

/// Answers one call.
pub fn run<F, R>(invocation: Invocation<F, R>) -> Answer
where
    F: Fn(&str) -> Option<OsString>,
    R: io::Read,
{
    // A person who tries the program out has no standard input to give.
    let called = (invocation.variable)("CNI_COMMAND").is_some();
    let call = Call::parse(invocation.variable);
    if let (Err(error), false) = (&call, called) {
        return Answer::Refused(error.to_json(Version::NEWEST));
    }
    // Other mistakes of the environment are told in the words of the configuration's version: it is read first.
    let stdin = read(invocation.stdin);
    let bytes = stdin.as_deref().unwrap_or_default();
    let outcome = match (call, &stdin) {
        (Ok(call), Ok(bytes)) => answer(&call, invocation.is_loopback, bytes),
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => Err(error.clone()),
    };
    outcome.unwrap_or_else(|error| Answer::Refused(error.to_json(input::version_for_errors(bytes))))
}

fn answer(call: &Call, is_loopback: bool, stdin: &[u8]) -> Result<Answer, CniError> {
    if *call == Call::Version {
        return Ok(Answer::Result(version_json(input::version_given(stdin)?.as_deref())));
    }
    let input = Input::parse(stdin, call.command())?;
    if is_loopback || input.is_loopback() {
        return match call {
            Call::Add(_, netns) => loopback::add(&input, netns).map(Answer::Result),
            Call::Check(_, netns) => loopback::check(netns).map(|()| Answer::Done),
            Call::Del(_, netns) => loopback::del(netns.as_ref()).map(|()| Answer::Done),
            Call::Gc | Call::Status | Call::Version => Ok(Answer::Done),
        };
    }
    match call {
        Call::Add(target, netns) => add::add(&input, target, netns, &input.wanted(call)?).map(Answer::Result),
        Call::Check(target, netns) => {
            check::check(&input, target, netns, &input.wanted(call)?).map(|()| Answer::Done)
        }
        Call::Del(target, _) => del::del(&input, target).map(|()| Answer::Done),
        Call::Gc => gc::gc(&input).map(|()| Answer::Done),
        Call::Status | Call::Version => status::status(&input).map(|()| Answer::Done),
    }
}

fn read(stdin: impl io::Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    // One octet more than is allowed tells a long input from a full one.
    let limit = u64::try_from(MOST_OCTETS).expect("8 MiB") + 1;
    let failed = |error| CniError::new(Code::Io, format!("reading standard input: {error}"));
    stdin.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MOST_OCTETS {
        let msg = format!("standard input is longer than {MOST_OCTETS} octets; no network configuration is");
        return Err(CniError::new(Code::Io, msg));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(command: &str, stdin: &[u8]) -> Answer {
        let variable = |name: &str| match name {
            "CNI_COMMAND" => Some(command.into()),
            "CNI_PATH" => Some("/opt/cni/bin".into()),
            _ => None,
        };
        run(Invocation { variable, stdin, is_loopback: false })
    }

    #[test]
    fn errors_are_told_in_the_version_of_the_request() {
        let stdin = br#"{"cniVersion": "0.4.0", "name": "n"}"#;
        let Answer::Refused(text) = run_with("ADD", stdin) else { panic!("not refused") };
        let error: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["cniVersion"], "0.4.0");
        assert_eq!(error["code"], 4);
        assert_eq!(error["msg"], "CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS are missing from the environment");
    }

    #[test]
    fn an_input_of_the_largest_size_is_read_and_one_octet_more_is_not() {
        let (head, tail) = (br#"{"cniVersion": "1.1.0", "x": ""#.as_slice(), br#""}"#.as_slice());
        let filler = vec![b'a'; MOST_OCTETS - head.len() - tail.len()];
        let largest = [head, &filler, tail].concat();
        assert!(matches!(run_with("VERSION", &largest), Answer::Result(_)));
        let Answer::Refused(text) = run_with("VERSION", &[&largest[..], b" "].concat()) else {
            panic!("not refused")
        };
        assert!(text.contains("longer than 8388608 octets"), "{text}");
    }
}
