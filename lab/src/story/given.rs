//! What a mapping of the file gives: its keys checked against the table, its values turned into types.
//!
//! In: a [`Yaml`] mapping and its [`Section`]. Out: typed values, and in the findings every mistake
//! with its line. A value that cannot be used reads as absent, so that one mistake is told once.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::keys::{Key, Section};
use crate::file::fields::{did_you_mean, mapping, sequence, text};
use crate::file::problem::Findings;
use crate::file::topology::Topology;
use crate::file::yaml::Yaml;

/// What is known while the file is read.
pub(super) struct Reader<'r> {
    pub(super) topology: &'r Topology,
    pub(super) findings: &'r mut Findings,
    /// Names of the traffic classes.
    pub(super) classes: Vec<String>,
}

/// The keys of one mapping.
pub(super) struct Given<'y> {
    section: &'static Section,
    /// How messages call the mapping: `step "a ToR dies"`.
    pub(super) place: String,
    pub(super) line: usize,
    entries: Vec<(&'static Key, usize, &'y Yaml)>,
}

impl<'y> Given<'y> {
    /// Reads the keys; unknown and missing ones are told.
    pub(super) fn read(
        section: &'static Section,
        place: &str,
        yaml: &'y Yaml,
        findings: &mut Findings,
    ) -> Self {
        let mut entries = Vec::new();
        let before = findings.problems.len();
        for (key, value) in mapping(place, yaml, findings) {
            match section.keys.iter().find(|known| known.name == key.text) {
                Some(known) => entries.push((known, key.line, value)),
                None => {
                    let names = || section.keys.iter().map(|key| key.name);
                    let hint = match did_you_mean(&key.text, names()).as_str() {
                        "remove it" if section.one => {
                            format!("use one of {}", names().collect::<Vec<_>>().join(", "))
                        }
                        near => near.to_owned(),
                    };
                    findings.refuse(key.line, format!("{place}: unknown field \"{}\"; {hint}", key.text));
                }
            }
        }
        let given = Self { section, place: place.to_owned(), line: yaml.line, entries };
        // A key that is only misspelt is told once.
        if findings.problems.len() == before {
            given.missing(findings);
        }
        given
    }

    fn missing(&self, findings: &mut Findings) {
        for key in self.section.keys.iter().filter(|key| key.required) {
            if !self.entries.iter().any(|(known, ..)| known.name == key.name) {
                findings.refuse(self.line, format!("{} needs \"{}\"; add it", self.place, key.name));
            }
        }
        if self.section.one && self.entries.len() != 1 {
            let names: Vec<_> = self.section.keys.iter().map(|key| key.name).collect();
            findings.refuse(
                self.line,
                format!(
                    "{} is one of {}, and {} are given; start a new list item for each",
                    self.place,
                    names.join(", "),
                    self.entries.len()
                ),
            );
        }
    }

    /// The only key, where the section has one.
    pub(super) fn only(&self) -> Option<(&'static str, &'y Yaml)> {
        match self.entries.as_slice() {
            [(key, _, value)] => Some((key.name, value)),
            _ => None,
        }
    }

