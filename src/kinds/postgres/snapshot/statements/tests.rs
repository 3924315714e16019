use std::collections::HashMap;

use chrono::TimeZone;

use super::*;
use crate::values::wall_clock;

fn night(at: &mut Moment, counters: &[(i64, i64, f64)]) -> Vec<Finding> {
    let statements = Statements::Seen {
        view: "public.pg_stat_statements".to_owned(),
        reset: None,
        statements: counters
            .iter()
            .map(|(id, calls, total_ms)| Statement {
                id: *id,
                text: format!("SELECT *\n  FROM t{id} WHERE id = $1"),
                calls: *calls,
                total_ms: *total_ms,
                deviation_ms: 1.0,
                rows: *calls,
                hit_ratio: Some(0.5),
            })
            .collect(),
    };
    let mut plan = Plan::default();
    judge(&statements, &Snapshot::default(), at, &mut plan);
    for memory in plan.memories {
        at.memories.insert(memory.key, memory.value);
    }
    plan.findings
}

fn on(at: &mut Moment, month: u32, day: u32) {
    at.now = Utc.with_ymd_and_hms(2026, month, day, 2, 0, 0).unwrap();
}

#[test]
fn the_last_digit_of_a_kept_number_begins_nothing_anew() {
    let kept = 128.123_456_789_f64;
    let counted = f64::from_bits(kept.to_bits() - 1);
    assert!(went_on((12, kept), (12, counted)));
    assert!(went_on((12, kept), (13, kept + 5.0)));
    assert!(!went_on((12, kept), (11, kept)));
    assert!(!went_on((12, kept), (12, kept - 0.001)));
}

#[test]
fn this_month_is_compared_with_the_last() {
    let mut at = Moment {
        now: wall_clock(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    };
    on(&mut at, 3, 10);
    assert!(night(&mut at, &[(1, 100, 5_000.0), (2, 100, 5_000.0)]).is_empty());
    on(&mut at, 3, 20);
    assert!(night(&mut at, &[(1, 200, 10_000.0), (2, 200, 10_000.0)]).is_empty());
    // One of the two takes 200 ms from now on; five calls prove nothing yet.
    on(&mut at, 4, 1);
    assert!(night(&mut at, &[(1, 205, 11_000.0), (2, 205, 10_250.0)]).is_empty());
    on(&mut at, 4, 2);
    let found = night(&mut at, &[(1, 300, 30_000.0), (2, 300, 15_000.0)]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, "statement.slower");
    assert_eq!(found[0].object, "SELECT * FROM t1 WHERE id = $1 [1]");
    assert!(
        found[0]
            .message
            .contains("200 ms on average this month, 4.0 times as long as last month (50 ms)"),
        "{found:?}"
    );
    // March is forgotten in May, when April is what is compared with.
    on(&mut at, 5, 1);
    assert!(night(&mut at, &[(1, 400, 50_000.0), (2, 400, 20_000.0)]).is_empty());
}

#[test]
fn slow_is_judged_by_what_happened_since_the_last_snapshot() {
    let mut at = Moment {
        now: wall_clock(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    };
    let first = night(&mut at, &[(1, 100, 200_000.0), (2, 5, 100_000.0)]);
    assert_eq!(first.len(), 1, "five calls prove nothing: {first:?}");
    assert_eq!(
        (first[0].code.as_str(), first[0].object.ends_with("[1]")),
        ("statement.slow", true)
    );
    // It was mended: the mean over all time is still slow.
    assert!(night(&mut at, &[(1, 200, 205_000.0)]).is_empty());
    // The counters began anew.
    assert_eq!(night(&mut at, &[(1, 50, 100_000.0)]).len(), 1);
}
