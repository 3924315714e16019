//! Which way to a smaller table is chosen, what is refused and why, from facts alone; no server is
//! needed for it.

use std::collections::HashMap;

use chrono::{TimeZone, Utc};

use super::facts::ColumnFacts;
use super::*;
use crate::engines::postgres::RelationName;
use crate::plan::Work;

pub(super) fn at() -> Moment {
    Moment {
        // A Sunday.
        now: Utc.with_ymd_and_hms(2026, 3, 1, 3, 30, 0).unwrap(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    }
}

fn column(name: &str, length: i16, alignment: char) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        length,
        alignment,
        statistics: Some((0.0, 33.0)),
        ..ColumnFacts::default()
    }
}

/// A million rows of 64 bytes where three million were.
pub(super) fn table() -> TableFacts {
    TableFacts {
        oid: 7,
        name: RelationName::new("app", "t"),
        heap_bytes: 300_000_000,
        toast_bytes: 0,
        toast_chunks: 0.0,
        index_bytes: 90_000_000,
        rows: 1_000_000.0,
        changed: 0,
        counted: true,
        fillfactor: 100.0,
        age: 1_000,
        may: true,
        may_repack: true,
        may_write: true,
        owner: "app".to_owned(),
        unread: false,
        filtered: false,
        has_children: false,
        unlogged: false,
        identity: true,
        policies: false,
        hooks: Vec::new(),
        unproved: Vec::new(),
        slots: Vec::new(),
        unpublishable: Vec::new(),
        made_as: "1/7/0".to_owned(),
        columns: vec![column("id", 8, 'd'), column("note", -1, 'i')],
        computes_all: false,
        measured_bytes: None,
    }
}

pub(super) fn facts(table: TableFacts) -> Facts {
    Facts {
        major: 17,
        role: "maint".to_owned(),
        rights: Rights::default(),
        server: ServerFacts {
            most_log: None,
            may_quiet: true,
            no_repack: Some(
                "the server has no REPACK (CONCURRENTLY); 19 and newer have".to_owned(),
            ),
            freeze_max_age: 200_000_000,
        },
        tables: vec![table],
        indexes: Vec::new(),
        version_num: 170_000,
        holders: Vec::new(),
        standing: Standing::default(),
        not_exact: None,
    }
}

/// What becomes of one table: its steps, or why there are none.
pub(super) fn told(options: &Repack, facts: Facts, at: &Moment) -> String {
    let plan = options.plan(facts, at);
    let steps = plan
        .steps
        .iter()
        .map(|s| format!("{}: {}", s.action, s.reason));
    let pending = plan
        .pending
        .iter()
        .map(|s| format!("pending: {}", s.reason));
    let skipped = plan
        .skipped
        .iter()
        .map(|s| format!("skipped: {}", s.reason));
    let refused = plan
        .refused
        .iter()
        .map(|s| format!("refused: {}", s.reason));
    let findings = plan
        .findings
        .iter()
        .map(|f| format!("{}: {}", f.code, f.message));
    let all: Vec<String> = steps
        .chain(pending)
        .chain(skipped)
        .chain(refused)
        .chain(findings)
        .collect();
    all.join("\n")
}

pub(super) fn with(change: impl FnOnce(&mut TableFacts)) -> Facts {
    let mut one = table();
    change(&mut one);
    facts(one)
}

const BLOAT: &str = "76% bloat: 286 MB now, 70 MB after a repack (estimated from statistics)";

