//! BIRD: the text of `birdc`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;

use super::{Path, Run, Session, Table};

pub(super) fn sessions(run: Run<'_>) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
    Ok(read_sessions(&run(&["birdc", "show", "protocols", "all"])?))
}

pub(super) fn routes(run: Run<'_>, v6: bool) -> anyhow::Result<Table> {
    let table = if v6 { "master6" } else { "master4" };
    read_routes(&run(&["birdc", "show", "route", "all", "table", table])?)
}

/// In `show protocols all` the lines of a BGP protocol are indented fields with a colon.
fn read_sessions(text: &str) -> BTreeMap<IpAddr, Session> {
    let mut found = BTreeMap::new();
    let (mut state, mut address, mut last_error) = (None, None, None);
    // The empty line at the end closes the last block.
    for line in text.lines().chain(std::iter::once("")) {
        match line.trim().split_once(':') {
            Some(("BGP state", value)) => state = Some(value.trim().to_owned()),
            Some(("Neighbor address", value)) => {
                let value = value.trim();
                address = value.split('%').next().and_then(|address| address.parse().ok());
            }
            Some(("Last error", value)) => last_error = Some(value.trim().to_owned()),
            _ if line.trim().is_empty() => {
                let block = (state.take(), address.take(), last_error.take());
                if let (Some(state), Some(address), last_error) = block {
                    found.insert(address, Session { name: None, state, last_error });
                }
            }
            _ => {}
        }
    }
    found
}

/// `show route all`: a line per prefix, or an indented one for a further path, with `*` on the best;
/// below it, tab-indented, `via` lines and attributes.
fn read_routes(text: &str) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let mut current = None;
    for line in text.lines() {
        let heads_path = line.contains('[') && !line.starts_with('\t');
        if heads_path {
            let first = line.split_whitespace().next().unwrap_or_default();
            if !line.starts_with(' ') {
                current = Some(first.parse().with_context(|| format!("BIRD's route: {line}"))?);
            }
            if let Some(prefix) = current {
                let best = line.contains("] * ");
                table.entry(prefix).or_default().push(Path { best, ..Path::default() });
            }
        } else if let Some(path) =
            current.and_then(|prefix| table.get_mut(&prefix)).and_then(|paths| paths.last_mut())
        {
            match line.trim().split_once(": ") {
                Some(("BGP.as_path", value)) => path.as_path = value.trim().to_owned(),
                Some(("BGP.next_hop", value)) => {
                    path.next_hops = value.split_whitespace().filter_map(|hop| hop.parse().ok()).collect();
                }
                _ => {}
            }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn birdc_text_is_read() {
        let text = "BIRD 2.0.12 ready.\nTable master4:\n\
            10.1.0.0/16          unicast [peer0 12:00:00.000] * (100) [AS65001i]\n\tvia 10.0.0.1 on eth1\n\
            \tType: BGP univ\n\tBGP.origin: IGP\n\tBGP.as_path: 65001 65009\n\tBGP.next_hop: 10.0.0.1\n\
            \x20                    unicast [peer1 12:00:00.000] (100) [AS65002i]\n\tBGP.as_path: 65002\n\
            10.2.0.0/16          blackhole [static_ipv4 12:00:00.000] * (200)\n\tType: static univ\n";
        let table = read_routes(text).unwrap();
        let paths = &table[&"10.1.0.0/16".parse().unwrap()];
        assert_eq!(paths.len(), 2);
        assert!(paths[0].best && !paths[1].best);
        assert_eq!(paths[0].as_path, "65001 65009");
        assert_eq!(paths[0].next_hops, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(table.len(), 2);

        let text = "peer0      BGP        ---        start  12:00:00.000  Active        Socket: Connection refused\n  \
            BGP state:          Active\n    Neighbor address: fe80::1%eth1\n    Last error:       Socket: Connection refused\n\n";
        let session = &read_sessions(text)[&"fe80::1".parse::<IpAddr>().unwrap()];
        assert_eq!(session.state, "Active");
        assert_eq!(session.last_error.as_deref(), Some("Socket: Connection refused"));
    }
}
