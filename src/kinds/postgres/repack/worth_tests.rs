//! Which tables are worth a repack, and which are left alone.

use std::collections::HashMap;

use super::tests::{at, facts, table, told, with};
use super::*;

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

/// What nobody has counted is not taken for needed: that it is not known is said, where it may matter.
#[test]
fn toast_that_was_never_counted_is_told() {
    let uncounted = |toast: i64| {
        let facts =
            with(|t| (t.heap_bytes, t.toast_bytes, t.toast_chunks) = (74_000_000, toast, -1.0));
        told(&Repack::default(), facts, &at())
    };
    let said = uncounted(800_000_000);
    assert!(
        said.starts_with("skipped: what its TOAST table holds was never counted"),
        "{said}"
    );
    assert_eq!(uncounted(1_000_000), "");
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

/// `0%` is once for each table, and again where it has grown, or lost rows: not every night.
#[test]
fn whatever_the_bloat_is_not_every_night() {
    let every = Repack {
        min_bloat: Percent::new(0.0),
        ..Repack::default()
    };
    let after = |bytes, tuples| {
        let mut at = at();
        let learned = crate::plan::Baseline {
            object: "app.t".to_owned(),
            bytes,
            tuples,
            learned_at: at.now,
            rebuilt: true,
            made_as: Some("1/7/0".to_owned()),
        };
        at.baselines.insert("app.t".to_owned(), learned);
        told(&every, facts(table()), &at)
    };
    assert_eq!(after(300_000_000, 1_000_000.0), "");
    assert_eq!(after(300_000_000, 1_050_000.0), "");
    assert!(after(300_000_000, 3_000_000.0).starts_with("move_rows: "));
    assert!(after(100_000_000, 1_000_000.0).starts_with("move_rows: "));
}
