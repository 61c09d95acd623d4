//! Text to checked values, each refusal with the value and the remedy.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::Report;
use crate::problem::{nearest, show};
use crate::words::{IntOrText, Interval};

/// An AS number: `65000` or `65000.1` (RFC 5396), none of the reserved ones (RFC 7607, 6793, 7300).
pub(super) fn asn(report: &mut Report<'_>, path: &str, written: &IntOrText) -> Option<u32> {
    let number = match written {
        IntOrText::Int(number) => u32::try_from(*number).ok(),
        IntOrText::Text(text) => asn_text(text),
    };
    match number {
        None => report.refuse(
            path,
            format!(
                "{} is no AS number; use 1 to 4294967294, or dotted as \"65000.1\"",
                show(&written.to_string())
            ),
        ),
        Some(reserved @ (0 | 23456 | 65535 | u32::MAX)) => report.refuse(
            path,
            format!("{reserved} is reserved; use another AS number, such as 64512 to 65534 for private use"),
        ),
        number => number,
    }
}

fn asn_text(text: &str) -> Option<u32> {
    match text.split_once('.') {
        Some((high, low)) => Some(u32::from(digits::<u16>(high)?) << 16 | u32::from(digits::<u16>(low)?)),
        None => digits(text),
    }
}

/// A number of decimal digits only: `parse` alone would take a sign.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A BGP Identifier (RFC 6286).
pub(super) fn router_id(report: &mut Report<'_>, path: &str, text: &str) -> Option<Ipv4Addr> {
    match text.parse::<Ipv4Addr>() {
        Ok(id) if !id.is_unspecified() => Some(id),
        _ => report
            .refuse(path, format!("{} is not allowed; use a dotted quad other than 0.0.0.0", show(text))),
    }
}

/// An address a host can have. A zone is not part of it.
pub(super) fn address(report: &mut Report<'_>, path: &str, text: &str) -> Option<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let hint = if text.parse::<IpNet>().is_ok() {
            "leave out the prefix length"
        } else {
            "use an IPv4 or IPv6 address"
        };
        return report.refuse(path, format!("{} is no address; {hint}", show(text)));
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return report.refuse(path, format!("{address} is not allowed; write {v4}"));
    }
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return report.refuse(path, format!("{address} is not allowed; use the address of one host"));
    }
    Some(address)
}

/// A prefix without host bits.
pub(super) fn prefix(report: &mut Report<'_>, path: &str, text: &str) -> Option<IpNet> {
    let Ok(prefix) = text.parse::<IpNet>() else {
        if let Ok(address) = text.parse::<IpAddr>() {
            let length = if address.is_ipv4() { 32 } else { 128 };
            return report
                .refuse(path, format!("{} has no prefix length; write {address}/{length}", show(text)));
        }
        return report.refuse(path, format!("{} is no prefix; use ADDRESS/LENGTH", show(text)));
    };
    if prefix.trunc() != prefix {
        return report
            .refuse(path, format!("{prefix} has bits set behind its length; write {}", prefix.trunc()));
    }
    Some(prefix)
}

/// Multicast, loopback, link-local and "this network" (RFC 6890).
pub(crate) const NEVER_ROUTED: &[&str] =
    &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"];

/// A prefix that may be announced: none of those never routed between hosts.
pub(super) fn announceable(report: &mut Report<'_>, path: &str, text: &str) -> Option<IpNet> {
    let prefix = prefix(report, path, text)?;
    let inside = NEVER_ROUTED
        .iter()
        .filter_map(|never| never.parse::<IpNet>().ok())
        .find(|never| never.contains(&prefix));
    match inside {
        Some(never) if prefix.prefix_len() > 0 => {
            report.refuse(path, format!("{prefix} is not allowed; {never} is never routed between hosts"))
        }
        _ => Some(prefix),
    }
}

/// A Linux interface name.
pub(super) fn interface(report: &mut Report<'_>, path: &str, text: &str) -> Option<String> {
    let fits = (1..=15).contains(&text.len());
    if !fits
        || text == "."
        || text == ".."
        || text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
    {
        return report.refuse(
            path,
            format!("{} is no interface name; use 1 to 15 octets without spaces, / and :", show(text)),
        );
    }
    Some(text.into())
}

