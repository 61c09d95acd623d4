//! `--port [ADDRESS:]HOST:POD[/PROTOCOL]`, as a runtime hands it to plugins (capability `portMappings`).

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde_json::{Value, json};

/// A port of the node that leads to one of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    host_address: Option<IpAddr>,
    host: NonZeroU16,
    pod: NonZeroU16,
    protocol: &'static str,
}

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

impl Port {
    /// The entry of `portMappings`.
    pub(super) fn mapping(&self) -> Value {
        let mut mapping =
            json!({"hostPort": self.host, "containerPort": self.pod, "protocol": self.protocol});
        if let Some(address) = self.host_address {
            mapping["hostIP"] = address.to_string().into();
        }
        mapping
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = |what: &str| format!("{text}: {what}; write HOST:POD/PROTOCOL, such as 8080:80/tcp");
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = PROTOCOLS.into_iter().find(|known| *known == protocol);
        let protocol = protocol.ok_or_else(|| fault("the protocol is none of tcp, udp, sctp"))?;
        let (rest, pod) = ports.rsplit_once(':').ok_or_else(|| fault("one port only"))?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(address), host),
            None => (None, rest),
        };
        let port = |text: &str| text.parse().map_err(|_| fault("a port is a number from 1 to 65535"));
        let host_address = match address {
            // IPv6 in brackets, as in a URL.
            Some(address) => {
                let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let parsed = bare.unwrap_or(address).parse();
                Some(parsed.map_err(|_| fault("what stands before the ports is no address"))?)
            }
            None => None,
        };
        Ok(Self { host_address, host: port(host)?, pod: port(pod)?, protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_handed_on() {
        let rows = [
            ("8080:80", json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"})),
            ("53:5353/udp", json!({"hostPort": 53, "containerPort": 5353, "protocol": "udp"})),
            (
                "10.0.0.1:80:8080/tcp",
                json!({"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": "10.0.0.1"}),
            ),
            (
                "[fd00::1]:80:8080/sctp",
                json!({"hostPort": 80, "containerPort": 8080, "protocol": "sctp", "hostIP": "fd00::1"}),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<Port>().unwrap().mapping(), expected, "{text}");
        }
    }

    #[test]
    fn other_ports_are_refused_with_their_text() {
        for text in ["80", "0:80", "80:0", "80:65536", "80:80/icmp", "x:80", "a:80:80", ""] {
            let error = text.parse::<Port>().unwrap_err();
            assert!(error.starts_with(&format!("{text}: ")), "{error}");
        }
    }
}
