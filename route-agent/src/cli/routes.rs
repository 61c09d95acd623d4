//! `towpath routes`: one line a path, or a line a kernel route.

use std::process::ExitCode;

use bgp_speaker::query::RouteStatus;
use route_agent::control::{Request, client};
use route_agent::status::InstalledRoute;

use super::table::render;
use super::{Output, RoutesArgs};

pub(super) fn run(args: &RoutesArgs) -> anyhow::Result<ExitCode> {
    let socket = &args.connection.socket;
    let Some(view) = args.view.rib() else {
        anyhow::ensure!(
            args.peer.is_none(),
            "--peer does not go with installed: a kernel route may use several peers"
        );
        let routes: Vec<InstalledRoute> = client::ask(socket, &Request::Installed { prefix: args.prefix })?;
        match args.connection.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&routes)?),
            Output::Table => print!("{}", installed(&routes)),
        }
        return Ok(ExitCode::SUCCESS);
    };
    let request = Request::Routes { view, prefix: args.prefix, peer: args.peer.clone() };
    let routes: Vec<RouteStatus> = client::ask(socket, &request)?;
    match args.connection.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&routes)?),
        Output::Table => print!("{}", paths(&routes)),
    }
    Ok(ExitCode::SUCCESS)
}

fn paths(routes: &[RouteStatus]) -> String {
    let heading = ["", "PREFIX", "NEXTHOP", "PEER", "LOCALPREF", "MED", "AS PATH", "COMMUNITIES", "VERDICT"];
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let rows: Vec<Vec<String>> = routes
        .iter()
        .map(|route| {
            let mark = match (route.best, route.multipath, route.stale) {
                (true, _, stale) => {
                    if stale {
                        ">s"
                    } else {
                        ">"
                    }
                }
                (false, true, stale) => {
                    if stale {
                        "=s"
                    } else {
                        "="
                    }
                }
                (false, false, true) => "s",
                (false, false, false) => "",
            };
            let communities: Vec<&str> =
                route.communities.iter().chain(&route.large_communities).map(String::as_str).collect();
            vec![
                mark.to_owned(),
                route.prefix.to_string(),
                route.nexthop.map_or_else(|| "-".to_owned(), |nexthop| nexthop.to_string()),
                route.peer.clone().unwrap_or_else(|| "local".to_owned()),
                number(route.local_pref),
                number(route.med),
                format!("{} {}", route.as_path, route.origin.chars().next().unwrap_or('?'))
                    .trim_start()
                    .to_owned(),
                communities.join(" "),
                route.verdict.clone(),
            ]
        })
        .collect();
    render(&heading, &rows)
}

fn installed(routes: &[InstalledRoute]) -> String {
    let heading = ["PREFIX", "NEXTHOPS", "METRIC", "TABLE", "PROTOCOL", "GROUP"];
    let rows: Vec<Vec<String>> = routes
        .iter()
        .map(|route| {
            vec![
                route.prefix.to_string(),
                match route.nexthops.as_slice() {
                    _ if route.blackhole => "blackhole".to_owned(),
                    [] => "-".to_owned(),
                    nexthops => nexthops.join(", "),
                },
                route.metric.to_string(),
                route.table.to_string(),
                route.protocol.to_string(),
                route.group.map_or_else(|| "-".to_owned(), |group| group.to_string()),
            ]
        })
        .collect();
    render(&heading, &rows)
}
