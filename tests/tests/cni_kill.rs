//! towpath-cni killed with SIGKILL: at every system call of ADD and of DEL, and at random with 32 at work. Whatever
//! it had done, one DEL or one GC undoes it, and no address is lost or given twice.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use towpath_tests::cni::tracee::{Fate, kill_at};
use towpath_tests::cni::{Call, Failure, Pod, Remains, Runtime, Towpath, addresses, ports_and_bandwidth};

const V4: &str = "10.66.0.0/30";
const V6: &str = "fd00:66::/64";
/// Addresses of [`V4`] that pods get: without its network and broadcast addresses.
const ROOM: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Add,
    Del,
}

/// A node on which one thread kills the plugin again and again.
struct Range {
    towpath: Towpath,
    before: Remains,
}

impl Range {
    /// `before` is taken after a pod has come and gone: the plugin's own table stays on a node.
    fn new() -> anyhow::Result<Self> {
        let towpath = Towpath::new(ROOM + 2, &[V4, V6])?;
        let pod = wishful(&towpath, "before".to_owned());
        towpath.call(|runtime| runtime.add(&pod))?;
        towpath.call(|runtime| runtime.del(&pod, None))?;
        let before = towpath.node.remains()?;
        Ok(Self { towpath, before })
    }

    /// Kills at system call `stop`, repairs, and expects nothing left. False when the plugin makes fewer of them.
    fn kill(&self, victim: Victim, stop: usize) -> anyhow::Result<bool> {
        let towpath = &self.towpath;
        let pod = wishful(towpath, format!("{victim:?}-{stop}"));
        if victim == Victim::Add && stop.is_multiple_of(3) {
            // The first ADD of a node also makes the table.
            towpath.node.netns.exec(&["nft", "flush", "ruleset"])?;
        }
        if victim == Victim::Del {
            towpath.call(|runtime| runtime.add(&pod))?;
        }
        let command = if victim == Victim::Add { "ADD" } else { "DEL" };
        let call = call(&towpath.runtime, command, &pod)?;
        let fate = towpath.node.netns.run(|| kill_at(&call, stop))?;

        self.expect_no_address_twice().with_context(|| format!("killed: {fate:?}"))?;
        if stop.is_multiple_of(2) {
            towpath.call(|runtime| runtime.del(&pod, None)).context("DEL after the kill")?;
        } else {
            towpath.call(|runtime| runtime.gc(&[])).context("GC after the kill")?;
        }
        towpath.expect_nothing_left(&self.before).with_context(|| format!("killed: {fate:?}"))?;
        match fate {
            Fate::Killed(_) => Ok(true),
            Fate::Ended { status: 0, .. } => Ok(false),
            Fate::Ended { .. } => bail!("failed under the tracer: {fate:?}"),
        }
    }

    /// Nobody gets an address that a half-made or half-removed pod still has on its wire, and one is always left.
    fn expect_no_address_twice(&self) -> anyhow::Result<()> {
        let towpath = &self.towpath;
        let routed = towpath.node.netns.ip("-4 route show table main")?;
        let others: Vec<Pod> = (1..3).map(|n| towpath.pod(n, format!("other-{n}"))).collect();
        let mut seen = Vec::new();
        for (number, other) in others.iter().enumerate() {
            let added = towpath.node.netns.run(|| Ok(towpath.runtime.add(other)))?;
            let result = match added {
                // The killed one may hold the other address.
                Err(Failure::Refused(refusal)) if number > 0 && refusal.code == 11 => break,
                added => added.context("ADD beside what was killed")?,
            };
            for address in addresses(&result)? {
                let taken = routed.split_whitespace().any(|word| word == address.to_string());
                ensure!(!taken && !seen.contains(&address), "{address} was given twice:\n{routed}");
                seen.push(address);
            }
        }
        others.iter().try_for_each(|other| towpath.call(|runtime| runtime.del(other, None)))
    }
}

