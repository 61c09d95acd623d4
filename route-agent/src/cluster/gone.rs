//! Objects that are gone: deleted one by one, or with the definition of their kind?
//!
//! Who deletes a manifest with its definitions has every resource deleted, while daemons may still run: that says nothing
//! about what a node is to forward. So whenever objects disappear, the definition is asked for. Is it going, or gone, or
//! younger than the objects (somebody has put it there again), then they stay in force as they were, as with an API
//! server that is away; once it is back, for [`RETURN_LIMIT`]. The definition is marked before its objects are deleted,
//! and it is asked for afterwards: no order of events makes a removal look like a deletion. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::few;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::topic::name;

/// How long a definition that is back may lack the resources that went with the earlier one: by hand, or by what keeps
/// a cluster like a repository, putting them back takes minutes.
pub(super) const RETURN_LIMIT: Duration = Duration::from_secs(600);
/// How often a definition is asked for while resources stay that it does not have.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// The definition of a kind, as the API server gave it when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// It is there, made then.
    Since(Timestamp),
    /// It is being deleted, and its objects with it.
    Leaving,
    /// There is none.
    Absent,
    /// The server does not tell; its words.
    Unknown(String),
}

/// What is gone of one kind, and not known to be deleted.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// By name.
    objects: BTreeMap<String, Departed>,
    /// When the definition is to be asked for.
    ask_at: Option<Instant>,
    /// Since when an answer is under way.
    asked: Option<Instant>,
    /// The answer.
    definition: Option<Definition>,
}

#[derive(Debug)]
struct Departed {
    created: Option<Timestamp>,
    /// When it was seen to be gone.
    seen: Instant,
    /// An answer was about it.
    answered: bool,
}

impl Gone {
    /// Takes up an object that the server has no more.
    pub(super) fn put(&mut self, now: Instant, object: &Value) {
        // Of a NodeNetwork that says nothing nothing is lost; a daemon makes it again.
        let says = |spec: &Value| spec.as_object().is_some_and(|fields| !fields.is_empty());
        if !object.get("spec").is_some_and(says) {
            return;
        }
        let created = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        let departed =
            Departed { created: created.and_then(|at| at.parse().ok()), seen: now, answered: false };
        self.objects.insert(name(object).to_owned(), departed);
        self.ask_at = Some(now);
    }

    /// It is there again, or another one of its name.
    pub(super) fn returned(&mut self, name: &str) {
        self.objects.remove(name);
    }

    /// All that the server has was read: it may be time to let go.
    pub(super) fn listed(&mut self, now: Instant) {
        if !self.objects.is_empty() {
            self.ask_at = Some(now);
        }
    }

    /// When the definition is to be asked for; `None`: an answer is under way, or there is no need.
    pub(super) fn question_due(&self) -> Option<Instant> {
        self.ask_at.filter(|_| self.asked.is_none() && !self.objects.is_empty())
    }

    /// The definition is asked for now.
    pub(super) fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
        self.ask_at = None;
    }

    /// Takes the answer to the last question. Whether anything is new.
    pub(super) fn answered(&mut self, now: Instant, clock: Timestamp, definition: Definition) -> bool {
        let Some(asked) = self.asked.take() else { return false };
        let before = self.objects.len();
        self.objects.retain(|_, object| {
            // What went after the question is another question.
            if object.seen > asked {
                return true;
            }
            object.answered = true;
            match definition {
                Definition::Since(made) => {
                    let went_with_another = object.created.is_some_and(|created| created < made);
                    went_with_another && left(made, clock) > Duration::ZERO
                }
                Definition::Leaving | Definition::Absent | Definition::Unknown(_) => true,
            }
        });
        if self.objects.is_empty() {
            *self = Self::default();
            return before > 0;
        }
        let pause = match definition {
            _ if self.open() => Duration::ZERO,
            Definition::Since(made) => left(made, clock),
            Definition::Leaving | Definition::Absent | Definition::Unknown(_) => ASK_EVERY,
        };
        let at = now + pause;
        self.ask_at = Some(self.ask_at.map_or(at, |sooner| sooner.min(at)));
        let changed = self.objects.len() != before || self.definition.as_ref() != Some(&definition);
        self.definition = Some(definition);
        changed
    }

    /// There is something no answer was about yet.
    pub(super) fn open(&self) -> bool {
        self.objects.values().any(|object| !object.answered)
    }

    /// Nothing is to stay.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether the object of this name is to stay as it was.
    pub(super) fn stays(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    /// What stays and why, in words; `plural` is how the API server calls the kind.
    pub(super) fn problem(&self, plural: &str) -> Option<String> {
        let why = match self.definition.as_ref().filter(|_| !self.objects.is_empty())? {
            Definition::Leaving => "went with their definition, which is being deleted".to_owned(),
            Definition::Absent => "went with their definition".to_owned(),
            Definition::Since(made) => {
                let end = *made + RETURN_LIMIT;
                format!("went with an earlier definition, and have until {end} to be there again")
            }
            Definition::Unknown(error) => {
                format!(
                    "are gone, and whether they were deleted or their definition was cannot be read ({error})"
                )
            }
        };
        let names = few(&self.objects.keys().collect::<Vec<_>>(), ", ");
        Some(format!(
            "{plural} {why}; as they were, they stay in force on this node: {names}; apply deploy/ and them again, or delete the DaemonSet"
        ))
    }
}

