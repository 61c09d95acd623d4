//! What is wanted for one attachment: capabilities (`runtimeConfig`), `args.cni` and `CNI_ARGS`, in this order of
//! precedence, as one checked value.
//!
//! Source: CNI conventions, "Dynamic Plugin specific Fields", "args in network config", "CNI_ARGS".

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use serde_json::Value;

use super::fields::Fields;
use super::result::Dns;
use super::runtime::{Bandwidth, IpRange, PortMapping, Protocol, Rate};
use super::{CniArgs, CniError};

/// Bursts are counted in bytes in 32 bits by the queueing discipline.
const MOST_BURST_BITS: u64 = (u32::MAX as u64) * 8;

/// What is wanted for one attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Static addresses, at most one of each family.
    pub ips: Vec<IpAddr>,
    /// Hardware address of the pod's interface.
    pub mac: Option<Mac>,
    /// Ports of the node that lead into the pod.
    pub port_mappings: Vec<PortMapping>,
    /// How fast the pod may receive and send.
    pub bandwidth: Bandwidth,
    /// Ranges the addresses must come from; a family without a range is not restricted.
    pub ip_ranges: Vec<IpRange>,
    /// Resolver settings for the result.
    pub dns: Option<Dns>,
    /// The pod's control group: accepted, and of no use to a veth.
    pub cgroup_path: Option<String>,
    /// `namespace/name` of the pod, where the runtime tells it.
    pub pod: Option<String>,
}

/// A hardware address a pod's interface may have: six octets, of one station, not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Reads `02:00:00:00:00:01` or `02-00-00-00-00-01`.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "use six octets such as 02:00:00:00:00:01";
        let mut parts = text.split([':', '-']);
        let mut octets = [0; 6];
        for octet in &mut octets {
            let part = parts.next().ok_or(FORM)?;
            let hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *octet = u8::from_str_radix(part, 16).ok().filter(|_| hex).ok_or(FORM)?;
        }
        match octets {
            _ if parts.next().is_some() => Err(FORM),
            [0, 0, 0, 0, 0, 0] => Err("the zero address belongs to nobody; use a locally administered one"),
            [first, ..] if first & 1 == 1 => {
                Err("a group address; use that of one station (first octet even)")
            }
            octets => Ok(Self(octets)),
        }
    }

    /// The octets.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Wanted {
    /// Merges what the configuration at `top` and `CNI_ARGS` say.
    ///
    /// # Errors
    /// Code 6 or 7; the message names key and value.
    pub fn read(top: &Fields<'_>, args: &CniArgs) -> Result<Self, CniError> {
        let mut wanted = Self { pod: args.pod.clone(), ..Self::default() };
        let args_cni = match top.object("args")? {
            Some(of_args) => of_args.object("cni")?,
            None => None,
        };
        if let Some(from_args) = &args_cni {
            wanted.ips = static_ips(from_args)?;
            wanted.mac = mac(from_args)?;
        }
        if let Some(runtime) = top.object("runtimeConfig")? {
            wanted.read_capabilities(&runtime.any_case())?;
        }
        if wanted.ips.is_empty() {
            wanted.ips.clone_from(&args.ips);
        }
        wanted.mac = wanted.mac.or(args.mac);
        wanted.ips.dedup();
        let two_of_a_kind = |v4| wanted.ips.iter().filter(|ip| ip.is_ipv4() == v4).count() > 1;
        if two_of_a_kind(true) || two_of_a_kind(false) {
            let all: Vec<String> = wanted.ips.iter().map(ToString::to_string).collect();
            return Err(top.invalid("ips", all, "a pod has one address of each family"));
        }
        Ok(wanted)
    }

    fn read_capabilities(&mut self, runtime: &Fields<'_>) -> Result<(), CniError> {
        let ips = static_ips(runtime)?;
        if !ips.is_empty() {
            self.ips = ips;
        }
        self.mac = mac(runtime)?.or(self.mac);
        let mappings = runtime.objects("portMappings")?;
        self.port_mappings = mappings.iter().map(port_mapping).collect::<Result<_, _>>()?;
        if let Some(bandwidth) = runtime.object("bandwidth")? {
            self.bandwidth = Bandwidth {
                ingress: rate(&bandwidth, "ingressRate", "ingressBurst")?,
                egress: rate(&bandwidth, "egressRate", "egressBurst")?,
            };
        }
        self.ip_ranges = ip_ranges(runtime)?;
        if let Some(dns) = runtime.object("dns")? {
            self.dns = Some(Dns::from_capability(&dns)?).filter(|dns| !dns.is_empty());
        }
        self.cgroup_path = runtime.some_text("cgroupPath")?.map(str::to_owned);
        Ok(())
    }
}