/// A container in the first pod namespace that wants everything we do.
fn wishful(towpath: &Towpath, id: String) -> Pod {
    Pod { capabilities: ports_and_bandwidth(8080), ..towpath.pod(0, id) }
}

fn call(runtime: &Runtime, command: &str, pod: &Pod) -> anyhow::Result<Call> {
    runtime.call(command, &runtime.plugins[0], Some(pod), None)
}

/// Kills at every system call, by several threads that share them out.
fn kill_everywhere(victim: Victim) {
    const WORKERS: usize = 4;
    let next = AtomicUsize::new(0);
    let ended = AtomicUsize::new(usize::MAX);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let range = Range::new().unwrap();
                loop {
                    let stop = next.fetch_add(1, Ordering::Relaxed);
                    if stop > ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let killed =
                        range.kill(victim, stop).with_context(|| format!("{victim:?}, system call {stop}"));
                    if !killed.unwrap() {
                        ended.fetch_min(stop, Ordering::Relaxed);
                    }
                }
                range.towpath.expect_room_for(ROOM, 0).unwrap();
                range.towpath.expect_nothing_left(&range.before).unwrap();
            });
        }
    });
    let stops = ended.into_inner();
    println!("{victim:?}: killed at each of {stops} system calls in {:.1?}", began.elapsed());
    assert!((30..2000).contains(&stops), "{stops} system calls are too few or too many to be the plugin's");
}

#[test]
fn add_killed_at_any_system_call_leaves_nothing_that_del_or_gc_does_not_undo() {
    kill_everywhere(Victim::Add);
}

#[test]
fn del_killed_at_any_system_call_leaves_nothing_that_del_or_gc_does_not_undo() {
    kill_everywhere(Victim::Del);
}

/// xorshift64*: what happens follows from the seed, as far as a busy machine lets it.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

/// What one thread did to its pod in one round.
struct Done {
    pod: Pod,
    /// The result, when the pod is to live on.
    alive: Option<Value>,
    kills: usize,
}

/// Starts `command` and kills it somewhere within `within`, unless it ends before. `None`: it was killed.
fn maybe_kill(
    runtime: &Runtime,
    command: &str,
    pod: &Pod,
    dice: &mut Dice,
    within: Duration,
) -> anyhow::Result<Option<Vec<u8>>> {
    let mut child = call(runtime, command, pod)?.spawn()?;
    // The time of the kill is the experiment: nothing is waited for.
    thread::sleep(Duration::from_micros(dice.below(within.as_micros() as u64)));
    child.kill()?;
    let output = child.wait_with_output()?;
    match output.status.code() {
        None => Ok(None),
        Some(0) => Ok(Some(output.stdout)),
        Some(_) => bail!("{command} failed: {}", String::from_utf8_lossy(&output.stdout)),
    }
}

/// One thread's part of a round: ADD, perhaps killed, then perhaps DEL, perhaps killed. `took`: an ADD beside as many.
fn torment(runtime: &Runtime, pod: Pod, dice: &mut Dice, took: Duration) -> anyhow::Result<Done> {
    let mut done = Done { pod, alive: None, kills: 0 };
    match maybe_kill(runtime, "ADD", &done.pod, dice, took * 3 / 2)? {
        None => done.kills += 1,
        Some(stdout) if dice.below(2) == 0 => {
            done.alive = Some(serde_json::from_slice(&stdout)?);
            return Ok(done);
        }
        Some(_) => {}
    }
    if dice.below(2) == 0 && maybe_kill(runtime, "DEL", &done.pod, dice, took * 2)?.is_none() {
        done.kills += 1;
    }
    Ok(done)
}

