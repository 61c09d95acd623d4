//! BIRD: `bird.conf`.

use std::fmt::Write;

use super::{Neighbor, Router};

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
    writeln!(text, "  connect delay time 0;\n  error wait time 1, 5;")?;
    writeln!(text, "  connect retry time {};", neighbor.connect_retry)?;
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
    // Off in the program unless asked for (RFC 8654).
    writeln!(text, "  enable extended messages on;")?;
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
        let community = neighbor
            .community
            .map_or_else(String::new, |(high, low)| format!(" bgp_community.add(({high}, {low}));"));
        writeln!(
            text,
            "  {family} {{ import all; export filter {{ if source !~ [ RTS_STATIC, RTS_BGP ] then reject;{community} accept; }};{extended}{limit} }};"
        )?;
    }
    writeln!(text, "}}")
}
