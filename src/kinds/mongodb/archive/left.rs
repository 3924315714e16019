//! What earlier runs have left comes first: files, batches whose end nobody saw, copies beside their
//! originals.

use std::collections::{BTreeMap, BTreeSet};

use crate::engines::mongodb::{CopyMark, LeftCopies, namespace};
use crate::plan::mongodb::{Body, Manifest, TakeBack, Work, copies};
use crate::plan::{Moment, Plan, Step, archived};

/// Files that could not be removed are tried again; nothing waits for that.
pub(super) fn clear_away(plan: &mut Plan<Body>, own: &str, at: &Moment) {
    let left = archived::left_over::<Manifest>(at.memories.iter());
    if left.is_empty() {
        return;
    }
    let step = Step::new("clear", own, own)
        .because("files of batches whose documents are in their collection could not be removed")
        .doing(Work::Clear(left));
    plan.steps.insert(0, step);
}

/// What an earlier run has left open comes before anything else.
pub(super) fn settle_first(plan: &mut Plan<Body>, own: &str, at: &Moment) {
    let mut pending = archived::among::<Manifest>(at.memories.iter());
    pending.retain(|manifest| !manifest.settled);
    if pending.is_empty() {
        return;
    }
    for step in &mut plan.steps {
        *step = step.clone().after("settle", own);
    }
    let settle = Step::new("settle", own, own)
        .because("an earlier run ended before it knew whether its last batch was deleted")
        .doing(Work::Settle(pending));
    plan.steps.insert(0, settle);
}

/// Copies that an earlier run has left beside their originals go before anything else comes: who
/// meets them would take them for somebody else's, or for proof.
pub(super) fn take_back_first(plan: &mut Plan<Body>, own: &str, left: &LeftCopies, at: &Moment) {
    let (known, unknown): (Vec<&CopyMark>, Vec<_>) = left
        .marks
        .iter()
        .partition(|mark| copies::Sealed::known(mark, &at.memories).is_some());
    let beside = (left.more, left.large);
    plan.findings.extend(copies::unknown(&unknown, beside, own));
    let mut marks: BTreeMap<String, String> = known
        .iter()
        .map(|mark| (mark.id.clone(), namespace(&mark.into.0, &mark.into.1)))
        .collect();
    // Among so many, or so large ones, ours may not have been seen: they are asked for by their ids.
    if left.more || left.large > 0 {
        let all = copies::Sealed::all(&at.memories).into_iter();
        marks.extend(all.map(|(id, sealed)| (id, sealed.place())));
    }
    if marks.is_empty() {
        return;
    }
    for step in &mut plan.steps {
        *step = step.clone().after("take back", own);
    }
    let places: BTreeSet<&str> = marks.values().map(String::as_str).collect();
    let because = format!(
        "an earlier run ended between copying documents into {} and deleting them",
        places.into_iter().collect::<Vec<_>>().join(", ")
    );
    let marks = marks.into_keys().collect();
    let database = own.to_owned();
    let step = Step::new("take back", own, own)
        .because(because)
        .doing(Work::TakeBack(TakeBack { database, marks }));
    plan.steps.insert(0, step);
}
