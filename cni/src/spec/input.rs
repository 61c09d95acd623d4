//! Standard input: one JSON object with a version and the name of a network.
//!
//! ADD, CHECK and STATUS read all of it and refuse what they do not know. DEL and GC read only what they need to
//! find what is to be removed: a pod can be removed whatever happened to the conflist since it was added.
//! Source: CNI specification 1.1, section 1.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::fields::{Fields, quoted};
use super::result::{AddResult, requested_version};
use super::{Call, CniError, Code, Command, NetworkConf, StatePlace, Version, Wanted};
use crate::{Attachment, ContainerId, IfName, NetworkName};

/// Largest standard input that is read, in octets.
pub const MOST_OCTETS: usize = 8 << 20;

/// A parsed standard input: an object, its version and its network.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    object: Map<String, Value>,
    /// `cniVersion`.
    pub version: Version,
    /// `name`.
    pub network: NetworkName,
}

impl Input {
    /// Reads standard input for `command`.
    ///
    /// # Errors
    /// 6: not a JSON object, or a wrong type. 1: a version that is not spoken, or has no such command. 7: the name.
    pub fn parse(bytes: &[u8], command: Command) -> Result<Self, CniError> {
        let object = parse_object(bytes)?;
        let top = Fields::new(&object);
        let version = requested_version(&top)?;
        let since = match command {
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
            Command::Add | Command::Del | Command::Version => Version::V0_3_1,
        };
        if version < since {
            let msg = format!("cniVersion is \"{version}\", which has no {command}; it came with {since}");
            return Err(CniError::new(Code::IncompatibleVersion, msg));
        }
        let name = top.text("name")?.unwrap_or_default();
        if name.is_empty() {
            return Err(top.missing("name", "a network configuration needs one"));
        }
        let network = NetworkName::parse(name)
            .map_err(|error| CniError::new(Code::InvalidConfig, error.to_string()))?;
        Ok(Self { object, version, network })
    }

    fn top(&self) -> Fields<'_> {
        Fields::new(&self.object)
    }

    /// Whether the configuration is one for the loopback interface.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.object.get("type").and_then(Value::as_str) == Some("loopback")
    }

    /// The whole configuration.
    ///
    /// # Errors
    /// 2: an unknown key. 6: a wrong type. 7: a value that makes no sense. The message names key and value.
    pub fn conf(&self) -> Result<NetworkConf, CniError> {
        NetworkConf::read(&self.top())
    }

    /// Where the network's state is kept: all that DEL and GC read.
    ///
    /// # Errors
    /// 6 or 7; the message names key and value.
    pub fn state_place(&self) -> Result<StatePlace, CniError> {
        StatePlace::read(&self.top())
    }

    /// What is wanted for the attachment of `call`; nothing for commands without one.
    ///
    /// # Errors
    /// 6 or 7; the message names key and value.
    pub fn wanted(&self, call: &Call) -> Result<Wanted, CniError> {
        match call {
            Call::Add(target, _) | Call::Check(target, _) | Call::Del(target, _) => {
                Wanted::read(&self.top(), &target.args)
            }
            Call::Gc | Call::Status | Call::Version => Ok(Wanted::default()),
        }
    }

    /// The result of the plugins before (ADD), or of the whole chain (CHECK, DEL).
    ///
    /// # Errors
    /// 6; the message names key and value.
    pub fn prev_result(&self) -> Result<Option<AddResult>, CniError> {
        self.top().object("prevResult")?.map(|fields| AddResult::read(&fields)).transpose()
    }

    /// GC's list of attachments that are in use. `None`: the runtime did not say, which is no reason to remove
    /// anything. An empty list, or Go's `null`, is a list.
    ///
    /// # Errors
    /// 6: not a list of attachments. 7: an entry without container id or interface name.
    pub fn valid_attachments(&self) -> Result<Option<BTreeSet<Attachment>>, CniError> {
        // The reference library sends both words; the second one is a mistake it made first.
        let Some(key) = ["cni.dev/valid-attachments", "cni.dev/attachments"]
            .into_iter()
            .find(|key| self.object.contains_key(*key))
        else {
            return Ok(None);
        };
        let top = self.top();
        let entries = top.objects(key)?;
        let attachments = entries.iter().map(|entry| self.valid_attachment(entry));
        attachments.filter_map(Result::transpose).collect::<Result<_, _>>().map(Some)
    }

    /// `None`: a name no attachment of ours can have, so it protects nothing.
    fn valid_attachment(&self, entry: &Fields<'_>) -> Result<Option<Attachment>, CniError> {
        let text = |key: &str| -> Result<&str, CniError> {
            entry
                .some_text(key)?
                .ok_or_else(|| entry.missing(key, "an attachment is a container id and an ifname"))
        };
        let (id, ifname) = (ContainerId::parse(text("containerID")?), IfName::parse(text("ifname")?));
        let names = id.ok().zip(ifname.ok());
        Ok(names.map(|(container_id, ifname)| Attachment {
            network: self.network.clone(),
            container_id,
            ifname,
        }))
    }
}

