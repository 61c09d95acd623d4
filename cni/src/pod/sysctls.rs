//! The kernel settings of both ends: what they shall be, and what they are.
//!
//! They are in force before the link is up. IPv4's travel in the same requests as the link; IPv6's can only be written
//! as files, and only those are written that differ. All are read back as the kernel's arrays, which come with the
//! link. A family without an address on the wire gets nothing but silence: IPv6 is then off on both ends.

use std::fs::File;
use std::io::{self, Write};

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

const FORWARDING_V4: u16 = 0;
const PROXY_ARP: u16 = 2;
const RP_FILTER: u16 = 7;
const ROUTE_LOCALNET: u16 = 25;

const FORWARDING_V6: u16 = 0;
const ACCEPT_RA: u16 = 3;
const DISABLE_IPV6: u16 = 26;
const ACCEPT_DAD: u16 = 27;

/// The host end's IPv4 settings.
pub(super) fn host_v4(wire: &Wire) -> [Setting; 4] {
    [
        setting("forwarding", FORWARDING_V4, 1),
        setting("proxy_arp", PROXY_ARP, 0),
        setting("rp_filter", RP_FILTER, 1),
        setting("route_localnet", ROUTE_LOCALNET, wire.route_localnet.into()),
    ]
}

/// The host end's IPv6 settings. Whether the node forwards IPv6 is not a setting of one link.
pub(super) fn host_v6(wire: &Wire) -> &'static [Setting] {
    const ON: [Setting; 3] = [
        setting("disable_ipv6", DISABLE_IPV6, 0),
        setting("accept_ra", ACCEPT_RA, 0),
        setting("accept_dad", ACCEPT_DAD, 0),
    ];
    if wire.addresses.v6.is_some() { &ON } else { &OFF }
}

/// The pod end's IPv4 settings.
pub(super) const POD_V4: [Setting; 1] = [setting("forwarding", FORWARDING_V4, 0)];

/// The pod end's IPv6 settings.
pub(super) fn pod_v6(wire: &Wire) -> &'static [Setting] {
    const ON: [Setting; 4] = [
        setting("disable_ipv6", DISABLE_IPV6, 0),
        setting("accept_ra", ACCEPT_RA, 0),
        setting("accept_dad", ACCEPT_DAD, 0),
        setting("forwarding", FORWARDING_V6, 0),
    ];
    if wire.addresses.v6.is_some() { &ON } else { &OFF }
}

const OFF: [Setting; 1] = [setting("disable_ipv6", DISABLE_IPV6, 1)];

/// Writes those IPv6 settings of the link that differ, in the calling thread's namespace.
///
/// A kernel without IPv6 is fine for a wire without an IPv6 address.
pub(super) fn write_v6(link: &Link, wire: &Wire, settings: &[Setting]) -> Result<(), PodError> {
    let Some(array) = &link.v6_settings else {
        return if wire.addresses.v6.is_some() { Err(PodError::NoIpv6) } else { Ok(()) };
    };
    for setting in settings.iter().filter(|setting| value(array, setting.number) != Some(setting.value)) {
        let file = format!("/proc/sys/net/ipv6/conf/{}/{}", link.name, setting.name);
        write(&file, setting.value).map_err(|source| PodError::Sysctl {
            file,
            value: setting.value,
            source,
        })?;
    }
    Ok(())
}

fn write(file: &str, value: u32) -> io::Result<()> {
    File::options().write(true).open(file)?.write_all(value.to_string().as_bytes())
}

/// The settings of a link that are not what they shall be, in words.
pub(super) fn differences(link: &Link, v4: &[Setting], v6: &[Setting]) -> Vec<String> {
    let families = [("ipv4", link.v4_settings.as_ref(), v4), ("ipv6", link.v6_settings.as_ref(), v6)];
    let mut differences = Vec::new();
    for (family, array, settings) in families {
        // No array: a kernel without the family, or a link too small for it.
        let Some(array) = array else { continue };
        for Setting { name, number, value: wanted } in settings {
            match value(array, *number) {
                Some(found) if found == *wanted => {}
                // systemd's udev rules make 2 of each new link's 1: packets of other sources are dropped by rule.
                Some(2) if *number == RP_FILTER && family == "ipv4" => {}
                found => {
                    let found = found.map_or("not there".to_owned(), |found| found.to_string());
                    differences
                        .push(format!("net.{family}.conf.{}.{name} is {found}, not {wanted}", link.name));
                }
            }
        }
    }
    differences
}

fn value(array: &[u8], number: u16) -> Option<u32> {
    u32_at(array, usize::from(number) * 4)
}
