//! What the API server has said so far, put together: when it is a whole, and when to act on it.
//!
//! In: [`Update`]s of the watches and the time. Out: which topics must be watched, the objects, and when they are to
//! be judged. A list that has not been read yet has what was kept on disk, so a server that comes late changes only
//! what is different. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::topic::{Kind, Topic, name};
use super::watch::{News, Trouble, Update};

/// Changes that come this close together are one.
const SETTLE: Duration = Duration::from_millis(50);
/// A stream of changes is acted upon at least this often.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);
/// How long the server is waited for at a start with something kept on disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long a list that the server refuses is waited for: right after an installation the resource definitions may
/// still be on their way.
pub(super) const REFUSED_LIMIT: Duration = Duration::from_secs(10);
/// How long one list may hold up what another has brought.
const PART_LIMIT: Duration = Duration::from_secs(5);

/// One list.
#[derive(Debug, Default)]
struct Slot {
    /// By name.
    objects: BTreeMap<String, Value>,
    /// The server has sent it since the start.
    read: bool,
    /// Why it cannot be had, and since when.
    trouble: Option<(Trouble, Instant)>,
}

impl Slot {
    /// There is nothing to wait for: it is here, or refused for good.
    fn settled(&self, now: Instant) -> bool {
        let given_up = |(trouble, since): &(Trouble, Instant)| {
            !matches!(trouble, Trouble::Passing(_)) && now >= *since + REFUSED_LIMIT
        };
        self.read || self.trouble.as_ref().is_some_and(given_up)
    }
}

/// All lists.
#[derive(Debug)]
pub(super) struct Gathered {
    node: String,
    namespace: String,
    slots: BTreeMap<Topic, Slot>,
    /// What kept peers name, besides what those of now do: one of them may stay in force.
    in_force: BTreeSet<Topic>,
    started: Instant,
    /// Something on disk can be started with.
    kept: bool,
    /// Objects have been judged once.
    begun: bool,
    /// First and last change that has not been judged.
    changed: Option<(Instant, Instant)>,
}

impl Gathered {
    /// Begins with what was `kept`.
    pub(super) fn new(node: &str, namespace: &str, kept: Vec<Value>, now: Instant) -> Self {
        let mut gathered = Self {
            node: node.to_owned(),
            namespace: namespace.to_owned(),
            slots: BTreeMap::new(),
            in_force: BTreeSet::new(),
            started: now,
            kept: !kept.is_empty(),
            begun: false,
            changed: Some((now, now)),
        };
        for object in kept {
            if let Some(topic) = Topic::of(&object, node) {
                let slot = gathered.slots.entry(topic).or_default();
                slot.objects.insert(name(&object).to_owned(), object);
            }
        }
        gathered.follow();
        gathered
    }

    /// What must be watched now.
    pub(super) fn topics(&self) -> BTreeSet<Topic> {
        self.slots.keys().cloned().collect()
    }

    /// Takes up what a watch saw.
    pub(super) fn handle(&mut self, now: Instant, update: Update) {
        // A watch that has just been ended may have left something in the channel.
        let Some(slot) = self.slots.get_mut(&update.topic) else { return };
        let changed = match update.news {
            News::Listed(objects) => {
                let objects: BTreeMap<String, Value> =
                    objects.into_iter().map(|object| (name(&object).to_owned(), object)).collect();
                let changed = !slot.read || slot.trouble.is_some() || slot.objects != objects;
                *slot = Slot { objects, read: true, trouble: None };
                changed
            }
            News::Applied(object) => {
                let key = name(&object).to_owned();
                slot.objects.get(&key) != Some(&object) && {
                    slot.objects.insert(key, object);
                    true
                }
            }
            News::Deleted(object) => slot.objects.remove(name(&object)).is_some(),
            News::Refused(trouble) => match &mut slot.trouble {
                Some((known, _)) if *known == trouble => false,
                Some((known, _)) => {
                    *known = trouble;
                    true
                }
                None => {
                    slot.trouble = Some((trouble, now));
                    true
                }
            },
        };
        if changed {
            let first = self.changed.map_or(now, |(first, _)| first);
            self.changed = Some((first, now));
            self.follow();
        }
    }

    /// The Secrets that peers in force name stay watched, whatever the peers say now.
    pub(super) fn set_in_force(&mut self, objects: &[Value]) {
        self.in_force =
            objects.iter().filter_map(|peer| secret(peer, &self.namespace)).map(Topic::Secret).collect();
        self.follow();
    }

