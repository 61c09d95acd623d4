//! Events at random: which, when and to whom follows from a seed alone, so that a failing run can be played again.
//!
//! The schedule is made before anything happens and knows no clock; playing it only waits for the time
//! of each entry. Every disturbance is undone by an entry of the schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;

use super::act::Undo;
use super::event::{Event, Random, Verb};
use super::scene::Scene;

/// A disturbance lasts from half of `every` to this many times of it.
const LONGEST: u32 = 4;

/// Plays `random` on the lab, telling what happens.
pub(super) fn play(
    scene: &Scene,
    random: &Random,
    seed: u64,
    undo: &mut Undo,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<()> {
    let (nodes, links) = targets(scene, random);
    let schedule = schedule(random, seed, &nodes, &links);
    ensure!(
        !schedule.is_empty(),
        "nothing can happen: there is no node that runs towpath, and no link between two such"
    );
    tell(format!("{random}, seed {seed}: {} events", schedule.len()));
    let began = scene.clock();
    for (at, event) in schedule {
        // The schedule's times are the story's own: nothing is waited for.
        std::thread::sleep((began + at).saturating_sub(scene.clock()));
        tell(event.to_string());
        undo.act(scene, &event)?;
    }
    Ok(())
}

/// The nodes and links of the file, or those of every towpath.
fn targets(scene: &Scene, random: &Random) -> (Vec<String>, Vec<String>) {
    let nodes = match random.nodes.is_empty() {
        true => scene.towpaths().map(|node| node.name().to_owned()).collect(),
        false => random.nodes.clone(),
    };
    if !random.links.is_empty() {
        return (nodes, random.links.clone());
    }
    let between = |link: &&crate::Link| link.ends.iter().all(|end| nodes.contains(&end.node));
    let links = scene.lab.topology().links.iter().filter(between);
    let links = links.map(|link| format!("{}:{}", link.ends[0].node, link.ends[0].interface)).collect();
    (nodes, links)
}

/// What happens when. A node or link that is disturbed is left alone until that is over.
fn schedule(random: &Random, seed: u64, nodes: &[String], links: &[String]) -> Vec<(Duration, Event)> {
    let mut dice = Dice(seed);
    let mut busy: BTreeMap<String, Duration> = BTreeMap::new();
    let mut schedule = Vec::new();
    let possible: Vec<&str> = random
        .events
        .iter()
        .copied()
        .filter(|event| !(if *event == "link-flap" { links } else { nodes }).is_empty())
        .collect();
    let mut at = random.every;
    while at < random.lasts && !possible.is_empty() {
        let word = dice.choose(&possible).copied().unwrap_or_default();
        let lasts = random.every / 2 + random.every * dice.below(u64::from(LONGEST) * 100) / 100;
        let over = (at + lasts).min(random.lasts);
        let all = if word == "link-flap" { links } else { nodes };
        let free: Vec<&String> =
            all.iter().filter(|name| busy.get(*name).is_none_or(|until| *until < at)).collect();
        if let Some(target) = dice.choose(&free).map(|target| (*target).clone()) {
            busy.insert(target.clone(), over);
            let node = |verb| Event::Node { verb, node: target.clone() };
            match word {
                "link-flap" => {
                    schedule.push((at, Event::LinkDown(target.clone())));
                    schedule.push((over, Event::LinkUp(target)));
                }
                "kill" => schedule.extend([(at, node(Verb::Kill)), (over, node(Verb::Start))]),
                "pause" => schedule.extend([(at, node(Verb::Pause)), (over, node(Verb::Resume))]),
                _ => schedule.push((at, node(Verb::Restart))),
            }
        }
        at += random.every;
    }
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is above 0 and small.
    fn below(&mut self, limit: u64) -> u32 {
        u32::try_from(self.roll() % limit).unwrap_or(0)
    }

    fn choose<'t, T>(&mut self, all: &'t [T]) -> Option<&'t T> {
        let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
        all.get(self.below(count) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaps() -> (Random, Vec<String>, Vec<String>) {
        let random = Random {
            lasts: Duration::from_secs(30),
            every: Duration::from_millis(500),
            events: vec!["link-flap", "kill", "restart", "pause"],
            nodes: Vec::new(),
            links: Vec::new(),
        };
        let names = |names: [&str; 3]| names.map(str::to_owned).to_vec();
        (random, names(["a", "b", "c"]), names(["a:eth1", "b:eth1", "c:eth1"]))
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_seed_others() {
        let (random, nodes, links) = flaps();
        let play = |seed| schedule(&random, seed, &nodes, &links);
        assert_eq!(play(7), play(7));
        assert_ne!(play(7), play(8));
        assert!(play(7).len() > 40, "{}", play(7).len());
    }

    #[test]
    fn every_disturbance_is_undone_in_time_and_none_befalls_what_is_disturbed() {
        let (random, nodes, links) = flaps();
        for seed in 0..200 {
            let mut disturbed: Vec<String> = Vec::new();
            for (at, event) in schedule(&random, seed, &nodes, &links) {
                assert!(at <= random.lasts, "seed {seed}: {event} at {at:?}");
                match event {
                    Event::LinkDown(target)
                    | Event::Node { verb: Verb::Kill | Verb::Pause, node: target } => {
                        assert!(!disturbed.contains(&target), "seed {seed}: {target} twice");
                        disturbed.push(target);
                    }
                    Event::LinkUp(target)
                    | Event::Node { verb: Verb::Start | Verb::Resume, node: target } => {
                        assert!(disturbed.contains(&target), "seed {seed}: {target} was not disturbed");
                        disturbed.retain(|known| *known != target);
                    }
                    Event::Node { node, .. } => assert!(!disturbed.contains(&node), "seed {seed}: {node}"),
                    other => panic!("seed {seed}: {other}"),
                }
            }
            assert!(disturbed.is_empty(), "seed {seed}: {disturbed:?}");
        }
    }
}
