//! The history: what every implementation promises, and what a file adds.

mod away;
mod clocks;
mod conformance;
mod copy;
mod failover;
mod occurrences;
mod pods;
mod postgres;
mod sqlite_file;
mod summaries;
mod tls;

use chrono::{DateTime, TimeZone, Utc};
use maint::history::{LockWait, RunRecord, RunStatus, StepRecord, StepStatus, Throttled, Trigger};
use maint::plan::{Finding, KeptBy, Severity};
use uuid::Uuid;

/// Three in the morning, plus so many milliseconds.
fn at(ms: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 3, 0, 0).unwrap() + chrono::TimeDelta::milliseconds(ms)
}

/// An id whose order is the order of `ms`, and whose tail is `tail`.
fn id(ms: i64, tail: u64) -> Uuid {
    let head = u128::from(at(ms).timestamp_millis() as u64) << 80;
    Uuid::from_u128(head | 0x7000_8000_0000_0000_0000 | u128::from(tail))
}

fn run(task: &str, ms: i64) -> RunRecord {
    RunRecord {
        id: id(ms, 1),
        task: task.into(),
        kind: "reindex".into(),
        target: "app".into(),
        trigger: Trigger::Schedule,
        status: RunStatus::Running,
        scheduled_for: Some(at(0)),
        started_at: at(ms),
        finished_at: None,
        duration_ms: 0,
        inspect_ms: 12,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: "db-tools".into(),
        pid: 4711,
        process: None,
        schedule: None,
        part: None,
        steps: Vec::new(),
        findings: Vec::new(),
    }
}

fn step(seq: u32, status: StepStatus) -> StepRecord {
    StepRecord {
        seq,
        object: format!("public.\"odd \"\"name\u{1b}; {seq}\""),
        action: "reindex".into(),
        status,
        reason: "bloat 43%".into(),
        statement: "REINDEX INDEX CONCURRENTLY …; ANALYZE …".into(),
        rows: Some(i64::from(seq)),
        bytes_before: Some(1000),
        bytes_after: Some(400),
        started_at: Some(at(1_000 * i64::from(seq))),
        duration_ms: 500,
        attempts: 2,
        error: None,
        lock_waits: vec![LockWait {
            attempt: 1,
            blocker_pid: 99,
            blocker_user: "app".into(),
            blocker_application: String::new(),
            blocker_state: "idle in transaction".into(),
            blocker_query_age_ms: 720_000,
            blocker_transaction_age_ms: 760_000,
            waited_ms: 3_000,
            stepped_back: false,
            relation: None,
        }],
        throttled: vec![Throttled {
            setting: "max_active_sessions".into(),
            reason: "52 sessions are active, more than 40".into(),
            waited_ms: 12_000,
        }],
        predicted_ms: Some(4_000),
        planned_bytes: Some(1_001),
        cut_off: true,
        kept_by: Some(KeptBy::Sessions),
        piled_up: false,
    }
}

fn finding(severity: Severity, object: &str) -> Finding {
    Finding {
        code: "index.invalid".into(),
        severity,
        object: object.into(),
        message: "The index is not used.".into(),
        suggestion: Some(format!("DROP INDEX CONCURRENTLY {object}")),
    }
}
