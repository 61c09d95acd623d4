//! What an attachment is called: checked at the door, so that no name reaches a path or the kernel unchecked.
//!
//! Source: CNI specification 1.1, sections 2 and 3.

use std::fmt;

/// CNI's key of one attachment: a network, a container and the interface in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// `name` of the network configuration.
    pub network: NetworkName,
    /// `CNI_CONTAINERID`.
    pub container_id: ContainerId,
    /// `CNI_IFNAME`.
    pub ifname: IfName,
}

/// `name` of a network configuration: starts with a letter or digit, then letters, digits, `_`, `.` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkName(String);

/// `CNI_CONTAINERID`: starts with a letter or digit, then letters, digits, `_`, `.` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// `CNI_IFNAME`: an interface name the kernel takes: 1 to 15 octets, no `/`, `:`, `%` or white space, not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(String);

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// See [`ContainerId`].
    #[error(
        "CNI_CONTAINERID {0:?} is not a container id: use letters, digits, '_', '.' and '-', a letter or digit first"
    )]
    ContainerId(String),
    /// See [`NetworkName`].
    #[error(
        "name {0:?} is not a network name: use letters, digits, '_', '.' and '-', a letter or digit first"
    )]
    NetworkName(String),
    /// See [`IfName`].
    #[error("CNI_IFNAME {0:?} is not an interface name: 1 to 15 octets without '/', ':', '%' or white space")]
    IfName(String),
}

impl NetworkName {
    /// Checks a network configuration's `name`.
    ///
    /// # Errors
    /// [`NameError::NetworkName`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_word(text) { Ok(Self(text.to_owned())) } else { Err(NameError::NetworkName(text.to_owned())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ContainerId {
    /// Checks a `CNI_CONTAINERID`.
    ///
    /// # Errors
    /// [`NameError::ContainerId`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_word(text) { Ok(Self(text.to_owned())) } else { Err(NameError::ContainerId(text.to_owned())) }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IfName {
    /// Checks a `CNI_IFNAME`.
    ///
    /// # Errors
    /// [`NameError::IfName`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let length = (1..=15).contains(&text.len());
        // The kernel makes a name of "eth%d" by counting.
        let forbidden = |c: char| "/:%".contains(c) || c.is_whitespace() || c.is_control();
        let good = length && text != "." && text != ".." && !text.chars().any(forbidden);
        if good { Ok(Self(text.to_owned())) } else { Err(NameError::IfName(text.to_owned())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Longest container id and network name, in octets: a file name's limit, and far above what runtimes make.
const MOST_OCTETS: usize = 255;

/// A letter or digit, then letters, digits, `_`, `.` and `-`.
fn is_word(text: &str) -> bool {
    let mut octets = text.bytes();
    let first = octets.next().is_some_and(|octet| octet.is_ascii_alphanumeric());
    let rest = octets.all(|octet| octet.is_ascii_alphanumeric() || b"_.-".contains(&octet));
    first && rest && text.len() <= MOST_OCTETS
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.network, self.container_id, self.ifname)
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_those_of_the_specification() {
        for good in ["a", "0123abc", "pod_1.eth-0"] {
            assert_eq!(ContainerId::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "-a", "_a", "a/b", "a b", "\u{e9}", "a\0"] {
            assert_eq!(ContainerId::parse(bad), Err(NameError::ContainerId(bad.to_owned())));
        }
    }

    #[test]
    fn interface_names_are_those_the_kernel_takes() {
        for good in ["eth0", "e", "fifteen-octets-"] {
            assert_eq!(IfName::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", "a/b", "a:b", "eth%d", "a b", "sixteen-octets-x", "a\n"] {
            assert_eq!(IfName::parse(bad), Err(NameError::IfName(bad.to_owned())));
        }
    }
}
