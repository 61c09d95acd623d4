//! The one daemon that reports for the whole cluster: wins the Lease, renews it, and reports while it has it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::lease::{self, Candidate, DEADLINE, RENEW, Record, Step};
use super::overview::Overview;
use super::server::{self, Failure, Server};
use crate::config::Loaded;

/// How long a candidate waits when the API server does not answer.
const AWAY: Duration = Duration::from_secs(8);
/// How many nodes the holder counts: candidates ask the more rarely.
const NODES: &str = "towpath.io/nodes";

/// Takes part in the election for ever; it never fails because of the API server. `unfinished` is held while a Lease
/// is being let go.
pub(super) async fn run(
    server: Server,
    node: String,
    loaded: watch::Receiver<Loaded>,
    unfinished: mpsc::Sender<()>,
) {
    let mut candidate = Candidate::new(&node);
    loop {
        let lease = match server.lease().await {
            Ok(lease) => lease,
            Err(failure) => {
                debug!(error = %failure, "the Lease cannot be read");
                sleep(AWAY).await;
                continue;
            }
        };
        let step = candidate.step(Instant::now(), Timestamp::now(), lease.as_ref().map(record).as_ref());
        match step {
            Step::Wait(pause) => sleep(pause).await,
            Step::Take | Step::Renew => match server.put_lease(&held(lease, &node, 0)).await {
                Ok(lease) => {
                    info!("reporting for the whole cluster: this node has the Lease");
                    report(&server, &node, loaded.clone(), lease, &unfinished).await;
                    info!("no longer reporting for the whole cluster");
                }
                Err(failure) => {
                    debug!(error = %failure, "the Lease is not ours");
                    sleep(RENEW).await;
                }
            },
        }
    }
}

/// Reports while the Lease can be renewed.
async fn report(
    server: &Server,
    node: &str,
    loaded: watch::Receiver<Loaded>,
    lease: Lease,
    unfinished: &mpsc::Sender<()>,
) {
    let held = Held { server: server.clone(), lease: Some(lease), unfinished: unfinished.clone() };
    let nodes = AtomicU32::new(0);
    let overview = Overview::new(server.clone(), node, loaded, &nodes);
    tokio::select! {
        () = overview.run() => {}
        () = renew(held, node, &nodes) => {}
    }
}

/// Returns when the Lease is another's, or may soon be.
async fn renew(mut ours: Held, node: &str, nodes: &AtomicU32) {
    let server = ours.server.clone();
    let mut renewed = Instant::now();
    while let Some(lease) = ours.lease.clone() {
        sleep(RENEW).await;
        let left = DEADLINE.saturating_sub(renewed.elapsed());
        let wanted = held(Some(lease), node, nodes.load(Ordering::Relaxed));
        let answer = timeout(left, server.put_lease(&wanted)).await;
        match answer.unwrap_or_else(|_| Err(Failure::Away("no answer in time".to_owned()))) {
            Ok(lease) => {
                ours.lease = Some(lease);
                renewed = Instant::now();
            }
            // Written by another, or by us with the answer lost: reading tells.
            Err(Failure::Conflict(_) | Failure::NotFound(_)) => {
                let found = server.lease().await;
                let is_ours = |lease: &Lease| record(lease).holder == node;
                match found {
                    Ok(found) => ours.lease = found.filter(is_ours),
                    Err(failure) => debug!(error = %failure, "the Lease cannot be read"),
                }
            }
            Err(failure) => debug!(error = %failure, "the Lease cannot be renewed"),
        }
        if renewed.elapsed() >= DEADLINE {
            ours.lease = None;
        }
    }
}

/// The Lease while it is ours. When the daemon stops, another need not wait for it to run out.
struct Held {
    server: Server,
    lease: Option<Lease>,
    unfinished: mpsc::Sender<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (Some(mut lease), Ok(runtime)) = (self.lease.take(), Handle::try_current()) else { return };
        let (server, unfinished) = (self.server.clone(), self.unfinished.clone());
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        // The daemon's end waits for it a moment and no longer: a Lease that is not released runs out.
        runtime.spawn(async move {
            if let Err(failure) = server.put_lease(&lease).await {
                debug!(error = %failure, "the Lease is not released; it runs out");
            }
            drop(unfinished);
        });
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let annotation = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(NODES));
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        nodes: annotation.and_then(|count| count.parse().ok()).unwrap_or(0),
    }
}

/// The Lease with us as its holder.
fn held(lease: Option<Lease>, node: &str, nodes: u32) -> Lease {
    let now = MicroTime(Timestamp::now());
    let mut lease = lease.unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(server::LEASE.to_owned()), ..ObjectMeta::default() },
        ..Lease::default()
    });
    let before = lease.spec.take().unwrap_or_default();
    let same = before.holder_identity.as_deref() == Some(node);
    if nodes > 0 {
        lease.metadata.annotations.get_or_insert_default().insert(NODES.to_owned(), nodes.to_string());
    }
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: i32::try_from(lease::LEASE.as_secs()).ok(),
        acquire_time: if same { before.acquire_time } else { Some(now.clone()) },
        renew_time: Some(now),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!same)),
        ..LeaseSpec::default()
    });
    lease
}
