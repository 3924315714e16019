//! Which way to a smaller table is chosen, what is refused and why, from facts alone; no server is
//! needed for it.

use std::collections::HashMap;

use chrono::{TimeZone, Utc};

use super::facts::ColumnFacts;
use super::*;
use crate::engines::postgres::RelationName;
use crate::plan::Work;

fn at() -> Moment {
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
fn table() -> TableFacts {
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
        measured_bytes: None,
    }
}

fn facts(table: TableFacts) -> Facts {
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
fn told(options: &Repack, facts: Facts, at: &Moment) -> String {
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

fn with(change: impl FnOnce(&mut TableFacts)) -> Facts {
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
        format!("refused: {BLOAT}, but the server has no REPACK (CONCURRENTLY); 19 and newer have")
    );
}

#[test]
fn what_cannot_be_moved_is_refused_by_name() {
    let plain = Repack::default();
    let refused = |why: &str| {
        format!(
            "refused: {BLOAT}, but rows cannot be moved: {why}; the server has no REPACK (CONCURRENTLY); 19 and newer have"
        )
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
fn waste_in_toast_is_told() {
    let in_toast = || {
        with(|t| {
            (t.heap_bytes, t.toast_bytes, t.toast_chunks) = (80_000_000, 800_000_000, 40_000.0);
        })
    };
    let said = told(&Repack::default(), in_toast(), &at());
    assert!(
        said.starts_with("skipped: ")
            && said.contains("are lost in TOAST, where no row can be moved"),
        "{said}"
    );
    assert!(said.contains("table.bloat: 685 MB of the 691 MB"), "{said}");
    let mut newest = in_toast();
    (newest.major, newest.server.no_repack) = (19, None);
    let said = told(&Repack::default(), newest, &at());
    assert!(
        said.starts_with("repack: ") && !said.contains("table.bloat"),
        "{said}"
    );
    let mut moving = in_toast();
    (moving.major, moving.server.no_repack) = (19, None);
    let only = Repack {
        way: Way::Move,
        ..Repack::default()
    };
    let said = told(&only, moving, &at());
    assert!(
        said.contains("this task does it with `way: auto`"),
        "{said}"
    );
}

/// The task's own limit says from when on what stays is told, and a run is not failed by it.
#[test]
fn what_stays_in_toast_is_told_from_the_limit_of_the_task() {
    let some = || {
        with(|t| {
            (t.heap_bytes, t.toast_bytes, t.toast_chunks) = (74_000_000, 80_000_000, 25_000.0);
        })
    };
    let options = |share| Repack {
        min_bloat: Percent::new(share),
        ..Repack::default()
    };
    let said = told(&options(15.0), some(), &at());
    assert!(said.starts_with("skipped: "), "{said}");
    assert!(
        said.contains("\ntable.bloat: 27 MB of the 28 MB") && said.contains("`min_bloat` is 15%"),
        "{said}"
    );
    assert_eq!(told(&options(20.0), some(), &at()), "");
    // After the rows have moved, as much stays; told at once, and not where it is less.
    let both = || with(|t| (t.toast_bytes, t.toast_chunks) = (80_000_000, 25_000.0));
    let said = told(&options(15.0), both(), &at());
    assert!(
        said.starts_with("move_rows") && said.contains("\ntable.bloat: 27 MB of the"),
        "{said}"
    );
    let said = told(&options(30.0), both(), &at());
    assert!(
        said.starts_with("move_rows") && !said.contains("table.bloat"),
        "{said}"
    );
    // Every table once, whatever its bloat: nothing stays that is worth a word.
    let said = told(&options(0.0), both(), &at());
    assert!(
        said.starts_with("move_rows") && !said.contains("table.bloat"),
        "{said}"
    );
    // A trigger can be dropped: that is work left undone.
    let mut hooked = both();
    hooked.tables[0].hooks = vec![("trigger audit".to_owned(), 'A')];
    let said = told(&options(15.0), hooked, &at());
    assert!(said.starts_with("refused: "), "{said}");
}

/// Where nothing can be won, moving rows would only make the table larger, whatever was asked for.
#[test]
fn what_is_as_small_as_it_can_be_is_left_alone() {
    let all = || Repack {
        min_bloat: Percent::new(0.0),
        min_size: Bytes(0),
        ..Repack::default()
    };
    let measured = |heap, after| with(|t| (t.heap_bytes, t.measured_bytes) = (heap, Some(after)));
    for (heap, after) in [
        (344_064, 344_064.0),
        (344_064, 360_000.0),
        (57_344, 50_000.0),
        (221_184, 204_800.0),
        (300_000_000, 299_000_000.0),
    ] {
        assert_eq!(told(&all(), measured(heap, after), &at()), "", "{heap}");
    }
    let said = told(&all(), measured(300_000_000, 290_000_000.0), &at());
    assert!(said.starts_with("move_rows"), "{said}");
}

#[test]
fn statistics_first() {
    let stale = || with(|t| t.changed = 500_000);
    let said = told(&Repack::default(), stale(), &at());
    assert_eq!(
        said,
        "analyze: its statistics are out of date, so it cannot be told whether it is bloated\n\
         pending: its statistics are out of date"
    );
    let second = Moment { round: 2, ..at() };
    assert!(told(&Repack::default(), stale(), &second).starts_with("move_rows"));
    // Even if all that changed were gone, there would be nothing to win.
    let full = with(|t| (t.heap_bytes, t.changed) = (80_000_000, 60_000));
    assert_eq!(told(&Repack::default(), full, &at()), "");
    let never = with(|t| t.columns.iter_mut().for_each(|c| c.statistics = None));
    assert!(told(&Repack::default(), never, &at()).contains("pending"));
    let blind = with(|t| t.unread = true);
    assert_eq!(
        told(&Repack::default(), blind, &at()),
        "skipped: whether it is bloated is not known: the role sees no statistics of its columns\n\
         refused: whether there is bloat in app.t is not known: maint may not read the tables, and so sees no statistics of theirs (pg_maintain does not include that)\n\
         privilege.missing: whether there is bloat in app.t is not known: maint may not read the tables, and so sees no statistics of theirs (pg_maintain does not include that)"
    );
}

#[test]
fn what_was_learned_decides() {
    let learned = |bytes: i64, tuples: f64, days: i64| Moment {
        baselines: HashMap::from([(
            "app.t".to_owned(),
            Baseline {
                object: "app.t".to_owned(),
                bytes,
                tuples,
                learned_at: at().now - chrono::TimeDelta::days(days),
                rebuilt: true,
                made_as: None,
            },
        )]),
        ..at()
    };
    // 300 bytes a row is what such rows take after a repack.
    assert_eq!(
        told(
            &Repack::default(),
            facts(table()),
            &learned(300_000_000, 1e6, 90)
        ),
        ""
    );
    let half = learned(100_000_000, 1e6, 90);
    assert!(
        told(&Repack::default(), facts(table()), &half)
            .contains("(by its size after the last repack)")
    );
    // It holds no more rows than then, and has lost as much again within days.
    let soon = learned(100_000_000, 1e6, 3);
    let said = told(&Repack::default(), facts(table()), &soon);
    assert!(
        said.contains("skipped: ") && said.contains("it needs the space to work (refills_within)"),
        "{said}"
    );
    let shorter = Repack {
        refills_within: TimeSpan::from_secs(86_400),
        ..Repack::default()
    };
    assert!(told(&shorter, facts(table()), &soon).starts_with("move_rows"));
    // Emptied since, not refilled.
    let emptied = learned(300_000_000, 3e6, 3);
    assert!(told(&Repack::default(), facts(table()), &emptied).starts_with("move_rows"));
    // Whatever the bloat, once.
    let any = Repack {
        min_bloat: Percent::new(0.0),
        ..Repack::default()
    };
    let full = || with(|t| t.heap_bytes = 76_000_000);
    assert!(told(&any, full(), &at()).starts_with("move_rows"));
    assert_eq!(told(&any, full(), &learned(76_000_000, 1e6, 90)), "");
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

/// A fresh partition has no bytes, and any share of them is nothing.
#[test]
fn an_empty_table_is_left_alone_at_any_size_and_share() {
    for min_bloat in ["0%", "10%"] {
        let any: Repack = serde_json::from_value(
            serde_json::json!({ "min_size": "0MB", "min_bloat": min_bloat }),
        )
        .unwrap();
        let empty = with(|table| {
            (table.heap_bytes, table.index_bytes, table.rows) = (0, 8192, 0.0);
        });
        assert_eq!(told(&any, empty, &at()), "", "{min_bloat}");
    }
}
