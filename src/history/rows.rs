//! Rows to records, the same for every database.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::error::UnexpectedNullError;
use sqlx::{Decode, Error, FromRow, Postgres, Row, Sqlite, Type};
use uuid::Uuid;

use super::summary::{Day, FindingState, Gain, TaskTotals, TrackedFinding, Trouble};
use super::words::{severity_from_word, short_id};
use super::{
    Alert, Baseline, FindingCounts, Letter, LockWait, Measured, Notice, Occurrence,
    OccurrenceStatus, Pause, RunRecord, RunStatus, RunSummary, StepRecord, StepStatus, Trigger,
};
use crate::plan::{Finding, Measurement, Past, PastEnd, Severity};

/// A type that every database has.
pub(super) trait Plain:
    Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>
{
}

impl<T> Plain for T where
    T: Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>
{
}

/// A row by the names of its columns. Only ids and times are spelled
/// differently from database to database.
pub(super) trait Cells: Row {
    fn cell<T: Plain>(&self, column: &str) -> Result<T, Error>;

    fn maybe_id(&self, column: &str) -> Result<Option<Uuid>, Error>;

    fn maybe_time(&self, column: &str) -> Result<Option<DateTime<Utc>>, Error>;

    fn id(&self, column: &str) -> Result<Uuid, Error> {
        self.maybe_id(column)?
            .ok_or_else(|| unreadable(column, UnexpectedNullError))
    }

    fn time(&self, column: &str) -> Result<DateTime<Utc>, Error> {
        self.maybe_time(column)?
            .ok_or_else(|| unreadable(column, UnexpectedNullError))
    }

    /// One of a few words.
    fn word<T>(&self, column: &str, from_word: fn(&str) -> Option<T>) -> Result<T, Error> {
        let word: String = self.cell(column)?;
        from_word(&word)
            .ok_or_else(|| unreadable(column, format!("unknown word `{}`", word.escape_debug())))
    }

    /// A number that is never negative.
    fn count(&self, column: &str) -> Result<u32, Error> {
        let number: i64 = self.cell(column)?;
        u32::try_from(number).map_err(|error| unreadable(column, error))
    }

    /// JSON that is kept, or asked for, as text.
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Error> {
        let text: String = self.cell(column)?;
        serde_json::from_str(&text).map_err(|error| unreadable(column, error))
    }
}

pub(super) fn unreadable(
    column: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::ColumnDecode {
        index: format!("`{column}`"),
        source: source.into(),
    }
}

impl<R: Cells> FromRow<'_, R> for RunRecord {
    /// The run alone; steps and findings are read separately.
    fn from_row(row: &R) -> Result<RunRecord, Error> {
        Ok(RunRecord {
            id: row.id("id")?,
            task: row.cell("task")?,
            kind: row.cell("kind")?,
            target: row.cell("target")?,
            trigger: row.word("trigger", Trigger::from_word)?,
            status: row.word("status", RunStatus::from_word)?,
            scheduled_for: row.maybe_time("scheduled_for")?,
            started_at: row.time("started_at")?,
            finished_at: row.maybe_time("finished_at")?,
            duration_ms: row.cell("duration_ms")?,
            inspect_ms: row.cell("inspect_ms")?,
            rows: row.cell("rows")?,
            bytes_before: row.cell("bytes_before")?,
            bytes_after: row.cell("bytes_after")?,
            error: row.cell("error")?,
            host: row.cell("host")?,
            pid: row.cell("pid")?,
            steps: Vec::new(),
            findings: Vec::new(),
        })
    }
}