/// Limits of an interval in whole seconds, and how they are said.
pub(super) struct Limits {
    /// Least seconds.
    pub(super) least: u64,
    /// Most seconds.
    pub(super) most: u64,
    /// The remedy: `use 1s to 1h`.
    pub(super) remedy: &'static str,
}

/// An interval of whole seconds.
pub(super) fn interval(
    report: &mut Report<'_>,
    path: &str,
    written: &Interval,
    limits: &Limits,
) -> Option<Duration> {
    let shown = show(&written.0);
    let Some(milliseconds) = milliseconds(&written.0) else {
        return report.refuse(
            path,
            format!("{shown} is no interval; write numbers with h, m, s such as 90s or 1h30m"),
        );
    };
    let seconds = milliseconds / 1000;
    if milliseconds % 1000 != 0 {
        return report.refuse(path, format!("{shown} is not allowed; use whole seconds"));
    }
    if !(limits.least..=limits.most).contains(&seconds) {
        return report.refuse(path, format!("{shown} is not allowed; {}", limits.remedy));
    }
    Some(Duration::from_secs(seconds))
}

/// `([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?`, at least one of them.
fn milliseconds(text: &str) -> Option<u64> {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut units = units.iter();
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(end);
        let unit = tail.find(|c: char| c.is_ascii_digit()).map_or(tail, |end| tail.split_at(end).0);
        // The units left come after those already used, so that `30s1h` and `1s1s` are refused.
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = tail.strip_prefix(unit)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Well-known communities of the IANA registry (RFC 1997, 3765, 7611, 7999, 8326).
pub(crate) const WELL_KNOWN_COMMUNITIES: &[(&str, u32)] = &[
    ("graceful-shutdown", 0xFFFF_0000),
    ("accept-own", 0xFFFF_0001),
    ("blackhole", 0xFFFF_029A),
    ("no-export", 0xFFFF_FF01),
    ("no-advertise", 0xFFFF_FF02),
    ("no-export-subconfed", 0xFFFF_FF03),
    ("no-peer", 0xFFFF_FF04),
];

/// A community: `65001:100` or a well-known name (RFC 1997).
pub(super) fn community(report: &mut Report<'_>, path: &str, text: &str) -> Option<u32> {
    if let Some((_, value)) = WELL_KNOWN_COMMUNITIES.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let pair = text.split_once(':').and_then(|(high, low)| Some((digits::<u16>(high)?, digits::<u16>(low)?)));
    if let Some((high, low)) = pair {
        return Some(u32::from(high) << 16 | u32::from(low));
    }
    let message = if text.split(':').count() == 3 {
        format!("{} is a large community; put it under largeCommunities", show(text))
    } else if let Some(name) = nearest(text, WELL_KNOWN_COMMUNITIES.iter().map(|(name, _)| *name)) {
        format!("{} is no community; did you mean {name}?", show(text))
    } else {
        format!("{} is no community; use \"0:0\" to \"65535:65535\" or a name such as no-export", show(text))
    };
    report.refuse(path, message)
}

/// A large community: `65001:1:100` (RFC 8092).
pub(super) fn large_community(report: &mut Report<'_>, path: &str, text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(':').map(digits::<u32>);
    match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten(), parts.next()) {
        (Some(global), Some(first), Some(second), None) => Some((global, first, second)),
        _ => report.refuse(
            path,
            format!(
                "{} is no large community; use three numbers up to 4294967295, \"65001:1:100\"",
                show(text)
            ),
        ),
    }
}

/// Pairs of prefixes of which one contains the other, the one given later first. Sorts `given` on the way.
///
/// Sorted, a prefix stands before all it contains, so that a hundred thousand need one pass.
pub(super) fn overlaps<K: Copy + Ord>(given: &mut [(IpNet, K)]) -> Vec<((IpNet, K), (IpNet, K))> {
    given.sort();
    let mut pairs = Vec::new();
    let mut outer: Option<(IpNet, K)> = None;
    for current in given.iter().copied() {
        match outer {
            Some(outer) if outer.0.contains(&current.0) => {
                pairs.push(if outer.1 < current.1 { (current, outer) } else { (outer, current) });
            }
            _ => outer = Some(current),
        }
    }
    pairs
}
