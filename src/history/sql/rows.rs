//! Rows to records, the same for every database.

use chrono::{DateTime, Utc};
use sqlx::Error;

use super::row::{FromRow, Row};
use crate::history::summary::{
    Day, FindingState, Gain, Outcome, SeriesPoint, TaskTotals, TrackedFinding, Trouble,
};
use crate::history::words::{severity_from_word, short_id};
use crate::history::{
    Alert, Baseline, FindingCounts, Letter, LockWait, Measured, Notice, Occurrence,
    OccurrenceStatus, Pause, RunRecord, RunStatus, RunSummary, StepRecord, StepStatus, Trigger,
};
use crate::plan::{Finding, KeptBy, Measurement, Past, PastEnd, Severity};

impl FromRow for RunRecord {
    /// The run alone; steps and findings are read separately.
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(RunRecord {
            id: row.id("id")?,
            task: row.cell("task")?,
            kind: row.cell("kind")?,
            target: row.cell("target")?,
            trigger: row.word("trigger", Trigger::from_word)?,
            status: row.word("status", RunStatus::from_word)?,
            scheduled_for: row.maybe_time("scheduled_for")?,
            schedule: row.cell("schedule")?,
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
            process: row.cell("process")?,
            part: row.cell("part")?,
            steps: Vec::new(),
            findings: Vec::new(),
        })
    }
}

impl FromRow for StepRecord {
    fn read(row: &Row) -> Result<Self, Error> {
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
            kept_by: kept_by(row)?,
            piled_up: false,
        })
    }
}

/// A word that this version does not know is no reason to read nothing.
fn kept_by(row: &Row) -> Result<Option<KeptBy>, Error> {
    let word: Option<String> = row.cell("kept_by")?;
    Ok(word.as_deref().and_then(KeptBy::from_word))
}

impl FromRow for Past {
    fn read(row: &Row) -> Result<Self, Error> {
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
            kept_by: kept_by(row)?,
            duration_ms: row.cell("duration_ms")?,
            bytes: row.cell("bytes")?,
            rows: row.cell("rows")?,
            predicted_ms: row.cell("predicted_ms")?,
        })
    }
}

impl FromRow for Finding {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Finding {
            code: row.cell("code")?,
            severity: row.word("severity", severity_from_word)?,
            object: row.cell("object")?,
            message: row.cell("message")?,
            suggestion: row.cell("suggestion")?,
        })
    }
}

impl FromRow for RunSummary {
    fn read(row: &Row) -> Result<Self, Error> {
        let id = row.id("id")?;
        let neighbours = [row.maybe_id("id_before")?, row.maybe_id("id_after")?];
        Ok(RunSummary {
            id,
            short_id: short_id(id, neighbours.into_iter().flatten()),
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

impl FromRow for Baseline {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Baseline {
            object: row.cell("object")?,
            bytes: row.cell("bytes")?,
            tuples: row.cell("tuples")?,
            learned_at: row.time("learned_at")?,
            rebuilt: row.cell("rebuilt")?,
            made_as: row.cell("made_as")?,
        })
    }
}

impl FromRow for Measured {
    fn read(row: &Row) -> Result<Self, Error> {
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

impl FromRow for Notice {
    fn read(row: &Row) -> Result<Self, Error> {
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

impl FromRow for Letter {
    fn read(row: &Row) -> Result<Self, Error> {
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

impl FromRow for Alert {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Alert {
            task: row.cell("task")?,
            target: row.cell("target")?,
            since: row.time("since")?,
            escalated_at: row.maybe_time("escalated_at")?,
        })
    }
}

impl FromRow for Occurrence {
    fn read(row: &Row) -> Result<Self, Error> {
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

impl FromRow for Pause {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Pause {
            schedule: row.cell("schedule")?,
            since: row.time("since")?,
            until: row.maybe_time("until")?,
            by: row.cell("paused_by")?,
        })
    }
}

impl FromRow for Day {
    fn read(row: &Row) -> Result<Self, Error> {
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

impl FromRow for TaskTotals {
    fn read(row: &Row) -> Result<Self, Error> {
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
            outcome: match row.maybe_id("outcome_run")? {
                None => None,
                Some(run) => Some(Outcome {
                    run,
                    status: row.word("outcome_status", RunStatus::from_word)?,
                    started_at: row.time("outcome_started_at")?,
                }),
            },
            last_success_at: row.maybe_time("last_success_at")?,
            recent_ms,
        })
    }
}

impl FromRow for Gain {
    fn read(row: &Row) -> Result<Self, Error> {
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

impl FromRow for Trouble {
    fn read(row: &Row) -> Result<Self, Error> {
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
            left: row.cell("left_undone")?,
            error: row.cell("error")?,
            blocker: waits.into_iter().last(),
        })
    }
}

impl FromRow for TrackedFinding {
    fn read(row: &Row) -> Result<Self, Error> {
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

impl FromRow for SeriesPoint {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(SeriesPoint {
            target: row.cell("target")?,
            metric: row.cell("metric")?,
            object: row.cell("object")?,
            first: row.cell("first")?,
            last: row.cell("last")?,
            part: row.cell("part")?,
            value: row.cell("value")?,
        })
    }
}

/// How many findings there are of one state and severity.
pub(super) fn finding_count(row: &Row) -> Result<(FindingState, Severity, i64), Error> {
    Ok((
        row.word("state", FindingState::from_word)?,
        row.word("severity", severity_from_word)?,
        row.cell("n")?,
    ))
}

/// Task, target, and when its last success ended.
pub(super) fn success(row: &Row) -> Result<(String, String, DateTime<Utc>), Error> {
    Ok((
        row.cell("task")?,
        row.cell("target")?,
        row.time("finished_at")?,
    ))
}
