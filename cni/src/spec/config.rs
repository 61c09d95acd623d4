//! The configuration of a network: the specification's keys, our own, and what runtimes inject. Every key has a
//! default but `blocks`, which the daemon's ready file may give.
//!
//! A key that nobody reads is refused: a misspelt one would be silently without effect.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::fields::{Fields, quoted};
use super::result::Dns;
use super::{CniError, Code};
use crate::ready;

/// Where leases are kept unless `stateDir` says otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/towpath";
/// The kernel's main table.
const DEFAULT_ROUTE_TABLE: u32 = 254;
/// `rtm_protocol` of pod routes.
const DEFAULT_ROUTE_PROTOCOL: u8 = 200;
/// `rtm_protocol` of what BGP installs: the daemon removes such routes when BGP does not know them.
const BGP_ROUTE_PROTOCOL: u64 = 199;
/// An address rests this long before it is given to the next pod, where others are free.
const DEFAULT_REUSE_DELAY: Duration = Duration::from_secs(60);

/// Our own keys.
const OWN_KEYS: [&str; 10] = [
    "blocks",
    "stateDir",
    "mtu",
    "routeTable",
    "routeProtocol",
    "nodeAddresses",
    "readyFile",
    "bootIDFile",
    "reuseDelay",
    "foreignAddresses",
];
/// Keys of the specification and what runtimes inject, beside `cni.dev/...`.
const SPECIFIED_KEYS: [&str; 14] = [
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "args",
    "capabilities",
    "dns",
    "ipam",
    "ipMasq",
    "runtimeConfig",
    "prevResult",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
];

/// The configuration of a network, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConf {
    /// Blocks of addresses for this node's pods. Empty: those of the ready file.
    pub blocks: Vec<IpNet>,
    /// MTU of the pods' interfaces. `None`: the ready file's, or the uplink's.
    pub mtu_bytes: Option<u32>,
    /// Kernel table of the pod routes.
    pub route_table: u32,
    /// The node's own addresses. Empty: those of the ready file.
    pub node_addresses: Vec<IpAddr>,
    /// Where the daemon says whether the node is ready. `None`: there is no daemon.
    pub ready_file: Option<PathBuf>,
    /// How long an address rests before the next pod gets it.
    pub reuse_delay: Duration,
    /// Whether a static address may lie outside the blocks.
    pub foreign_addresses: bool,
    /// Resolver settings for results.
    pub dns: Option<Dns>,
}

/// Where a network's state is kept: all that DEL and GC need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePlace {
    /// Folder of the leases.
    pub state_dir: PathBuf,
    /// File that holds the boot id.
    pub boot_id_file: PathBuf,
    /// `rtm_protocol` of the pod routes: where leases are looked for when the folder was lost.
    pub route_protocol: u8,
}

impl NetworkConf {
    /// Reads and checks every key at the top of the configuration.
    ///
    /// # Errors
    /// 2: an unknown key. 6: a wrong type. 7: a value that makes no sense. The message names key and value.
    pub fn read(top: &Fields<'_>) -> Result<Self, CniError> {
        check_keys(top)?;
        top.text("type")?;
        top.object("capabilities")?;
        StatePlace::read(top)?;
        let blocks = blocks(top)?;
        let mtu = top.number("mtu", 68, 65535)?;
        if let Some(small) =
            mtu.filter(|mtu| *mtu < 1280 && blocks.iter().any(|block| block.addr().is_ipv6()))
        {
            return Err(top.invalid("mtu", small, "IPv6 needs 1280 at least, and blocks has IPv6"));
        }
        Ok(Self {
            mtu_bytes: mtu.map(|mtu| u32::try_from(mtu).expect("at most 65535")),
            blocks,
            route_table: top
                .number("routeTable", 1, u32::MAX.into())?
                .map_or(DEFAULT_ROUTE_TABLE, |table| u32::try_from(table).expect("at most 2^32 - 1")),
            node_addresses: node_addresses(top)?,
            ready_file: absolute_path(top, "readyFile")?,
            reuse_delay: reuse_delay(top)?,
            foreign_addresses: foreign_addresses(top)?,
            dns: dns(top)?,
        })
    }
}

