//! Results of ADD in the words of each version: what came from plugins before us, word for word, and our part.
//!
//! ```text
//!   0.3.1, 0.4.0   ips[].version is required
//!   1.0.0          ips[].version is gone
//!   1.1.0          interfaces[].{mtu, socketPath, pciID} and routes[].{mtu, advmss, priority, table, scope} may stand
//! ```
//!
//! Source: CNI specification 0.3.1 to 1.1.0, section "Result types".

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::fields::{Fields, quoted};
use super::{CniError, Code, Version};

/// Keys 1.1.0 added to interfaces and to routes.
const INTERFACE_KEYS_OF_1_1: [&str; 3] = ["mtu", "socketPath", "pciID"];
const ROUTE_KEYS_OF_1_1: [&str; 5] = ["mtu", "advmss", "priority", "table", "scope"];

/// The result of an ADD: `prevResult` of the plugins before, or the one being made.
#[derive(Clone, Debug, PartialEq)]
pub struct AddResult {
    /// Everything but the lists below, `cniVersion` and `dns`: passed on untouched.
    others: Map<String, Value>,
    interfaces: Vec<Value>,
    ips: Vec<Value>,
    routes: Vec<Value>,
    dns: Value,
}

/// Resolver settings: `dns` of a configuration or a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers, in order.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Search list.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// An interface of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address as text.
    pub mac: &'a str,
    /// MTU in octets; told from version 1.1.0 on.
    pub mtu_bytes: Option<u32>,
    /// `CNI_NETNS` word for word. `None`: it stands on the node.
    pub sandbox: Option<&'a str>,
}

impl AddResult {
    /// A result that says nothing yet.
    #[must_use]
    pub fn empty() -> Self {
        let (others, dns) = (Map::new(), json!({}));
        Self { others, interfaces: Vec::new(), ips: Vec::new(), routes: Vec::new(), dns }
    }

    /// Reads a `prevResult` of any version.
    ///
    /// # Errors
    /// Code 6 when a list is none, or an entry of it is no object.
    pub fn read(fields: &Fields<'_>) -> Result<Self, CniError> {
        let list = |key: &str| -> Result<Vec<Value>, CniError> {
            fields.objects(key)?;
            Ok(fields.list(key)?.unwrap_or_default().to_vec())
        };
        fields.object("dns")?;
        let mut others = Map::new();
        for (key, value) in fields.entries() {
            if !["cniVersion", "interfaces", "ips", "routes", "dns"].contains(&key) {
                others.insert(key.to_owned(), value.clone());
            }
        }
        Ok(Self {
            others,
            interfaces: list("interfaces")?,
            ips: list("ips")?,
            routes: list("routes")?,
            dns: fields.value("dns").cloned().unwrap_or_else(|| json!({})),
        })
    }

    /// Adds an interface and returns its index, by which addresses refer to it.
    pub fn add_interface(&mut self, interface: &Interface<'_>) -> usize {
        let mut entry = json!({"name": interface.name, "mac": interface.mac});
        if let Some(mtu) = interface.mtu_bytes {
            entry["mtu"] = mtu.into();
        }
        if let Some(sandbox) = interface.sandbox {
            entry["sandbox"] = sandbox.into();
        }
        self.interfaces.push(entry);
        self.interfaces.len() - 1
    }

    /// Adds an address of full length on the interface of this index.
    pub fn add_ip(&mut self, address: IpAddr, gateway: Option<IpAddr>, interface: usize) {
        let length = if address.is_ipv4() { 32 } else { 128 };
        self.add_net(address, length, gateway, interface);
    }

    /// Adds an address with its prefix length on the interface of this index.
    pub fn add_net(&mut self, address: IpAddr, length: u8, gateway: Option<IpAddr>, interface: usize) {
        let mut entry = json!({"address": format!("{address}/{length}"), "interface": interface});
        if let Some(gateway) = gateway {
            entry["gateway"] = gateway.to_string().into();
        }
        self.ips.push(entry);
    }

