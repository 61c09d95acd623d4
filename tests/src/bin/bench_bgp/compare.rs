//! Route by route: what the kernel, the receiver and the daemon's own RIB hold beside what was fed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use anyhow::{Context, bail};
use ipnet::IpNet;
use towpath_tests::feeder::Heard;
use towpath_tests::feeder::load::Group;
use towpath_tests::feeder::path::Path;
use towpath_tests::meter::kernel;
use towpath_tests::netns::Netns;
use towpath_tests::speakers::Table;

use crate::contender::DAEMON_AS;

/// How many prefixes an error names.
const NAMED: usize = 3;
const MAIN_TABLE: u32 = 254;
/// RTPROT_KERNEL: the addresses' own routes.
const KERNEL: u8 = 2;

/// The receiver has every prefix as the daemon passes it on: its AS in front, its address as next hop.
pub(crate) fn receiver(table: &[Group], heard: &Heard, next_hop: IpAddr) -> anyhow::Result<()> {
    let expected: Vec<Path> =
        table.iter().map(|group| Path::passed_on(&group.attributes, DAEMON_AS, next_hop)).collect();
    let expected: HashMap<IpNet, &Path> = by_prefix(table.iter().zip(&expected));
    let mut paths: HashMap<u64, Path> = HashMap::new();
    for (prefix, digest) in &heard.routes {
        if !paths.contains_key(digest) {
            let attributes = heard.attributes(prefix).context("a route without attributes")?;
            paths.insert(*digest, Path::read(attributes));
        }
    }
    let found = heard.routes.iter().filter_map(|(prefix, digest)| Some((*prefix, paths.get(digest)?)));
    differences("the receiver", &expected, found, |expected, found| {
        (expected != found).then(|| format!("has {found}, not {expected}"))
    })
}

/// The kernel's main table has every prefix by exactly these next hops, and no others but its own.
pub(crate) fn kernel(table: &[Group], netns: &Netns, next_hops: &[IpAddr]) -> anyhow::Result<()> {
    let ipv4 = next_hops.iter().all(IpAddr::is_ipv4);
    let expected: HashMap<IpNet, ()> = by_prefix(table.iter().zip(std::iter::repeat(())));
    let mut wanted = next_hops.to_vec();
    wanted.sort();
    let routes = kernel::routes(netns, ipv4)?;
    let routes = routes.iter().filter(|route| route.table == MAIN_TABLE && route.protocol != KERNEL);
    let found = routes.filter_map(|route| {
        let (address, length) = route.destination;
        let mut hops: Vec<IpAddr> = route.used().filter_map(|hop| hop.via).collect();
        hops.sort();
        Some((IpNet::new(address, length).ok()?, hops))
    });
    differences("the kernel", &expected, found, |(), found| {
        (*found != wanted).then(|| format!("leads to {found:?}, not to {wanted:?}"))
    })
}

/// The daemon's RIB has every prefix with one best path, as it was fed.
pub(crate) fn rib(table: &[Group], rib: &Table) -> anyhow::Result<()> {
    let expected: HashMap<IpNet, &Group> = by_prefix(table.iter().map(|group| (group, group)));
    // What has no AS path was not fed: BIRD shows the networks of its interfaces too.
    let fed = rib.iter().filter(|(_, paths)| paths.iter().any(|path| !path.as_path.is_empty()));
    let found = fed.map(|(prefix, paths)| (*prefix, paths));
    differences("the RIB", &expected, found, |group, paths| {
        let as_path: Vec<String> = group.attributes.as_path.iter().map(ToString::to_string).collect();
        let as_path = as_path.join(" ");
        let same = paths.iter().filter(|path| {
            path.best && path.as_path == as_path && path.next_hops.contains(&group.attributes.next_hop)
        });
        (same.count() != 1).then(|| format!("has {paths:?}, not AS path {as_path}"))
    })
}

fn by_prefix<'a, T: Clone>(groups: impl Iterator<Item = (&'a Group, T)>) -> HashMap<IpNet, T> {
    groups
        .flat_map(|(group, what)| group.prefixes.iter().map(move |prefix| (*prefix, what.clone())))
        .collect()
}

