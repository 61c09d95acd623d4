//! OpenBGPD: `bgpd.conf`.

use std::fmt::Write;

use super::{Neighbor, Router};

pub(super) fn conf(router: &Router) -> String {
    let mut text = String::new();
    write_router(&mut text, router).expect("a String takes everything");
    text
}

fn write_router(text: &mut String, router: &Router) -> std::fmt::Result {
    writeln!(text, "AS {}\nrouter-id {}\nfib-update no", router.local_as, router.router_id)?;
    for network in &router.networks {
        writeln!(text, "network {network}")?;
    }
    for (number, neighbor) in router.neighbors.iter().enumerate() {
        write_neighbor(text, router, number, neighbor)?;
    }
    writeln!(text, "allow from any\nallow to any")?;
    for neighbor in &router.neighbors {
        if let Some((high, low)) = neighbor.community {
            writeln!(text, "match to {} set community {high}:{low}", neighbor.address)?;
        }
    }
    Ok(())
}

fn write_neighbor(
    text: &mut String,
    router: &Router,
    number: usize,
    neighbor: &Neighbor,
) -> std::fmt::Result {
    let interface = neighbor.interface.as_ref().map_or_else(String::new, |name| format!("%{name}"));
    writeln!(text, "neighbor {}{interface} {{\n  descr peer{number}", neighbor.address)?;
    writeln!(text, "  remote-as {}", neighbor.remote_as)?;
    if let Some(source) = neighbor.source {
        writeln!(text, "  local-address {source}")?;
    }
    // It takes no 0 here; the neighbour's decides then.
    if let Some((_, hold)) = neighbor.timers.filter(|(_, hold)| *hold > 0) {
        writeln!(text, "  holdtime {hold}")?;
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, "  tcp md5sig password {password}")?;
    }
    if neighbor.gtsm {
        writeln!(text, "  ttl-security yes")?;
    }
    if let Some(hops) = neighbor.multihop {
        writeln!(text, "  multihop {hops}")?;
    }
    if neighbor.passive {
        writeln!(text, "  passive")?;
    }
    if neighbor.two_octet_as {
        writeln!(text, "  announce as-4byte no")?;
    }
    if let Some(limit) = neighbor.max_prefixes {
        writeln!(text, "  max-prefix {limit}")?;
    }
    for (wanted, family) in [(neighbor.v4, "IPv4"), (neighbor.v6, "IPv6")] {
        writeln!(text, "  announce {family} {}", if wanted { "unicast" } else { "none" })?;
    }
    writeln!(text, "  announce enhanced refresh yes")?;
    writeln!(text, "  announce restart {}\n}}", if router.graceful_restart { "yes" } else { "no" })
}
