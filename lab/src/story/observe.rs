//! What happens in the lab around the events of a step: kernel routes and sessions, as they change.
//!
//! Routes are read when a kernel announces a change, never by asking again and again; towpath tells its
//! sessions by itself, other programs are asked twice a second. Nothing here waits for anything. What
//! changes begins with an entry of what it was when the watching began.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, PipeReader};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meter::kernel::{Recorder, Route, routes};
use meter::netns::Netns;

use super::report::{RouteChange, SessionChange};
use super::scene::Scene;
use crate::Node;
use crate::speakers::{Speaker, in_node};

const MAIN: u32 = 254;
/// RTPROT_KERNEL: routes that come with addresses.
const KERNEL: u8 = 2;
/// Reading the routes takes at most a sixth of a processor.
const DUTY: u32 = 5;
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// How often programs that do not tell are asked.
const ASK: Duration = Duration::from_millis(500);

/// Observers that run.
pub(super) struct Observers {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    kernels: Vec<Recorder>,
    threads: Vec<JoinHandle<()>>,
    /// The connections of `towpath peers -w`: shut down, the program ends.
    watched: Vec<Arc<Mutex<Option<std::os::unix::net::UnixStream>>>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) routes: Vec<RouteChange>,
    pub(super) sessions: Vec<SessionChange>,
}

impl Observers {
    /// Starts on every node with a routing program.
    pub(super) fn start(scene: &Scene) -> anyhow::Result<Self> {
        let mut observers = Self {
            seen: Arc::default(),
            stop: Arc::default(),
            kernels: Vec::new(),
            threads: Vec::new(),
            watched: Vec::new(),
        };
        let began = Instant::now().checked_sub(scene.clock()).unwrap_or_else(Instant::now);
        for (node, speaker) in scene.speakers() {
            let netns = scene.netns(node.name())?;
            observers.kernels.push(watch_routes(node.name(), netns, began, Arc::clone(&observers.seen))?);
            let told = Told {
                node: node.name().to_owned(),
                known: BTreeMap::new(),
                first: Duration::ZERO,
                told: BTreeSet::new(),
                began,
                seen: Arc::clone(&observers.seen),
            };
            let stop = Arc::clone(&observers.stop);
            observers.threads.push(match speaker {
                Speaker::Towpath => {
                    let stream = Arc::default();
                    observers.watched.push(Arc::clone(&stream));
                    std::thread::spawn(move || follow(&node, told, &stream, &stop))
                }
                other => std::thread::spawn(move || ask(&node, other, told, &stop)),
            });
        }
        Ok(observers)
    }

    /// Ends them, and gives what they saw, in the order of time.
    pub(super) fn stop(mut self) -> anyhow::Result<Seen> {
        self.end();
        for kernel in std::mem::take(&mut self.kernels) {
            kernel.stop()?;
        }
        for thread in std::mem::take(&mut self.threads) {
            thread.join().map_err(|_| anyhow::anyhow!("an observer panicked"))?;
        }
        let mut seen = std::mem::take(&mut *lock(&self.seen));
        seen.routes.sort_by_key(|change| change.at);
        seen.sessions.sort_by_key(|change| change.at);
        Ok(seen)
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for watched in &self.watched {
            drop(lock(watched).take());
        }
    }
}

