//! Errors as the specification writes them: a code for the runtime, words for the person on call.
//!
//! Source: CNI specification 1.1, section "Error".

use std::borrow::Cow;
use std::fmt;

use super::Version;

/// Why a command failed: printed on standard output as JSON, exit status 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// What a runtime may act upon.
    pub code: Code,
    /// One sentence: what, where, what to do.
    pub msg: String,
    /// More, where there is more to say: counts, several failures. May be empty.
    pub details: String,
}

/// The specification's error codes; 100 and above are ours. 3 ("container unknown") is never used: it allows a
/// runtime to leave out DEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The configuration's `cniVersion` is not spoken, or has no such command.
    IncompatibleVersion,
    /// A field of the configuration is not known; the message quotes key and value.
    UnsupportedField,
    /// A variable is missing or not valid; the message names it.
    InvalidEnvironment,
    /// Standard input, or the node's own files, could not be read or written.
    Io,
    /// Standard input is not JSON, or a value has the wrong type.
    Decode,
    /// A value of the configuration makes no sense.
    InvalidConfig,
    /// `CNI_NETNS` is not a network namespace that may be used (the reference library's number).
    InvalidNetns,
    /// Nothing is wrong that will not pass: the runtime tries again.
    TryAgainLater,
    /// STATUS: ADD cannot be served.
    NotAvailable,
    /// A static address belongs to somebody else.
    AddressTaken,
    /// The pod has an interface of this name already, or ADD came twice.
    InterfaceExists,
    /// The kernel refused a step.
    Kernel,
    /// A host port belongs to another pod.
    HostPortTaken,
    /// CHECK: the pod's wire is not as ADD left it.
    Differs,
    /// A mistake in the plugin itself (the reference library's number for what has no other).
    Bug,
}

impl Code {
    /// The number a runtime reads.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetns => 8,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::AddressTaken => 100,
            Self::InterfaceExists => 101,
            Self::Kernel => 102,
            Self::HostPortTaken => 103,
            Self::Differs => 104,
            Self::Bug => 999,
        }
    }
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The error object, one line.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        let mut object = serde_json::json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": shortened(&self.msg),
        });
        if !self.details.is_empty() {
            object["details"] = shortened(&self.details).into();
        }
        object.to_string()
    }
}

/// Runtimes copy an error into logs and events: a name of 8 MiB is not quoted to its end.
fn shortened(text: &str) -> Cow<'_, str> {
    const MOST_CHARACTERS: usize = 900;
    match text.char_indices().nth(MOST_CHARACTERS) {
        None => text.into(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)).into(),
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details) }
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_written_as_the_specification_says() {
        let error =
            CniError::new(Code::TryAgainLater, "no address is free").with_details("10.0.0.0/30: 2 of 2");
        let read: serde_json::Value = serde_json::from_str(&error.to_json(Version::V1_0_0)).unwrap();
        let expected = serde_json::json!({
            "cniVersion": "1.0.0", "code": 11, "msg": "no address is free", "details": "10.0.0.0/30: 2 of 2",
        });
        assert_eq!(read, expected);
        let short = CniError::new(Code::Differs, "a \"quoted\" word").to_json(Version::NEWEST);
        assert!(!short.contains("details") && !short.contains('\n'), "{short}");
    }
}
