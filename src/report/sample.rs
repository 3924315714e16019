//! Made-up data: for previews, and to try templates of one's own.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use minijinja::Value;
use uuid::Uuid;

use super::context::{Pictures, context_of};
use super::digest::Digest;
use super::message::Message;
use super::model::{
    DayLine, FindingLine, FindingNumbers, Findings, LastRun, Numbers, Planned, Point, Reason,
    Report, Standing, TaskLine, Trend, TroubleLine, Unit, Verdict,
};
use crate::history::{
    FindingState, Gain, LockWait, Notice, Outcome, Period, RunStatus, TrackedFinding, Trouble,
};
use crate::plan::Severity;
use crate::values::Engine;

const MB: i64 = 1024 * 1024;

pub(super) fn context(message: Message) -> Value {
    match message {
        Message::Report => context_of(&report(), Tz::UTC, Pictures::Inline, &mut Vec::new()),
        other => digest(other).context(),
    }
}

/// A week with a bit of everything.
pub fn report() -> Report {
    let until = at(0);
    let period = Period {
        since: until - TimeDelta::days(7),
        until,
    };
    let tasks = vec![
        task("reindex", "app", Engine::Postgres, RunStatus::Partial, 1.4),
        task(
            "vacuum",
            "app",
            Engine::Postgres,
            RunStatus::Incomplete,
            2.2,
        ),
        task(
            "analyze",
            "app",
            Engine::Postgres,
            RunStatus::Succeeded,
            1.0,
        ),
        task(
            "sessions",
            "content",
            Engine::Mongodb,
            RunStatus::Succeeded,
            0.9,
        ),
    ];
    Report {
        period,
        period_text: "the last 7 days".to_owned(),
        made_at: until,
        zone: Tz::UTC.to_string(),
        verdict: Verdict::Attention,
        headline: "Needs attention".to_owned(),
        reasons: vec![
            Reason {
                verdict: Verdict::Attention,
                text: "reindex on app failed in part: canceling statement due to lock timeout"
                    .to_owned(),
            },
            Reason {
                verdict: Verdict::Watch,
                text: "vacuum on app left work for the next run, which begins with it".to_owned(),
            },
        ],
        tasks_total: 5,
        page_url: Some("https://maint.example.com".to_owned()),
        tasks_enabled: 4,
        summary: Numbers {
            runs: 22,
            succeeded: 20,
            partial: 1,
            incomplete: 1,
            duration_ms: 5_400_000,
            rows_removed: 1_234_567,
            bytes_reclaimed: 2_600 * MB,
            ..Numbers::default()
        },
        before: Numbers {
            runs: 21,
            succeeded: 21,
            duration_ms: 5_000_000,
            rows_removed: 1_100_000,
            bytes_reclaimed: 1_900 * MB,
            ..Numbers::default()
        },
        tasks,
        days: (0..7)
            .map(|n| DayLine {
                day: (period.since + TimeDelta::days(n)).date_naive().to_string(),
                succeeded: 3,
                early: i64::from(n == 2),
                partly: i64::from(n == 4),
                failed: 0,
            })
            .collect(),
        gains: vec![
            gain("public.users_email_idx", 2_048 * MB, 390 * MB),
            gain("public.quiz_attempts_user_id_idx", 900 * MB, 210 * MB),
            gain("public.analytics_events_payload_gin", 310 * MB, 160 * MB),
        ],
        troubles: vec![trouble()],
        findings: findings(),
        trends: vec![
            trend("app", Engine::Postgres, 41_000 * MB, 42_500 * MB),
            trend("content", Engine::Mongodb, 8_000 * MB, 7_100 * MB),
        ],
        planned: vec![Planned {
            paused: false,
            at: until + TimeDelta::hours(18),
            schedule: "daily".to_owned(),
            tasks: vec!["analyze".to_owned(), "sessions".to_owned()],
        }],
    }
}

/// An outage of a dozen shards, and more.
pub fn digest(message: Message) -> Digest {
    let notice = |event: &str, task: &str, target: String, text: &str| Notice {
        id: id(),
        at: at(1),
        event: event.to_owned(),
        task: task.to_owned(),
        target,
        schedule: Some("daily".to_owned()),
        run: Some(id()),
        text: text.to_owned(),
    };
    let (event, text) = match message {
        Message::Recovered => (
            "recovered",
            "It succeeded again; it had failed since Sat 03:00.",
        ),
        Message::Missed => ("missed", "It was due Sun 02:00 and did not run."),
        Message::Escalation => (
            "escalated",
            "It has failed since Thu 03:00, 3 times in a row.",
        ),
        _ => (
            "failed",
            "the server shard.example.com:5432 refused the connection",
        ),
    };
    let mut notices: Vec<Notice> = (0..12)
        .map(|n| notice(event, "analyze", format!("shard_{n}"), text))
        .collect();
    if message == Message::Failed {
        notices.push(notice(
            "critical",
            "snapshot",
            "app".to_owned(),
            "public.analytics_events: its oldest transaction id is 1.9 billion old.",
        ));
    }
    Digest::of(&notices, "db-tools-1", at(0)).linked_to(Some("https://maint.example.com"))
}