    /// Adds a route.
    pub fn add_route(&mut self, destination: &str, gateway: IpAddr) {
        self.routes.push(json!({"dst": destination, "gw": gateway.to_string()}));
    }

    /// Sets the resolver settings.
    pub fn set_dns(&mut self, dns: &Dns) {
        self.dns = dns.to_json();
    }

    /// Whether an interface of this name is told of.
    #[must_use]
    pub fn has_interface(&self, name: &str) -> bool {
        self.interface(name).is_some()
    }

    /// MTU of the interface of this name, where the version tells it.
    #[must_use]
    pub fn mtu_bytes(&self, name: &str) -> Option<u32> {
        self.interface(name)?.get("mtu")?.as_u64()?.try_into().ok()
    }

    /// Whether the pod was given this address, whatever prefix length it is told with.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        let told = self.ips.iter().filter_map(|entry| entry.get("address")?.as_str()?.split('/').next());
        told.filter_map(|text| text.parse::<IpAddr>().ok()).any(|found| found == address)
    }

    fn interface(&self, name: &str) -> Option<&Value> {
        self.interfaces.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
    }

    /// The result in the words of `version`, one line.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        let mut result = self.others.clone();
        result.insert("cniVersion".to_owned(), version.as_str().into());
        let older = version < Version::V1_1_0;
        let without = |entries: &[Value], keys: &[&str]| -> Value {
            let mut entries = entries.to_vec();
            for entry in entries.iter_mut().filter_map(Value::as_object_mut).filter(|_| older) {
                keys.iter().for_each(|key| drop(entry.remove(*key)));
            }
            entries.into()
        };
        let interfaces = without(&self.interfaces, &INTERFACE_KEYS_OF_1_1);
        let routes = without(&self.routes, &ROUTE_KEYS_OF_1_1);
        for (key, list) in [("interfaces", interfaces), ("ips", self.ips_of(version)), ("routes", routes)] {
            if list.as_array().is_some_and(|list| !list.is_empty()) {
                result.insert(key.to_owned(), list);
            }
        }
        result.insert("dns".to_owned(), self.dns.clone());
        Value::Object(result).to_string()
    }

    fn ips_of(&self, version: Version) -> Value {
        let mut entries = self.ips.clone();
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            if version >= Version::V1_0_0 {
                entry.remove("version");
            } else if !entry.contains_key("version") {
                let v6 = entry.get("address").and_then(Value::as_str).is_some_and(|text| text.contains(':'));
                entry.insert("version".to_owned(), if v6 { "6" } else { "4" }.into());
            }
        }
        entries.into()
    }
}

impl Dns {
    /// Reads the configuration's `dns`.
    ///
    /// # Errors
    /// Code 6; the message names key and value.
    pub fn from_config(of: &Fields<'_>) -> Result<Self, CniError> {
        let domain = of.some_text("domain")?.map(str::to_owned);
        let (nameservers, search) = (texts(of, "nameservers")?, texts(of, "search")?);
        Ok(Self { nameservers, domain, search, options: texts(of, "options")? })
    }

    /// Reads `runtimeConfig.dns`, whose keys have other names.
    ///
    /// # Errors
    /// Code 6; the message names key and value.
    pub fn from_capability(of: &Fields<'_>) -> Result<Self, CniError> {
        let (nameservers, search) = (texts(of, "servers")?, texts(of, "searches")?);
        Ok(Self { nameservers, domain: None, search, options: texts(of, "options")? })
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn to_json(&self) -> Value {
        let mut dns = Map::new();
        let lists =
            [("nameservers", &self.nameservers), ("search", &self.search), ("options", &self.options)];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            dns.insert(key.to_owned(), list.as_slice().into());
        }
        if let Some(domain) = &self.domain {
            dns.insert("domain".to_owned(), domain.as_str().into());
        }
        dns.into()
    }
}

fn texts(of: &Fields<'_>, key: &str) -> Result<Vec<String>, CniError> {
    Ok(of.texts(key)?.into_iter().map(|(_, text)| text.to_owned()).collect())
}

