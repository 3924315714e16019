use std::collections::HashMap;

use super::*;

fn facts() -> Facts {
    let of = |free_mb: i64| Collection {
        bytes: 1 << 30,
        free: free_mb << 20,
        ..Collection::default()
    };
    let at = |member: &str, name: &str| (member.to_owned(), name.to_owned());
    Facts {
        empty: false,
        database: "app".to_owned(),
        alone: false,
        collections: BTreeMap::from([
            (at("a:1", "events"), of(500)),
            (at("b:1", "events"), of(400)),
            (at("c:1", "events"), of(600)),
            (at("c:1", "small"), of(50)),
        ]),
        primary: Some("a:1".to_owned()),
        replaceable: true,
        releases: BTreeMap::from(["a:1", "b:1", "c:1"].map(|m| (m.to_owned(), (6, 0)))),
        at_it: BTreeSet::new(),
        estimates: BTreeMap::new(),
        findings: Vec::new(),
    }
}

/// The same on servers that know more.
fn newer() -> Facts {
    let mut facts = facts();
    facts
        .releases
        .values_mut()
        .for_each(|release| *release = (8, 0));
    facts
}

fn compact(step: &Step<Body>) -> Option<&Compact> {
    match &step.body.work {
        Work::Compact(compact) => Some(compact),
        _ => None,
    }
}

#[test]
fn a_primary_that_nobody_can_replace_does_not_step_down() {
    let mut facts = facts();
    facts.replaceable = false;
    facts.collections.retain(|(place, _), _| place == "a:1");
    let again = Facts {
        database: facts.database.clone(),
        collections: facts.collections.clone(),
        primary: facts.primary.clone(),
        releases: facts.releases.clone(),
        ..Facts::default()
    };
    let plan = CompactKind::default().plan(facts, &moment());
    assert!(plan.steps.is_empty());
    let why = &plan.skipped[0].reason;
    assert!(why.contains("no other that could be"), "{why}");
    let kind = CompactKind {
        step_down: true,
        ..CompactKind::default()
    };
    let plan = kind.plan(again, &moment());
    let of = compact(&plan.steps[0]).unwrap();
    assert!(of.in_place && !of.step_down);
    let text = plan.steps[0].statement_text();
    assert!(
        text.contains("force: true") && !text.contains("stepDown"),
        "{text}"
    );
}

#[test]
fn what_the_server_estimates_decides() {
    let kind = CompactKind::default();
    let mut facts = newer();
    let at = |member: &str| (member.to_owned(), "events".to_owned());
    facts.estimates.insert(at("c:1"), 20 << 20);
    facts.estimates.insert(at("b:1"), 300 << 20);
    let plan = kind.plan(facts, &moment());
    let objects: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
    assert_eq!(objects, ["app.events on b:1"]);
    assert_eq!(
        plan.steps[0].estimate.bytes_after,
        Some((1 << 30) - (300 << 20))
    );
    assert_eq!(compact(&plan.steps[0]).unwrap().target_mb, Some(100));
    let skipped = &plan.skipped[0];
    assert_eq!(skipped.object, "app.events on c:1");
    assert!(
        skipped.reason.ends_with("and 20 MB could be given back"),
        "{}",
        skipped.reason
    );
    let plan = kind.plan(super::tests::facts(), &moment());
    assert_eq!(compact(&plan.steps[0]).unwrap().target_mb, None);
}

#[test]
fn a_member_compacts_by_itself_where_it_can() {
    let kind = CompactKind {
        auto: true,
        min_free: Bytes(10 << 20),
        min_share: Percent::new(1.0),
        ..CompactKind::default()
    };
    let mut facts = newer();
    facts.releases.insert("b:1".to_owned(), (7, 0));
    let plan = kind.plan(facts, &moment());
    let told: Vec<(&str, bool)> = plan
        .steps
        .iter()
        .map(|step| (step.object.as_str(), compact(step).unwrap().by_itself))
        .collect();
    assert_eq!(told, [("c:1", true), ("app.events on b:1", false)]);
    insta::assert_snapshot!(plan.steps[0].statement_text(), @"db.adminCommand({autoCompact: true, runOnce: true, freeSpaceTargetMB: 10})");
    let mut facts = newer();
    facts.at_it.extend(["b:1".to_owned(), "c:1".to_owned()]);
    let plan = kind.plan(facts, &moment());
    assert!(plan.steps.is_empty());
    assert!(
        plan.skipped
            .iter()
            .any(|s| s.object == "c:1" && s.reason.contains("by itself just now"))
    );
    let filtered = CompactKind {
        include: vec!["events".parse().unwrap()],
        ..kind
    };
    assert!(filtered.check().is_err());
}

fn moment() -> Moment {
    Moment {
        now: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    }
}

#[test]
fn secondaries_first_and_the_primary_only_if_it_may_step_down() {
    let mut kind = CompactKind::default();
    let plan = kind.plan(facts(), &moment());
    let objects: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
    assert_eq!(objects, ["app.events on c:1", "app.events on b:1"]);
    assert_eq!(plan.skipped[0].object, "app.events on a:1");
    kind.step_down = true;
    let plan = kind.plan(facts(), &moment());
    let last = plan.steps.last().unwrap();
    assert_eq!(last.object, "app.events on a:1");
    assert_eq!(last.needs[0].object, "app.events on b:1");
    assert!(
        plan.steps
            .iter()
            .all(|step| step.lane == plan.steps[0].lane)
    );
}