/// An address a pod can have. A prefix length behind it is accepted and without meaning: pods have /32 and /128.
///
/// # Errors
/// Why not, in words.
pub fn parse_ip(text: &str) -> Result<IpAddr, &'static str> {
    let ip = match text.parse::<IpNet>() {
        Ok(net) => net.addr(),
        Err(_) => text.parse().map_err(|_| "not an address; use one such as 10.244.3.7 or fd00:244:3::7")?,
    };
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local {
        return Err("not an address a pod can have; use one of the node's blocks");
    }
    Ok(ip)
}

/// `ips` of `runtimeConfig` and `args.cni`.
fn static_ips(of: &Fields<'_>) -> Result<Vec<IpAddr>, CniError> {
    let each = of.texts("ips")?.into_iter();
    each.map(|(place, text)| parse_ip(text).map_err(|why| of.invalid(&place, text, why))).collect()
}

/// `mac` of `runtimeConfig` and `args.cni`.
fn mac(of: &Fields<'_>) -> Result<Option<Mac>, CniError> {
    let text = of.some_text("mac")?;
    text.map(|text| Mac::parse(text).map_err(|why| of.invalid("mac", text, why))).transpose()
}

fn port_mapping(of: &Fields<'_>) -> Result<PortMapping, CniError> {
    let port = |key: &str| -> Result<NonZeroU16, CniError> {
        let number = of.number(key, 1, u64::from(u16::MAX))?;
        let number = number.ok_or_else(|| of.missing(key, "a port mapping needs both ports"))?;
        Ok(u16::try_from(number).ok().and_then(NonZeroU16::new).expect("checked to be 1 to 65535"))
    };
    let protocol = match of.some_text("protocol")? {
        None => Protocol::Tcp,
        Some(text) => match text.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(of.invalid("protocol", text, "use tcp, udp or sctp")),
        },
    };
    let host_ip = of.some_text("hostIP")?;
    let host_ip = host_ip.map(|text| {
        text.parse::<IpAddr>()
            .map_err(|_| of.invalid("hostIP", text, "use an address of the node, or leave it out"))
    });
    Ok(PortMapping {
        host_port: port("hostPort")?,
        container_port: port("containerPort")?,
        protocol,
        host_ip: host_ip.transpose()?,
    })
}

/// A rate of 0 is no limit.
fn rate(of: &Fields<'_>, rate: &str, burst: &str) -> Result<Option<Rate>, CniError> {
    let bits_per_second = of.number(rate, 0, u64::MAX)?.unwrap_or_default();
    let burst_bits = of.number(burst, 0, u64::MAX)?.unwrap_or_default();
    match (bits_per_second, burst_bits) {
        (0, 0) => Ok(None),
        (0, _) => Err(of.invalid(burst, burst_bits, &format!("a burst needs a rate; set {rate}"))),
        (1..8, _) => Err(of.invalid(rate, bits_per_second, "bits per second; at least 8")),
        (_, 0..8) => Err(of.invalid(burst, burst_bits, "bits that may pass at once; at least 8")),
        // Runtimes say "no limit" by the largest number they can think of.
        _ => Ok(Some(Rate { bits_per_second, burst_bits: burst_bits.min(MOST_BURST_BITS) })),
    }
}

/// `ipRanges`: the conventions have a list of lists of ranges; containerd's library sends a list of ranges.
fn ip_ranges(of: &Fields<'_>) -> Result<Vec<IpRange>, CniError> {
    let mut ranges = Vec::new();
    for (index, value) in of.list("ipRanges")?.unwrap_or_default().iter().enumerate() {
        let place = format!("ipRanges[{index}]");
        match value {
            Value::Array(set) => {
                for (inner, value) in set.iter().enumerate() {
                    ranges.push(ip_range(&of.entry(&format!("{place}[{inner}]"), value)?)?);
                }
            }
            value => ranges.push(ip_range(&of.entry(&place, value)?)?),
        }
    }
    Ok(ranges)
}