impl StatePlace {
    /// Reads `stateDir`, `bootIDFile` and `routeProtocol`.
    ///
    /// # Errors
    /// 6 or 7; the message names key and value.
    pub fn read(top: &Fields<'_>) -> Result<Self, CniError> {
        let path = |key: &str, default: &str| -> Result<PathBuf, CniError> {
            Ok(absolute_path(top, key)?.unwrap_or_else(|| default.into()))
        };
        Ok(Self {
            state_dir: path("stateDir", DEFAULT_STATE_DIR)?,
            boot_id_file: path("bootIDFile", ready::BOOT_ID_PATH)?,
            route_protocol: route_protocol(top)?,
        })
    }
}

/// Refuses keys that nobody reads, with the nearest key that somebody does.
fn check_keys(top: &Fields<'_>) -> Result<(), CniError> {
    for (key, value) in top.entries() {
        if OWN_KEYS.contains(&key) || SPECIFIED_KEYS.contains(&key) || key.starts_with("cni.dev/") {
            continue;
        }
        let near = OWN_KEYS.into_iter().chain(SPECIFIED_KEYS).min_by_key(|known| distance(known, key));
        let near =
            near.filter(|near| distance(near, key) <= 3).map(|near| format!("; did you mean {near:?}?"));
        let all = || format!("; towpath-cni knows {}", OWN_KEYS.join(", "));
        let msg = format!("unknown key {key:?}: {}{}", quoted(value), near.unwrap_or_else(all));
        return Err(CniError::new(Code::UnsupportedField, msg));
    }
    let has_ipam = top.object("ipam")?.is_some_and(|ipam| ipam.entries().next().is_some());
    let foreign = if has_ipam {
        Some(("ipam", "towpath-cni gives out the addresses of \"blocks\" itself; leave ipam out"))
    } else if top.boolean("ipMasq")? == Some(true) {
        Some(("ipMasq", "pod addresses are routed, not translated; leave ipMasq out"))
    } else {
        None
    };
    match foreign.and_then(|(key, why)| top.value(key).map(|value| (key, value, why))) {
        None => Ok(()),
        Some((key, value, why)) => {
            Err(CniError::new(Code::UnsupportedField, format!("{key} is {}: {why}", quoted(value))))
        }
    }
}

/// Edits that lead from one key to the other, regardless of case (Levenshtein); keys far too long are far away.
fn distance(known: &str, key: &str) -> usize {
    if key.len() > 40 {
        return key.len();
    }
    let (known, key) = (known.to_ascii_lowercase(), key.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=key.len()).collect();
    for (i, a) in known.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in key.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[key.len()]
}

