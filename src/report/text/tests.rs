//! What people see, kept as snapshots.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use insta::assert_snapshot;
use uuid::Uuid;

use super::*;
use crate::history::{
    FindingCounts, LockWait, RunRecord, RunStatus, RunSummary, StepRecord, StepStatus, Trigger,
};
use crate::plan::{Finding, Severity};
use crate::values::Engine;

pub(super) const NARROW: Style = Style {
    width: Some(100),
    zone: chrono_tz::Europe::Berlin,
    ..Style::PLAIN
};
const COLORED: Style = Style {
    color: true,
    ..NARROW
};

pub(super) fn three_at_night() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 2, 0, 0).unwrap()
}

fn run(status: RunStatus, steps: Vec<StepRecord>) -> RunRecord {
    let measured = |step: &&StepRecord| step.bytes_before.is_some() && step.bytes_after.is_some();
    RunRecord {
        id: Uuid::from_u128(0x019c_a72d_fa80_7000_8000_0000_0000_0001),
        task: "reindex".into(),
        kind: "reindex".into(),
        target: "app".into(),
        trigger: Trigger::Schedule,
        status,
        scheduled_for: Some(three_at_night()),
        started_at: three_at_night() + TimeDelta::milliseconds(250),
        finished_at: Some(three_at_night() + TimeDelta::milliseconds(125_250)),
        duration_ms: 125_000,
        inspect_ms: 812,
        rows: steps.iter().filter_map(|step| step.rows).sum(),
        bytes_before: steps
            .iter()
            .filter(measured)
            .filter_map(|step| step.bytes_before)
            .sum(),
        bytes_after: steps
            .iter()
            .filter(measured)
            .filter_map(|step| step.bytes_after)
            .sum(),
        error: None,
        host: "db-tools-1".into(),
        pid: 4242,
        process: None,
        schedule: None,
        part: None,
        steps,
        findings: Vec::new(),
    }
}

fn step(seq: u32, object: &str, status: StepStatus) -> StepRecord {
    StepRecord {
        seq,
        object: object.into(),
        action: "reindex".into(),
        status,
        reason: "58% bloat: 512 MB where 210 MB are expected".into(),
        statement: format!("REINDEX INDEX CONCURRENTLY {object}"),
        rows: None,
        bytes_before: Some(512 << 20),
        bytes_after: Some(210 << 20),
        started_at: Some(three_at_night() + TimeDelta::seconds(2)),
        duration_ms: 3_456,
        attempts: 1,
        error: None,
        lock_waits: Vec::new(),
        throttled: Vec::new(),
        predicted_ms: None,
        planned_bytes: None,
        cut_off: false,
        kept_by: None,
        piled_up: false,
    }
}

fn unstarted(seq: u32, object: &str, status: StepStatus, why: &str) -> StepRecord {
    StepRecord {
        bytes_after: None,
        started_at: None,
        duration_ms: 0,
        attempts: 0,
        error: Some(why.into()),
        ..step(seq, object, status)
    }
}

fn blocked(seq: u32, object: &str) -> StepRecord {
    let wait = |attempt| LockWait {
        attempt,
        blocker_pid: 4711,
        blocker_user: "shop".into(),
        blocker_application: "orders-api".into(),
        blocker_state: "idle in transaction".into(),
        blocker_query_age_ms: 722_000,
        blocker_transaction_age_ms: 4_000_000,
        waited_ms: 3_000,
        stepped_back: false,
        relation: None,
    };
    StepRecord {
        bytes_after: None,
        attempts: 3,
        duration_ms: 39_000,
        error: Some("canceling statement due to lock timeout\nCONTEXT: while waiting".into()),
        lock_waits: vec![wait(1), wait(3)],
        throttled: Vec::new(),
        predicted_ms: None,
        planned_bytes: None,
        cut_off: false,
        kept_by: None,
        ..step(seq, object, StepStatus::Failed)
    }
}

fn finding(severity: Severity, code: &str, object: &str, suggestion: Option<&str>) -> Finding {
    Finding {
        code: code.into(),
        severity,
        object: object.into(),
        message: "It is marked invalid, so no query uses it, yet every write to its table keeps it up to date.".into(),
        suggestion: suggestion.map(str::to_owned),
    }
}

pub(super) fn partial() -> RunRecord {
    let mut run = run(
        RunStatus::Partial,
        vec![
            step(1, "public.users_email_idx", StepStatus::Succeeded),
            blocked(
                2,
                "public.orders_created_at_customer_id_status_warehouse_id_idx",
            ),
            unstarted(
                3,
                "public.gone_idx",
                StepStatus::Skipped,
                "it no longer exists",
            ),
            StepRecord {
                bytes_after: Some(520 << 20),
                attempts: 2,
                ..step(4, "public.tags_gin", StepStatus::Succeeded)
            },
        ],
    );
    run.findings = vec![
        finding(Severity::Info, "index.unused", "public.old_idx", None),
        finding(
            Severity::Critical,
            "index.invalid",
            "public.broken_idx",
            Some("DROP INDEX CONCURRENTLY public.broken_idx;"),
        ),
    ];
    run
}