/// What VERSION answers: `given` is the request's `cniVersion`, which the answer repeats.
#[must_use]
pub fn version_json(given: Option<&str>) -> String {
    let supported: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
    json!({"cniVersion": given.unwrap_or(Version::NEWEST.as_str()), "supportedVersions": supported})
        .to_string()
}

/// The request's `cniVersion`: absent means 0.1.0.
///
/// # Errors
/// Code 6 when it is not text, 1 when this plugin does not speak it.
pub fn requested_version(top: &Fields<'_>) -> Result<Version, CniError> {
    let supported = Version::ALL.map(Version::as_str).join(", ");
    let incompatible = |said: String| {
        let msg =
            format!("{said}, and this plugin speaks {supported}: write one of them into the configuration");
        CniError::new(Code::IncompatibleVersion, msg)
    };
    match top.text("cniVersion")? {
        Some(text) => Version::parse(text)
            .ok_or_else(|| incompatible(format!("cniVersion is {}", quoted(&Value::from(text))))),
        None => Err(incompatible("cniVersion is missing, which means 0.1.0".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> AddResult {
        let value: Value = serde_json::from_str(text).unwrap();
        AddResult::read(&Fields::new(value.as_object().unwrap())).unwrap()
    }

    fn same(left: &str, right: &str) {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parse(left), parse(right), "{left}");
    }

    /// A pod with an address of each family, as ADD tells it.
    fn ours(mut result: AddResult) -> AddResult {
        let mtu_bytes = Some(1500);
        let host = Interface { name: "twaaaaaaaaaaaaa", mac: "ee:ee:ee:ee:ee:ee", mtu_bytes, sandbox: None };
        result.add_interface(&host);
        let pod =
            Interface { name: "eth0", mac: "02:00:00:00:00:01", mtu_bytes, sandbox: Some("/run/netns/a") };
        let index = result.add_interface(&pod);
        let (v4, v6): (IpAddr, IpAddr) = ("169.254.1.1".parse().unwrap(), "fe80::1".parse().unwrap());
        result.add_ip("10.244.3.2".parse().unwrap(), Some(v4), index);
        result.add_ip("fd00:244:3::2".parse().unwrap(), Some(v6), index);
        result.add_route("0.0.0.0/0", v4);
        result.add_route("::/0", v6);
        result
    }

    #[test]
    fn add_answers_in_the_words_of_each_version() {
        let routes =
            r#""routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}]"#;
        for version in ["0.3.1", "0.4.0"] {
            let golden = format!(
                r#"{{"cniVersion": "{version}", "interfaces": [
                    {{"name": "twaaaaaaaaaaaaa", "mac": "ee:ee:ee:ee:ee:ee"}},
                    {{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"}}
                ], "ips": [
                    {{"version": "4", "address": "10.244.3.2/32", "gateway": "169.254.1.1", "interface": 1}},
                    {{"version": "6", "address": "fd00:244:3::2/128", "gateway": "fe80::1", "interface": 1}}
                ], {routes}, "dns": {{}}}}"#
            );
            same(&ours(AddResult::empty()).to_json(Version::parse(version).unwrap()), &golden);
        }
        for (version, mtu) in [("1.0.0", ""), ("1.1.0", r#", "mtu": 1500"#)] {
            let golden = format!(
                r#"{{"cniVersion": "{version}", "interfaces": [
                    {{"name": "twaaaaaaaaaaaaa", "mac": "ee:ee:ee:ee:ee:ee"{mtu}}},
                    {{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"{mtu}}}
                ], "ips": [
                    {{"address": "10.244.3.2/32", "gateway": "169.254.1.1", "interface": 1}},
                    {{"address": "fd00:244:3::2/128", "gateway": "fe80::1", "interface": 1}}
                ], {routes}, "dns": {{}}}}"#
            );
            same(&ours(AddResult::empty()).to_json(Version::parse(version).unwrap()), &golden);
        }
    }

    #[test]
    fn what_came_before_passes_through_untouched() {
        let of_each_version = [
            r#"{"cniVersion": "0.3.1", "interfaces": [{"name": "eth9", "sandbox": "/n", "x": [1]}],
                "ips": [{"version": "4", "address": "10.0.0.2/24", "interface": 0, "y": null}],
                "routes": [{"dst": "10.0.0.0/8"}], "dns": {"nameservers": ["192.0.2.53"], "z": 1}}"#,
            r#"{"cniVersion": "0.4.0", "ips": [{"version": "6", "address": "fd00::2/64"}], "dns": {},
                "extra": {"kept": true}}"#,
            r#"{"cniVersion": "1.0.0", "interfaces": [{"name": "a"}], "ips": [{"address": "10.0.0.2/24"}], "dns": {}}"#,
            r#"{"cniVersion": "1.1.0", "interfaces": [{"name": "a", "mtu": 9000, "socketPath": "/s", "pciID": "p"}],
                "routes": [{"dst": "0.0.0.0/0", "mtu": 1, "advmss": 2, "priority": 3, "table": 4, "scope": 5}],
                "dns": {}}"#,
        ];
        for (text, version) in of_each_version.into_iter().zip(Version::ALL) {
            same(&read(text).to_json(version), text);
        }
    }

    #[test]
    fn a_result_of_another_version_is_told_in_the_requests() {
        let new = read(
            r#"{"cniVersion": "1.1.0", "interfaces": [{"name": "a", "mtu": 9000, "socketPath": "/s", "pciID": "p"}],
                "ips": [{"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}],
                "routes": [{"dst": "0.0.0.0/0", "mtu": 1, "advmss": 2, "priority": 3, "table": 4, "scope": 5}]}"#,
        );
        same(
            &new.to_json(Version::V0_4_0),
            r#"{"cniVersion": "0.4.0", "interfaces": [{"name": "a"}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {},
                "ips": [{"version": "4", "address": "10.0.0.2/24"}, {"version": "6", "address": "fd00::2/64"}]}"#,
        );
        let old = read(r#"{"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.0.0.2/24"}]}"#);
        let expected = r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}], "dns": {}}"#;
        same(&old.to_json(Version::V1_0_0), expected);
    }

    #[test]
    fn our_part_is_added_behind_what_came_before() {
        let before = read(
            r#"{"cniVersion": "1.0.0", "interfaces": [{"name": "lo", "sandbox": "/run/netns/a"}],
                "ips": [{"address": "127.0.0.1/8", "interface": 0}], "dns": {"search": ["a.example"]}}"#,
        );
        assert!(before.has_interface("lo") && !before.has_interface("eth0"));
        let both = ours(before);
        assert!(
            both.has_address("10.244.3.2".parse().unwrap()) && both.has_address("127.0.0.1".parse().unwrap())
        );
        assert!(!both.has_address("10.244.3.3".parse().unwrap()));
        assert_eq!((both.mtu_bytes("eth0"), both.mtu_bytes("lo")), (Some(1500), None));
        let written: Value = serde_json::from_str(&both.to_json(Version::V1_0_0)).unwrap();
        let interfaces: Vec<u64> =
            written["ips"].as_array().unwrap().iter().map(|ip| ip["interface"].as_u64().unwrap()).collect();
        assert_eq!(interfaces, [0, 2, 2]);
        assert_eq!(written["dns"]["search"][0], "a.example");
    }

    #[test]
    fn the_runtimes_resolver_settings_become_the_results() {
        let config = json!({"nameservers": ["192.0.2.53"], "domain": "a.example", "options": ["ndots:5"]});
        let mut result = AddResult::empty();
        result.set_dns(&Dns::from_config(&Fields::new(config.as_object().unwrap())).unwrap());
        let written: Value = serde_json::from_str(&result.to_json(Version::V1_0_0)).unwrap();
        assert_eq!(written["dns"], config);
    }

    #[test]
    fn version_repeats_what_it_was_given() {
        let supported = r#""supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]"#;
        same(&version_json(Some("0.4.0")), &format!(r#"{{"cniVersion": "0.4.0", {supported}}}"#));
        same(&version_json(None), &format!(r#"{{"cniVersion": "1.1.0", {supported}}}"#));
    }
}
