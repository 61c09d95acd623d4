//! What is in force in a cluster, where objects change one at a time and nobody checks them together first.
//!
//! In: the objects as they are now, those that were in force last, a node's name. Out: a state whatever they
//! say, the objects it was made of, and a [`Verdict`] on each. An object that is wrong is replaced by its last
//! good version, or left out when there is none; everything else stays as it was. Pure, and always ends: in each
//! round some object steps back, from its current version to its last good one and from there out.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::{Finding, Object, Spec, assemble, peer};
use crate::desired::DesiredState;

/// What [`settle`] came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// Everything the node must do.
    pub desired: DesiredState,
    /// The objects behind it, to be given as `last_good` the next time.
    pub in_force: Vec<Object>,
    /// One for each of the current objects, in their order.
    pub verdicts: Vec<Verdict>,
}

/// What became of an object. Problems read `spec.timers.hold: 2s is not allowed; use 0s (off) or at least 3s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In force.
    Accepted,
    /// Right in itself, and in force as far as that goes: it names another object that is not there, or that
    /// lacks something. A session is left out without its password, an announcement without the peer.
    Unresolved {
        /// What is not there.
        problems: Vec<String>,
    },
    /// Not in force.
    Refused {
        /// What is wrong.
        problems: Vec<String>,
        /// Whether the last good version is in force instead.
        last_good_in_force: bool,
    },
}

impl Verdict {
    /// What is wrong with the object, or with what it names; nothing for one that is in force as it stands.
    pub fn problems(&self) -> &[String] {
        match self {
            Self::Accepted => &[],
            Self::Unresolved { problems } | Self::Refused { problems, .. } => problems,
        }
    }

    /// The object as it stands is not in force, whatever is instead.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// What is in force in spite of the problems, in words.
    pub fn in_force(&self) -> &'static str {
        match self {
            Self::Accepted => "it is in force as it stands",
            Self::Unresolved { .. } => "the rest of it is in force",
            Self::Refused { last_good_in_force: true, .. } => "its last good version stays in force",
            Self::Refused { last_good_in_force: false, .. } => "it is left out",
        }
    }
}

/// Settles what `node` must do while some of the objects may be wrong.
///
/// Of two objects that contradict each other, the one that changed since `last_good` is refused; of two that both
/// did, or neither, the one later in `current`: the caller sorts by age, then name. A Secret that is gone is kept as
/// long as something in force names it, and so is this node's own Node. Secrets are of one namespace, the daemon's
/// own: a reference without a namespace means that one.
pub fn settle(current: &[Object], last_good: &[Object], node: &str) -> Settled {
    settle_with_left(current, last_good, |_| false, node)
}

/// As [`settle`], while some objects are gone that nobody deleted: those of `last_good` that are not in `current` and
/// that `left` knows stay as they were, until something of `current` contradicts them.
pub fn settle_with_left(
    current: &[Object],
    last_good: &[Object],
    left: impl Fn(&Object) -> bool,
    node: &str,
) -> Settled {
    let mut candidates = Candidates::new(current, last_good, left, node);
    loop {
        let order = candidates.order();
        let objects: Vec<&Object> =
            order.iter().filter_map(|place| candidates.all.get(*place)).map(|one| &*one.version).collect();
        let (desired, findings) = assemble(&objects, node, &candidates.namespace);
        let faults = candidates.faults(&order, &findings);
        if !candidates.step_back(&faults) {
            return candidates.settled(desired, current.len());
        }
    }
}

/// Identifies an object through its changes: kind and name.
type Key = (&'static str, String);

fn key(object: &Object) -> Key {
    (object.spec.kind(), object.name.clone())
}

/// Which version of an object is tried. The order is the one in which they outweigh each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// The current version, which is the last good one too.
    Unchanged,
    /// The last good version: the current one is wrong or gone.
    LastGood,
    /// The current version.
    Changed,
    /// The last good version of an object that is gone and that nobody deleted.
    Left,
    /// None of them.
    Out,
}

/// A finding against the object that is to step back for it. Objects are named by their place among the candidates.
struct Fault {
    object: usize,
    /// The object it is at odds with.
    rival: Option<usize>,
    /// The object it names, which lacks something.
    inside: Option<usize>,
    missing: bool,
    said: String,
}

struct Candidate<'a> {
    standing: Standing,
    version: Cow<'a, Object>,
    last_good: Option<&'a Object>,
    problems: Vec<String>,
}

