//! Facts in, decisions out: each option, just below and just above its limit.

use std::collections::HashMap;

use chrono::{TimeZone, Utc};

use super::super::rights::Rights;
use super::super::uncounted::Uncounted;
use super::facts::{Heap, TableFacts};
use super::*;
use crate::plan::postgres::Work;

fn at(round: u32) -> Moment {
    Moment {
        now: Utc.with_ymd_and_hms(2026, 3, 1, 3, 30, 0).unwrap(),
        round,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    }
}

/// Options as a task file has them.
fn options(yaml: serde_json::Value) -> Vacuum {
    serde_json::from_value(yaml).unwrap()
}

/// 100,000 rows, vacuumed, and nothing since.
fn table(name: &str) -> TableFacts {
    TableFacts {
        name: RelationName::new("app", name),
        heap: Heap {
            oid: 7,
            bytes: 10 << 20,
            live: 100_000.0,
            last_vacuum: Some(at(1).now),
            ..Heap::default()
        },
        toast: None,
        has_children: false,
        system: false,
        may: true,
        owner: "app".to_owned(),
        uncounted: false,
    }
}

fn facts(major: i32, tables: Vec<TableFacts>) -> Facts {
    Facts {
        major,
        role: "maint".to_owned(),
        rights: Rights::default(),
        database: "shop".to_owned(),
        database_age: 1_000,
        database_multixact_age: 1_000,
        freeze_max_age: 200_000_000,
        freeze_max_multixact_age: 400_000_000,
        holders: Vec::new(),
        tables,
        uncounted: Uncounted::default(),
    }
}

/// Every step as `object: reason → statement`.
fn told(plan: &Plan) -> Vec<String> {
    let line = |step: &Step| {
        let statements: Vec<&str> = match &step.body.work {
            Work::Each(statements) => statements.iter().map(|s| s.sql.as_str()).collect(),
            other => panic!("{other:?}"),
        };
        format!(
            "{}: {} → {}",
            step.object,
            step.reason,
            statements.join("; ")
        )
    };
    plan.steps.iter().map(line).collect()
}

fn decided(yaml: serde_json::Value, major: i32, table: TableFacts) -> Vec<String> {
    told(&options(yaml).plan(facts(major, vec![table]), &at(1)))
}

#[test]
fn inserted_rows_count_by_share_and_by_number() {
    let with = |inserted: i64, yaml: serde_json::Value| {
        let mut table = table("t");
        table.heap.inserted = inserted;
        decided(yaml, 17, table)
    };
    assert_eq!(with(19_999, serde_json::json!({})), Vec::<String>::new());
    let due = "app.t: 20.0 k rows inserted since the last vacuum → VACUUM (SKIP_LOCKED, SKIP_DATABASE_STATS) app.t";
    assert_eq!(with(20_000, serde_json::json!({})), [due]);
    // A larger share, and a smaller one that the number holds back.
    assert!(with(20_000, serde_json::json!({ "min_inserted": "30%" })).is_empty());
    assert_eq!(
        with(30_000, serde_json::json!({ "min_inserted": "30%" })).len(),
        1
    );
    assert!(with(9_999, serde_json::json!({ "min_inserted": "1%" })).is_empty());
    assert_eq!(
        with(10_000, serde_json::json!({ "min_inserted": "1%" })).len(),
        1
    );
    let few = serde_json::json!({ "min_inserted": "1%", "min_inserted_rows": 2_000 });
    assert!(with(1_999, few.clone()).is_empty());
    assert_eq!(with(2_000, few).len(), 1);
}

#[test]
fn old_multixacts_are_frozen_from_the_age_that_was_said() {
    let with = |age: i64, yaml: serde_json::Value| {
        let mut table = table("t");
        table.heap.multixact_age = age;
        decided(yaml, 17, table)
    };
    // Three quarters of the server's own limit where none was said.
    assert!(with(299_999_999, serde_json::json!({})).is_empty());
    assert_eq!(
        with(300_000_000, serde_json::json!({})),
        [
            "app.t: oldest multixact id is 300.0 M old, from 300.0 M on it is frozen → VACUUM (SKIP_LOCKED, FREEZE) app.t"
        ]
    );
    let soon = serde_json::json!({ "freeze_multixact_age": 5_000 });
    assert!(with(4_999, soon.clone()).is_empty());
    assert_eq!(with(5_000, soon.clone()).len(), 1);
    // It says nothing of transaction ids.
    let mut table = table("t");
    table.heap.xid_age = 5_000;
    assert!(decided(soon, 17, table).is_empty());
}

