//! `towpath peers`: one line a session, and below it why a session is down.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bgp_speaker::status::PeerStatus;
use route_agent::control::{Request, client};

use super::table::{age, render};
use super::{Connection, Output};

/// How often `-w` asks.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn run(connection: &Connection, watch: bool) -> anyhow::Result<ExitCode> {
    let mut shown = None;
    loop {
        let peers: Vec<PeerStatus> = client::ask(&connection.socket, &Request::Peers)?;
        let text = match connection.output {
            Output::Json => format!("{}\n", serde_json::to_string_pretty(&peers)?),
            Output::Table => table(&peers, now()),
        };
        if !watch {
            print!("{text}");
            return Ok(ExitCode::SUCCESS);
        }
        let essence: Vec<_> = peers
            .iter()
            .map(|peer| (peer.state.clone(), peer.reason.clone(), peer.families.clone()))
            .collect();
        if shown.as_ref() != Some(&essence) {
            println!("{text}");
            shown = Some(essence);
        }
        std::thread::sleep(INTERVAL);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn table(peers: &[PeerStatus], now: u64) -> String {
    let heading = ["PEER", "NEIGHBOR", "ASN", "STATE", "SINCE", "RCVD", "ACC", "ADV", "DOWN", "GR"];
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| {
            let sum = |count: fn(&bgp_speaker::status::FamilyStatus) -> u32| {
                peer.families.iter().map(count).sum::<u32>().to_string()
            };
            vec![
                peer.peer.clone(),
                peer.neighbor.to_string(),
                peer.remote_asn.map_or_else(|| "-".to_owned(), |asn| asn.to_string()),
                if peer.paused { format!("{} (paused)", peer.state) } else { peer.state.clone() },
                age(now.saturating_sub(peer.since)),
                sum(|family| family.received),
                sum(|family| family.accepted),
                sum(|family| family.advertised),
                peer.down_count.to_string(),
                peer.graceful_restart.clone(),
            ]
        })
        .collect();
    let mut text = render(&heading, &rows);
    for peer in peers.iter().filter(|peer| !peer.is_established()) {
        if let Some(reason) = &peer.reason {
            text.push_str(&format!("{} ({}): {reason}\n", peer.peer, peer.neighbor));
        }
    }
    text
}
