//! What the runtime says in environment variables: the command, and whom it is about.
//!
//! In: a way to look a variable up. Out: a [`Call`] whose names are checked, or an error of code 4 that names the
//! variable. `CNI_PATH` is never used (this plugin calls no other) and is demanded only where the specification does.
//! Source: CNI specification 1.1, section 2, "Parameters".

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::{CniArgs, CniError, Code};
use crate::{ContainerId, IfName, NameError};

/// `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Compare the attachment with what ADD made.
    Check,
    /// Remove what belongs to no attachment.
    Gc,
    /// Whether ADD can be served.
    Status,
    /// Which versions are spoken.
    Version,
}

impl Command {
    const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// As `CNI_COMMAND` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command with what the environment must say for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// ADD of this attachment.
    Add(Target, NetnsPath),
    /// CHECK of this attachment.
    Check(Target, NetnsPath),
    /// DEL of this attachment; the network namespace may be gone.
    Del(Target, Option<NetnsPath>),
    /// GC.
    Gc,
    /// STATUS.
    Status,
    /// VERSION.
    Version,
}

/// Whom ADD, CHECK and DEL are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `CNI_CONTAINERID`.
    pub container_id: ContainerId,
    /// `CNI_IFNAME`.
    pub ifname: IfName,
    /// `CNI_ARGS`.
    pub args: CniArgs,
}

/// `CNI_NETNS`: where the pod's network namespace can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsPath {
    /// The absolute path, word for word: results repeat it.
    pub path: String,
    /// `CNI_NETNS_OVERRIDE`: the plugin's own network namespace is meant on purpose.
    pub may_be_own: bool,
}

impl Call {
    /// The command.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            Self::Add(..) => Command::Add,
            Self::Check(..) => Command::Check,
            Self::Del(..) => Command::Del,
            Self::Gc => Command::Gc,
            Self::Status => Command::Status,
            Self::Version => Command::Version,
        }
    }

    /// Reads the variables the command needs, and no others.
    ///
    /// # Errors
    /// Code 4; the message names the variable, and all that are missing.
    pub fn parse(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, CniError> {
        let variables = Variables { lookup };
        let text = variables.needed(&["CNI_COMMAND"])?.remove(0);
        let command = Command::ALL.into_iter().find(|command| command.as_str() == text);
        let command = command.ok_or_else(|| {
            let known = Command::ALL.map(Command::as_str).join(", ");
            environment(format!("CNI_COMMAND is {text:?}, which is none of {known}"))
        })?;
        match command {
            Command::Version => Ok(Self::Version),
            Command::Gc => variables.needed(&["CNI_PATH"]).map(|_| Self::Gc),
            Command::Status => variables.needed(&["CNI_PATH"]).map(|_| Self::Status),
            Command::Del => {
                let target = variables.target(&["CNI_CONTAINERID", "CNI_IFNAME"], false)?;
                // A relative path names nothing for DEL: as good as a network namespace that is gone.
                let netns = variables.netns()?.filter(|netns| netns.path.starts_with('/'));
                Ok(Self::Del(target, netns))
            }
            Command::Add | Command::Check => {
                let target = variables.target(&["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"], true)?;
                let netns =
                    variables.netns()?.ok_or_else(|| environment("CNI_NETNS is missing".to_owned()))?;
                if !netns.path.starts_with('/') {
                    let path = &netns.path;
                    return Err(environment(format!("CNI_NETNS is {path:?}: an absolute path is needed")));
                }
                Ok(if command == Command::Add {
                    Self::Add(target, netns)
                } else {
                    Self::Check(target, netns)
                })
            }
        }
    }
}

impl NetnsPath {
    /// The path to open.
    #[must_use]
    pub fn to_path(&self) -> PathBuf {
        PathBuf::from(&self.path)
    }
}

/// The environment, read variable by variable.
struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    /// A variable that is set and not empty.
    fn read(&self, name: &str) -> Result<Option<String>, CniError> {
        let Some(value) = (self.lookup)(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let not_text = |value: OsString| environment(format!("{name} is {value:?}, which is not UTF-8 text"));
        value.into_string().map(Some).map_err(not_text)
    }

    /// All of these, or an error that names each that is missing.
    fn needed(&self, names: &[&str]) -> Result<Vec<String>, CniError> {
        let values = names.iter().map(|name| self.read(name)).collect::<Result<Vec<_>, _>>()?;
        let missing: Vec<&str> =
            names.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        if missing.is_empty() {
            return Ok(values.into_iter().flatten().collect());
        }
        let verb = if missing.len() == 1 { "is" } else { "are" };
        Err(environment(format!("{} {verb} missing from the environment", missing.join(", "))))
    }

    /// `strict`: CNI_ARGS must be good. DEL asks nothing of them.
    fn target(&self, names: &[&str], strict: bool) -> Result<Target, CniError> {
        let values = self.needed(names)?;
        let [container_id, ifname, ..] = values.as_slice() else {
            unreachable!("as many values as names, of which there are two or three")
        };
        let named = |error: NameError| environment(error.to_string());
        let args = match self.read("CNI_ARGS")? {
            Some(text) if strict => CniArgs::parse(&text)?,
            Some(text) => CniArgs::parse(&text).unwrap_or_default(),
            None => CniArgs::default(),
        };
        Ok(Target {
            container_id: ContainerId::parse(container_id).map_err(named)?,
            ifname: IfName::parse(ifname).map_err(named)?,
            args,
        })
    }

    fn netns(&self) -> Result<Option<NetnsPath>, CniError> {
        let Some(path) = self.read("CNI_NETNS")? else { return Ok(None) };
        let word = self.read("CNI_NETNS_OVERRIDE")?.unwrap_or_default();
        let may_be_own = word == "1" || word.eq_ignore_ascii_case("true");
        Ok(Some(NetnsPath { path, may_be_own }))
    }
}