/// The current objects, and behind them those kept although they are gone.
struct Candidates<'a> {
    all: Vec<Candidate<'a>>,
    /// Last good Secrets that are gone, and not needed so far.
    gone: HashMap<Key, &'a Object>,
    /// Of the Secrets.
    namespace: String,
}

impl<'a> Candidates<'a> {
    fn new(
        current: &'a [Object],
        last_good: &'a [Object],
        left: impl Fn(&Object) -> bool,
        node: &str,
    ) -> Self {
        let mut gone: HashMap<Key, &Object> = last_good.iter().map(|object| (key(object), object)).collect();
        let mut all: Vec<Candidate<'_>> = Vec::new();
        for object in current {
            let last_good = gone.remove(&key(object));
            let standing = if last_good == Some(object) { Standing::Unchanged } else { Standing::Changed };
            all.push(Candidate { standing, version: Cow::Borrowed(object), last_good, problems: Vec::new() });
        }
        // Its pods keep their addresses until the kubelet says who this node is now.
        if let Some(own) = gone.remove(&("Node", node.to_owned())) {
            all.push(Candidate::kept(own, Standing::LastGood));
        }
        for object in last_good.iter().filter(|object| left(object)) {
            all.extend(gone.remove(&key(object)).map(|object| Candidate::kept(object, Standing::Left)));
        }
        gone.retain(|(kind, _), _| *kind == "Secret");
        let namespace = current.iter().chain(last_good).find_map(|object| object.namespace.clone());
        let namespace = namespace.unwrap_or_else(|| peer::namespace(None).to_owned());
        let mut candidates = Self { all, gone, namespace };
        for candidate in &mut candidates.all {
            if let Spec::Unreadable { problems, .. } = &candidate.version.spec {
                candidate.problems.clone_from(problems);
                candidate.step_back();
            }
        }
        candidates
    }