    /// Watches what the objects make necessary, and forgets what they no longer do.
    fn follow(&mut self) {
        let mut wanted: BTreeSet<Topic> = Topic::always().into();
        wanted.extend(self.in_force.iter().cloned());
        if let Some(peers) = self.slots.get(&Topic::All(Kind::BGPPeer)) {
            let secrets = peers.objects.values().filter_map(|peer| secret(peer, &self.namespace));
            wanted.extend(secrets.map(Topic::Secret));
            if peers.objects.values().any(|peer| peer.pointer("/spec/neighbor/nodes").is_some()) {
                wanted.insert(Topic::OtherNodes);
            }
        }
        self.slots.retain(|topic, _| wanted.contains(topic));
        for topic in wanted {
            self.slots.entry(topic).or_default();
        }
    }

    /// When the objects are to be judged; `None`: not before the next update.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let (first, last) = self.changed?;
        let open = self.slots.values().filter(|slot| !slot.settled(now));
        let mut given_up = Some(now);
        for slot in open {
            let since = slot.trouble.as_ref().filter(|(trouble, _)| !matches!(trouble, Trouble::Passing(_)));
            given_up = given_up.and_then(|at| Some(at.max(since?.1 + REFUSED_LIMIT)));
        }
        let whole = given_up.map(|at| if at > now { at } else { (last + SETTLE).min(first + SETTLE_LIMIT) });
        let anyway = match (self.begun, self.kept) {
            (true, _) => Some(first + PART_LIMIT),
            (false, true) => Some(self.started + PATIENCE),
            (false, false) => None,
        };
        match (whole, anyway) {
            (Some(whole), Some(anyway)) => Some(whole.min(anyway)),
            (whole, anyway) => whole.or(anyway),
        }
    }

    /// Every list has been read, or is refused for good.
    pub(super) fn complete(&self, now: Instant) -> bool {
        self.slots.values().all(|slot| slot.settled(now))
    }

    /// The objects, those created first in front: of two that contradict each other the earlier one stays.
    /// Counts as judging them.
    pub(super) fn take(&mut self) -> Vec<Value> {
        self.begun = true;
        self.changed = None;
        let mut objects: Vec<Value> =
            self.slots.values().flat_map(|slot| slot.objects.values()).cloned().collect();
        objects.sort_by(|a, b| age(a).cmp(&age(b)));
        objects
    }

    /// What is wrong with the lists, in words.
    pub(super) fn troubles(&self) -> Vec<String> {
        let mut said: Vec<String> = self
            .slots
            .iter()
            .filter_map(|(topic, slot)| Some(words(topic, &slot.trouble.as_ref()?.0)))
            .collect();
        let own = self.slots.get(&Topic::OwnNode);
        if own.is_some_and(|slot| slot.read && slot.objects.is_empty()) {
            said.push(format!(
                "the API server has no Node {}, so its addresses and pod ranges are not known; is --node the name it is registered by?",
                self.node
            ));
        }
        said.dedup();
        said
    }

    /// Which lists have not been read, in words.
    pub(super) fn waited_for(&self) -> String {
        let names: BTreeSet<&str> =
            self.slots.iter().filter(|(_, slot)| !slot.read).map(|(topic, _)| topic.plural()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    }
}

fn words(topic: &Topic, trouble: &Trouble) -> String {
    let plural = topic.plural();
    match trouble {
        Trouble::Unknown => format!(
            "the API server knows no {plural} of {}; apply deploy/crds.yaml",
            topic.resource().api_version
        ),
        Trouble::Forbidden(message) => {
            format!("{plural} may not be read ({message}); apply the roles of deploy/, which allow it")
        }
        Trouble::Passing(message) => format!("{plural} cannot be read ({message}); it is tried again"),
    }
}

fn age(object: &Value) -> (&str, &str, &str) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    (text("/metadata/creationTimestamp"), text("/kind"), text("/metadata/name"))
}

/// The Secret that a peer names, when it is in our namespace.
fn secret(peer: &Value, namespace: &str) -> Option<String> {
    let reference = peer.pointer("/spec/auth/md5SecretRef")?;
    let there = reference.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    let name = reference.get("name")?.as_str()?;
    (there == namespace).then(|| name.to_owned())
}
