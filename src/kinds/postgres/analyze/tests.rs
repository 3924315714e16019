//! Facts in, decisions out: each option, just below and just above its limit.

use chrono::{TimeDelta, TimeZone, Utc};

use super::*;

fn at() -> Moment {
    Moment {
        now: Utc.with_ymd_and_hms(2026, 3, 1, 3, 30, 0).unwrap(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    }
}

fn options(yaml: serde_json::Value) -> Analyze {
    serde_json::from_value(yaml).unwrap()
}

/// Analyzed a day ago, and unchanged since.
fn table(oid: u32, name: &str, rows: f64) -> TableFacts {
    TableFacts {
        oid,
        name: RelationName::new("app", name),
        partitioned: false,
        root: oid,
        rows,
        bytes: 10 << 20,
        changed: 0,
        last_analyze: Some(at().now - TimeDelta::days(1)),
        has_statistics: true,
        missing: Vec::new(),
        has_children: false,
        may: true,
        unread: false,
        filtered: false,
        owner: "app".to_owned(),
    }
}

fn decided(
    yaml: serde_json::Value,
    major: i32,
    tables: Vec<TableFacts>,
    children: &[(u32, u32)],
) -> Vec<String> {
    let plan = planned(yaml, major, tables, children);
    let line = |step: &Step| format!("{}: {}", step.object, step.reason);
    plan.steps.iter().map(line).collect()
}

fn planned(
    yaml: serde_json::Value,
    major: i32,
    tables: Vec<TableFacts>,
    children: &[(u32, u32)],
) -> Plan {
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    for (parent, child) in children {
        below.entry(*parent).or_default().push(*child);
    }
    let facts = Facts {
        major,
        role: "maint".to_owned(),
        rights: Rights::default(),
        tables,
        children: below,
        foreign: HashMap::new(),
        may: "true".to_owned(),
        uncounted: Uncounted::default(),
    };
    options(yaml).plan(facts, &at())
}

/// Who may analyze a table and not read it sees no statistics: none seem to be missing.
#[test]
fn statistics_that_cannot_be_seen_are_told() {
    let told = |change: &dyn Fn(&mut TableFacts)| {
        let mut table = table(1, "t", 1_000.0);
        change(&mut table);
        let plan = planned(serde_json::json!({}), 17, vec![table], &[]);
        let told = plan.findings.into_iter().map(|one| {
            assert_eq!(one.code, "privilege.missing");
            one.suggestion.unwrap()
        });
        told.collect::<Vec<String>>().join("; ")
    };
    assert_eq!(told(&|_| {}), "");
    let grant = told(&|t| t.unread = true);
    assert!(grant.ends_with("GRANT SELECT ON app.t TO maint"), "{grant}");
    assert_eq!(told(&|t| t.filtered = true), "ALTER ROLE maint BYPASSRLS");
    // Where nothing is gathered, or all of it now, nothing is left to be known.
    assert_eq!(told(&|t| (t.unread, t.rows) = (true, 0.0)), "");
    assert_eq!(told(&|t| (t.unread, t.changed) = (true, 1_000)), "");
}

#[test]
fn a_large_table_is_due_by_its_root_long_before_its_share() {
    let with = |changed: i64, yaml: serde_json::Value| {
        let mut large = table(1, "large", 100_000_000.0);
        large.changed = changed;
        decided(yaml, 17, vec![large], &[])
    };
    // 5 % of a hundred million, or the root of a thousand times as many: 316,227.8.
    assert!(with(4_999_999, serde_json::json!({})).is_empty());
    assert_eq!(with(5_000_000, serde_json::json!({})).len(), 1);
    let sqrt = serde_json::json!({ "rule": "sqrt" });
    assert!(with(316_227, sqrt.clone()).is_empty());
    assert_eq!(
        with(316_228, sqrt.clone()),
        [
            "app.large: 316.2 k of 100.0 M rows changed since the last ANALYZE, from 316.2 k on it is due"
        ]
    );
    // Of a small table the share is less, and decides.
    let mut small = table(1, "small", 20_000.0);
    small.changed = 999;
    assert!(decided(sqrt.clone(), 17, vec![small.clone()], &[]).is_empty());
    small.changed = 1_000;
    assert_eq!(decided(sqrt, 17, vec![small], &[]).len(), 1);
}

/// Autovacuum analyzes the partitions, which sets back what they count, and never the whole.
#[test]
fn the_whole_is_due_after_its_time_once_its_parts_are_newer() {
    let with = |days: i64, parts: i64, yaml: serde_json::Value| {
        let mut whole = table(1, "whole", 2_000.0);
        whole.partitioned = true;
        whole.bytes = 0;
        whole.last_analyze = Some(at().now - TimeDelta::days(days));
        let part = |oid: u32| {
            let mut part = table(oid, &format!("part_{oid}"), 1_000.0);
            part.root = 1;
            part.last_analyze = Some(at().now - TimeDelta::days(parts));
            part
        };
        let tables = vec![whole, part(2), part(3)];
        decided(yaml, 17, tables, &[(1, 2), (1, 3)])
    };
    assert!(with(7, 1, serde_json::json!({})).is_empty());
    assert_eq!(
        with(8, 1, serde_json::json!({})),
        ["app.whole: 2 of the tables below it were analyzed since, the whole not for 8 days"]
    );
    // Not where its parts are no newer than itself.
    assert!(with(8, 8, serde_json::json!({})).is_empty());
    let soon = serde_json::json!({ "parent_max_age": "2d" });
    assert!(with(2, 1, soon.clone()).is_empty());
    assert_eq!(with(3, 1, soon).len(), 1);
    assert!(with(20, 1, serde_json::json!({ "parent_max_age": "30d" })).is_empty());
}

#[test]
fn who_is_never_analyzed_empty_or_not_ours() {
    let mut never = table(1, "never", -1.0);
    (never.last_analyze, never.has_statistics) = (None, false);
    let mut crashed = table(2, "crashed", 10.0);
    crashed.last_analyze = None;
    let mut empty = table(3, "empty", -1.0);
    (empty.last_analyze, empty.bytes) = (None, 0);
    let mut foreign = table(4, "foreign", 1.0);
    (foreign.changed, foreign.may) = (10_000, false);
    let mut few = table(5, "few", 100.0);
    few.changed = 499;
    let mut extended = table(6, "extended", 100.0);
    extended.missing = vec![("s9".to_owned(), "the extended statistics app.s".to_owned())];
    let told = decided(
        serde_json::json!({}),
        17,
        vec![never, crashed, empty, foreign, few, extended],
        &[],
    );
    assert_eq!(
        told,
        [
            "app.crashed: the server counts changes anew since its statistics were gathered (a crash, another server, or a reset), so nobody knows how many there were",
            "app.extended: there are no statistics of the extended statistics app.s",
            "app.never: never analyzed",
        ]
    );
}