    /// Those that outweigh the others first: of two that contradict each other, the later is at fault.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|place| self.all.get(*place).map(|candidate| candidate.standing));
        order
    }

    /// Findings name objects by their place in `order`, faults by their place here.
    fn faults(&self, order: &[usize], findings: &[Finding]) -> Vec<Fault> {
        let mut faults: Vec<Fault> =
            findings.iter().filter_map(|finding| self.fault(order, finding)).collect();
        faults.sort_by_key(|fault| fault.object);
        faults
    }

    fn fault(&self, order: &[usize], finding: &Finding) -> Option<Fault> {
        let named = |index: usize| {
            let object = &self.all.get(*order.get(index)?)?.version;
            Some(format!("{}/{}", object.spec.kind(), object.name))
        };
        let rival = finding.other.or(finding.depends);
        let (at, rival, said) = match rival.filter(|rival| *rival > finding.object) {
            // Found on the one that stands earlier, and so is right.
            Some(later) => {
                let said = format!("contradicts {} {}", named(finding.object)?, finding.path);
                (later, Some(finding.object), said)
            }
            None => (finding.object, rival, finding.path.clone()),
        };
        let mut said = format!("{said}: {}", finding.message);
        if let Some(other) = finding.other.filter(|_| at == finding.object) {
            said += &format!(" (first in {})", named(other)?);
        }
        let place = |index: usize| order.get(index).copied();
        let fault = Fault {
            object: place(at)?,
            rival: rival.and_then(place),
            inside: finding.inside.and_then(place),
            missing: finding.missing,
            said,
        };
        // What is out is named, so that references to it are not missing; what it says counts for nothing.
        let out = |place: usize| self.all.get(place).is_none_or(|one| one.standing == Standing::Out);
        (!out(fault.object) && !fault.rival.is_some_and(out)).then_some(fault)
    }

    /// Lets the objects at fault step back: first those wrong in themselves, then those that lack another, then
    /// those that contradict another, since an earlier step may be all that is needed. False: nothing is left to do.
    fn step_back(&mut self, faults: &[Fault]) -> bool {
        let lacking = |fault: &&Fault| fault.missing || fault.inside.is_some();
        let wrong = |fault: &&Fault| !lacking(fault) && fault.rival.is_none();
        self.refuse(faults.iter().filter(wrong))
            || self.find_what_is_lacking(faults.iter().filter(lacking))
            || self.refuse(faults.iter().filter(|fault| fault.rival.is_some()))
    }

    fn refuse<'f>(&mut self, faults: impl Iterator<Item = &'f Fault>) -> bool {
        let mut stepped: BTreeSet<usize> = BTreeSet::new();
        for fault in faults {
            // It may be right once this round's refusals are out of the way.
            if fault.rival.is_some_and(|rival| stepped.contains(&rival)) {
                continue;
            }
            let Some(candidate) = self.all.get_mut(fault.object) else { continue };
            candidate.blame(&fault.said);
            if stepped.insert(fault.object) {
                candidate.step_back();
            }
        }
        !stepped.is_empty()
    }

    /// What an object names and is not there: a Secret as it was last, else the object as it was, which named
    /// another. Without either it is left as it is: the state does without what it names.
    fn find_what_is_lacking<'f>(&mut self, faults: impl Iterator<Item = &'f Fault> + Clone) -> bool {
        let mut found = false;
        for fault in faults.clone() {
            if let Some(candidate) = self.all.get_mut(fault.object) {
                candidate.blame(&fault.said);
            }
            if let Some(secret) = fault.inside.and_then(|inside| self.all.get_mut(inside))
                && secret.can_be_as_it_was()
            {
                secret.blame(&fault.said);
                secret.step_back();
                found = true;
            } else if let Some(secret) = self.gone_secret(fault) {
                self.all.push(Candidate::kept(secret, Standing::LastGood));
                found = true;
            }
        }
        // Another round, before an object is blamed for a Secret that has just been found.
        if found {
            return true;
        }
        for fault in faults {
            if let Some(candidate) = self.all.get_mut(fault.object)
                && candidate.can_be_as_it_was()
            {
                candidate.step_back();
                found = true;
            }
        }
        found
    }

    /// The last good Secret that a session lacks, once.
    fn gone_secret(&mut self, fault: &Fault) -> Option<&'a Object> {
        let candidate = self.all.get(fault.object).filter(|_| fault.missing)?;
        let Spec::BGPPeer(spec) = &candidate.version.spec else { return None };
        let reference = spec.auth.as_ref()?.md5_secret_ref.as_ref()?;
        let elsewhere = reference.namespace.as_ref().is_some_and(|namespace| *namespace != self.namespace);
        if elsewhere { None } else { self.gone.remove(&("Secret", reference.name.clone())) }
    }

    fn settled(self, desired: DesiredState, current: usize) -> Settled {
        let in_force = self.all.iter().filter(|candidate| candidate.standing != Standing::Out);
        Settled {
            desired,
            in_force: in_force.map(|candidate| candidate.version.clone().into_owned()).collect(),
            verdicts: self.all.into_iter().take(current).map(Candidate::verdict).collect(),
        }
    }
}

impl<'a> Candidate<'a> {
    /// An object that is gone, as it was.
    fn kept(last_good: &'a Object, standing: Standing) -> Self {
        Self { standing, version: Cow::Borrowed(last_good), last_good: None, problems: Vec::new() }
    }

    fn can_be_as_it_was(&self) -> bool {
        self.standing == Standing::Changed && self.last_good.is_some()
    }

    fn step_back(&mut self) {
        (self.standing, self.version) = match self.last_good.filter(|_| self.can_be_as_it_was()) {
            Some(last_good) => (Standing::LastGood, Cow::Borrowed(last_good)),
            None => (Standing::Out, Cow::Owned(named_only(&self.version))),
        };
    }

    fn blame(&mut self, said: &str) {
        if !self.problems.iter().any(|problem| problem == said) {
            self.problems.push(said.to_owned());
        }
    }

    fn verdict(self) -> Verdict {
        let problems = self.problems;
        match self.standing {
            Standing::Changed | Standing::Unchanged if problems.is_empty() => Verdict::Accepted,
            Standing::Changed | Standing::Unchanged => Verdict::Unresolved { problems },
            Standing::LastGood | Standing::Left => Verdict::Refused { problems, last_good_in_force: true },
            Standing::Out => Verdict::Refused { problems, last_good_in_force: false },
        }
    }
}

/// What is left of an object that is out: that it is there.
fn named_only(object: &Object) -> Object {
    let spec = Spec::Unreadable { kind: object.spec.kind(), problems: Vec::new() };
    Object { name: object.name.clone(), namespace: object.namespace.clone(), spec }
}