/// The `cniVersion` a VERSION request gives, if it says anything.
///
/// # Errors
/// Code 6 when standard input is neither empty nor a JSON object.
pub fn version_given(bytes: &[u8]) -> Result<Option<String>, CniError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let object = parse_object(bytes)?;
    Ok(Fields::new(&object).some_text("cniVersion")?.map(str::to_owned))
}

/// The version in which an error about these bytes is written: the request's own where it is known.
#[must_use]
pub fn version_for_errors(bytes: &[u8]) -> Version {
    let object = parse_object(bytes).ok();
    let given = object.as_ref().and_then(|object| object.get("cniVersion")).and_then(Value::as_str);
    given.and_then(Version::parse).unwrap_or(Version::NEWEST)
}

fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, CniError> {
    let undecodable = |msg: String| CniError::new(Code::Decode, msg);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(undecodable("standard input is empty: a network configuration is expected".to_owned()));
    }
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| undecodable(format!("standard input is not a network configuration: {error}")))?;
    match value {
        Value::Object(object) => Ok(object),
        value => {
            let found = quoted(&value);
            Err(undecodable(format!(
                "standard input is {found}, which is not a network configuration object"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8], command: Command) -> (u32, String) {
        let error = Input::parse(bytes, command).unwrap_err();
        (error.code.number(), error.msg)
    }

    #[test]
    fn input_that_is_no_configuration_has_its_code_and_place() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        let deep_inside = [br#"{"cniVersion": "1.0.0", "name": "n", "x": "#.as_slice(), &deep, b"}"].concat();
        let cases: &[(&[u8], u32, &str)] = &[
            (b"", 6, "standard input is empty"),
            (b" \n", 6, "standard input is empty"),
            (
                b"{",
                6,
                "standard input is not a network configuration: EOF while parsing an object at line 1 column 1",
            ),
            (b"{} {}", 6, "standard input is not a network configuration: trailing characters"),
            (b"\xff\xfe", 6, "standard input is not a network configuration"),
            (b"[1, 2]", 6, "standard input is [1,2], which is not"),
            (b"null", 6, "standard input is null, which is not"),
            (&deep, 6, "standard input is not a network configuration: recursion limit"),
            (&deep_inside, 6, "standard input is not a network configuration: recursion limit"),
            (
                b"{}",
                1,
                "cniVersion is missing, which means 0.1.0, and this plugin speaks 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
            (br#"{"cniVersion": "2.0.0"}"#, 1, "cniVersion is \"2.0.0\", and this plugin speaks 0.3.1"),
            (br#"{"cniVersion": ""}"#, 1, "cniVersion is \"\", and this plugin speaks 0.3.1"),
            (br#"{"cniVersion": 1}"#, 6, "cniVersion is 1, which is not text"),
            (br#"{"cniVersion": "1.0.0"}"#, 7, "name is missing"),
            (br#"{"cniVersion": "1.0.0", "name": ""}"#, 7, "name is missing"),
            (br#"{"cniVersion": "1.0.0", "name": "../a"}"#, 7, "name \"../a\" is not a network name"),
            (br#"{"cniVersion": "1.0.0", "name": ["a"]}"#, 6, "name is [\"a\"], which is not text"),
        ];
        for (bytes, code, expected) in cases {
            let (found, msg) = refused(bytes, Command::Add);
            assert_eq!(found, *code, "{msg}");
            assert!(msg.starts_with(expected), "{msg} instead of {expected}");
        }
    }

    #[test]
    fn each_command_has_the_version_it_came_with() {
        let cases = [
            (Command::Add, Version::V0_3_1),
            (Command::Del, Version::V0_3_1),
            (Command::Check, Version::V0_4_0),
            (Command::Gc, Version::V1_1_0),
            (Command::Status, Version::V1_1_0),
        ];
        for (command, since) in cases {
            for version in Version::ALL {
                let bytes = format!(r#"{{"cniVersion": "{version}", "name": "n"}}"#);
                if version >= since {
                    assert_eq!(Input::parse(bytes.as_bytes(), command).unwrap().version, version);
                } else {
                    let (code, msg) = refused(bytes.as_bytes(), command);
                    let expected =
                        format!("cniVersion is \"{version}\", which has no {command}; it came with {since}");
                    assert_eq!((code, msg), (1, expected));
                }
            }
        }
    }

    fn gc(keys: &str) -> Result<Option<Vec<String>>, CniError> {
        let text = format!(r#"{{"cniVersion": "1.1.0", "name": "n" {keys}}}"#);
        let input = Input::parse(text.as_bytes(), Command::Gc).unwrap();
        let attachments = input.valid_attachments()?;
        Ok(attachments.map(|all| all.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn gc_believes_only_a_whole_list() {
        assert_eq!(gc("").unwrap(), None);
        let both = r#", "cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"},
            {"containerID": "a", "ifname": "net1", "more": 1}, {"containerID": "/", "ifname": "eth0"}],
            "cni.dev/attachments": []"#;
        assert_eq!(gc(both).unwrap(), Some(vec!["n a net1".to_owned(), "n b eth0".to_owned()]));
        let first_word = r#", "cni.dev/attachments": [{"containerID": "b", "ifname": "eth0"}]"#;
        assert_eq!(gc(first_word).unwrap(), Some(vec!["n b eth0".to_owned()]));
        for empty in ["[]", "null"] {
            let keys = format!(r#", "cni.dev/valid-attachments": {empty}"#);
            assert_eq!(gc(&keys).unwrap(), Some(Vec::new()), "{empty}");
        }
        for (bad, code) in [
            (r#""all""#, Code::Decode),
            (r#"[{"containerID": "a", "ifname": "eth0"}, "b"]"#, Code::Decode),
            (r#"[{"containerID": "a"}]"#, Code::InvalidConfig),
            (r#"[{"containerID": 5, "ifname": "eth0"}]"#, Code::Decode),
        ] {
            let error = gc(&format!(r#", "cni.dev/valid-attachments": {bad}"#)).unwrap_err();
            assert_eq!(error.code, code, "{}", error.msg);
            assert!(error.msg.starts_with("cni.dev/valid-attachments"), "{}", error.msg);
        }
    }

    #[test]
    fn version_asks_for_nothing_and_errors_speak_the_requests_version() {
        assert_eq!(version_given(b""), Ok(None));
        assert_eq!(version_given(br#"{"cniVersion": "9.9.9"}"#), Ok(Some("9.9.9".to_owned())));
        assert_eq!(version_given(b"nonsense").unwrap_err().code, Code::Decode);
        assert_eq!(version_for_errors(br#"{"cniVersion": "0.4.0", "mtu": "x"}"#), Version::V0_4_0);
        for unknown in [&b"nonsense"[..], b"{}", br#"{"cniVersion": "9.9.9"}"#] {
            assert_eq!(version_for_errors(unknown), Version::NEWEST);
        }
    }
}