/// A step that fails on its way leaves nobody behind who goes on asking.
impl Drop for Observers {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Hops = BTreeMap<(IpAddr, u8), usize>;

/// Next hops in use of every route of the main table that is not the kernel's own.
fn hops(netns: &Netns) -> anyhow::Result<Hops> {
    let mut best: BTreeMap<(IpAddr, u8), Route> = BTreeMap::new();
    for ipv4 in [true, false] {
        for route in
            routes(netns, ipv4)?.into_iter().filter(|route| route.table == MAIN && route.protocol != KERNEL)
        {
            let better = best.get(&route.destination).is_none_or(|known| route.metric < known.metric);
            if better {
                best.insert(route.destination, route);
            }
        }
    }
    Ok(best.into_iter().map(|(prefix, route)| (prefix, route.usable())).collect())
}

fn watch_routes(
    node: &str,
    netns: Netns,
    began: Instant,
    seen: Arc<Mutex<Seen>>,
) -> anyhow::Result<Recorder> {
    let node = node.to_owned();
    let mut known = hops(&netns)?;
    let (first, mut told) = (began.elapsed(), BTreeSet::new());
    let (mut changed, mut last, mut pause) = (false, Instant::now(), SHORTEST_PAUSE);
    let inside = netns.clone();
    Recorder::watch(&netns, move |notices| {
        changed |= !notices.is_empty();
        if !changed || last.elapsed() < pause {
            return;
        }
        let asked = Instant::now();
        // A namespace that is gone has no routes to tell of; the step itself fails then.
        let Ok(now) = hops(&inside) else { return };
        let now_at = began.elapsed();
        let change = |at, prefix: &(IpAddr, u8), nexthops| RouteChange {
            at,
            node: node.clone(),
            prefix: format!("{}/{}", prefix.0, prefix.1),
            nexthops,
        };
        let gone = known.keys().filter(|prefix| !now.contains_key(*prefix)).map(|prefix| (*prefix, 0));
        let new = now.iter().filter(|(prefix, hops)| known.get(*prefix) != Some(*hops));
        let mut changes = Vec::new();
        for (prefix, hops) in gone.chain(new.map(|(prefix, hops)| (*prefix, *hops))) {
            if told.insert(prefix) {
                changes.push(change(first, &prefix, known.get(&prefix).copied().unwrap_or_default()));
            }
            changes.push(change(now_at, &prefix, hops));
        }
        lock(&seen).routes.extend(changes);
        known = now;
        changed = false;
        last = Instant::now();
        pause = (asked.elapsed() * DUTY).max(SHORTEST_PAUSE);
    })
}

/// The sessions of a node as it told them last.
struct Told {
    node: String,
    known: BTreeMap<String, String>,
    /// When it told them for the first time.
    first: Duration,
    /// The neighbours whose session has changed since.
    told: BTreeSet<String>,
    began: Instant,
    seen: Arc<Mutex<Seen>>,
}

impl Told {
    /// The first telling is the state of things, which is noted with the first change.
    fn tell(&mut self, sessions: BTreeMap<String, String>) {
        let now = self.began.elapsed();
        if self.known.is_empty() {
            self.first = now;
            self.known = sessions;
            return;
        }
        let mut changes = Vec::new();
        for (neighbor, state) in &sessions {
            let known = self.known.get(neighbor);
            if known == Some(state) {
                continue;
            }
            let change = |at, state: &String| {
                let (node, neighbor, state) = (self.node.clone(), neighbor.clone(), state.clone());
                SessionChange { at, node, neighbor, state }
            };
            if let (true, Some(known)) = (self.told.insert(neighbor.clone()), known) {
                changes.push(change(self.first, known));
            }
            changes.push(change(now, state));
        }
        lock(&self.seen).sessions.extend(changes);
        self.known = sessions;
    }
}

/// `towpath peers -w`, started again when the daemon it asks goes away.
fn follow(
    node: &Node,
    mut told: Told,
    connection: &Mutex<Option<std::os::unix::net::UnixStream>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, output)) = peers(node) else { return };
        *lock(connection) = Some(stream);
        if stop.load(Ordering::Relaxed) {
            drop(lock(connection).take());
        }
        let values =
            serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<serde_json::Value>();
        // What is no JSON is an error message: the daemon is not there.
        for peers in values.map_while(Result::ok) {
            let peers = peers.as_array().into_iter().flatten();
            told.tell(
                peers
                    .filter_map(|peer| {
                        Some((peer["peer"].as_str()?.to_owned(), peer["state"].as_str()?.to_owned()))
                    })
                    .collect(),
            );
        }
        pause(stop, Duration::from_millis(100));
    }
}

fn peers(node: &Node) -> anyhow::Result<(std::os::unix::net::UnixStream, PipeReader)> {
    let (reader, writer) = std::io::pipe()?;
    let (input, errors) = (File::open("/dev/null")?, File::options().write(true).open("/dev/null")?);
    let stream = node.start_on(
        &["towpath", "peers", "--watch", "-o", "json"],
        [input.as_fd(), writer.as_fd(), errors.as_fd()],
    )?;
    Ok((stream, reader))
}

fn ask(node: &Node, speaker: Speaker, mut told: Told, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // A program that does not answer now is asked again.
        if let Ok(sessions) = speaker.sessions(&in_node(node)) {
            told.tell(
                sessions
                    .into_iter()
                    .map(|(neighbor, session)| (neighbor.to_string(), session.state))
                    .collect(),
            );
        }
        pause(stop, ASK);
    }
}

/// Between two questions; ends early when the observers do.
fn pause(stop: &AtomicBool, time: Duration) {
    // That the time is over is what it is for.
    let _ = crate::until(time, || stop.load(Ordering::Relaxed));
}