#[test]
fn the_best_way_is_chosen_with_its_reason() {
    let plain = Repack::default();
    assert_eq!(
        told(&plain, facts(table()), &at()),
        format!(
            "move_rows: {BLOAT}; by moving rows, since the server has no REPACK (CONCURRENTLY); 19 and newer have"
        )
    );
    let mut newest = facts(table());
    (newest.major, newest.server.no_repack) = (19, None);
    assert_eq!(
        told(&plain, newest, &at()),
        format!("repack: {BLOAT}; by REPACK (CONCURRENTLY)")
    );
    let mut newest = with(|t| t.identity = false);
    (newest.major, newest.server.no_repack) = (19, None);
    assert_eq!(
        told(&plain, newest, &at()),
        format!(
            "move_rows: {BLOAT}; by moving rows, since REPACK (CONCURRENTLY) needs a primary key or a replica identity index"
        )
    );
    let mut newest = facts(table());
    (newest.major, newest.server.no_repack) = (19, None);
    let moving = Repack {
        way: Way::Move,
        ..Repack::default()
    };
    assert_eq!(
        told(&moving, newest, &at()),
        format!("move_rows: {BLOAT}; by moving rows, since the task says `way: move`")
    );
    let repacking = Repack {
        way: Way::Repack,
        ..Repack::default()
    };
    assert_eq!(
        told(&repacking, facts(table()), &at()),
        refused(
            "table.bloat",
            "the server has no REPACK (CONCURRENTLY); 19 and newer have"
        )
    );
}

/// What is said of a table that stays as it is: to whoever asks for the plan, and in a finding.
fn refused(code: &str, why: &str) -> String {
    format!("refused: {BLOAT}, but {why}\n{code}: app.t: {BLOAT}, but {why}")
}

#[test]
fn what_cannot_be_moved_is_refused_by_name() {
    let plain = Repack::default();
    let refused = |why: &str| {
        let why = format!(
            "rows cannot be moved: {why}; the server has no REPACK (CONCURRENTLY); 19 and newer have"
        );
        // Where it is the role's rights, all tables are told of at once.
        let code = match why.contains("lacks") {
            true => "privilege.missing",
            false => "table.bloat",
        };
        refused(code, &why)
    };
    let hook = |when| with(|t| t.hooks = vec![("trigger audit".to_owned(), when)]);
    assert!(told(&plain, hook('O'), &at()).starts_with("move_rows"));
    for when in ['A', 'R'] {
        assert_eq!(
            told(&plain, hook(when), &at()),
            refused("trigger audit would fire; it fires whatever `session_replication_role` says")
        );
    }
    let mut loud = hook('O');
    loud.server.may_quiet = false;
    assert_eq!(
        told(&plain, loud, &at()),
        refused(
            "trigger audit would fire; GRANT SET ON PARAMETER session_replication_role (15 and newer) keeps it from firing"
        )
    );
    let mut loud = hook('R');
    loud.server.may_quiet = false;
    assert!(told(&plain, loud, &at()).starts_with("move_rows"));
    assert_eq!(
        told(
            &plain,
            with(|t| t.unproved = vec!["positive".to_owned()]),
            &at()
        ),
        refused(
            "constraint positive is NOT VALID, and rows that break it cannot be written again; VALIDATE it"
        )
    );
    assert_eq!(
        told(&plain, with(|t| t.policies = true), &at()),
        refused("row security hides rows from the role (BYPASSRLS, or the owner without FORCE)")
    );
    assert_eq!(
        told(&plain, with(|t| t.may_write = false), &at()),
        refused("the role lacks UPDATE on it (GRANT UPDATE ON app.t TO maint)")
    );
    assert_eq!(
        told(
            &plain,
            with(|t| t.unpublishable = vec!["publication p tells of it, and so".to_owned()]),
            &at()
        ),
        refused("the server refuses every UPDATE: publication p tells of it, and so")
    );
    let replicated = || with(|t| t.slots = vec!["reports".to_owned()]);
    assert_eq!(
        told(&plain, replicated(), &at()),
        refused("logical slot reports would decode every one (allow_replicated: true)")
    );
    let allowed = Repack {
        allow_replicated: true,
        ..Repack::default()
    };
    assert!(told(&allowed, replicated(), &at()).starts_with("move_rows"));
    assert_eq!(
        told(
            &plain,
            with(|t| t.columns.iter_mut().for_each(|c| c.made = true)),
            &at()
        ),
        refused("it has no column that can be written")
    );
}