fn environment(msg: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Environment = &'static [(&'static str, &'static str)];

    fn call(variables: &[(&str, &str)]) -> Result<Call, String> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Call::parse(find).map_err(|error| {
            assert_eq!(error.code, Code::InvalidEnvironment);
            error.msg
        })
    }

    const ID: (&str, &str) = ("CNI_CONTAINERID", "c1");
    const IF: (&str, &str) = ("CNI_IFNAME", "eth0");
    const NS: (&str, &str) = ("CNI_NETNS", "/run/netns/a");
    const PATH: (&str, &str) = ("CNI_PATH", "/opt/cni/bin");

    #[test]
    fn each_command_needs_its_own_variables() {
        let cases: &[(Environment, Option<&str>)] = &[
            (&[], Some("CNI_COMMAND is missing from the environment")),
            (&[("CNI_COMMAND", "")], Some("CNI_COMMAND is missing from the environment")),
            (
                &[("CNI_COMMAND", "add"), ID, IF, NS],
                Some("CNI_COMMAND is \"add\", which is none of ADD, DEL, CHECK, GC, STATUS, VERSION"),
            ),
            (&[("CNI_COMMAND", "VERSION")], None),
            (&[("CNI_COMMAND", "STATUS")], Some("CNI_PATH is missing from the environment")),
            (&[("CNI_COMMAND", "STATUS"), PATH], None),
            (&[("CNI_COMMAND", "GC")], Some("CNI_PATH is missing from the environment")),
            (&[("CNI_COMMAND", "GC"), PATH], None),
            (&[("CNI_COMMAND", "ADD"), ID, IF, NS], None),
            (&[("CNI_COMMAND", "ADD"), ID, IF], Some("CNI_NETNS is missing from the environment")),
            (
                &[("CNI_COMMAND", "ADD"), NS],
                Some("CNI_CONTAINERID, CNI_IFNAME are missing from the environment"),
            ),
            (&[("CNI_COMMAND", "CHECK"), ID, IF, NS], None),
            (&[("CNI_COMMAND", "CHECK"), IF, NS], Some("CNI_CONTAINERID is missing from the environment")),
            (&[("CNI_COMMAND", "DEL"), ID, IF], None),
            (&[("CNI_COMMAND", "DEL"), ID, IF, ("CNI_NETNS", "")], None),
            (&[("CNI_COMMAND", "DEL"), ID], Some("CNI_IFNAME is missing from the environment")),
        ];
        for (variables, problem) in cases {
            assert_eq!(call(variables).err().as_deref(), *problem, "{variables:?}");
        }
    }

    #[test]
    fn hostile_names_are_refused_by_the_name_of_their_variable() {
        let add = |id, ifname, netns| {
            let variables = [("CNI_CONTAINERID", id), ("CNI_IFNAME", ifname), ("CNI_NETNS", netns)];
            call(&[&[("CNI_COMMAND", "ADD")], variables.as_slice()].concat())
        };
        for id in ["../../etc", "a/b", "-rf", "a b", "a\nb", "é"] {
            assert!(add(id, "eth0", "/n").unwrap_err().starts_with("CNI_CONTAINERID"), "{id}");
        }
        for ifname in ["..", "a/b", "sixteen-octets-x", "a:b", "a\tb"] {
            assert!(add("c", ifname, "/n").unwrap_err().starts_with("CNI_IFNAME"), "{ifname}");
        }
        assert!(add("c", "eth0", "netns/a").unwrap_err().starts_with("CNI_NETNS"));
    }

    #[test]
    fn del_makes_do_with_bad_arguments_and_add_does_not() {
        let bad = ("CNI_ARGS", "IP=nonsense;who-knows");
        assert!(call(&[("CNI_COMMAND", "DEL"), ID, IF, bad]).is_ok());
        assert!(call(&[("CNI_COMMAND", "ADD"), ID, IF, NS, bad]).unwrap_err().starts_with("CNI_ARGS"));
    }

    #[test]
    fn the_plugins_own_namespace_is_allowed_by_word_only() {
        for (word, expected) in [("1", true), ("true", true), ("TRUE", true), ("0", false), ("yes", false)] {
            let parsed = call(&[("CNI_COMMAND", "ADD"), ID, IF, NS, ("CNI_NETNS_OVERRIDE", word)]).unwrap();
            let Call::Add(_, netns) = parsed else { panic!("not ADD") };
            assert_eq!(netns, NetnsPath { path: NS.1.to_owned(), may_be_own: expected });
        }
    }
}