    /// The value of a key of the table.
    pub(super) fn get(&self, name: &str) -> Option<&'y Yaml> {
        debug_assert!(self.section.keys.iter().any(|key| key.name == name), "{name} is not in the table");
        self.entries.iter().find(|(key, ..)| key.name == name).map(|(_, _, value)| *value)
    }

    /// The line of a key, or of the mapping where the key is absent.
    pub(super) fn line_of(&self, name: &str) -> usize {
        self.entries.iter().find(|(key, ..)| key.name == name).map_or(self.line, |(_, line, _)| *line)
    }

    /// How messages call a key's value.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}: \"{key}\"", self.place)
    }

    pub(super) fn text(&self, name: &str, reader: &mut Reader<'_>) -> Option<String> {
        self.parsed(name, reader, "", |text| Some(text.to_owned()))
    }

    /// A text that may be empty.
    pub(super) fn any_text(&self, name: &str, reader: &mut Reader<'_>) -> Option<String> {
        let at = text(&self.name(name), self.get(name)?, reader.findings);
        Some(at.map_or_else(String::new, |at| at.text))
    }

    pub(super) fn time(&self, name: &str, reader: &mut Reader<'_>) -> Option<Duration> {
        self.parsed(name, reader, "is no time; write a number with ms, s or m, such as 50ms", time)
    }

    pub(super) fn count<T: std::str::FromStr>(&self, name: &str, reader: &mut Reader<'_>) -> Option<T> {
        self.parsed(name, reader, "is no number that is possible here; write a whole one", |text| {
            text.replace('_', "").parse().ok()
        })
    }

    pub(super) fn address(&self, name: &str, reader: &mut Reader<'_>) -> Option<IpAddr> {
        self.parsed(name, reader, ADDRESS, |text| text.parse().ok())
    }

    pub(super) fn prefix(&self, name: &str, reader: &mut Reader<'_>) -> Option<IpNet> {
        let prefix: IpNet =
            self.parsed(name, reader, "is no prefix; write one such as 10.244.2.0/24", |text| {
                text.parse().ok()
            })?;
        if prefix.trunc() != prefix {
            let text = format!(
                "{}: {prefix} has bits set beyond its length; write {}",
                self.name(name),
                prefix.trunc()
            );
            reader.findings.refuse(self.line_of(name), text);
        }
        Some(prefix.trunc())
    }

    pub(super) fn node(&self, name: &str, reader: &mut Reader<'_>) -> Option<String> {
        let yaml = self.get(name)?;
        reader.node(&self.name(name), yaml)
    }

    pub(super) fn place(&self, name: &str, reader: &mut Reader<'_>) -> Option<String> {
        let yaml = self.get(name)?;
        reader.place(&self.name(name), yaml)
    }

    pub(super) fn word(
        &self,
        name: &str,
        known: &[&'static str],
        reader: &mut Reader<'_>,
    ) -> Option<&'static str> {
        let yaml = self.get(name)?;
        reader.word(&self.name(name), yaml, known)
    }

    /// The items of a list, each read by `read`.
    pub(super) fn list<T>(
        &self,
        name: &str,
        reader: &mut Reader<'_>,
        mut read: impl FnMut(&str, &'y Yaml, &mut Reader<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(yaml) = self.get(name) else { return Vec::new() };
        let called = self.name(name);
        let items = sequence(&called, yaml, reader.findings);
        items.iter().filter_map(|item| read(&called, item, reader)).collect()
    }

    fn parsed<T>(
        &self,
        name: &str,
        reader: &mut Reader<'_>,
        fault: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let yaml = self.get(name)?;
        reader.parsed(&self.name(name), yaml, fault, parse)
    }
}

const ADDRESS: &str = "is no IP address; write one without a prefix length";

