//! Which rule comes first: children before their parents.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::retention::rule::Rule;
use super::Facts;
use crate::plan::{Found, Step, Work};
use crate::values::TableName;

/// Puts the steps into order and lets them wait for each other.
///
/// Children that a foreign key ties to a parent go first: many foreign keys
/// do not let a parent go before them. Orphans that no foreign key prevents go
/// after their parents: those that go today leave orphans behind.
pub(super) fn children_first(planned: Vec<(&Rule, Vec<Step>)>, facts: &Facts) -> Vec<Step> {
    let rules: Vec<&Rule> = planned.iter().map(|(rule, _)| *rule).collect();
    let before = before(&rules, facts);
    let mut planned: Vec<Option<Vec<Step>>> = planned.into_iter().map(|(_, s)| Some(s)).collect();
    let mut names: HashMap<usize, Vec<(String, String)>> = HashMap::new();
    let mut steps = Vec::new();
    for n in in_order(&before) {
        let Some(own) = planned.get_mut(n).and_then(Option::take) else {
            continue;
        };
        let own_names = own.iter().map(|s| (s.action.clone(), s.object.clone()));
        let own_names = own_names.collect();
        for mut step in own {
            if let (Work::Walk(walk), false) = (&mut step.body.work, names.is_empty())
                && !walk.once
            {
                // What goes before may leave more orphans than were found. What is found once was found for all
                // parts of the table at the same moment, and stays so.
                walk.found = Found::default();
            }
            let earlier = before.get(n).into_iter().flatten();
            for (action, object) in earlier.filter_map(|of| names.get(of)).flatten() {
                step = step.after(action.clone(), object.clone());
            }
            steps.push(step);
        }
        names.insert(n, own_names);
    }
    steps
}

/// For each rule, those that have to come before it, by their places.
fn before(rules: &[&Rule], facts: &Facts) -> Vec<BTreeSet<usize>> {
    let mut of_table: HashMap<&TableName, Vec<usize>> = HashMap::new();
    let mut of_oid: HashMap<u32, Vec<usize>> = HashMap::new();
    for (n, rule) in rules.iter().enumerate() {
        of_table.entry(&rule.table).or_default().push(n);
        if let Some(table) = facts.tables.get(&*rule.table) {
            of_oid.entry(table.oid).or_default().push(n);
        }
    }
    // Children and their parents.
    let tied: HashSet<(u32, u32)> = facts
        .foreign_keys
        .values()
        .flatten()
        .filter(|fk| fk.child_oid != fk.root)
        .map(|fk| (fk.child_oid, fk.root))
        .collect();
    let mut before = vec![BTreeSet::new(); rules.len()];
    let none = Vec::new();
    for (child, parent) in &tied {
        if tied.contains(&(*parent, *child)) {
            continue;
        }
        for n in of_oid.get(parent).unwrap_or(&none) {
            if let Some(before) = before.get_mut(*n) {
                before.extend(of_oid.get(child).unwrap_or(&none));
            }
        }
    }
    let oid = |rule: &Rule| facts.tables.get(&*rule.table).map(|table| table.oid);
    for (n, rule) in rules.iter().enumerate() {
        let Some(orphaned) = &rule.orphaned else {
            continue;
        };
        let parents = of_table.get(&*orphaned.parent).unwrap_or(&none);
        let parents = parents.iter().filter(|parent| {
            rules.get(**parent).is_some_and(|parent| {
                let both = oid(rule).zip(oid(parent));
                parent.table != rule.table && !both.is_some_and(|both| tied.contains(&both))
            })
        });
        if let Some(before) = before.get_mut(n) {
            before.extend(parents);
        }
    }
    before
}

/// The places in an order that heeds what comes before what; otherwise as they are.
fn in_order(before: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    for (n, earlier) in before.iter().enumerate() {
        for other in earlier {
            if let Some(behind) = behind.get_mut(*other) {
                behind.push(n);
            }
        }
    }
    let mut open: Vec<usize> = before.iter().map(BTreeSet::len).collect();
    let mut waiting: BTreeSet<usize> = (0..before.len()).collect();
    let mut free: BTreeSet<usize> = waiting
        .iter()
        .copied()
        .filter(|n| open.get(*n) == Some(&0))
        .collect();
    let mut order = Vec::with_capacity(before.len());
    // Tables that point at each other: the order of the file.
    while let Some(n) = free.pop_first().or_else(|| waiting.first().copied()) {
        waiting.remove(&n);
        order.push(n);
        for other in behind.get(n).into_iter().flatten() {
            if let Some(open) = open.get_mut(*other) {
                *open -= 1;
                if *open == 0 && waiting.contains(other) {
                    free.insert(*other);
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_wait_waits_and_the_others_stay_where_they_are() {
        let order = |before: &[&[usize]]| {
            let before: Vec<BTreeSet<usize>> = before
                .iter()
                .map(|earlier| earlier.iter().copied().collect())
                .collect();
            in_order(&before)
        };
        assert_eq!(order(&[&[], &[], &[]]), [0, 1, 2]);
        assert_eq!(order(&[&[2], &[], &[]]), [1, 2, 0]);
        assert_eq!(order(&[&[1], &[2], &[]]), [2, 1, 0]);
        // In a circle the first goes first.
        assert_eq!(order(&[&[1], &[0], &[]]), [2, 0, 1]);
        assert_eq!(order(&[]), [0_usize; 0]);
    }
}