impl<R: Cells> FromRow<'_, R> for StepRecord {
    fn from_row(row: &R) -> Result<StepRecord, Error> {
        Ok(StepRecord {
            seq: row.count("seq")?,
            object: row.cell("object")?,
            action: row.cell("action")?,
            status: row.word("status", StepStatus::from_word)?,
            reason: row.cell("reason")?,
            statement: row.cell("statement")?,
            rows: row.cell("rows")?,
            bytes_before: row.cell("bytes_before")?,
            bytes_after: row.cell("bytes_after")?,
            started_at: row.maybe_time("started_at")?,
            duration_ms: row.cell("duration_ms")?,
            attempts: row.count("attempts")?,
            error: row.cell("error")?,
            lock_waits: row.json("lock_waits")?,
            throttled: row.json("throttled")?,
            predicted_ms: row.cell("predicted_ms")?,
            planned_bytes: row.cell("planned_bytes")?,
            cut_off: row.cell("cut_off")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Past {
    fn from_row(row: &R) -> Result<Past, Error> {
        let cut_off: bool = row.cell("cut_off")?;
        let end = match row.word("status", StepStatus::from_word)? {
            StepStatus::Succeeded => PastEnd::Done,
            _ if cut_off => PastEnd::CutOff,
            StepStatus::Deferred => PastEnd::Left,
            _ => PastEnd::Otherwise,
        };
        Ok(Past {
            task: row.cell("task")?,
            action: row.cell("action")?,
            object: row.cell("object")?,
            end,
            duration_ms: row.cell("duration_ms")?,
            bytes: row.cell("bytes")?,
            rows: row.cell("rows")?,
            predicted_ms: row.cell("predicted_ms")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Finding {
    fn from_row(row: &R) -> Result<Finding, Error> {
        Ok(Finding {
            code: row.cell("code")?,
            severity: row.word("severity", severity_from_word)?,
            object: row.cell("object")?,
            message: row.cell("message")?,
            suggestion: row.cell("suggestion")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for RunSummary {
    fn from_row(row: &R) -> Result<RunSummary, Error> {
        let id = row.id("id")?;
        let neighbours: [Option<String>; 2] = [row.cell("id_before")?, row.cell("id_after")?];
        Ok(RunSummary {
            id,
            short_id: short_id(&id, neighbours.iter().flatten()),
            task: row.cell("task")?,
            kind: row.cell("kind")?,
            target: row.cell("target")?,
            trigger: row.word("trigger", Trigger::from_word)?,
            status: row.word("status", RunStatus::from_word)?,
            scheduled_for: row.maybe_time("scheduled_for")?,
            started_at: row.time("started_at")?,
            finished_at: row.maybe_time("finished_at")?,
            duration_ms: row.cell("duration_ms")?,
            rows: row.cell("rows")?,
            bytes_before: row.cell("bytes_before")?,
            bytes_after: row.cell("bytes_after")?,
            error: row.cell("error")?,
            steps: row.count("steps")?,
            succeeded: row.count("succeeded")?,
            failed: row.count("failed")?,
            findings: FindingCounts {
                info: row.count("infos")?,
                warning: row.count("warnings")?,
                critical: row.count("criticals")?,
            },
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Baseline {
    fn from_row(row: &R) -> Result<Baseline, Error> {
        Ok(Baseline {
            object: row.cell("object")?,
            bytes: row.cell("bytes")?,
            tuples: row.cell("tuples")?,
            learned_at: row.time("learned_at")?,
            rebuilt: row.cell("rebuilt")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Measured {
    fn from_row(row: &R) -> Result<Measured, Error> {
        Ok(Measured {
            at: row.time("measured_at")?,
            measurement: Measurement {
                metric: row.cell("metric")?,
                object: row.cell("object")?,
                value: row.cell("value")?,
            },
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Notice {
    fn from_row(row: &R) -> Result<Notice, Error> {
        Ok(Notice {
            id: row.id("id")?,
            at: row.time("at")?,
            event: row.cell("event")?,
            task: row.cell("task")?,
            target: row.cell("target")?,
            schedule: row.cell("schedule")?,
            run: row.maybe_id("run_id")?,
            text: row.cell("text")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Letter {
    fn from_row(row: &R) -> Result<Letter, Error> {
        Ok(Letter {
            id: row.id("id")?,
            created_at: row.time("created_at")?,
            channel: row.cell("channel")?,
            body: row.json("body")?,
            attempts: row.count("attempts")?,
            next_attempt_at: row.time("next_attempt_at")?,
            last_error: row.cell("last_error")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Alert {
    fn from_row(row: &R) -> Result<Alert, Error> {
        Ok(Alert {
            task: row.cell("task")?,
            target: row.cell("target")?,
            since: row.time("since")?,
            escalated_at: row.maybe_time("escalated_at")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Occurrence {
    fn from_row(row: &R) -> Result<Occurrence, Error> {
        Ok(Occurrence {
            schedule: row.cell("schedule")?,
            scheduled_for: row.time("scheduled_for")?,
            status: row.word("status", OccurrenceStatus::from_word)?,
            catch_up: row.cell("catch_up")?,
            claimed_by: row.cell("claimed_by")?,
            lease_until: row.maybe_time("lease_until")?,
            claims: row.count("claims")?,
            recorded_at: row.time("recorded_at")?,
            finished_at: row.maybe_time("finished_at")?,
            succeeded: row.cell("succeeded")?,
            reason: row.cell("reason")?,
            runs: row.json("runs")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Pause {
    fn from_row(row: &R) -> Result<Pause, Error> {
        Ok(Pause {
            schedule: row.cell("schedule")?,
            since: row.time("since")?,
            until: row.maybe_time("until")?,
            by: row.cell("paused_by")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Day {
    fn from_row(row: &R) -> Result<Day, Error> {
        Ok(Day {
            day: row.cell("day")?,
            name: row.cell("name")?,
            status: row.word("status", RunStatus::from_word)?,
            runs: row.cell("runs")?,
            duration_ms: row.cell("duration_ms")?,
            rows: row.cell("rows")?,
            bytes_reclaimed: row.cell("bytes_reclaimed")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for TaskTotals {
    fn from_row(row: &R) -> Result<TaskTotals, Error> {
        let mut recent_ms: Vec<i64> = row.json("recent")?;
        recent_ms.reverse();
        // A sum over no runs is NULL.
        let sums: [Option<i64>; 7] = row.json("sums")?;
        let [
            runs,
            failed,
            partial,
            incomplete,
            duration_ms,
            rows,
            bytes_reclaimed,
        ] = sums.map(Option::unwrap_or_default);
        Ok(TaskTotals {
            task: row.cell("task")?,
            target: row.cell("target")?,
            kind: row.cell("kind")?,
            runs,
            failed,
            partial,
            incomplete,
            duration_ms,
            rows,
            bytes_reclaimed,
            last_run: row.id("last_run")?,
            last_status: row.word("last_status", RunStatus::from_word)?,
            last_started_at: row.time("last_started_at")?,
            last_duration_ms: row.cell("last_duration_ms")?,
            last_success_at: row.maybe_time("last_success_at")?,
            recent_ms,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Gain {
    fn from_row(row: &R) -> Result<Gain, Error> {
        Ok(Gain {
            run: row.id("id")?,
            task: row.cell("task")?,
            target: row.cell("target")?,
            action: row.cell("action")?,
            object: row.cell("object")?,
            at: row.time("started_at")?,
            bytes_before: row.cell("bytes_before")?,
            bytes_after: row.cell("bytes_after")?,
        })
    }
}

impl<R: Cells> FromRow<'_, R> for Trouble {
    fn from_row(row: &R) -> Result<Trouble, Error> {
        let waits: Vec<LockWait> = row.json("lock_waits")?;
        Ok(Trouble {
            run: row.id("id")?,
            task: row.cell("task")?,
            target: row.cell("target")?,
            action: row.cell("action")?,
            object: row.cell("object")?,
            at: row.time("at")?,
            times: row.cell("times")?,
            failed: row.cell("failed")?,
            error: row.cell("error")?,
            blocker: waits.into_iter().last(),
        })
    }
}

impl<R: Cells> FromRow<'_, R> for TrackedFinding {
    fn from_row(row: &R) -> Result<TrackedFinding, Error> {
        Ok(TrackedFinding {
            state: row.word("state", FindingState::from_word)?,
            code: row.cell("code")?,
            severity: row.word("severity", severity_from_word)?,
            target: row.cell("target")?,
            object: row.cell("object")?,
            message: row.cell("message")?,
            suggestion: row.cell("suggestion")?,
            run: row.id("run_id")?,
        })
    }
}

/// How many findings there are of one state and severity.
pub(super) fn finding_count<R: Cells>(row: &R) -> Result<(FindingState, Severity, i64), Error> {
    Ok((
        row.word("state", FindingState::from_word)?,
        row.word("severity", severity_from_word)?,
        row.cell("n")?,
    ))
}

/// Task, target, and when its last success ended.
pub(super) fn success<R: Cells>(row: &R) -> Result<(String, String, DateTime<Utc>), Error> {
    Ok((
        row.cell("task")?,
        row.cell("target")?,
        row.time("finished_at")?,
    ))
}