impl Reader<'_> {
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        yaml: &Yaml,
        fault: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let Some(at) = text(name, yaml, self.findings) else {
            if matches!(yaml.value, crate::file::yaml::Value::Null | crate::file::yaml::Value::Scalar(_)) {
                self.findings.refuse(yaml.line, format!("{name} is empty; give a value or remove it"));
            }
            return None;
        };
        let value = parse(&at.text);
        if value.is_none() {
            self.findings.refuse(at.line, format!("{name}: \"{}\" {fault}", at.text));
        }
        value
    }

    pub(super) fn address(&mut self, name: &str, yaml: &Yaml) -> Option<IpAddr> {
        self.parsed(name, yaml, ADDRESS, |text| text.parse().ok())
    }

    /// The name of a node that the topology has.
    pub(super) fn node(&mut self, name: &str, yaml: &Yaml) -> Option<String> {
        let at = self.parsed(name, yaml, "", |text| Some(text.to_owned()))?;
        self.known(name, yaml.line, &at, "use one of the topology's nodes").then_some(at)
    }

    /// A node that the topology has, or NODE/NETNS: a network namespace in one, which must be there when the
    /// story is played.
    pub(super) fn place(&mut self, name: &str, yaml: &Yaml) -> Option<String> {
        let at = self.parsed(name, yaml, "", |text| Some(text.to_owned()))?;
        let (node, netns) =
            at.split_once('/').map_or((at.as_str(), None), |(node, netns)| (node, Some(netns)));
        if let Some(netns) = netns.filter(|netns| matches!(*netns, "" | "." | "..") || netns.contains('/')) {
            let text = format!(
                "{name}: \"{netns}\" in \"{at}\" is no name of a network namespace; write NODE/NETNS, such as node1/pod1"
            );
            self.findings.refuse(yaml.line, text);
            return None;
        }
        let otherwise =
            "use one of the topology's nodes, or NODE/NETNS for a network namespace in one, such as a pod";
        self.known(name, yaml.line, node, otherwise).then_some(at)
    }

    fn known(&mut self, name: &str, line: usize, node: &str, otherwise: &str) -> bool {
        if self.topology.nodes.contains_key(node) {
            return true;
        }
        let hint = did_you_mean(node, self.topology.nodes.keys().map(String::as_str));
        let hint = if hint == "remove it" { otherwise.to_owned() } else { hint };
        self.findings.refuse(line, format!("{name}: the topology has no node \"{node}\"; {hint}"));
        false
    }

    /// A link's end that the topology has, as NODE:INTERFACE.
    pub(super) fn end(&mut self, name: &str, yaml: &Yaml) -> Option<String> {
        let end = self.parsed(name, yaml, "", |text| Some(text.to_owned()))?;
        let ends: Vec<String> = self
            .topology
            .links
            .iter()
            .flat_map(|link| &link.ends)
            .map(|end| format!("{}:{}", end.node, end.interface))
            .collect();
        if ends.contains(&end) {
            return Some(end);
        }
        let hint = match did_you_mean(&end, ends.iter().map(String::as_str)).as_str() {
            "remove it" => "write NODE:INTERFACE as in the topology".to_owned(),
            near => near.to_owned(),
        };
        self.findings.refuse(yaml.line, format!("{name}: the topology has no link end \"{end}\"; {hint}"));
        None
    }

    /// A traffic class that the file has.
    pub(super) fn class(&mut self, name: &str, yaml: &Yaml) -> Option<String> {
        let class = self.parsed(name, yaml, "", |text| Some(text.to_owned()))?;
        if !self.classes.contains(&class) {
            self.unknown_class(name, yaml.line, &class);
            return None;
        }
        Some(class)
    }

    pub(super) fn unknown_class(&mut self, name: &str, line: usize, class: &str) {
        let hint = match did_you_mean(class, self.classes.iter().map(String::as_str)).as_str() {
            "remove it" => "add it to \"traffic\" at the head of the file".to_owned(),
            near => near.to_owned(),
        };
        self.findings.refuse(line, format!("{name}: there is no traffic class \"{class}\"; {hint}"));
    }

    pub(super) fn word(&mut self, name: &str, yaml: &Yaml, known: &[&'static str]) -> Option<&'static str> {
        let word = self.parsed(name, yaml, "", |text| Some(text.to_owned()))?;
        let found = known.iter().copied().find(|known| *known == word);
        if found.is_none() {
            self.findings
                .refuse(yaml.line, format!("{name}: \"{word}\" is unknown; use one of {}", known.join(", ")));
        }
        found
    }
}

/// A time with its unit: `50ms`, `1.5s`, `2m`; a bare `0` needs none.
pub(super) fn time(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return None,
    };
    // A day is longer than any story.
    (seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let rows = [
            ("50ms", Some(50)),
            ("15s", Some(15_000)),
            ("1.5s", Some(1500)),
            ("2m", Some(120_000)),
            ("0", Some(0)),
            ("15", None),
            ("s", None),
            ("-1s", None),
            ("1h", None),
            ("9999999s", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(time(text), expected.map(Duration::from_millis), "{text}");
        }
    }
}
