//! When the kernel has all routes of a table, or none of them any more, seen without using much of the processor.
//!
//! IPv6 routes are counted by the kernel itself (/proc/net/rt6_stats). IPv4 routes are counted by a walk of the trie
//! (/proc/net/fib_triestat), so single routes are asked for first, a few microseconds each: routes of all places of
//! the table, and its last ones. Only when those are as they should be is the trie walked, and the time is late by at
//! most one walk.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ipnet::IpNet;

use crate::meter::kernel::Lookup;
use crate::netns::Netns;

/// Routes asked for one by one.
const SAMPLES: usize = 256;
/// Between two questions about a route that is not as it should be.
const PAUSE: Duration = Duration::from_micros(500);

/// The table whose routes are awaited.
#[derive(Debug)]
pub struct Installed {
    netns: Netns,
    lookup: Lookup,
    ipv4: bool,
    samples: Vec<IpNet>,
    /// Routes that are there without it.
    others: usize,
    routes: usize,
}

impl Installed {
    /// Prepares to wait for `prefixes`, none of which the kernel has now.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub fn new(netns: &Netns, prefixes: &[IpNet]) -> anyhow::Result<Self> {
        let first = prefixes.first().context("an empty table")?;
        let ipv4 = first.addr().is_ipv4();
        let samples = if ipv4 { samples(prefixes) } else { Vec::new() };
        let others = netns.run(|| count(ipv4))?;
        Ok(Self {
            netns: netns.clone(),
            lookup: Lookup::open(netns)?,
            ipv4,
            samples,
            others,
            routes: prefixes.len(),
        })
    }

    /// Waits until all routes are there, or none, and gives the time.
    ///
    /// # Errors
    /// When `limit` passes; says how many there are.
    pub fn until(&self, present: bool, limit: Duration) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + limit;
        self.netns.run(|| {
            for sample in &self.samples {
                while self.has(*sample)? != present {
                    if Instant::now() >= deadline {
                        let (found, what) = (count(self.ipv4)?, if present { "missing" } else { "left" });
                        bail!("{sample} {what}, {found} routes in the kernel after {limit:?}");
                    }
                    std::thread::sleep(PAUSE);
                }
            }
            let expected = self.others + if present { self.routes } else { 0 };
            loop {
                let asked = Instant::now();
                let found = count(self.ipv4)?;
                let answered = Instant::now();
                if found == expected {
                    return Ok(asked);
                }
                if answered >= deadline {
                    bail!("{found} of {expected} routes in the kernel after {limit:?}");
                }
                // A walk costs the processor that is being measured.
                std::thread::sleep(((answered - asked) * 5).max(PAUSE));
            }
        })
    }

    fn has(&self, prefix: IpNet) -> anyhow::Result<bool> {
        let route = self.lookup.route_to(prefix.network())?;
        Ok(route.is_some_and(|route| route.destination == (prefix.network(), prefix.prefix_len())))
    }
}

/// Routes of all places of a table, and its last ones.
fn samples(prefixes: &[IpNet]) -> Vec<IpNet> {
    // A shorter prefix could hide behind a longer one that begins at the same address.
    let longest = prefixes.iter().map(IpNet::prefix_len).max().unwrap_or(0);
    let long: Vec<IpNet> = prefixes.iter().copied().filter(|p| p.prefix_len() == longest).collect();
    let step = (long.len() / SAMPLES).max(1);
    let last = long.len().saturating_sub(SAMPLES / 4);
    long.iter().copied().step_by(step).chain(long[last..].iter().copied()).collect()
}

/// Routes of the calling thread's namespace.
fn count(ipv4: bool) -> anyhow::Result<usize> {
    let file = if ipv4 { "fib_triestat" } else { "rt6_stats" };
    let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
    let found = if ipv4 { main_table(&text) } else { entries(&text) };
    found.with_context(|| format!("{file} has no count of routes: {text}"))
}

/// The main table's prefixes. The local table has a section of its own once policy routing is in use.
fn main_table(triestat: &str) -> Option<usize> {
    let main = triestat.split("Main:").nth(1)?;
    main.lines().find_map(|line| line.trim().strip_prefix("Prefixes:"))?.trim().parse().ok()
}

/// The fourth number: fib_rt_entries, in hexadecimal.
fn entries(stats: &str) -> Option<usize> {
    usize::from_str_radix(stats.split_whitespace().nth(3)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_route_is_waited_for_in_both_families() {
        for (commands, prefixes) in [
            ("-4 route", ["20.0.0.0/24", "20.0.0.0/16", "20.1.0.0/24"]),
            ("-6 route", ["2a00::/48", "2a00::/32", "2a00:1::/48"]),
        ] {
            // A route that leads nowhere is not found when it is asked for.
            let (netns, other) = (Netns::fresh().unwrap(), Netns::fresh().unwrap());
            netns.sysctl("net/ipv6/conf/default/accept_dad", "0").unwrap();
            netns.link(("eth0", &["10.0.0.1/24", "fd00::1/64"]), &other, ("eth0", &[])).unwrap();
            netns.ip(&format!("{commands} add default dev eth0")).unwrap();
            let table: Vec<IpNet> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
            let watch = Installed::new(&netns, &table).unwrap();
            let short = Duration::from_millis(50);
            watch.until(false, short).unwrap();
            for (number, prefix) in prefixes.iter().enumerate() {
                assert!(watch.until(true, short).is_err(), "{number} are there");
                netns.ip(&format!("{commands} add {prefix} dev eth0")).unwrap();
                assert!(watch.until(false, short).is_err(), "{prefix} is there");
            }
            watch.until(true, short).unwrap();
        }
    }

    #[test]
    fn the_files_of_proc_are_understood() {
        let text = "Local:\n\tPrefixes:  7\nMain:\n\tAver depth: 1\n\tPrefixes:       1000\n";
        assert_eq!(main_table(text), Some(1000));
        assert_eq!(entries("0013 000a 0021 00ff 0000 000a 0000\n"), Some(255));
        assert_eq!(entries(""), None);
    }
}
