//! What is in force in a cluster, where objects change one at a time and nobody checks them together first.
//!
//! In: the objects as they are now, those that were in force last, a node's name. Out: a state whatever they
//! say, the objects it was made of, and a [`Verdict`] on each. An object that is wrong is replaced by its last
//! good version, or left out when there is none; everything else stays as it was. Pure, and always ends: in each
//! round some object steps back, from its current version to its last good one and from there out.

use std::borrow::Cow;
use std::collections::HashMap;

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

/// Settles what `node` must do while some of the objects may be wrong.
///
/// Of two objects that contradict each other, the one that changed since `last_good` is refused; of two that both
/// did, or neither, the one later in `current`: the caller sorts by age, then name. A Secret that is gone is kept as
/// long as something in force names it, and so is this node's own Node. Secrets are of one namespace, the daemon's
/// own: a reference without a namespace means that one.
pub fn settle(current: &[Object], last_good: &[Object], node: &str) -> Settled {
    let mut candidates = Candidates::new(current, last_good, node);
    loop {
        let order = candidates.order();
        let objects: Vec<&Object> =
            order.iter().filter_map(|place| candidates.all.get(*place)).map(|one| &*one.version).collect();
        let (desired, mut findings) = assemble(&objects, node, &candidates.namespace);
        candidates.rename(&order, &mut findings);
        if !candidates.step_back(&findings) {
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
    /// Neither.
    Out,
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
    fn new(current: &'a [Object], last_good: &'a [Object], node: &str) -> Self {
        let mut gone: HashMap<Key, &Object> = last_good.iter().map(|object| (key(object), object)).collect();
        let mut all: Vec<Candidate<'_>> = Vec::new();
        for object in current {
            let last_good = gone.remove(&key(object));
            let standing = if last_good == Some(object) { Standing::Unchanged } else { Standing::Changed };
            all.push(Candidate { standing, version: Cow::Borrowed(object), last_good, problems: Vec::new() });
        }
        // Its pods keep their addresses until the kubelet says who this node is now.
        if let Some(own) = gone.remove(&("Node", node.to_owned())) {
            all.push(Candidate::kept(own));
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

    /// Findings name objects by their place in `order`; from here on, by their place here.
    fn rename(&self, order: &[usize], findings: &mut Vec<Finding>) {
        let place = |index: usize| order.get(index).copied().unwrap_or(index);
        for finding in findings.iter_mut() {
            finding.object = place(finding.object);
            finding.other = finding.other.map(place);
            finding.inside = finding.inside.map(place);
        }
        // What is out is named, so that references to it are not missing; what it says counts for nothing.
        let out = |index| self.all.get(index).is_none_or(|one: &Candidate<'_>| one.standing == Standing::Out);
        findings.retain(|finding| !out(finding.object) && !finding.other.is_some_and(out));
        findings.sort_by_key(|finding| finding.object);
    }

    /// Lets the objects at fault step back: first those wrong in themselves, then those that lack another, then
    /// those that contradict another, since an earlier step may be all that is needed. False: nothing is left to do.
    fn step_back(&mut self, findings: &[Finding]) -> bool {
        let wrong =
            |finding: &&Finding| !finding.missing && finding.inside.is_none() && finding.other.is_none();
        let lacking = |finding: &&Finding| finding.missing || finding.inside.is_some();
        self.refuse(findings.iter().filter(wrong))
            || self.find_what_is_lacking(findings.iter().filter(lacking))
            || self.refuse(findings.iter().filter(|finding| finding.other.is_some()))
    }

    fn refuse<'f>(&mut self, findings: impl Iterator<Item = &'f Finding>) -> bool {
        let mut stepped: Vec<usize> = Vec::new();
        for finding in findings {
            // The other may be right once this round's refusals are out of the way.
            if finding.other.is_some_and(|other| stepped.contains(&other)) {
                continue;
            }
            let said = self.said(finding);
            let Some(candidate) = self.all.get_mut(finding.object) else { continue };
            candidate.blame(said);
            if stepped.last() != Some(&finding.object) {
                candidate.step_back();
                stepped.push(finding.object);
            }
        }
        !stepped.is_empty()
    }

    /// What an object names and is not there: a Secret as it was last, else the object as it was, which named
    /// another. Without either it is left as it is: the state does without what it names.
    fn find_what_is_lacking<'f>(&mut self, findings: impl Iterator<Item = &'f Finding> + Clone) -> bool {
        for finding in findings.clone() {
            let said = self.said(finding);
            if let Some(candidate) = self.all.get_mut(finding.object) {
                candidate.blame(said);
            }
        }
        let mut found = false;
        for finding in findings.clone() {
            let said = self.said(finding);
            if let Some(secret) = finding.inside.and_then(|inside| self.all.get_mut(inside))
                && secret.can_be_as_it_was()
            {
                secret.blame(said);
                secret.step_back();
                found = true;
            } else if let Some(secret) = self.gone_secret(finding) {
                self.all.push(Candidate::kept(secret));
                found = true;
            }
        }
        // Another round, before an object is blamed for a Secret that has just been found.
        if found {
            return true;
        }
        for finding in findings {
            if let Some(candidate) = self.all.get_mut(finding.object)
                && candidate.can_be_as_it_was()
            {
                candidate.step_back();
                found = true;
            }
        }
        found
    }

    /// The last good Secret that a session lacks, once.
    fn gone_secret(&mut self, finding: &Finding) -> Option<&'a Object> {
        let candidate = self.all.get(finding.object).filter(|_| finding.missing)?;
        let Spec::BGPPeer(spec) = &candidate.version.spec else { return None };
        let reference = spec.auth.as_ref()?.md5_secret_ref.as_ref()?;
        let elsewhere = reference.namespace.as_ref().is_some_and(|namespace| *namespace != self.namespace);
        if elsewhere { None } else { self.gone.remove(&("Secret", reference.name.clone())) }
    }

    fn said(&self, finding: &Finding) -> String {
        let mut said = format!("{}: {}", finding.path, finding.message);
        if let Some(other) = finding.other.and_then(|other| self.all.get(other)) {
            said += &format!(" (first in {}/{})", other.version.spec.kind(), other.version.name);
        }
        said
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
    fn kept(last_good: &'a Object) -> Self {
        Self {
            standing: Standing::LastGood,
            version: Cow::Borrowed(last_good),
            last_good: None,
            problems: Vec::new(),
        }
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

    fn blame(&mut self, said: String) {
        if !self.problems.contains(&said) {
            self.problems.push(said);
        }
    }

    fn verdict(self) -> Verdict {
        let problems = self.problems;
        match self.standing {
            Standing::Changed | Standing::Unchanged if problems.is_empty() => Verdict::Accepted,
            Standing::Changed | Standing::Unchanged => Verdict::Unresolved { problems },
            Standing::LastGood => Verdict::Refused { problems, last_good_in_force: true },
            Standing::Out => Verdict::Refused { problems, last_good_in_force: false },
        }
    }
}

/// What is left of an object that is out: that it is there.
fn named_only(object: &Object) -> Object {
    let spec = Spec::Unreadable { kind: object.spec.kind(), problems: Vec::new() };
    Object { name: object.name.clone(), namespace: object.namespace.clone(), spec }
}
