//! Packets per interface of a namespace: which way the traffic went.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::netns::Netns;

/// The kernel's counters of one interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped in either direction.
    pub drops: u64,
}

/// The counters of every interface, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces(pub BTreeMap<String, Counters>);

impl Interfaces {
    /// Reads the counters of a namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or /proc does not look as expected.
    pub fn read(netns: &Netns) -> anyhow::Result<Self> {
        // /sys/class/net shows the namespace it was mounted in; /proc/thread-self the reader's.
        let text =
            netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").context("reading net/dev"))?;
        text.lines().skip(2).map(|line| parse(line).with_context(|| format!("net/dev: {line}"))).collect()
    }

    /// What was counted since `earlier`; an interface that was not there then counts from zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |(name, now): (&String, &Counters)| {
            let then = earlier.0.get(name).copied().unwrap_or_default();
            let counters = Counters {
                rx_packets: now.rx_packets.saturating_sub(then.rx_packets),
                rx_bytes: now.rx_bytes.saturating_sub(then.rx_bytes),
                tx_packets: now.tx_packets.saturating_sub(then.tx_packets),
                tx_bytes: now.tx_bytes.saturating_sub(then.tx_bytes),
                drops: now.drops.saturating_sub(then.drops),
            };
            (name.clone(), counters)
        };
        Self(self.0.iter().map(difference).collect())
    }

    /// The counters of one interface; zeroes when there is none of that name.
    pub fn of(&self, name: &str) -> Counters {
        self.0.get(name).copied().unwrap_or_default()
    }
}

impl FromIterator<(String, Counters)> for Interfaces {
    fn from_iter<I: IntoIterator<Item = (String, Counters)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

fn parse(line: &str) -> Option<(String, Counters)> {
    let (name, numbers) = line.rsplit_once(": ").or_else(|| line.split_once(':'))?;
    let numbers: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let at = |index: usize| numbers.get(index).copied();
    let counters = Counters {
        rx_bytes: at(0)?,
        rx_packets: at(1)?,
        tx_bytes: at(8)?,
        tx_packets: at(9)?,
        drops: at(3)? + at(11)?,
    };
    Some((name.trim().to_owned(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_net_dev_gives_name_and_counters() {
        let (name, counters) = parse("  eth0: 100 2 0 3 0 0 0 0 400 5 0 6 0 0 0 0").unwrap();
        assert_eq!(name, "eth0");
        let expected = Counters { rx_packets: 2, rx_bytes: 100, tx_packets: 5, tx_bytes: 400, drops: 9 };
        assert_eq!(counters, expected);
        assert!(parse("  eth0: 100 2").is_none());
    }
}
