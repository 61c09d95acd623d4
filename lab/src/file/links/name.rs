//! Names and addresses of interfaces: what the file writes and what the kernel takes.

/// The kernel's name for an interface: as written, or `clab-<8 hex>` where the kernel allows no such name.
pub(crate) fn device_name(interface: &str) -> String {
    if alternative_name(interface).is_none() {
        return interface.to_owned();
    }
    // FNV-1a, 32 bit: stable across runs, so that a device can be found again.
    let hash = interface
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("clab-{hash:08x}")
}

/// The name to set as the device's second one, if its first could not be what was written.
pub(crate) fn alternative_name(interface: &str) -> Option<String> {
    let possible = interface.len() <= 15 && !interface.contains(|c: char| c == '/' || c.is_whitespace());
    (!possible).then(|| interface.replace(|c: char| c == '/' || c.is_whitespace(), "-"))
}

/// A unicast MAC address in the usual notation.
pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|octet| u8::from_str_radix(octet, 16).ok().filter(|_| octet.len() == 2))
        .collect();
    // The kernel takes neither a group's address nor none.
    let good = |mac: &[u8; 6]| mac.first().is_some_and(|first| first & 1 == 0) && *mac != [0; 6];
    <[u8; 6]>::try_from(octets?).ok().filter(good)
}
