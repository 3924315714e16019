//! Which rule comes first: children before their parents.

use super::super::retention::rule::Rule;
use super::Facts;
use crate::plan::{Found, Step, Work};

/// Puts the steps into order and lets them wait for each other.
///
/// Children that a foreign key ties to a parent go first: many foreign keys
/// do not let a parent go before them. Orphans that no foreign key prevents go
/// after their parents: those that go today leave orphans behind.
pub(super) fn children_first(planned: Vec<(&Rule, Vec<Step>)>, facts: &Facts) -> Vec<Step> {
    let tied = |child: &Rule, parent: &Rule| {
        let (Some(child), Some(parent)) = (
            facts.tables.get(&child.table),
            facts.tables.get(&parent.table),
        ) else {
            return false;
        };
        child.oid != parent.oid
            && facts
                .foreign_keys
                .iter()
                .any(|fk| fk.root == parent.oid && fk.child_oid == child.oid)
    };
    // Whether `a` has to come before `b`.
    let before = |a: &Rule, b: &Rule| {
        let leaves_orphans =
            |b: &Rule| b.orphaned.as_ref().is_some_and(|o| o.parent == a.table) && !tied(b, a);
        (tied(a, b) && !tied(b, a)) || (a.table != b.table && leaves_orphans(b))
    };
    let mut waiting: Vec<(&Rule, Vec<Step>)> = planned;
    let mut ordered: Vec<(&Rule, Vec<Step>)> = Vec::new();
    while !waiting.is_empty() {
        let free = waiting
            .iter()
            .position(|(rule, _)| !waiting.iter().any(|(other, _)| before(other, rule)))
            // Tables that point at each other: the order of the file.
            .unwrap_or(0);
        ordered.push(waiting.remove(free));
    }
    let mut done: Vec<(&Rule, Vec<(String, String)>)> = Vec::new();
    let mut steps = Vec::new();
    for (rule, own) in ordered {
        let names = own
            .iter()
            .map(|s| (s.action.clone(), s.object.clone()))
            .collect();
        for mut step in own {
            if let (Work::Walk(walk), false) = (&mut step.body.work, done.is_empty()) {
                // What goes before may leave more orphans than were found.
                walk.found = Found::default();
            }
            for (earlier, of) in &done {
                if before(earlier, rule) {
                    for (action, object) in of {
                        step = step.after(action.clone(), object.clone());
                    }
                }
            }
            steps.push(step);
        }
        done.push((rule, names));
    }
    steps
}
