//! The kernel settings of both ends: what they shall be, and what they are.
//!
//! They are in force before the link is up, and read back as the kernel's arrays, which come with the link.
//!
//! IPv4's travel in the same requests as the link. IPv6's can only be written as files below
//! `/proc/sys/net/ipv6/conf`, and to find that folder the kernel walks those of all pods, half a millisecond for a
//! thousand. So a file is written only where the effect would be another one: an address without duplicate address
//! detection needs no `accept_dad`, and a link that forwards takes no router advertisements unless `accept_ra` is 2.

use std::fs::File;
use std::io::Write;

use netlink::read::u32_at;

use super::link::Link;
use super::{PodError, Wire};

/// One setting of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its file's name.
    pub(super) name: &'static str,
    /// Place in the kernel's array: linux/ip.h's `IPV4_DEVCONF_*` less one, linux/ipv6.h's `DEVCONF_*`.
    pub(super) number: u16,
    pub(super) value: u32,
}

const fn setting(name: &'static str, number: u16, value: u32) -> Setting {
    Setting { name, number, value }
}

const RP_FILTER: u16 = 7;

/// The host end's IPv4 settings.
pub(super) fn host_v4(wire: &Wire) -> [Setting; 4] {
    [
        setting("forwarding", 0, 1),
        setting("proxy_arp", 2, 0),
        setting("rp_filter", RP_FILTER, 1),
        setting("route_localnet", 25, wire.route_localnet.into()),
    ]
}

/// The pod end's IPv4 settings.
pub(super) const POD_V4: [Setting; 1] = [setting("forwarding", 0, 0)];

const FORWARDING_V6: Setting = setting("forwarding", 0, 0);
const NO_RA: Setting = setting("accept_ra", 3, 0);
const IPV6_ON: Setting = setting("disable_ipv6", 26, 0);

/// The host end's IPv6 settings that must be written.
pub(super) fn host_v6(wire: &Wire, host: &Link) -> Result<Vec<Setting>, PodError> {
    let mut missing = on_if_wanted(wire, host)?;
    let Some(array) = &host.v6_settings else { return Ok(missing) };
    // No pod tells the node its routes: CVE-2020-10749. A link that forwards does not listen, unless told to (2).
    let forwards = value(array, FORWARDING_V6.number) == Some(1);
    let deaf = match value(array, NO_RA.number) {
        Some(0) => true,
        Some(1) => forwards,
        _ => false,
    };
    missing.extend((!deaf).then_some(NO_RA));
    Ok(missing)
}

/// The pod end's IPv6 settings that must be written. Router advertisements are no matter there: the only one who
/// could send any is the node.
pub(super) fn pod_v6(wire: &Wire, pod: &Link) -> Result<Vec<Setting>, PodError> {
    let mut missing = on_if_wanted(wire, pod)?;
    let array = pod.v6_settings.as_deref().unwrap_or_default();
    let forwards = value(array, FORWARDING_V6.number).is_some_and(|found| found != 0);
    missing.extend((wire.addresses.v6.is_some() && forwards).then_some(FORWARDING_V6));
    Ok(missing)
}

/// A kernel without IPv6 is fine for a wire without an IPv6 address.
fn on_if_wanted(wire: &Wire, link: &Link) -> Result<Vec<Setting>, PodError> {
    match (wire.addresses.v6, &link.v6_settings) {
        (None, _) => Ok(Vec::new()),
        (Some(_), None) => Err(PodError::NoIpv6),
        (Some(_), Some(array)) if value(array, IPV6_ON.number) == Some(0) => Ok(Vec::new()),
        (Some(_), Some(_)) => Ok(vec![IPV6_ON]),
    }
}

/// Writes IPv6 settings of the link, in the calling thread's namespace.
pub(super) fn write(link: &Link, settings: &[Setting]) -> Result<(), PodError> {
    for Setting { name, value, .. } in settings {
        let file = format!("/proc/sys/net/ipv6/conf/{}/{name}", link.name);
        let written = File::options().write(true).open(&file);
        written
            .and_then(|mut open| open.write_all(value.to_string().as_bytes()))
            .map_err(|source| PodError::Sysctl { file, value: *value, source })?;
    }
    Ok(())
}

/// The host end's settings that are not what they shall be, in words.
pub(super) fn differences_of_host(host: &Link, wire: &Wire) -> Vec<String> {
    let mut differences = of_v4(host, &host_v4(wire));
    differences.extend(of_v6(host, host_v6(wire, host)));
    differences
}

/// The pod end's settings that are not what they shall be right after they were set, in words.
pub(super) fn differences_of_pod(pod: &Link, wire: &Wire) -> Vec<String> {
    let mut differences = of_v4(pod, &POD_V4);
    differences.extend(of_v6(pod, pod_v6(wire, pod)));
    differences
}

fn of_v4(link: &Link, settings: &[Setting]) -> Vec<String> {
    let array = link.v4_settings.as_deref().unwrap_or_default();
    let differs = |setting: &&Setting| match value(array, setting.number) {
        // systemd's udev rules make 2 of each new link's 1: packets of other sources are dropped by rule.
        Some(2) if setting.number == RP_FILTER => false,
        found => found != Some(setting.value),
    };
    settings.iter().filter(differs).map(|setting| in_words("ipv4", link, array, setting)).collect()
}

fn of_v6(link: &Link, missing: Result<Vec<Setting>, PodError>) -> Vec<String> {
    let array = link.v6_settings.as_deref().unwrap_or_default();
    match missing {
        Ok(missing) => missing.iter().map(|setting| in_words("ipv6", link, array, setting)).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn in_words(family: &str, link: &Link, array: &[u8], setting: &Setting) -> String {
    let Setting { name, number, value: wanted } = setting;
    let found = value(array, *number).map_or_else(|| "not there".to_owned(), |found| found.to_string());
    format!("net.{family}.conf.{}.{name} is {found}, not {wanted}", link.name)
}

fn value(array: &[u8], number: u16) -> Option<u32> {
    u32_at(array, usize::from(number) * 4)
}