fn ip_range(of: &Fields<'_>) -> Result<IpRange, CniError> {
    let text =
        of.some_text("subnet")?.ok_or_else(|| of.missing("subnet", "use one such as 10.244.3.0/24"))?;
    let subnet: IpNet = text
        .parse()
        .map_err(|_| of.invalid("subnet", text, "not a subnet; use one such as 10.244.3.0/24"))?;
    let end = |key: &str, default: IpAddr| -> Result<IpAddr, CniError> {
        let Some(text) = of.some_text(key)? else { return Ok(default) };
        let address: Option<IpAddr> = text.parse().ok();
        let inside = address.filter(|address| subnet.contains(address));
        inside.ok_or_else(|| of.invalid(key, text, &format!("use an address of {subnet}")))
    };
    let range =
        IpRange { first: end("rangeStart", subnet.network())?, last: end("rangeEnd", subnet.broadcast())? };
    if range.first > range.last {
        let remedy = format!("it lies behind rangeEnd {}; exchange them", range.last);
        return Err(of.invalid("rangeStart", range.first.to_string(), &remedy));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Code;

    fn read(config: Value, args: &str) -> Result<Wanted, CniError> {
        Wanted::read(&Fields::new(config.as_object().unwrap()), &CniArgs::parse(args).unwrap())
    }

    fn ips(of: &Wanted) -> Vec<String> {
        of.ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn capabilities_come_before_args_and_those_before_the_environment() {
        let runtime = serde_json::json!({"ips": ["10.0.0.1/24", "fd00::1"], "mac": "02:00:00:00:00:01"});
        let args =
            serde_json::json!({"cni": {"ips": ["10.0.0.2"], "mac": "02-00-00-00-00-02", "labels": []}});
        let environment = "IP=10.0.0.3;MAC=02:00:00:00:00:03";
        let all = read(serde_json::json!({"runtimeConfig": runtime, "args": args}), environment).unwrap();
        assert_eq!((ips(&all), all.mac.unwrap().octets()[5]), (vec!["10.0.0.1".into(), "fd00::1".into()], 1));
        let two = read(serde_json::json!({"runtimeConfig": {}, "args": args}), environment).unwrap();
        assert_eq!((ips(&two), two.mac.unwrap().octets()[5]), (vec!["10.0.0.2".to_owned()], 2));
        let one = read(serde_json::json!({"args": {"cni": null}}), environment).unwrap();
        assert_eq!((ips(&one), one.mac.unwrap().octets()[5]), (vec!["10.0.0.3".to_owned()], 3));
        assert_eq!(read(serde_json::json!({}), "").unwrap(), Wanted::default());
    }

    #[test]
    fn capabilities_are_read_as_the_conventions_and_as_containerd_write_them() {
        let conventions = serde_json::json!({"runtimeConfig": {
            "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "UDP", "hostIP": "192.0.2.1"}],
            "bandwidth": {"ingressRate": 8000, "ingressBurst": 80, "egressRate": 0, "egressBurst": 0},
            "ipRanges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.20"}]],
            "dns": {"servers": ["192.0.2.53"], "searches": ["a.example"], "options": ["ndots:5"]},
            "cgroupPath": "/kubepods/x",
        }});
        let containerd = serde_json::json!({"runtimeConfig": {
            "portMappings": [{"HostPort": 80, "ContainerPort": 8080, "Protocol": "udp", "HostIP": "192.0.2.1"}],
            "bandwidth": {"IngressRate": 8000, "IngressBurst": 80, "EgressRate": 0, "EgressBurst": 0},
            "ipRanges": [{"Subnet": "10.0.0.0/24", "RangeStart": "10.0.0.9", "RangeEnd": "10.0.0.20", "Gateway": ""}],
            "dns": {"Servers": ["192.0.2.53"], "Searches": ["a.example"], "Options": ["ndots:5"]},
            "cgroupPath": "/kubepods/x",
        }});
        let wanted = read(conventions, "").unwrap();
        assert_eq!(wanted.port_mappings[0].protocol, Protocol::Udp);
        assert_eq!(wanted.port_mappings[0].host_ip, Some("192.0.2.1".parse().unwrap()));
        let limited = Rate { bits_per_second: 8000, burst_bits: 80 };
        assert_eq!(wanted.bandwidth, Bandwidth { ingress: Some(limited), egress: None });
        assert_eq!(wanted.ip_ranges[0].last, "10.0.0.20".parse::<IpAddr>().unwrap());
        assert_eq!(wanted.cgroup_path.as_deref(), Some("/kubepods/x"));
        assert!(wanted.dns.is_some());
        assert_eq!(read(containerd, "").unwrap(), wanted);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_key_and_value() {
        let cases = [
            (
                r#"{"ips": ["10.0.0.1", "10.0.0.2"]}"#,
                Code::InvalidConfig,
                "ips is [\"10.0.0.1\",\"10.0.0.2\"]",
            ),
            (r#"{"ips": ["127.0.0.1"]}"#, Code::InvalidConfig, "runtimeConfig.ips[0] is \"127.0.0.1\""),
            (r#"{"ips": "10.0.0.1"}"#, Code::Decode, "runtimeConfig.ips is \"10.0.0.1\""),
            (
                r#"{"mac": "ff:ff:ff:ff:ff:ff"}"#,
                Code::InvalidConfig,
                "runtimeConfig.mac is \"ff:ff:ff:ff:ff:ff\"",
            ),
            (r#"{"mac": "+2:00:00:00:00:00"}"#, Code::InvalidConfig, "runtimeConfig.mac is \"+2:"),
            (
                r#"{"portMappings": [{"hostPort": 0, "containerPort": 1}]}"#,
                Code::InvalidConfig,
                "runtimeConfig.portMappings[0].hostPort is 0: use a whole number from 1 to 65535",
            ),
            (
                r#"{"portMappings": [{"hostPort": 1}]}"#,
                Code::InvalidConfig,
                "runtimeConfig.portMappings[0].containerPort is missing",
            ),
            (
                r#"{"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}"#,
                Code::InvalidConfig,
                "runtimeConfig.portMappings[0].protocol is \"icmp\": use tcp, udp or sctp",
            ),
            (
                r#"{"bandwidth": {"ingressRate": 1000}}"#,
                Code::InvalidConfig,
                "runtimeConfig.bandwidth.ingressBurst",
            ),
            (
                r#"{"bandwidth": {"egressBurst": 1000}}"#,
                Code::InvalidConfig,
                "runtimeConfig.bandwidth.egressBurst",
            ),
            (
                r#"{"bandwidth": {"egressRate": -1}}"#,
                Code::InvalidConfig,
                "runtimeConfig.bandwidth.egressRate is -1",
            ),
            (r#"{"bandwidth": 5}"#, Code::Decode, "runtimeConfig.bandwidth is 5"),
            (
                r#"{"ipRanges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.1.1"}]]}"#,
                Code::InvalidConfig,
                "runtimeConfig.ipRanges[0][0].rangeEnd is \"10.0.1.1\": use an address of 10.0.0.0/24",
            ),
            (r#"{"ipRanges": [7]}"#, Code::Decode, "runtimeConfig.ipRanges[0] is 7"),
        ];
        for (runtime, code, expected) in cases {
            let runtime: Value = serde_json::from_str(runtime).unwrap();
            let error = read(serde_json::json!({"runtimeConfig": runtime}), "").unwrap_err();
            assert_eq!(error.code, code, "{}", error.msg);
            assert!(error.msg.starts_with(expected), "{} instead of {expected}", error.msg);
        }
    }

    #[test]
    fn a_burst_without_limit_is_the_largest_the_kernel_counts() {
        let bandwidth = serde_json::json!({"ingressRate": u64::MAX, "ingressBurst": u64::MAX});
        let wanted = read(serde_json::json!({"runtimeConfig": {"bandwidth": bandwidth}}), "").unwrap();
        let expected = Rate { bits_per_second: u64::MAX, burst_bits: MOST_BURST_BITS };
        assert_eq!(wanted.bandwidth.ingress, Some(expected));
    }
}
