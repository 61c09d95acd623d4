//! BIRD: `bird.conf`, and the text of `birdc`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::process::Output;

use anyhow::Context;

use super::{Neighbor, Path, Router, Session, Table, run};

pub(super) fn conf(router: &Router) -> String {
    let mut text = String::new();
    write_router(&mut text, router).expect("a String takes everything");
    text
}

fn write_router(text: &mut String, router: &Router) -> std::fmt::Result {
    writeln!(text, "log stderr all;\nrouter id {};\nprotocol device {{ scan time 1; }}", router.router_id)?;
    writeln!(text, "protocol direct {{ ipv4; ipv6; }}")?;
    for (v6, family) in [(false, "ipv4"), (true, "ipv6")] {
        if router.kernel {
            // A restart that keeps forwarding needs the routes to outlive the program.
            let persist = if router.graceful_restart { "persist; " } else { "" };
            writeln!(
                text,
                "protocol kernel kernel_{family} {{ {persist}merge paths on; {family} {{ import none; export where source = RTS_BGP; }}; }}"
            )?;
        }
        writeln!(text, "protocol static static_{family} {{\n  {family};")?;
        for network in router.networks(v6) {
            writeln!(text, "  route {network} blackhole;")?;
        }
        writeln!(text, "}}")?;
    }
    for (number, neighbor) in router.neighbors.iter().enumerate() {
        write_neighbor(text, router, number, neighbor)?;
    }
    Ok(())
}

fn write_neighbor(
    text: &mut String,
    router: &Router,
    number: usize,
    neighbor: &Neighbor,
) -> std::fmt::Result {
    writeln!(text, "protocol bgp peer{number} {{")?;
    let source = neighbor.source.map_or_else(String::new, |source| format!("{source} "));
    writeln!(text, "  local {source}as {};", router.local_as)?;
    let interface = neighbor.interface.as_ref().map_or_else(String::new, |name| format!("%{name}"));
    writeln!(text, "  neighbor {}{interface} as {};", neighbor.address, neighbor.remote_as)?;
    writeln!(text, "  connect delay time 0;\n  connect retry time 1;\n  error wait time 1, 5;")?;
    match neighbor.multihop {
        Some(hops) => writeln!(text, "  multihop {hops};")?,
        None => writeln!(text, "  direct;")?,
    }
    if let Some((keepalive, hold)) = neighbor.timers {
        writeln!(text, "  hold time {hold};")?;
        // Without a hold time there are none, and 0 is refused.
        if keepalive > 0 {
            writeln!(text, "  keepalive time {keepalive};")?;
        }
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, "  password \"{password}\";")?;
    }
    if neighbor.gtsm {
        writeln!(text, "  ttl security on;")?;
    }
    if neighbor.passive {
        writeln!(text, "  passive on;")?;
    }
    writeln!(text, "  graceful restart {};", if router.graceful_restart { "on" } else { "off" })?;
    if neighbor.two_octet_as {
        writeln!(text, "  enable as4 off;")?;
    }
    for (wanted, family, v6) in [(neighbor.v4, "ipv4", false), (neighbor.v6, "ipv6", true)] {
        if !wanted {
            continue;
        }
        // Over a session of the other family BIRD has no next hop of its own for this one.
        let extended = if !v6 && neighbor.address.is_ipv6() { " extended next hop on;" } else { "" };
        let limit = neighbor
            .max_prefixes
            .map_or_else(String::new, |limit| format!(" import limit {limit} action disable;"));
        writeln!(
            text,
            "  {family} {{ import all; export where source ~ [ RTS_STATIC, RTS_BGP ];{extended}{limit} }};"
        )?;
    }
    writeln!(text, "}}")
}

/// BIRD on a node, asked through a function that runs commands there.
#[derive(Debug, Clone)]
pub struct Bird<E>(pub E);

impl<E: Fn(&[&str]) -> anyhow::Result<Output>> Bird<E> {
    /// What `birdc` prints.
    ///
    /// # Errors
    /// When birdc fails.
    pub fn ask(&self, command: &str) -> anyhow::Result<String> {
        let words = std::iter::once("birdc").chain(command.split_whitespace()).collect::<Vec<_>>();
        run(&self.0, &words)
    }

    /// Sessions by neighbour address.
    ///
    /// # Errors
    /// As [`Bird::ask`].
    pub fn sessions(&self) -> anyhow::Result<BTreeMap<IpAddr, Session>> {
        Ok(sessions(&self.ask("show protocols all")?))
    }

    /// All paths of a family.
    ///
    /// # Errors
    /// As [`Bird::ask`], and when a prefix cannot be read.
    pub fn routes(&self, v6: bool) -> anyhow::Result<Table> {
        routes(&self.ask(if v6 { "show route all table master6" } else { "show route all table master4" })?)
    }
}

/// In `show protocols all` the lines of a BGP protocol are indented fields with a colon.
fn sessions(text: &str) -> BTreeMap<IpAddr, Session> {
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
                    found.insert(address, Session { state, last_error });
                }
            }
            _ => {}
        }
    }
    found
}

/// `show route all`: a line per prefix, or an indented one for a further path, with `*` on the best;
/// below it, tab-indented, `via` lines and attributes.
fn routes(text: &str) -> anyhow::Result<Table> {
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
        let table = routes(text).unwrap();
        let paths = &table[&"10.1.0.0/16".parse().unwrap()];
        assert_eq!(paths.len(), 2);
        assert!(paths[0].best && !paths[1].best);
        assert_eq!(paths[0].as_path, "65001 65009");
        assert_eq!(paths[0].next_hops, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(table.len(), 2);

        let text = "peer0      BGP        ---        start  12:00:00.000  Active        Socket: Connection refused\n  \
            BGP state:          Active\n    Neighbor address: fe80::1%eth1\n    Last error:       Socket: Connection refused\n\n";
        let session = &sessions(text)[&"fe80::1".parse::<IpAddr>().unwrap()];
        assert_eq!(session.state, "Active");
        assert_eq!(session.last_error.as_deref(), Some("Socket: Connection refused"));
    }
}
