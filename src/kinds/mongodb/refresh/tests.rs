//! Decisions of `refresh`: facts in, plan out.

use std::collections::HashMap;

use super::*;

fn refresh(pipeline: Value) -> Refresh {
    let options = json!({ "aggregations": [{ "collection": "events", "pipeline": pipeline, "fresh_within": "1d" }] });
    let kind: Refresh = serde_json::from_value(options).unwrap();
    kind
}

fn facts(writes: i64, with_result: bool) -> Facts {
    let collection = |writes| Collection {
        writes: Some(writes),
        ..Collection::default()
    };
    let mut collections =
        BTreeMap::from([(("app".to_owned(), "events".to_owned()), collection(writes))]);
    if with_result {
        collections.insert(("app".to_owned(), "metrics".to_owned()), collection(0));
    }
    Facts {
        unnameable: BTreeMap::new(),
        database: "app".to_owned(),
        one_of_many: false,
        prefers_secondaries: false,
        collections,
        counts_since: Some("host 1 2".to_owned()),
        views: BTreeMap::new(),
        additions: Vec::new(),
        findings: Vec::new(),
    }
}

fn moment(memories: HashMap<String, Value>) -> Moment {
    Moment {
        now: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        round: 1,
        baselines: HashMap::new(),
        memories,
        former: Default::default(),
        zone: chrono_tz::UTC,
    }
}

#[test]
fn made_once_and_then_only_after_a_change() {
    let kind =
        refresh(json!([{ "$group": { "_id": "$day" } }, { "$merge": { "into": "metrics" } }]));
    kind.check().unwrap();
    let first = kind.plan(facts(7, false), &moment(HashMap::new()));
    assert_eq!(first.steps[0].reason, "it does not exist yet");
    let memory = first.steps[0].remember.clone().unwrap();
    let known = HashMap::from([(memory.key, memory.value)]);
    let second = kind.plan(facts(7, true), &moment(known.clone()));
    assert!(second.steps.is_empty());
    assert_eq!(
        second.skipped[0].reason,
        "no source has changed since it was made"
    );
    let third = kind.plan(facts(8, true), &moment(known.clone()));
    assert_eq!(third.steps[0].reason, "its sources have changed");
    let mut restarted = facts(7, true);
    restarted.counts_since = Some("host 2 3".to_owned());
    assert_eq!(kind.plan(restarted, &moment(known)).steps.len(), 1);
}

fn of(aggregations: Value) -> Refresh {
    serde_json::from_value(json!({ "aggregations": aggregations })).unwrap()
}

#[test]
fn what_merges_into_one_collection_is_made_each_by_itself() {
    let group = |by: &str| json!([{ "$group": { "_id": by } }, { "$merge": "metrics" }]);
    let kind = of(json!([
        { "collection": "events", "pipeline": group("$day") },
        { "collection": "events", "pipeline": group("$user") },
    ]));
    kind.check().unwrap();
    let first = kind.plan(facts(7, false), &moment(HashMap::new()));
    let objects: Vec<&str> = first.steps.iter().map(|s| s.object.as_str()).collect();
    assert_eq!(
        objects,
        ["app.metrics (from events)", "app.metrics (from events, 2)"]
    );
    assert!(first.steps.iter().all(|s| s.lane == "app.metrics"));
    let known: HashMap<String, Value> = first
        .steps
        .iter()
        .filter_map(|step| step.remember.clone())
        .map(|memory| (memory.key, memory.value))
        .collect();
    assert_eq!(known.len(), 2);
    assert!(
        kind.plan(facts(7, true), &moment(known.clone()))
            .steps
            .is_empty()
    );
    assert_eq!(kind.plan(facts(8, true), &moment(known)).steps.len(), 2);
}

#[test]
fn what_others_read_is_made_first() {
    let kind = of(json!([
        { "collection": "days", "pipeline": [{ "$group": { "_id": 1 } }, { "$out": "months" }] },
        { "collection": "events", "pipeline": [{ "$group": { "_id": 1 } }, { "$out": "days" }] },
    ]));
    let plan = kind.plan(facts(7, false), &moment(HashMap::new()));
    let objects: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
    assert_eq!(objects, ["app.days", "app.months"]);
    assert!(plan.findings.is_empty(), "{:?}", plan.findings);
    assert_eq!(plan.steps[1].needs.len(), 1);
}

#[test]
fn what_clashes_only_in_the_database_of_the_url_is_not_made() {
    let kind = of(json!([
        { "collection": "events", "pipeline": [{ "$group": { "_id": 1 } }, { "$out": "metrics" }] },
        { "collection": "events", "pipeline": [{ "$group": { "_id": 2 } }, { "$out": { "db": "app", "coll": "metrics" } }] },
    ]));
    kind.check().unwrap();
    let plan = kind.plan(facts(7, true), &moment(HashMap::new()));
    assert!(plan.steps.is_empty());
    assert!(plan.findings[0].message.contains("`$out` replaces"));
}

fn addition(kind: &Refresh, added: Added, memory: Option<Value>) -> Addition {
    let plan = kind.plan(facts(7, false), &moment(HashMap::new()));
    let Work::Aggregate(work) = &plan.steps[0].body.work else {
        panic!("no aggregation");
    };
    assert!(!work.repeatable);
    Addition {
        id: work.mark(plan.steps[0].body.measure.as_ref().unwrap()),
        from: "app.events".to_owned(),
        into: "app.metrics".to_owned(),
        owner: "maint other".to_owned(),
        since: None,
        added,
        memory,
    }
}

#[test]
fn what_was_cut_off_is_added_again_only_where_nothing_of_it_is_left() {
    let kind = refresh(json!([
        { "$group": { "_id": "$day", "n": { "$sum": 1 } } },
        { "$merge": { "into": "metrics", "whenMatched": [{ "$set": { "n": { "$add": ["$n", "$$new.n"] } } }] } },
    ]));
    let with = |added, memory, documents| {
        let mut facts = facts(7, true);
        facts.additions = vec![addition(&kind, added, memory)];
        for collection in facts.collections.values_mut() {
            collection.documents = documents;
        }
        kind.plan(facts, &moment(HashMap::new()))
    };
    let refused = with(Added::CutOff, None, 3);
    assert!(refused.steps.is_empty());
    assert_eq!(refused.findings[0].code, "refresh.cut_off");
    assert!(!refused.refused.is_empty());
    // Another run is at it.
    let waits = with(Added::Now, None, 3);
    assert!(waits.steps.is_empty() && waits.findings.is_empty() && waits.refused.is_empty());
    // It was dropped or emptied since.
    assert_eq!(with(Added::CutOff, None, 0).steps.len(), 1);
    // The target knows that it was made, whatever the history does.
    let made = kind.plan(facts(7, false), &moment(HashMap::new()));
    let memory = made.steps[0].remember.clone().unwrap().value;
    let known = with(Added::Whole, Some(memory), 0);
    assert!(known.steps.is_empty() && known.refused.is_empty());
    assert_eq!(
        known.skipped[0].reason,
        "no source has changed since it was made"
    );
}

#[test]
fn what_depends_on_the_time_is_always_made() {
    let kind = refresh(
        json!([{ "$match": { "$expr": { "$lt": ["$at", "$$NOW"] } } }, { "$out": "metrics" }]),
    );
    let first = kind.plan(facts(7, true), &moment(HashMap::new()));
    let memory = first.steps[0].remember.clone().unwrap();
    let known = HashMap::from([(memory.key, memory.value)]);
    let second = kind.plan(facts(7, true), &moment(known));
    assert_eq!(
        second.steps[0].reason,
        "whether its sources have changed cannot be known"
    );
}
