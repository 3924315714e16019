use chrono::{DateTime, SubsecRound, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::history::words::{severity_from_word, short_id};
use crate::history::{
    Baseline, FindingCounts, LockWait, RunRecord, RunStatus, RunSummary, StepRecord, StepStatus,
    Trigger,
};
use crate::plan::Finding;

/// A time as it is kept: whole milliseconds, never rounded up.
pub(super) fn time(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

impl FromRow<'_, PgRow> for RunRecord {
    /// The run alone; steps and findings are read separately.
    fn from_row(row: &PgRow) -> Result<RunRecord, sqlx::Error> {
        Ok(RunRecord {
            id: row.try_get("id")?,
            task: row.try_get("task")?,
            kind: row.try_get("kind")?,
            target: row.try_get("target")?,
            trigger: word_of(row, "trigger", Trigger::from_word)?,
            status: word_of(row, "status", RunStatus::from_word)?,
            scheduled_for: row.try_get("scheduled_for")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            duration_ms: row.try_get("duration_ms")?,
            inspect_ms: row.try_get("inspect_ms")?,
            rows: row.try_get("rows")?,
            bytes_before: row.try_get("bytes_before")?,
            bytes_after: row.try_get("bytes_after")?,
            error: row.try_get("error")?,
            host: row.try_get("host")?,
            pid: row.try_get("pid")?,
            steps: Vec::new(),
            findings: Vec::new(),
        })
    }
}

impl FromRow<'_, PgRow> for StepRecord {
    fn from_row(row: &PgRow) -> Result<StepRecord, sqlx::Error> {
        let lock_waits: String = row.try_get("lock_waits")?;
        let lock_waits: Vec<LockWait> =
            serde_json::from_str(&lock_waits).map_err(|error| unreadable("lock_waits", error))?;
        Ok(StepRecord {
            seq: count_of(row, "seq")?,
            object: row.try_get("object")?,
            action: row.try_get("action")?,
            status: word_of(row, "status", StepStatus::from_word)?,
            reason: row.try_get("reason")?,
            statement: row.try_get("statement")?,
            rows: row.try_get("rows")?,
            bytes_before: row.try_get("bytes_before")?,
            bytes_after: row.try_get("bytes_after")?,
            started_at: row.try_get("started_at")?,
            duration_ms: row.try_get("duration_ms")?,
            attempts: count_of(row, "attempts")?,
            error: row.try_get("error")?,
            lock_waits,
        })
    }
}

impl FromRow<'_, PgRow> for Finding {
    fn from_row(row: &PgRow) -> Result<Finding, sqlx::Error> {
        Ok(Finding {
            code: row.try_get("code")?,
            severity: word_of(row, "severity", severity_from_word)?,
            object: row.try_get("object")?,
            message: row.try_get("message")?,
            suggestion: row.try_get("suggestion")?,
        })
    }
}

impl FromRow<'_, PgRow> for RunSummary {
    fn from_row(row: &PgRow) -> Result<RunSummary, sqlx::Error> {
        let id: Uuid = row.try_get("id")?;
        let neighbours: [Option<String>; 2] = [row.try_get("id_before")?, row.try_get("id_after")?];
        Ok(RunSummary {
            id,
            short_id: short_id(&id, neighbours.iter().flatten()),
            task: row.try_get("task")?,
            kind: row.try_get("kind")?,
            target: row.try_get("target")?,
            trigger: word_of(row, "trigger", Trigger::from_word)?,
            status: word_of(row, "status", RunStatus::from_word)?,
            scheduled_for: row.try_get("scheduled_for")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            duration_ms: row.try_get("duration_ms")?,
            rows: row.try_get("rows")?,
            bytes_before: row.try_get("bytes_before")?,
            bytes_after: row.try_get("bytes_after")?,
            error: row.try_get("error")?,
            steps: count_of(row, "steps")?,
            succeeded: count_of(row, "succeeded")?,
            failed: count_of(row, "failed")?,
            findings: FindingCounts {
                info: count_of(row, "infos")?,
                warning: count_of(row, "warnings")?,
                critical: count_of(row, "criticals")?,
            },
        })
    }
}

impl FromRow<'_, PgRow> for Baseline {
    fn from_row(row: &PgRow) -> Result<Baseline, sqlx::Error> {
        Ok(Baseline {
            object: row.try_get("object")?,
            bytes: row.try_get("bytes")?,
            tuples: row.try_get("tuples")?,
            learned_at: row.try_get("learned_at")?,
            rebuilt: row.try_get("rebuilt")?,
        })
    }
}

pub(super) fn word_of<T>(
    row: &PgRow,
    column: &str,
    from_word: fn(&str) -> Option<T>,
) -> Result<T, sqlx::Error> {
    let word: String = row.try_get(column)?;
    from_word(&word)
        .ok_or_else(|| unreadable(column, format!("unknown word `{}`", word.escape_debug())))
}

/// A number that is never negative.
pub(super) fn count_of(row: &PgRow, column: &str) -> Result<u32, sqlx::Error> {
    let number: i64 = row.try_get(column)?;
    u32::try_from(number).map_err(|error| unreadable(column, error))
}

pub(super) fn unreadable(
    column: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: format!("`{column}`"),
        source: source.into(),
    }
}