/// So many hours before the made-up now.
fn at(hours_before: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_420_800, 0).unwrap_or_default() - TimeDelta::hours(hours_before)
}

fn id() -> Uuid {
    Uuid::from_u128(0x0197_c1aa_0000_7000_8000_0000_0000_0001)
}

fn task(name: &str, target: &str, engine: Engine, status: RunStatus, usual: f64) -> TaskLine {
    TaskLine {
        task: name.to_owned(),
        target: target.to_owned(),
        engine: Some(engine),
        kind: name.to_owned(),
        enabled: true,
        standing: match status {
            RunStatus::Partial => Standing::Partly,
            RunStatus::Incomplete => Standing::Incomplete,
            _ => Standing::Well,
        },
        runs: 7,
        failed: i64::from(status == RunStatus::Partial),
        incomplete: i64::from(status == RunStatus::Incomplete),
        last: Some(LastRun {
            id: id(),
            status,
            started_at: at(30),
            duration_ms: 95_000,
        }),
        outcome: Some(Outcome {
            run: id(),
            status,
            started_at: at(30),
        }),
        last_success_at: Some(at(54)),
        next_at: None,
        rows: 0,
        bytes_reclaimed: 0,
        recent_ms: vec![80_000, 90_000, 95_000],
        against_usual: Some(usual),
    }
}

fn gain(object: &str, bytes_before: i64, bytes_after: i64) -> Gain {
    Gain {
        run: id(),
        task: "reindex".to_owned(),
        target: "app".to_owned(),
        action: "reindex".to_owned(),
        object: object.to_owned(),
        at: at(30),
        bytes_before,
        bytes_after,
    }
}

fn trouble() -> TroubleLine {
    TroubleLine {
        also_on: Vec::new(),
        also_objects: Vec::new(),
        trouble: Trouble {
            run: id(),
            task: "reindex".to_owned(),
            target: "app".to_owned(),
            action: "reindex".to_owned(),
            object: "public.enrollments_course_id_idx".to_owned(),
            at: at(30),
            times: 3,
            failed: true,
            left: false,
            error: Some("canceling statement due to lock timeout".to_owned()),
            blocker: Some(LockWait {
                attempt: 5,
                blocker_pid: 4711,
                blocker_user: "reporting".to_owned(),
                blocker_application: "nightly-export".to_owned(),
                blocker_state: "idle in transaction".to_owned(),
                blocker_query_age_ms: 720_000,
                blocker_transaction_age_ms: 3_600_000,
                waited_ms: 3_000,
                stepped_back: false,
                relation: None,
            }),
        },
        advice: "role reporting (application nightly-export) held its lock without working: see \
                 why that transaction stays open, or set idle_in_transaction_session_timeout"
            .to_owned(),
        command: "maint run reindex --target app --now".to_owned(),
    }
}

fn findings() -> Findings {
    let numbers = |severity, new, open, gone| FindingNumbers {
        severity,
        new,
        open,
        gone,
    };
    let finding =
        |state, severity, code: &str, object: &str, message: &str, suggestion: Option<&str>| {
            FindingLine {
                finding: TrackedFinding {
                    state,
                    code: code.to_owned(),
                    severity,
                    target: "app".to_owned(),
                    object: object.to_owned(),
                    message: message.to_owned(),
                    suggestion: suggestion.map(str::to_owned),
                    run: id(),
                },
                also_on: Vec::new(),
            }
        };
    Findings {
        counts: vec![
            numbers(Severity::Critical, 0, 0, 1),
            numbers(Severity::Warning, 1, 0, 0),
            numbers(Severity::Info, 0, 1, 0),
        ],
        listed: vec![
            finding(
                FindingState::New,
                Severity::Warning,
                "index.duplicate",
                "public.users_email_idx1",
                "The index has the same columns as public.users_email_idx and is never used.",
                Some("DROP INDEX CONCURRENTLY public.users_email_idx1;"),
            ),
            finding(
                FindingState::Open,
                Severity::Info,
                "index.unused",
                "public.lessons_slug_idx",
                "The index has not been used for 90 days and takes 120 MB.",
                None,
            ),
            finding(
                FindingState::Gone,
                Severity::Critical,
                "freeze.age",
                "public.analytics_events",
                "Its oldest transaction id is 1.9 billion old.",
                None,
            ),
        ],
        more: 0,
    }
}

fn trend(target: &str, engine: Engine, first: i64, last: i64) -> Trend {
    let (first, last) = (first as f64, last as f64);
    Trend {
        target: target.to_owned(),
        engine: Some(engine),
        metric: "database.bytes".to_owned(),
        title: "database size".to_owned(),
        unit: Unit::Bytes,
        object: String::new(),
        first,
        last,
        worse: None,
        points: (0..7)
            .map(|n| Point {
                at: at(24 * (7 - n)),
                value: first + (last - first) * n as f64 / 6.0,
            })
            .collect(),
    }
}