/// An error that counts and names what is missing, what differs and what nobody fed.
fn differences<E, F>(
    place: &str,
    expected: &HashMap<IpNet, E>,
    found: impl Iterator<Item = (IpNet, F)>,
    differs: impl Fn(&E, &F) -> Option<String>,
) -> anyhow::Result<()> {
    let mut missing: HashSet<IpNet> = expected.keys().copied().collect();
    let mut wrong = Vec::new();
    for (prefix, found) in found {
        match expected.get(&prefix) {
            None => wrong.push(format!("{prefix} was never fed")),
            Some(expected) => {
                if !missing.remove(&prefix) {
                    wrong.push(format!("{prefix} is there twice"));
                }
                wrong.extend(differs(expected, &found).map(|words| format!("{prefix} {words}")));
            }
        }
    }
    if missing.is_empty() && wrong.is_empty() {
        return Ok(());
    }
    let mut first: Vec<_> = missing.iter().collect();
    first.sort();
    let first: Vec<String> = first.iter().take(NAMED).map(ToString::to_string).collect();
    wrong.sort();
    let (of, some) = (expected.len(), &wrong[..wrong.len().min(NAMED)]);
    bail!("{place}: {} of {of} missing {first:?}, {} wrong {some:?}", missing.len(), wrong.len())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use towpath_tests::feeder::{load, message};

    use super::*;

    fn table() -> Vec<Group> {
        load::internet(100, 1, 65_001, "10.0.1.1".parse().unwrap())
    }

    /// What a receiver hears when the daemon passes a table on.
    fn heard(table: &[Group], next_hop: IpAddr) -> Heard {
        let mut heard = Heard::default();
        for group in table {
            let mut attributes = group.attributes.clone();
            attributes.as_path.insert(0, DAEMON_AS);
            attributes.next_hop = next_hop;
            let update = message::announce(&attributes, &group.prefixes);
            heard.note(message::decode(&update).unwrap(), Instant::now());
        }
        heard
    }

    #[test]
    fn a_receiver_that_lacks_or_mistakes_a_route_is_told_by_its_prefix() {
        let (table, next_hop) = (table(), "10.0.2.2".parse().unwrap());
        receiver(&table, &heard(&table, next_hop), next_hop).unwrap();
        let (last, others) = table.split_last().unwrap();
        let error = receiver(&table, &heard(others, next_hop), next_hop).unwrap_err().to_string();
        let count = last.prefixes.len();
        assert!(error.contains(&format!("{count} of 100 missing")), "{error}");
        assert!(last.prefixes.iter().any(|prefix| error.contains(&prefix.to_string())), "{error}");
        let error = receiver(others, &heard(&table, next_hop), next_hop).unwrap_err().to_string();
        assert!(error.contains("was never fed"), "{error}");
        let mut other = table.clone();
        other[0].attributes.communities.push(7);
        let error = receiver(&table, &heard(&other, next_hop), next_hop).unwrap_err().to_string();
        assert!(error.contains(&format!("{} wrong", table[0].prefixes.len())), "{error}");
        let error = receiver(&table, &heard(&table, next_hop), "10.0.2.3".parse().unwrap());
        assert!(error.unwrap_err().to_string().contains("100 wrong"));
    }

    #[test]
    fn the_kernels_routes_and_next_hops_are_compared() {
        let (netns, other) = (Netns::fresh().unwrap(), Netns::fresh().unwrap());
        netns.link(("feed", &["10.0.1.2/24"]), &other, ("eth0", &["10.0.1.1/24"])).unwrap();
        let table = &table()[..1];
        let via: IpAddr = "10.0.1.1".parse().unwrap();
        let error = kernel(table, &netns, &[via]).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        for prefix in &table[0].prefixes {
            netns.ip(&format!("route add {prefix} via {via} proto 199")).unwrap();
        }
        kernel(table, &netns, &[via]).unwrap();
        let error = kernel(table, &netns, &[via, "10.0.1.9".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("leads to"), "{error}");
        netns.ip("route add 9.0.0.0/8 via 10.0.1.1").unwrap();
        let error = kernel(table, &netns, &[via]).unwrap_err().to_string();
        assert!(error.contains("9.0.0.0/8 was never fed"), "{error}");
    }

    #[test]
    fn a_rib_needs_every_path_as_the_best() {
        use towpath_tests::speakers::Path as Shown;
        let table = table();
        let mut shown = Table::new();
        for group in &table {
            let as_path =
                group.attributes.as_path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let path = Shown { next_hops: vec![group.attributes.next_hop], as_path, best: true };
            shown.extend(group.prefixes.iter().map(|prefix| (*prefix, vec![path.clone()])));
        }
        shown.insert("10.0.1.0/24".parse().unwrap(), vec![Shown::default()]);
        rib(&table, &shown).unwrap();
        shown.pop_first();
        let first = shown.values_mut().next().unwrap();
        first[0].best = false;
        assert!(rib(&table, &shown).unwrap_err().to_string().contains("1 wrong"));
    }
}