#[test]
fn blocking_is_for_a_window_of_its_own() {
    let blocked = || with(|t| t.policies = true);
    let options = |window: &str| Repack {
        allow_blocking: true,
        blocking_window: Some(window.parse().unwrap()),
        ..Repack::default()
    };
    assert!(told(&options("Sun 03:00-04:00"), blocked(), &at()).starts_with("vacuum_full: "));
    assert!(
        told(&options("Sun 04:00-05:00"), blocked(), &at()).contains(
            "only VACUUM (FULL) can do that, and only within `blocking_window` (Sun 04:00-05:00)"
        )
    );
    // What can be done without is done without.
    assert!(told(&options("Sun 03:00-04:00"), facts(table()), &at()).starts_with("move_rows"));
    let alone = Repack {
        allow_blocking: true,
        ..Repack::default()
    };
    assert!(
        alone
            .check()
            .unwrap_err()
            .to_string()
            .contains("blocking_window")
    );
}

#[test]
fn an_old_transaction_is_named_before_anything_moves() {
    let mut facts = facts(table());
    facts.holders = vec![Holder {
        what: "session".to_owned(),
        id: "17".to_owned(),
        who: "app, shop, idle in transaction".to_owned(),
        age: 5_000,
        since: Some(at().now - chrono::TimeDelta::hours(2)),
        end: None,
        elsewhere: false,
        view: None,
    }];
    let said = told(&Repack::default(), facts, &at());
    assert!(said.contains("but session 17 (app, shop, idle in transaction), since 2026-03-01 01:30:00 UTC may still read its dead rows"), "{said}");
    assert!(said.contains("vacuum.held_back"), "{said}");
}

#[test]
fn wraparound_comes_first() {
    let said = told(&Repack::default(), with(|t| t.age = 300_000_000), &at());
    assert!(
        said.contains("first needs the vacuum that prevents transaction id wraparound"),
        "{said}"
    );
}

#[test]
fn the_cheapest_column_is_written() {
    let plan = Repack::default().plan(
        with(|t| {
            let made = ColumnFacts {
                made: true,
                ..column("twice", 4, 'i')
            };
            let from = ColumnFacts {
                computed_from: true,
                ..column("once", 2, 's')
            };
            let used = ColumnFacts {
                used: true,
                ..column("id", 8, 'd')
            };
            let gone = ColumnFacts {
                dropped: true,
                ..column("gone", 1, 'c')
            };
            t.columns = vec![
                used,
                column("note", -1, 'i'),
                column("flag", 1, 'c'),
                from,
                made,
                gone,
            ];
        }),
        &at(),
    );
    let Work::Shrink(shrink) = &plan.steps[0].body.work else {
        panic!("{plan:#?}")
    };
    assert_eq!(shrink.column, "flag");
    assert!(shrink.quiet);
}

#[test]
fn a_batch_takes_as_long_as_it_should() {
    let goal = |options: &Repack| {
        let plan = options.plan(facts(table()), &at());
        let Work::Shrink(shrink) = &plan.steps[0].body.work else {
            panic!("rows move: {:?}", plan.steps[0]);
        };
        shrink.goal_ms
    };
    assert_eq!(goal(&Repack::default()), 50);
    let slow = Repack {
        batch_goal: TimeSpan::from_millis(400),
        ..Repack::default()
    };
    assert_eq!((slow.check(), goal(&slow)), (Ok(()), 400));
    let none = Repack {
        batch_goal: TimeSpan::from_millis(9),
        ..Repack::default()
    };
    let why = "batch_goal is 9ms; expected at least 10ms";
    assert_eq!(none.check(), Err(Unfit::at("batch_goal", why)));
}

/// One statement lets the role move the rows of all tables that it may not write.
#[test]
fn rights_that_are_missing_are_named_at_once() {
    let mut several = with(|t| t.may_write = false);
    let mut another = several.tables[0].clone();
    another.name = RelationName::new("log", "u");
    several.tables.push(another);
    let plan = Repack::default().plan(several, &at());
    assert_eq!(plan.refused.len(), 2);
    let said: Vec<_> = plan
        .findings
        .iter()
        .map(|f| (&*f.code, &*f.object, f.suggestion.as_deref()))
        .collect();
    assert_eq!(
        said,
        [(
            "privilege.missing",
            "app.t",
            Some("GRANT USAGE ON SCHEMA app, log TO maint; GRANT UPDATE ON app.t, log.u TO maint")
        )]
    );
    assert!(
        plan.findings[0]
            .message
            .ends_with("; 1 more stays for the like of it")
    );
}
