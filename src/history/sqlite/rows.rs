use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::history::words::{severity_from_word, short_id};
use crate::history::{
    Baseline, FindingCounts, LockWait, RunRecord, RunStatus, RunSummary, StepRecord, StepStatus,
    Trigger,
};
use crate::plan::Finding;

/// A time as the file holds it. Always 24 characters, so that comparing the
/// texts compares the times.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl FromRow<'_, SqliteRow> for RunRecord {
    /// The run alone; steps and findings are read separately.
    fn from_row(row: &SqliteRow) -> Result<RunRecord, sqlx::Error> {
        Ok(RunRecord {
            id: id_of(row, "id")?,
            task: row.try_get("task")?,
            kind: row.try_get("kind")?,
            target: row.try_get("target")?,
            trigger: word_of(row, "trigger", Trigger::from_word)?,
            status: word_of(row, "status", RunStatus::from_word)?,
            scheduled_for: maybe_time_of(row, "scheduled_for")?,
            started_at: time_of(row, "started_at")?,
            finished_at: maybe_time_of(row, "finished_at")?,
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

impl FromRow<'_, SqliteRow> for StepRecord {
    fn from_row(row: &SqliteRow) -> Result<StepRecord, sqlx::Error> {
        let lock_waits: String = row.try_get("lock_waits")?;
        let lock_waits: Vec<LockWait> =
            serde_json::from_str(&lock_waits).map_err(|error| unreadable("lock_waits", error))?;
        Ok(StepRecord {
            seq: row.try_get("seq")?,
            object: row.try_get("object")?,
            action: row.try_get("action")?,
            status: word_of(row, "status", StepStatus::from_word)?,
            reason: row.try_get("reason")?,
            statement: row.try_get("statement")?,
            rows: row.try_get("rows")?,
            bytes_before: row.try_get("bytes_before")?,
            bytes_after: row.try_get("bytes_after")?,
            started_at: maybe_time_of(row, "started_at")?,
            duration_ms: row.try_get("duration_ms")?,
            attempts: row.try_get("attempts")?,
            error: row.try_get("error")?,
            lock_waits,
        })
    }
}

impl FromRow<'_, SqliteRow> for Finding {
    fn from_row(row: &SqliteRow) -> Result<Finding, sqlx::Error> {
        Ok(Finding {
            code: row.try_get("code")?,
            severity: word_of(row, "severity", severity_from_word)?,
            object: row.try_get("object")?,
            message: row.try_get("message")?,
            suggestion: row.try_get("suggestion")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for RunSummary {
    fn from_row(row: &SqliteRow) -> Result<RunSummary, sqlx::Error> {
        let id = id_of(row, "id")?;
        let neighbours: [Option<String>; 2] = [row.try_get("id_before")?, row.try_get("id_after")?];
        Ok(RunSummary {
            id,
            short_id: short_id(&id, neighbours.iter().flatten()),
            task: row.try_get("task")?,
            kind: row.try_get("kind")?,
            target: row.try_get("target")?,
            trigger: word_of(row, "trigger", Trigger::from_word)?,
            status: word_of(row, "status", RunStatus::from_word)?,
            scheduled_for: maybe_time_of(row, "scheduled_for")?,
            started_at: time_of(row, "started_at")?,
            finished_at: maybe_time_of(row, "finished_at")?,
            duration_ms: row.try_get("duration_ms")?,
            rows: row.try_get("rows")?,
            bytes_before: row.try_get("bytes_before")?,
            bytes_after: row.try_get("bytes_after")?,
            error: row.try_get("error")?,
            steps: row.try_get("steps")?,
            succeeded: row.try_get("succeeded")?,
            failed: row.try_get("failed")?,
            findings: FindingCounts {
                info: row.try_get("infos")?,
                warning: row.try_get("warnings")?,
                critical: row.try_get("criticals")?,
            },
        })
    }
}

impl FromRow<'_, SqliteRow> for Baseline {
    fn from_row(row: &SqliteRow) -> Result<Baseline, sqlx::Error> {
        Ok(Baseline {
            object: row.try_get("object")?,
            bytes: row.try_get("bytes")?,
            tuples: row.try_get("tuples")?,
            learned_at: time_of(row, "learned_at")?,
            rebuilt: row.try_get("rebuilt")?,
        })
    }
}

pub(super) fn id_of(row: &SqliteRow, column: &str) -> Result<Uuid, sqlx::Error> {
    let text: String = row.try_get(column)?;
    Uuid::try_parse(&text).map_err(|error| unreadable(column, error))
}

pub(super) fn word_of<T>(
    row: &SqliteRow,
    column: &str,
    from_word: fn(&str) -> Option<T>,
) -> Result<T, sqlx::Error> {
    let word: String = row.try_get(column)?;
    from_word(&word)
        .ok_or_else(|| unreadable(column, format!("unknown word `{}`", word.escape_debug())))
}

pub(super) fn time_of(row: &SqliteRow, column: &str) -> Result<DateTime<Utc>, sqlx::Error> {
    let text: String = row.try_get(column)?;
    parse_time(column, &text)
}

pub(super) fn maybe_time_of(
    row: &SqliteRow,
    column: &str,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| parse_time(column, &text)).transpose()
}

fn parse_time(column: &str, text: &str) -> Result<DateTime<Utc>, sqlx::Error> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|error| unreadable(column, error))
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