pub(super) fn odd_names() -> RunRecord {
    let mut run = run(
        RunStatus::Failed,
        vec![
            step(
                1,
                "public.\"weird \"\"name; DROP TABLE x\"",
                StepStatus::Succeeded,
            ),
            step(
                2,
                &format!("public.{}", "a23456789_".repeat(7).split_at(63).0),
                StepStatus::Succeeded,
            ),
            step(
                3,
                "public.\"学習セッションの行動指標と適応的変更の索引\"",
                StepStatus::Succeeded,
            ),
            StepRecord {
                error: Some("\u{1b}]0;owned\u{7}\u{1b}[2J\nERROR: \u{202e}desrever".into()),
                statement: "SELECT 1;\nSELECT '\u{1b}[31m'".into(),
                ..step(4, "public.\"\u{1b}[31mred\nline\"", StepStatus::Failed)
            },
        ],
    );
    run.task = "it's; rm -rf".into();
    run
}

#[test]
fn a_good_night() {
    let mut good = run(
        RunStatus::Succeeded,
        vec![step(1, "public.users_email_idx", StepStatus::Succeeded)],
    );
    good.steps.push(StepRecord {
        rows: Some(1_234_567),
        action: "cleanup".into(),
        ..step(2, "public.sessions", StepStatus::Succeeded)
    });
    good.rows = 1_234_567;
    assert_snapshot!(run_summary(&good, Engine::Postgres, &NARROW));
}

/// What goes from a collection are documents.
#[test]
fn what_is_counted_is_what_the_engine_has() {
    let mut cleaned = run(RunStatus::Succeeded, vec![]);
    cleaned.steps.push(StepRecord {
        rows: Some(5),
        action: "cleanup".into(),
        ..step(1, "app.sessions", StepStatus::Succeeded)
    });
    cleaned.rows = 5;
    for (engine, counted, other) in [
        (Engine::Postgres, "rows", "documents"),
        (Engine::Mongodb, "documents", "rows"),
    ] {
        let summary = run_summary(&cleaned, engine, &NARROW);
        let details = run_details(&cleaned, engine, &NARROW);
        assert_eq!(summary.matches(counted).count(), 2, "{summary}");
        assert_eq!(details.matches(counted).count(), 2, "{details}");
        assert!(
            !summary.contains(other) && !details.contains(other),
            "{summary}{details}"
        );
    }
}

#[test]
fn a_night_with_a_blocker() {
    assert_snapshot!(
        "partial_summary",
        run_summary(&partial(), Engine::Postgres, &NARROW)
    );
    assert_snapshot!(
        "partial_details",
        run_details(&partial(), Engine::Postgres, &NARROW)
    );
}

#[test]
fn nothing_to_do() {
    assert_snapshot!(run_summary(
        &run(RunStatus::Succeeded, vec![]),
        Engine::Postgres,
        &NARROW
    ));
}

#[test]
fn a_night_that_ended_early() {
    let mut dead = run(
        RunStatus::Interrupted,
        vec![StepRecord {
            bytes_after: None,
            error: Some("the process died".into()),
            ..step(1, "public.users_email_idx", StepStatus::Cancelled)
        }],
    );
    dead.error = Some("the process died".into());
    let mut stopped = dead.clone();
    stopped.status = RunStatus::Cancelled;
    stopped.error = Some("SIGTERM".into());
    let left = run(
        RunStatus::Incomplete,
        vec![
            step(1, "public.users_email_idx", StepStatus::Succeeded),
            unstarted(
                2,
                "public.big_idx",
                StepStatus::Deferred,
                "needs 40 min, 12 min of the window were left",
            ),
        ],
    );
    let mut unreachable = run(RunStatus::Failed, vec![]);
    unreachable.error = Some("cannot connect to app: connection refused".into());
    let all =
        [dead, stopped, left, unreachable].map(|run| run_summary(&run, Engine::Postgres, &NARROW));
    assert_snapshot!(all.join("\n"));
}

#[test]
fn odd_names_stay_data() {
    let (summary, details) = (
        run_summary(&odd_names(), Engine::Postgres, &NARROW),
        run_details(&odd_names(), Engine::Postgres, &NARROW),
    );
    for text in [&summary, &details] {
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
    }
    assert_snapshot!("odd_names_summary", summary);
    assert_snapshot!("odd_names_details", details);
    let wide = run_summary(
        &odd_names(),
        Engine::Postgres,
        &Style {
            width: None,
            ..NARROW
        },
    );
    assert!(
        wide.contains(&odd_names().steps[1].object),
        "a pipe gets the whole name"
    );
}

