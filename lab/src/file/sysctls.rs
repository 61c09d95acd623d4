//! Kernel settings of a node, checked before anything is started.
//!
//! Only what a namespace has for itself may be set: anything else would change the machine.

use std::collections::BTreeMap;

use crate::file::fields::At;
use crate::file::problem::Findings;

/// Of the network namespace, and of the namespace of message queues and shared memory.
const OWN: [&str; 5] = ["net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm"];

/// The settings as dotted name and value.
pub(crate) fn read(
    place: &str,
    given: &BTreeMap<String, At>,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    for (key, at) in given {
        let name = format!("{place}: sysctl \"{key}\"");
        // A slash stands for a dot inside a name, so an empty part could lead out of /proc/sys.
        if key.split(['.', '/']).any(str::is_empty) || key.contains(char::is_whitespace) {
            let remedy = "write it as net.ipv4.ip_forward, a dot in an interface's name as \"/\"";
            findings.refuse(at.line, format!("{name} is no name of a setting; {remedy}"));
        } else if !OWN.iter().any(|own| key.starts_with(own)) {
            let hint = match key.starts_with("ipv4.") || key.starts_with("ipv6.") {
                true => format!("did you mean \"net.{key}\"?"),
                false => "only net.* and the settings of message queues and shared memory are a node's own"
                    .to_owned(),
            };
            findings.refuse(at.line, format!("{name} belongs to the whole machine; {hint}"));
        } else if at.text.is_empty() {
            findings.refuse(at.line, format!("{name} has no value; give it one"));
        }
    }
    given.iter().map(|(key, at)| (key.clone(), at.text.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_nodes_own_is_set() {
        let cases = [
            ("net.ipv4.ip_forward", None),
            ("net.ipv4.conf.eth0/1.rp_filter", None),
            ("kernel.shmmax", None),
            ("kernel.panic", Some("whole machine")),
            ("vm.overcommit_memory", Some("whole machine")),
            ("ipv4.ip_forward", Some("did you mean \"net.ipv4.ip_forward\"?")),
            ("net.//.//.//etc.motd", Some("no name")),
            ("net. ipv4", Some("no name")),
            ("", Some("no name")),
        ];
        for (key, expected) in cases {
            let given = BTreeMap::from([(key.to_owned(), At { line: 1, text: "1".to_owned() })]);
            let mut findings = Findings::default();
            read("node n", &given, &mut findings);
            let said = findings.problems.first().map(|problem| problem.text.clone());
            match expected {
                None => assert_eq!(said, None, "{key}"),
                Some(expected) => {
                    assert!(said.clone().unwrap_or_default().contains(expected), "{key}: {said:?}")
                }
            }
        }
    }
}