/// How long resources have to come back to a definition made at `made`.
fn left(made: Timestamp, clock: Timestamp) -> Duration {
    let age = Duration::try_from(clock.duration_since(made)).unwrap_or_default();
    RETURN_LIMIT.saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    /// One peer is gone that was made at second 0, and the definition has been asked for.
    fn gone(now: Instant) -> Gone {
        let mut gone = Gone::default();
        gone.put(now, &json!({ "metadata": {"name": "tor", "creationTimestamp": at(0).to_string()}, "spec": {"remoteASN": 1} }));
        assert_eq!(gone.question_due(), Some(now));
        assert!(gone.open() && gone.stays("tor"), "until there is an answer");
        gone.ask(now);
        assert_eq!(gone.question_due(), None, "one question at a time");
        gone
    }

    #[test]
    fn what_the_definition_outlives_was_deleted() {
        let now = Instant::now();
        for made in [-5, 0] {
            let mut gone = gone(now);
            assert!(gone.answered(now, at(60), Definition::Since(at(made))), "{made}");
            assert!(!gone.stays("tor") && !gone.open(), "{made}");
            assert_eq!((gone.question_due(), gone.problem("bgppeers")), (None, None));
        }
    }

    #[test]
    fn what_goes_with_its_definition_stays_until_that_is_back_and_had_time() {
        let now = Instant::now();
        for definition in [Definition::Leaving, Definition::Absent, Definition::Unknown("forbidden".into())] {
            let mut gone = gone(now);
            assert!(gone.answered(now, at(60), definition.clone()));
            assert!(gone.stays("tor") && !gone.open());
            assert_eq!(gone.question_due(), Some(now + ASK_EVERY));
            let said = gone.problem("bgppeers").unwrap();
            assert!(said.starts_with("bgppeers ") && said.contains("tor") && said.contains("stay"), "{said}");
            gone.ask(now);
            assert!(!gone.answered(now, at(90), definition), "nothing new");
            // Somebody has put the definition there again: the list is read.
            gone.listed(now);
            assert_eq!(gone.question_due(), Some(now));
            gone.ask(now);
            assert!(gone.answered(now, at(101), Definition::Since(at(100))));
            assert_eq!(gone.question_due(), Some(now + RETURN_LIMIT - Duration::from_secs(1)));
            assert!(gone.stays("tor") && gone.problem("bgppeers").unwrap().contains("earlier definition"));
            gone.ask(now);
            assert!(gone.answered(now, at(700), Definition::Since(at(100))));
            assert!(!gone.stays("tor"), "it had its time");
        }
        let mut gone = gone(now);
        gone.answered(now, at(60), Definition::Leaving);
        gone.returned("tor");
        assert_eq!((gone.stays("tor"), gone.problem("bgppeers"), gone.question_due()), (false, None, None));
    }

    #[test]
    fn what_goes_while_an_answer_is_under_way_is_asked_for_again() {
        let now = Instant::now();
        let mut gone = gone(now);
        let later = now + Duration::from_millis(1);
        gone.put(later, &json!({ "metadata": {"name": "other"}, "spec": {"remoteASN": 1} }));
        assert_eq!(gone.question_due(), None);
        assert!(gone.answered(later, at(60), Definition::Since(at(-5))));
        assert_eq!((gone.stays("tor"), gone.stays("other")), (false, true));
        assert_eq!(gone.question_due(), Some(later));
    }

    #[test]
    fn of_an_object_that_says_nothing_nothing_stays() {
        let mut gone = Gone::default();
        gone.put(Instant::now(), &json!({ "metadata": {"name": "node1"}, "spec": {} }));
        assert_eq!((gone.stays("node1"), gone.open(), gone.question_due()), (false, false, None));
    }
}