#[test]
fn a_thousand_random_kills_with_32_at_work_lose_and_double_no_address() {
    const AT_ONCE: usize = 32;
    let wanted = 1000;
    let towpath = Towpath::new(AT_ONCE + 1, &["10.67.0.0/26", V6]).unwrap();
    let first = wishful(&towpath, "before".to_owned());
    let result = towpath.call(|runtime| runtime.add(&first)).unwrap();
    towpath.call(|runtime| runtime.check(&first, &result)).unwrap();
    towpath.call(|runtime| runtime.del(&first, None)).unwrap();
    let before = towpath.node.remains().unwrap();

    let mut dice: Vec<Dice> =
        (1..=AT_ONCE as u64).map(|seed| Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let mut living: BTreeMap<usize, (Pod, Value)> = BTreeMap::new();
    let (mut kills, mut rounds, began) = (0, 0, Instant::now());
    let last_took = Mutex::new(Duration::from_millis(5));
    while kills < wanted {
        rounds += 1;
        // A pod that lived through a round is deleted in the next one, at the same time as others are killed.
        let old = std::mem::take(&mut living);
        let took = *last_took.lock().unwrap();
        let done: Vec<anyhow::Result<Done>> = thread::scope(|scope| {
            let threads: Vec<_> = dice
                .iter_mut()
                .enumerate()
                .map(|(number, dice)| {
                    let (old, towpath, last_took) = (old.get(&number), &towpath, &last_took);
                    scope.spawn(move || {
                        towpath.node.netns.enter()?;
                        let runtime = &towpath.runtime;
                        if let Some((pod, result)) = old {
                            runtime.check(pod, result).context("a living pod")?;
                            runtime.del(pod, Some(result))?;
                        }
                        let mut pod = towpath.pod(number, format!("r{rounds}-{number}"));
                        if number % 4 == 0 {
                            pod.capabilities = ports_and_bandwidth(10_000 + number as u16);
                        }
                        if number > 0 {
                            return torment(runtime, pod, dice, took);
                        }
                        // One is left in peace and tells how long that takes: kills are spread over that time.
                        let began = Instant::now();
                        let result = runtime.add(&pod)?;
                        *last_took.lock().unwrap() = began.elapsed();
                        Ok(Done { pod, alive: Some(result), kills: 0 })
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut dead = Vec::new();
        for (number, done) in done.into_iter().enumerate() {
            let done = done.with_context(|| format!("round {rounds}, thread {number}")).unwrap();
            kills += done.kills;
            match done.alive {
                Some(result) => {
                    for address in addresses(&result).unwrap() {
                        let id = done.pod.container_id.clone();
                        let other = owners.insert(address, id.clone());
                        assert_eq!(other, None, "{address} was given to {id} too");
                    }
                    living.insert(number, (done.pod, result));
                }
                None => dead.push(done.pod),
            }
        }
        repair(&towpath, rounds, &dead, &living).with_context(|| format!("round {rounds}")).unwrap();
    }
    println!("{kills} kills in {rounds} rounds and {:.1?}", began.elapsed());
    for (pod, result) in living.values() {
        towpath.call(|runtime| runtime.del(pod, Some(result))).unwrap();
    }
    towpath.expect_nothing_left(&before).unwrap();
}

/// One round's dead go by DEL, the next one's by GC, and the living are neither touched nor forgotten.
fn repair(
    towpath: &Towpath,
    round: usize,
    dead: &[Pod],
    living: &BTreeMap<usize, (Pod, Value)>,
) -> anyhow::Result<()> {
    if round.is_multiple_of(2) {
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            for pod in dead {
                scope.spawn(|| {
                    if let Err(error) = towpath.call(|runtime| runtime.del(pod, None)) {
                        eprintln!("DEL {}: {error:#}", pod.container_id);
                        failed.store(true, Ordering::Relaxed);
                    }
                });
            }
        });
        ensure!(!failed.into_inner(), "DEL failed (see above)");
    } else {
        let valid: Vec<&Pod> = living.values().map(|(pod, _)| pod).collect();
        towpath.call(|runtime| runtime.gc(&valid)).context("GC")?;
    }
    let rows = towpath.leases()?.len();
    ensure!(rows == living.len(), "{rows} rows for {} pods", living.len());
    let links = towpath.node.netns.ip("-o link show type veth")?.lines().count();
    ensure!(links == living.len(), "{links} wires for {} pods", living.len());
    Ok(())
}
