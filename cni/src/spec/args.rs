//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`, the oldest way to tell a plugin something.
//!
//! Source: CNI conventions, "CNI_ARGS". Without `IgnoreUnknown` an unknown key is an error.

use std::net::IpAddr;

use super::wanted::{Mac, parse_ip};
use super::{CniError, Code};

/// What `CNI_ARGS` says to this plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// `IP`: wanted addresses, comma separated.
    pub ips: Vec<IpAddr>,
    /// `MAC`: the pod interface's hardware address.
    pub mac: Option<Mac>,
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME` as `namespace/name`, for people.
    pub pod: Option<String>,
}

impl CniArgs {
    /// Reads the variable's text.
    ///
    /// # Errors
    /// Code 4; the message names key and value.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let mut args = Self::default();
        let (mut namespace, mut name, mut ignore_unknown, mut unknown) = (None, None, false, None);
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(bad(format!("{pair:?} is not KEY=VALUE")));
            };
            match key {
                "IgnoreUnknown" => ignore_unknown = boolean(value)?,
                "IP" => args.ips = addresses(value)?,
                "MAC" => {
                    args.mac = Some(Mac::parse(value).map_err(|why| bad(format!("MAC={value}: {why}")))?)
                }
                "K8S_POD_NAMESPACE" => namespace = Some(value),
                "K8S_POD_NAME" => name = Some(value),
                "K8S_POD_INFRA_CONTAINER_ID" | "K8S_POD_UID" => {}
                _ => unknown = unknown.or(Some(pair)),
            }
        }
        if let Some(pair) = unknown.filter(|_| !ignore_unknown) {
            return Err(bad(format!("{pair:?} is not known here; leave it out or add IgnoreUnknown=1")));
        }
        args.pod = namespace.zip(name).map(|(namespace, name)| format!("{namespace}/{name}"));
        Ok(args)
    }
}

fn addresses(value: &str) -> Result<Vec<IpAddr>, CniError> {
    let each = value.split(',').filter(|text| !text.is_empty());
    each.map(|text| parse_ip(text).map_err(|why| bad(format!("IP={text}: {why}")))).collect()
}

fn boolean(value: &str) -> Result<bool, CniError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(bad(format!("IgnoreUnknown={value}: use 1, true, 0 or false"))),
    }
}

fn bad(what: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, format!("CNI_ARGS: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_send_is_understood() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;\
                    K8S_POD_UID=5f;Later=x;IP=10.0.0.7/24,fd00::7;MAC=02:00:00:00:00:07";
        let args = CniArgs::parse(text).unwrap();
        assert_eq!(args.ips, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
        assert_eq!(args.mac.unwrap().to_string(), "02:00:00:00:00:07");
        assert_eq!(args.pod.as_deref(), Some("default/web-0"));
        assert_eq!(CniArgs::parse("").unwrap(), CniArgs::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let cases = [
            ("IP", "CNI_ARGS: \"IP\" is not KEY=VALUE"),
            ("IP=10.0.0", "CNI_ARGS: IP=10.0.0: "),
            ("IP=0.0.0.0", "CNI_ARGS: IP=0.0.0.0: "),
            ("MAC=01:00:5e:00:00:01", "CNI_ARGS: MAC=01:00:5e:00:00:01: "),
            ("Later=x", "CNI_ARGS: \"Later=x\" is not known here; leave it out or add IgnoreUnknown=1"),
            ("IgnoreUnknown=0;Later=x", "CNI_ARGS: \"Later=x\" is not known here"),
            ("Later=x;IgnoreUnknown=maybe", "CNI_ARGS: IgnoreUnknown=maybe: "),
        ];
        for (text, expected) in cases {
            let error = CniArgs::parse(text).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.msg.starts_with(expected), "{text}: {}", error.msg);
        }
    }
}