#[test]
fn the_statement_says_how_it_is_to_be_done() {
    let mut dead = table("t");
    dead.heap.dead = 50_000;
    let with = |major: i32, yaml: serde_json::Value| {
        let said = decided(yaml, major, dead.clone());
        said[0].split(" → ").nth(1).unwrap().to_owned()
    };
    let yaml = serde_json::json!({ "truncate": false, "parallel": 3, "buffer_usage_limit": "1MB" });
    assert_eq!(
        with(15, yaml.clone()),
        "VACUUM (SKIP_LOCKED, TRUNCATE FALSE, PARALLEL 3) app.t"
    );
    assert_eq!(
        with(16, yaml),
        "VACUUM (SKIP_LOCKED, SKIP_DATABASE_STATS, TRUNCATE FALSE, PARALLEL 3, BUFFER_USAGE_LIMIT '1024 kB') app.t"
    );
    assert_eq!(
        with(17, serde_json::json!({})),
        "VACUUM (SKIP_LOCKED, SKIP_DATABASE_STATS) app.t"
    );
    // Without a word of ours it is the table's `vacuum_truncate` that holds.
    assert_eq!(
        with(17, serde_json::json!({ "truncate": true })),
        "VACUUM (SKIP_LOCKED, SKIP_DATABASE_STATS, TRUNCATE TRUE) app.t"
    );
    // 18 would go into the tables that inherit from it.
    dead.has_children = true;
    let said = decided(serde_json::json!({}), 18, dead.clone());
    assert!(said[0].ends_with(" ONLY app.t"), "{said:?}");
}

/// Oldest first, then largest; catalogs only for their age; what is not ours is told, not planned.
#[test]
fn what_endangers_the_server_comes_first() {
    let (mut dead, mut large) = (table("dead"), table("large"));
    dead.heap.dead = 50_000;
    large.heap.dead = 50_000;
    large.heap.bytes = 99 << 20;
    let (mut old, mut older) = (table("old"), table("older"));
    old.heap.xid_age = 150_000_000;
    older.toast = Some(Heap {
        xid_age: 160_000_000,
        ..Heap::default()
    });
    let (mut catalog, mut aged_catalog) = (table("catalog"), table("aged_catalog"));
    (catalog.system, aged_catalog.system) = (true, true);
    catalog.heap.dead = 90_000;
    aged_catalog.heap.xid_age = 170_000_000;
    let mut foreign = table("foreign");
    foreign.may = false;
    foreign.heap.dead = 50_000;
    let all = vec![dead, large, old, older, catalog, aged_catalog, foreign];
    let plan = options(serde_json::json!({})).plan(facts(17, all), &at(1));
    let objects: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
    assert_eq!(
        objects,
        [
            "app.aged_catalog",
            "app.older",
            "app.old",
            "app.large",
            "app.dead"
        ]
    );
    assert!(
        told(&plan)[1].contains("TOAST: oldest transaction id")
            && told(&plan)[1].contains("PROCESS_MAIN FALSE")
    );
    let codes: Vec<&str> = plan.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["privilege.missing"]);
    // Whether the rows are gone is looked at once more, and then no more.
    assert_eq!(plan.pending.len(), 1);
}

#[test]
fn who_keeps_ids_from_being_frozen_is_told_so() {
    let mut old = table("old");
    old.heap.xid_age = 160_000_000;
    let mut dead = table("dead");
    (dead.heap.dead, dead.heap.live) = (90_000, 10_000.0);
    let mut facts = facts(17, vec![old, dead]);
    facts.holders = vec![Holder {
        what: "prepared transaction".to_owned(),
        id: "zombie".to_owned(),
        who: "app".to_owned(),
        age: 159_000_000,
        since: Some(at(1).now - chrono::TimeDelta::days(9)),
        end: Some("ROLLBACK PREPARED 'zombie'".to_owned()),
        elsewhere: false,
        view: None,
    }];
    let plan = options(serde_json::json!({})).plan(facts, &at(1));
    assert_eq!(told(&plan), Vec::<String>::new());
    let said: Vec<String> = plan
        .findings
        .iter()
        .map(|f| format!("{} {}: {}", f.code, f.object, f.message))
        .collect();
    assert_eq!(
        said,
        [
            "vacuum.held_back app.dead: dead rows of app.dead cannot be removed while prepared transaction zombie (app), since 2026-02-20 03:30:00 UTC may still read them; end it once you know what it is for",
            "vacuum.held_back app.old: the old transaction ids of app.old cannot be frozen while prepared transaction zombie (app), since 2026-02-20 03:30:00 UTC is there: where that lasts, the server takes no more writes one day; end it once you know what it is for",
        ]
    );
}
