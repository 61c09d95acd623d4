//! A token bucket's numbers. Pure.
//!
//! Rate, burst and limit are those of the reference bandwidth plugin: a packet may wait 25 ms. Two things differ: a
//! burst holds at least one packet of the interface (with less, the kernel drops every full one), and what the kernel
//! counts in 32 bits ends there instead of starting anew at zero.

use crate::names::IfName;
use crate::spec::runtime::Rate;

/// How long a packet may wait for tokens.
const LATENCY_MS: u64 = 25;
const ETHERNET_HEADER: u32 = 14;
/// One tick of the packet scheduler, in every kernel since 2.6.31 (`/proc/net/psched`).
const TICK_NS: u128 = 64;

/// A `tbf` queueing discipline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tbf {
    /// Octets per second.
    pub(super) rate: u64,
    /// Octets that may pass at once.
    pub(super) burst: u32,
    /// Octets that may wait, those of the burst among them.
    pub(super) limit: u32,
}

/// What the kernel tells of a `tbf`: the burst as time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) rate: u64,
    pub(super) limit: u32,
    /// Ticks that a burst takes at the rate.
    pub(super) buffer: u32,
}

impl Tbf {
    pub(super) fn new(rate: &Rate, mtu_bytes: u32) -> Self {
        let bytes = (rate.bits_per_second / 8).max(1);
        let burst = u32::try_from(rate.burst_bits / 8)
            .unwrap_or(u32::MAX)
            .max(mtu_bytes.saturating_add(ETHERNET_HEADER));
        let waiting = u128::from(bytes) * u128::from(LATENCY_MS) / 1000;
        let limit = u32::try_from(waiting + u128::from(burst)).unwrap_or(u32::MAX);
        Self { rate: bytes, burst, limit }
    }

    /// Ticks that a burst takes at the rate, as many as the kernel can tell.
    pub(super) fn buffer(&self) -> u32 {
        let ticks = u128::from(self.burst) * 1_000_000_000 / u128::from(self.rate) / TICK_NS;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// How `found` on `ifname` differs, in words.
    pub(super) fn difference(&self, found: Option<&Installed>, ifname: &IfName) -> Option<String> {
        let Some(found) = found else { return Some(format!("{ifname} has no rate limit (tbf)")) };
        if (found.rate, found.limit) != (self.rate, self.limit) {
            return Some(format!(
                "{ifname} is limited to {} octets per second with {} waiting instead of {} and {}",
                found.rate, found.limit, self.rate, self.limit
            ));
        }
        // The kernel multiplies by a reciprocal, and tells times of more than 32 bits cut off.
        let (wanted, slack) = (self.buffer(), self.buffer() / 1000 + 2);
        let differs = wanted != u32::MAX && found.buffer.abs_diff(wanted) > slack;
        differs.then(|| format!("{ifname} has a burst of {} ticks instead of {wanted}", found.buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tbf(bits_per_second: u64, burst_bits: u64) -> Tbf {
        Tbf::new(&Rate { bits_per_second, burst_bits }, 1500)
    }

    #[test]
    fn the_numbers_are_those_of_the_reference_plugin() {
        // 8 Mbit/s, 1 Mbit of burst: 1e6 octets/s, 125,000 octets, and 25 ms worth of waiting.
        let usual = tbf(8_000_000, 1_000_000);
        assert_eq!(usual, Tbf { rate: 1_000_000, burst: 125_000, limit: 150_000 });
        assert_eq!(usual.buffer(), 1_953_125);
    }

    #[test]
    fn a_burst_holds_one_packet_at_least() {
        assert_eq!(tbf(8_000, 8), Tbf { rate: 1000, burst: 1514, limit: 1539 });
    }

    #[test]
    fn what_the_kernel_cannot_count_ends_at_its_most() {
        let most = tbf(u64::MAX, (1 << 35) - 1);
        assert_eq!((most.burst, most.limit), (u32::MAX, u32::MAX));
        assert_eq!(tbf(8, u64::from(u32::MAX)).buffer(), u32::MAX);
        assert_eq!(tbf(1, 8).rate, 1);
    }

    #[test]
    fn a_difference_is_told_in_words() {
        let ifname = IfName::parse("tw0").unwrap();
        let wanted = tbf(8_000_000, 1_000_000);
        let found = Installed { rate: wanted.rate, limit: wanted.limit, buffer: wanted.buffer() + 1 };
        assert_eq!(wanted.difference(Some(&found), &ifname), None);
        assert_eq!(wanted.difference(None, &ifname).unwrap(), "tw0 has no rate limit (tbf)");
        let slow = Installed { rate: 500, ..found };
        assert!(
            wanted.difference(Some(&slow), &ifname).unwrap().contains("limited to 500 octets per second")
        );
        let small = Installed { buffer: 5, ..found };
        assert!(wanted.difference(Some(&small), &ifname).unwrap().contains("burst of 5 ticks"));
    }
}