#[test]
fn colors_only_where_asked_for() {
    let escape = |text: String| text.replace('\u{1b}', "ESC");
    let colored = run_summary(&partial(), Engine::Postgres, &COLORED);
    assert_snapshot!(escape(colored));
    assert!(!run_summary(&partial(), Engine::Postgres, &NARROW).contains('\u{1b}'));
}

/// What has not come to an end shows how long it has been at work.
#[test]
fn a_run_at_work_shows_since_when() {
    let mut run = partial();
    run.status = RunStatus::Running;
    run.steps[0].status = StepStatus::Running;
    run.steps[0].started_at = Some(run.started_at);
    run.still_running(run.started_at + chrono::TimeDelta::seconds(90));
    let told = run_details(&run, Engine::Postgres, &NARROW);
    assert!(told.contains("running for 1"), "{told}");
    assert!(told.contains("at it for 1"), "{told}");
    assert!(!told.contains(" 0 ms"), "{told}");
}

/// Of thousands of steps those that did not end well, and some of the others.
#[test]
fn many_steps_are_folded() {
    let mut run = partial();
    let like = run.steps[0].clone();
    for seq in 100..2_100 {
        let mut step = like.clone();
        step.seq = seq;
        step.status = StepStatus::Succeeded;
        step.error = None;
        run.steps.push(step);
    }
    let text = run_summary(&run, Engine::Postgres, &Style::PLAIN);
    let failed = run
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::Failed)
        .count();
    assert!(failed > 0 && text.lines().count() < 120, "{text}");
    let more = run.steps.len() - 40;
    assert!(
        text.contains(&format!(
            "… and {} more steps: maint show",
            human_count(more as i64)
        )),
        "{text}"
    );
}

#[test]
fn a_list_of_runs() {
    let now = three_at_night() + TimeDelta::hours(30);
    let line = |minutes: i64, task: &str, status, steps: u32, failed: u32| RunSummary {
        id: Uuid::nil(),
        short_id: "019ca72d-fa80".into(),
        task: task.into(),
        kind: "reindex".into(),
        target: "app".into(),
        trigger: Trigger::Schedule,
        status,
        scheduled_for: None,
        started_at: three_at_night() + TimeDelta::minutes(minutes),
        finished_at: None,
        duration_ms: 125_000,
        rows: 0,
        bytes_before: i64::from(steps) << 30,
        bytes_after: i64::from(failed) << 29,
        error: None,
        steps,
        succeeded: steps - failed,
        failed,
        findings: FindingCounts {
            info: steps,
            warning: 0,
            critical: failed,
        },
    };
    let runs = [
        line(1795, "reindex", RunStatus::Running, 3, 0),
        line(60, "cleanup\u{1b}", RunStatus::Partial, 12, 2),
        line(
            0,
            "a-task-with-a-very-long-name-for-the-learning-platform",
            RunStatus::Succeeded,
            0,
            0,
        ),
    ];
    assert_snapshot!(
        "history",
        history_table(
            &runs,
            now,
            &Style {
                width: Some(120),
                ..NARROW
            }
        )
    );
    // On the terminal that everybody has, with names that are longer than most.
    for several in [false, true] {
        let mut runs = runs.clone();
        for (n, run) in runs.iter_mut().enumerate() {
            run.task = format!("{}-of-everything", run.task);
            run.target = match several {
                true => format!("production-shard-{n}"),
                false => "app".to_owned(),
            };
        }
        for width in [60, 80] {
            let style = Style {
                width: Some(width),
                ..NARROW
            };
            let table = history_table(&runs, now, &style);
            for line in table.lines() {
                use unicode_width::UnicodeWidthStr;
                assert!(line.width() <= width, "{line}");
            }
            // What has no room in a line stands in the next.
            for run in &runs {
                assert!(table.contains(run.status.as_str()), "{table}");
            }
        }
    }
    assert_snapshot!(history_table(&[], now, &NARROW), @"No runs.");
}

#[test]
fn space_of_rows_that_went_is_not_lost() {
    let mut one = step(1, "app.events", StepStatus::Succeeded);
    (one.bytes_before, one.bytes_after) = (Some(3 << 20), Some(4 << 20));
    let mut run = run(RunStatus::Succeeded, vec![one]);
    let why = "filled again, and not given back";
    assert!(!run_summary(&run, Engine::Postgres, &NARROW).contains(why));
    run.kind = "archive".into();
    assert!(run_summary(&run, Engine::Postgres, &NARROW).contains(why));
    assert!(run_details(&run, Engine::Postgres, &NARROW).contains(why));
}