/// Blocks: subnets written by their lowest address, of addresses a pod can have, none inside another.
fn blocks(top: &Fields<'_>) -> Result<Vec<IpNet>, CniError> {
    let mut blocks: Vec<IpNet> = Vec::new();
    for (place, text) in top.texts("blocks")? {
        let invalid = |remedy: &str| top.invalid(&place, text, remedy);
        let block: IpNet = text
            .parse()
            .map_err(|_| invalid("not a block; use one such as 10.244.3.0/24 or fd00:244:3::/64"))?;
        if block.trunc() != block {
            return Err(invalid(&format!("it begins inside itself; write {}", block.trunc())));
        }
        super::wanted::parse_ip(&block.broadcast().to_string())
            .and_then(|_| if block.prefix_len() == 0 { Err("") } else { Ok(()) })
            .map_err(|_| {
                invalid("pods cannot have these addresses; use unicast ones of the network's own")
            })?;
        if let Some(other) = blocks.iter().find(|other| other.contains(&block) || block.contains(*other)) {
            return Err(invalid(&format!("it overlaps {other}; leave one out")));
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn node_addresses(top: &Fields<'_>) -> Result<Vec<IpAddr>, CniError> {
    let each = top.texts("nodeAddresses")?.into_iter();
    let remedy = "use an address of the node such as 192.0.2.1, without a prefix length";
    each.map(|(place, text)| {
        let address: Option<IpAddr> = text.parse().ok();
        let usable = address.filter(|address| super::wanted::parse_ip(&address.to_string()).is_ok());
        usable.ok_or_else(|| top.invalid(&place, text, remedy))
    })
    .collect()
}

fn route_protocol(top: &Fields<'_>) -> Result<u8, CniError> {
    // 1 to 4 are the kernel's and the administrator's own.
    match top.number("routeProtocol", 5, 255)? {
        None => Ok(DEFAULT_ROUTE_PROTOCOL),
        Some(BGP_ROUTE_PROTOCOL) => {
            let remedy = "the daemon sweeps routes of this number; use another, such as 200";
            Err(top.invalid("routeProtocol", BGP_ROUTE_PROTOCOL, remedy))
        }
        Some(number) => Ok(u8::try_from(number).expect("at most 255")),
    }
}

fn absolute_path(top: &Fields<'_>, key: &str) -> Result<Option<PathBuf>, CniError> {
    let Some(text) = top.some_text(key)? else { return Ok(None) };
    if !text.starts_with('/') || text.contains('\0') {
        return Err(top.invalid(key, text, "use an absolute path"));
    }
    Ok(Some(text.into()))
}

fn reuse_delay(top: &Fields<'_>) -> Result<Duration, CniError> {
    const MOST: u64 = 86400;
    let Some(text) = top.some_text("reuseDelay")? else { return Ok(DEFAULT_REUSE_DELAY) };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("s") => Some(1),
        Some("m") => Some(60),
        Some("h") => Some(3600),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()));
    let seconds = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    let inside = seconds.filter(|seconds| *seconds <= MOST);
    let invalid = || top.invalid("reuseDelay", text, "use a duration such as 60s, 5m or 1h, at most 24h");
    inside.map(Duration::from_secs).ok_or_else(invalid)
}

fn foreign_addresses(top: &Fields<'_>) -> Result<bool, CniError> {
    match top.text("foreignAddresses")? {
        None | Some("Refuse") => Ok(false),
        Some("Allow") => Ok(true),
        Some(other) => Err(top.invalid("foreignAddresses", other, "use Allow or Refuse")),
    }
}

fn dns(top: &Fields<'_>) -> Result<Option<Dns>, CniError> {
    let dns = top.object("dns")?.map(|dns| Dns::from_config(&dns)).transpose()?;
    Ok(dns.filter(|dns| !dns.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Result<NetworkConf, CniError> {
        let object: serde_json::Value = serde_json::from_str(keys).unwrap();
        NetworkConf::read(&Fields::new(object.as_object().unwrap()))
    }

    #[test]
    fn blocks_alone_are_enough() {
        let conf =
            read(r#"{"type": "towpath-cni", "blocks": ["10.244.3.0/24", "fd00:244:3::/64"]}"#).unwrap();
        let expected = NetworkConf {
            blocks: vec!["10.244.3.0/24".parse().unwrap(), "fd00:244:3::/64".parse().unwrap()],
            mtu_bytes: None,
            route_table: 254,
            node_addresses: Vec::new(),
            ready_file: None,
            reuse_delay: Duration::from_secs(60),
            foreign_addresses: false,
            dns: None,
        };
        assert_eq!(conf, expected);
    }

    #[test]
    fn every_key_of_ours_has_an_effect() {
        let plain = read("{}").unwrap();
        let keys = [
            r#"{"blocks": ["10.0.0.0/31"]}"#,
            r#"{"mtu": 9000}"#,
            r#"{"routeTable": 100}"#,
            r#"{"nodeAddresses": ["192.0.2.1", "2001:db8::1"]}"#,
            r#"{"readyFile": "/run/towpath/ready"}"#,
            r#"{"reuseDelay": "5m"}"#,
            r#"{"foreignAddresses": "Allow"}"#,
            r#"{"dns": {"nameservers": ["192.0.2.53"]}}"#,
        ];
        for key in keys {
            assert_ne!(read(key).unwrap(), plain, "{key}");
        }
        let object = serde_json::json!({"stateDir": "/srv", "bootIDFile": "/srv/boot", "routeProtocol": 201});
        let place = StatePlace::read(&Fields::new(object.as_object().unwrap())).unwrap();
        assert_eq!(
            place,
            StatePlace { state_dir: "/srv".into(), boot_id_file: "/srv/boot".into(), route_protocol: 201 }
        );
        assert_eq!(keys.len() + 3, OWN_KEYS.len() + 1, "a key of ours has no row here");
    }

    #[test]
    fn what_runtimes_inject_is_no_unknown_key() {
        let injected = r#"{
            "cniVersion": "1.1.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "n", "type": "towpath-cni",
            "args": {"cni": {"labels": [{"key": "a", "value": "b"}]}, "other": 1}, "capabilities": {"ips": true},
            "runtimeConfig": {"later": 1}, "prevResult": {}, "dns": {}, "ipam": {}, "ipMasq": false,
            "disableCheck": false, "disableGC": true, "cni.dev/valid-attachments": [], "cni.dev/anything": {"x": 1},
            "mtu": null
        }"#;
        assert_eq!(read(injected), read("{}"));
    }

    #[test]
    fn unknown_keys_are_refused_with_key_value_and_the_nearest_known_one() {
        let cases = [
            (
                r#"{"block": ["10.0.0.0/24"]}"#,
                r#"unknown key "block": ["10.0.0.0/24"]; did you mean "blocks"?"#,
            ),
            (r#"{"MTU": 5}"#, r#"unknown key "MTU": 5; did you mean "mtu"?"#),
            (
                r#"{"hairpinMode": true}"#,
                r#"unknown key "hairpinMode": true; towpath-cni knows blocks, stateDir"#,
            ),
            (
                r#"{"ipam": {"type": "host-local"}}"#,
                r#"ipam is {"type":"host-local"}: towpath-cni gives out"#,
            ),
            (r#"{"ipMasq": true}"#, "ipMasq is true: pod addresses are routed"),
        ];
        for (keys, expected) in cases {
            let error = read(keys).unwrap_err();
            assert_eq!(error.code, Code::UnsupportedField, "{}", error.msg);
            assert!(error.msg.starts_with(expected), "{} instead of {expected}", error.msg);
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_key_and_value() {
        let cases = [
            (
                r#"{"blocks": ["10.0.0.5/24"]}"#,
                "blocks[0] is \"10.0.0.5/24\": it begins inside itself; write 10.0.0.0/24",
            ),
            (r#"{"blocks": ["10.0.0.0"]}"#, "blocks[0] is \"10.0.0.0\": not a block"),
            (r#"{"blocks": ["0.0.0.0/0"]}"#, "blocks[0] is \"0.0.0.0/0\": pods cannot have"),
            (r#"{"blocks": ["224.0.0.0/24"]}"#, "blocks[0] is \"224.0.0.0/24\": pods cannot have"),
            (r#"{"blocks": ["fe80::/64"]}"#, "blocks[0] is \"fe80::/64\": pods cannot have"),
            (
                r#"{"blocks": ["10.0.0.0/24", "10.0.0.0/16"]}"#,
                "blocks[1] is \"10.0.0.0/16\": it overlaps 10.0.0.0/24",
            ),
            (r#"{"mtu": 67}"#, "mtu is 67: use a whole number from 68 to 65535"),
            (r#"{"mtu": 1279, "blocks": ["fd00::/64"]}"#, "mtu is 1279: IPv6 needs 1280"),
            (r#"{"mtu": 1500.5}"#, "mtu is 1500.5: use a whole number"),
            (r#"{"routeTable": 0}"#, "routeTable is 0"),
            (r#"{"routeProtocol": 199}"#, "routeProtocol is 199: the daemon sweeps"),
            (r#"{"routeProtocol": 2}"#, "routeProtocol is 2"),
            (r#"{"nodeAddresses": ["192.0.2.1/24"]}"#, "nodeAddresses[0] is \"192.0.2.1/24\""),
            (r#"{"stateDir": "var/lib"}"#, "stateDir is \"var/lib\": use an absolute path"),
            (r#"{"readyFile": "ready"}"#, "readyFile is \"ready\": use an absolute path"),
            (r#"{"reuseDelay": "60"}"#, "reuseDelay is \"60\": use a duration"),
            (r#"{"reuseDelay": "25h"}"#, "reuseDelay is \"25h\": use a duration"),
            (r#"{"reuseDelay": "+6s"}"#, "reuseDelay is \"+6s\": use a duration"),
            (r#"{"foreignAddresses": true}"#, "foreignAddresses is true, which is not text"),
            (r#"{"foreignAddresses": "yes"}"#, "foreignAddresses is \"yes\": use Allow or Refuse"),
            (r#"{"blocks": "10.0.0.0/24"}"#, "blocks is \"10.0.0.0/24\", which is not a list"),
            (r#"{"mtu": "1500"}"#, "mtu is \"1500\", which is not a number"),
            (r#"{"capabilities": []}"#, "capabilities is [], which is not an object"),
            (r#"{"dns": {"search": "a"}}"#, "dns.search is \"a\", which is not a list"),
        ];
        for (keys, expected) in cases {
            let error = read(keys).unwrap_err();
            let wrong_type = error.msg.contains(", which is not");
            assert_eq!(
                error.code,
                if wrong_type { Code::Decode } else { Code::InvalidConfig },
                "{}",
                error.msg
            );
            assert!(error.msg.starts_with(expected), "{} instead of {expected}", error.msg);
        }
    }
}
