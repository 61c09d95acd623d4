//! What the API server has said so far, put together: when it is a whole, and when to act on it.
//!
//! In: [`Update`]s of the watches and the time. Out: which topics must be watched, the objects, and when they are to
//! be judged. A list that has not been read yet has what was kept on disk, so a server that comes late changes only
//! what is different; an object is not away from a list before it is known why ([`Gone`]). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use api::build::Object;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::gone::{Definition, Gone};
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
/// What is refused for a shorter time is not worth a word: an API server that starts does not know its roles yet.
const SAID_AFTER: Duration = Duration::from_secs(5);
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
    /// What it had, and may have lost with its definition.
    gone: Gone,
}

impl Slot {
    /// There is nothing to wait for: it is here with a reason for what is gone, or refused for good.
    fn settled(&self, now: Instant) -> bool {
        let given_up = |(trouble, since): &(Trouble, Instant)| {
            !matches!(trouble, Trouble::Passing(_)) && now >= *since + REFUSED_LIMIT
        };
        (self.read && !self.gone.open()) || self.trouble.as_ref().is_some_and(given_up)
    }

    /// Takes up the whole list. Whether anything is new.
    fn list(&mut self, now: Instant, defined: bool, objects: BTreeMap<String, Value>) -> bool {
        let changed = !self.read || self.trouble.is_some() || self.objects != objects;
        objects.keys().for_each(|name| self.gone.returned(name));
        self.gone.listed(now);
        let before = std::mem::replace(&mut self.objects, objects);
        for (_, object) in before.iter().filter(|(name, _)| defined && !self.objects.contains_key(*name)) {
            self.gone.put(now, object);
        }
        (self.read, self.trouble) = (true, None);
        changed
    }

    /// Takes up that an object is not there any more. Whether that is new.
    fn remove(&mut self, now: Instant, defined: bool, name: &str) -> bool {
        let Some(object) = self.objects.remove(name) else { return false };
        if defined {
            self.gone.put(now, &object);
        }
        true
    }
}

/// All lists.
#[derive(Debug)]
pub(super) struct Gathered {
    node: String,
    namespace: String,
    slots: BTreeMap<Topic, Slot>,
    /// What the peers in force need, besides what those of now do: one of them may stay in force.
    in_force: BTreeSet<Topic>,
    started: Instant,
    /// Something on disk can be started with.
    kept: bool,
    /// When objects were judged last.
    judged: Option<Instant>,
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
            in_force: needs(&kept, namespace),
            started: now,
            kept: !kept.is_empty(),
            judged: None,
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
        let defined = update.topic.definition().is_some();
        let changed = match update.news {
            News::Listed(objects) => {
                let by_name = objects.into_iter().map(|object| (name(&object).to_owned(), object));
                slot.list(now, defined, by_name.collect())
            }
            News::Applied(object) => {
                let key = name(&object).to_owned();
                slot.gone.returned(&key);
                slot.objects.get(&key) != Some(&object) && {
                    slot.objects.insert(key, object);
                    true
                }
            }
            News::Deleted(object) => slot.remove(now, defined, name(&object)),
            News::Refused(trouble) => match &mut slot.trouble {
                Some((known, since)) => {
                    let other = *known != trouble;
                    *known = trouble;
                    other && now >= *since + SAID_AFTER
                }
                None => {
                    slot.trouble = Some((trouble, now));
                    false
                }
            },
        };
        if changed {
            self.change(now);
        }
    }

    fn change(&mut self, now: Instant) {
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
        self.follow();
    }

    /// The definitions to be asked for now, because something of theirs is gone. Counts as asking.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<(Topic, String)> {
        let due = |(topic, slot): (&Topic, &mut Slot)| {
            slot.gone.question_due().filter(|due| *due <= now)?;
            let definition = topic.definition()?;
            slot.gone.ask(now);
            Some((topic.clone(), definition))
        };
        self.slots.iter_mut().filter_map(due).collect()
    }

    /// Takes the answer to such a question; `clock` is the time of day.
    pub(super) fn answered(&mut self, now: Instant, clock: Timestamp, topic: &Topic, definition: Definition) {
        let slot = self.slots.get_mut(topic);
        if slot.is_some_and(|slot| slot.gone.answered(now, clock, definition)) {
            self.change(now);
        }
    }

    /// Whether an object that is gone is to stay as it was.
    pub(super) fn stays(&self, object: &Object) -> bool {
        let of_kind = |topic: &Topic| topic.definition().is_some() && topic.kind() == object.spec.kind();
        self.slots.iter().any(|(topic, slot)| of_kind(topic) && slot.gone.stays(&object.name))
    }

    /// The server has nothing of this topic, and nothing stays without it.
    pub(super) fn is_without(&self, topic: &Topic) -> bool {
        let without = |slot: &Slot| {
            slot.read && slot.trouble.is_none() && slot.objects.is_empty() && slot.gone.is_empty()
        };
        self.slots.get(topic).is_some_and(without)
    }

    /// What peers in force need stays watched, whatever the peers say now.
    pub(super) fn set_in_force(&mut self, objects: &[Value]) {
        self.in_force = needs(objects, &self.namespace);
        self.follow();
    }

    /// Watches what the objects make necessary, and forgets what they no longer do.
    fn follow(&mut self) {
        let mut wanted: BTreeSet<Topic> = Topic::always().into();
        wanted.extend(self.in_force.iter().cloned());
        if let Some(peers) = self.slots.get(&Topic::All(Kind::BGPPeer)) {
            wanted.extend(needs(peers.objects.values(), &self.namespace));
        }
        self.slots.retain(|topic, _| wanted.contains(topic));
        for topic in wanted {
            self.slots.entry(topic).or_default();
        }
    }

    /// When a definition is to be asked for.
    pub(super) fn question_due(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.gone.question_due()).min()
    }

    /// When the objects are to be judged; `None`: not before the next update.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        [self.objects_due(now), self.troubles_due()].into_iter().flatten().min()
    }

    /// When a trouble has lasted long enough to be said, since the last judgement.
    fn troubles_due(&self) -> Option<Instant> {
        let judged = self.judged?;
        let said = |slot: &Slot| slot.trouble.as_ref().map(|(_, since)| *since + SAID_AFTER);
        self.slots.values().filter_map(said).filter(|said| *said > judged).min()
    }

    fn objects_due(&self, now: Instant) -> Option<Instant> {
        let (first, last) = self.changed?;
        let open = self.slots.values().filter(|slot| !slot.settled(now));
        let mut given_up = Some(now);
        for slot in open {
            let since = slot.trouble.as_ref().filter(|(trouble, _)| !matches!(trouble, Trouble::Passing(_)));
            given_up = given_up.and_then(|at| Some(at.max(since?.1 + REFUSED_LIMIT)));
        }
        let whole = given_up.map(|at| if at > now { at } else { (last + SETTLE).min(first + SETTLE_LIMIT) });
        let anyway = match (self.judged.is_some(), self.kept) {
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
    pub(super) fn take(&mut self, now: Instant) -> Vec<Value> {
        self.judged = Some(now);
        self.changed = None;
        let mut objects: Vec<Value> =
            self.slots.values().flat_map(|slot| slot.objects.values()).cloned().collect();
        objects.sort_by(|a, b| age(a).cmp(&age(b)));
        objects
    }

    /// What has been wrong with the lists for a while, in words.
    pub(super) fn troubles(&self, now: Instant) -> Vec<String> {
        let lasting = |(topic, slot): (&Topic, &Slot)| {
            let (trouble, since) = slot.trouble.as_ref()?;
            (now >= *since + SAID_AFTER).then(|| words(topic, trouble))
        };
        let mut said: Vec<String> = self.slots.iter().filter_map(lasting).collect();
        said.extend(self.slots.iter().filter_map(|(topic, slot)| slot.gone.problem(&topic.plural())));
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
        let names: BTreeSet<String> =
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

/// What must be watched for these objects: Secrets they name, and other Nodes for those that peer with nodes.
fn needs<'a>(objects: impl IntoIterator<Item = &'a Value>, namespace: &str) -> BTreeSet<Topic> {
    let needs = |object: &Value| {
        let nodes = object.pointer("/spec/neighbor/nodes").map(|_| Topic::OtherNodes);
        [secret(object, namespace).map(Topic::Secret), nodes].into_iter().flatten()
    };
    objects.into_iter().flat_map(needs).collect()
}

/// The Secret that a peer names, when it is in our namespace.
fn secret(peer: &Value, namespace: &str) -> Option<String> {
    let reference = peer.pointer("/spec/auth/md5SecretRef")?;
    let there = reference.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    let name = reference.get("name")?.as_str()?;
    (there == namespace).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PEERS: Topic = Topic::All(Kind::BGPPeer);
    const MS: Duration = Duration::from_millis(1);

    fn peer(name: &str, spec: &Value) -> Value {
        json!({ "apiVersion": "towpath.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": name}, "spec": spec })
    }

    fn with_secret(name: &str, reference: &Value) -> Value {
        peer(name, &json!({ "auth": {"md5SecretRef": reference} }))
    }

    /// A daemon's state, and the moment of its start.
    fn begin(kept: Vec<Value>) -> (Gathered, Instant) {
        let start = Instant::now();
        (Gathered::new("node1", "towpath-system", kept, start), start)
    }

    fn listed(gathered: &mut Gathered, now: Instant, topic: Topic, objects: Vec<Value>) {
        gathered.handle(now, Update { topic, news: News::Listed(objects) });
    }

    fn refused(gathered: &mut Gathered, now: Instant, topic: Topic, trouble: Trouble) {
        gathered.handle(now, Update { topic, news: News::Refused(trouble) });
    }

    /// Everything that is watched and has not been read is empty on the server.
    fn rest(gathered: &mut Gathered, now: Instant) {
        for topic in gathered.topics() {
            if gathered.slots.get(&topic).is_some_and(|slot| !slot.read && slot.trouble.is_none()) {
                listed(gathered, now, topic, Vec::new());
            }
        }
    }

    #[test]
    fn the_first_state_waits_for_every_list_and_for_the_secrets_they_name() {
        let (mut gathered, now) = begin(Vec::new());
        assert_eq!(gathered.due(now), None, "an API server that is away is waited for");
        let bgp = with_secret("tor", &json!({"name": "bgp"}));
        let foreign = with_secret("other", &json!({"name": "theirs", "namespace": "elsewhere"}));
        listed(&mut gathered, now, PEERS, vec![bgp, foreign]);
        assert!(gathered.topics().contains(&Topic::Secret("bgp".to_owned())));
        assert!(!gathered.topics().contains(&Topic::Secret("theirs".to_owned())), "not of our namespace");
        for topic in Topic::always().into_iter().filter(|topic| *topic != PEERS) {
            listed(&mut gathered, now, topic, Vec::new());
        }
        assert_eq!(
            (gathered.due(now), gathered.complete(now)),
            (None, false),
            "the password is not there yet"
        );
        assert_eq!(gathered.waited_for(), "secrets");
        listed(&mut gathered, now, Topic::Secret("bgp".to_owned()), Vec::new());
        assert!(gathered.complete(now));
        assert_eq!(gathered.due(now), Some(now + SETTLE));
        gathered.take(now);
        assert_eq!(gathered.due(now), None, "nothing is new");
    }

    #[test]
    fn with_something_kept_a_silent_server_is_not_waited_for_and_changes_only_what_differs() {
        let (kept, other) = (peer("tor", &json!({"remoteASN": 1})), peer("new", &json!({"remoteASN": 2})));
        let (mut gathered, now) = begin(vec![kept.clone()]);
        assert_eq!(gathered.due(now), Some(now + PATIENCE));
        assert_eq!(gathered.take(now + PATIENCE), std::slice::from_ref(&kept));
        // It comes back, one list after the other: none of them alone is acted upon.
        let back = now + 60_000 * MS;
        listed(&mut gathered, back, Topic::All(Kind::IPPool), Vec::new());
        assert_eq!(gathered.due(back), Some(back + PART_LIMIT), "but not for ever");
        listed(&mut gathered, back + MS, PEERS, vec![kept.clone(), other.clone()]);
        rest(&mut gathered, back + 2 * MS);
        assert_eq!(gathered.due(back + 2 * MS), Some(back + 2 * MS + SETTLE));
        assert_eq!(gathered.take(back), [other, kept], "by age, then name");
    }

    #[test]
    fn an_error_is_never_an_empty_list_and_is_said_when_it_lasts() {
        let kept = peer("tor", &json!({"remoteASN": 1}));
        for trouble in [Trouble::Unknown, Trouble::Forbidden("no".into()), Trouble::Passing("busy".into())] {
            let (mut gathered, now) = begin(vec![kept.clone()]);
            refused(&mut gathered, now, PEERS, trouble.clone());
            rest(&mut gathered, now);
            assert_eq!(gathered.take(now + PATIENCE), std::slice::from_ref(&kept), "{trouble:?}");
            assert_eq!(gathered.troubles(now + PATIENCE).len(), 1, "only that the Node is not there");
            let later = now + SAID_AFTER;
            assert_eq!(gathered.due(now + PATIENCE), Some(later));
            assert_eq!(gathered.take(later), std::slice::from_ref(&kept), "{trouble:?}");
            assert_eq!((gathered.troubles(later).len(), gathered.due(later)), (2, None), "{trouble:?}");
            // Read, and refused afterwards.
            listed(&mut gathered, later, PEERS, vec![kept.clone()]);
            refused(&mut gathered, later, PEERS, trouble.clone());
            assert_eq!(gathered.take(later), std::slice::from_ref(&kept), "{trouble:?}");
            // An empty list is one, and a refusal that is over before it was said never is.
            listed(&mut gathered, later + MS, PEERS, Vec::new());
            assert_eq!(gathered.take(later + MS), Vec::<Value>::new());
            assert_eq!((gathered.troubles(later + SAID_AFTER).len(), gathered.due(later + MS)), (1, None));
        }
    }

    #[test]
    fn a_list_the_server_refuses_holds_up_the_first_state_for_a_while_only() {
        for (trouble, given_up) in [
            (Trouble::Unknown, true),
            (Trouble::Forbidden("no".into()), true),
            (Trouble::Passing("busy".into()), false),
        ] {
            let (mut gathered, now) = begin(Vec::new());
            refused(&mut gathered, now, PEERS, trouble.clone());
            rest(&mut gathered, now + MS);
            let due = gathered.due(now + MS);
            assert_eq!(due, given_up.then_some(now + REFUSED_LIMIT), "{trouble:?}");
            let later = now + REFUSED_LIMIT;
            assert_eq!(gathered.complete(later), given_up, "{trouble:?}");
            assert_eq!(gathered.due(later).is_some_and(|due| due <= later), given_up, "{trouble:?}");
        }
    }

    #[test]
    fn changes_that_come_together_are_one_and_a_stream_of_them_is_not_put_off() {
        let (mut gathered, start) = begin(Vec::new());
        rest(&mut gathered, start);
        gathered.take(start);
        let applied = |gathered: &mut Gathered, now, asn: u64| {
            let object = peer("tor", &json!({ "remoteASN": asn }));
            gathered.handle(now, Update { topic: PEERS, news: News::Applied(object) });
        };
        for step in 0..20 {
            let now = start + step * 40 * MS;
            applied(&mut gathered, now, u64::from(step));
            assert_eq!(gathered.due(now), Some((now + SETTLE).min(start + SETTLE_LIMIT)), "{step}");
        }
        gathered.take(start);
        let later = start + 5000 * MS;
        applied(&mut gathered, later, 19);
        assert_eq!(gathered.due(later), None, "the same again is no change");
        let gone = peer("tor", &json!({}));
        gathered.handle(later, Update { topic: PEERS, news: News::Deleted(gone) });
        assert_eq!(gathered.due(later), Some(later + PART_LIMIT), "not before it is known why it is gone");
        let question = (PEERS, "bgppeers.towpath.io".to_owned());
        assert_eq!((gathered.question_due(), gathered.questions(later)), (Some(later), vec![question]));
        assert_eq!((gathered.question_due(), gathered.questions(later)), (None, Vec::new()));
        gathered.answered(later, Timestamp::now(), &PEERS, Definition::Since(Timestamp::UNIX_EPOCH));
        assert_eq!(gathered.due(later), Some(later + SETTLE));
    }

    #[test]
    fn what_goes_with_its_definition_stays_also_when_it_went_while_no_daemon_ran() {
        let tor = peer("tor", &json!({ "neighbor": {"nodes": {}} }));
        let other = json!({ "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node2"} });
        let (mut gathered, now) = begin(vec![tor.clone(), other.clone()]);
        gathered.set_in_force(&[tor.clone(), other.clone()]);
        // Not all at once: the rest of the list is a list of what is there.
        listed(&mut gathered, now, PEERS, Vec::new());
        rest(&mut gathered, now);
        listed(&mut gathered, now, Topic::OtherNodes, vec![other]);
        assert!(!gathered.complete(now), "why it is gone is not known");
        assert_eq!(gathered.questions(now).len(), 1, "Nodes have no definition");
        gathered.answered(now, Timestamp::now(), &PEERS, Definition::Leaving);
        assert!(gathered.complete(now) && gathered.topics().contains(&Topic::OtherNodes));
        let read = |object: &Value| api::cluster::object(object).unwrap_or_else(Object::from);
        assert!(!gathered.is_without(&PEERS) && gathered.is_without(&Topic::OwnNodeNetwork));
        assert!(gathered.stays(&read(&tor)) && !gathered.stays(&read(&peer("other", &json!({})))));
        assert_eq!(gathered.troubles(now).len(), 2, "that, and that the Node is not there");
        gathered.handle(now, Update { topic: PEERS, news: News::Applied(tor.clone()) });
        assert!(!gathered.stays(&read(&tor)), "it is there again");
    }

    #[test]
    fn nodes_and_secrets_are_watched_while_a_peer_needs_them() {
        let (mut gathered, now) = begin(Vec::new());
        let mesh = peer("mesh", &json!({ "neighbor": {"nodes": {"selector": {}, "topology": "Mesh"}} }));
        let secret = with_secret("tor", &json!({"name": "old"}));
        listed(&mut gathered, now, PEERS, vec![mesh, secret.clone()]);
        let old = Topic::Secret("old".to_owned());
        assert!(gathered.topics().contains(&Topic::OtherNodes) && gathered.topics().contains(&old));
        // The peer as it was stays in force, with the Secret it named.
        gathered.set_in_force(std::slice::from_ref(&secret));
        listed(&mut gathered, now, PEERS, vec![with_secret("tor", &json!({"name": "new"}))]);
        assert!(!gathered.topics().contains(&Topic::OtherNodes));
        assert!(
            gathered.topics().contains(&old) && gathered.topics().contains(&Topic::Secret("new".to_owned()))
        );
        gathered.set_in_force(&[]);
        assert!(!gathered.topics().contains(&old));
        let late = Update { topic: old, news: News::Listed(vec![json!({"metadata": {"name": "old"}})]) };
        gathered.handle(now, late);
        assert!(
            gathered.take(now).iter().all(|object| name(object) != "old"),
            "what was on its way is too late"
        );
    }
}
