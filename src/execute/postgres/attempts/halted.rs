//! How a step ended that is not tried again: its status, and why in words.

use std::time::Duration;

use chrono::TimeDelta;

use super::super::gate::{Halt, TimeLimit, answer};
use super::super::monitor::describe;
use super::super::{Job, ask, end, vanished};
use super::in_the_way::lock_wait;
use super::leftovers::note_left;
use crate::engines::EngineError;
use crate::engines::postgres::watch::Blocker;
use crate::execute::Door;
use crate::history::{StepRecord, StepStatus};
use crate::plan::predict::human;
use crate::plan::{KeptBy, Param, Query, Work};
use crate::values::{Bytes, wall_clock, with_causes};

/// Whether the time is up in which the step may block others.
fn may_not_block_any_more(job: Job<'_>) -> bool {
    // What is begun at the end is begun with a little time left.
    let soon = wall_clock() + SOON;
    job.step.body.until.is_some_and(|until| until <= soon)
}

/// A limit that is so near has passed.
const SOON: TimeDelta = TimeDelta::milliseconds(200);

/// Notes how the step ended, and clears away what it left.
pub(super) async fn halted(
    halt: Halt,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    record.cut_off = matches!(halt, Halt::OutOfTime(_));
    let (status, why) = match halt {
        Halt::Locked { message, .. } => (StepStatus::Failed, message),
        // The step's own table is there: what is missing may be another server's, or who the role is there.
        Halt::Missing(error)
            if !job.step.body.away.is_empty()
                && matches!(job.door.unneeded(job.session, job.step).await, Ok(None)) =>
        {
            return Err(error);
        }
        Halt::Missing(error) => match missing(error, job).await {
            (StepStatus::Skipped, why) => vanished::judged(why, job, record),
            ended => ended,
        },
        Halt::Vanished(why) => vanished::judged(why, job, record),
        Halt::Conflict(error) => (StepStatus::Failed, with_causes(&error)),
        Halt::NotAllowed(why) => (StepStatus::Failed, format!("not allowed: {why}")),
        Halt::LeftOut(why) => (StepStatus::Skipped, why),
        Halt::Changed(why) => (StepStatus::Deferred, why),
        Halt::Stopped => (StepStatus::Cancelled, "the run was stopped".to_owned()),
        Halt::OutOfTime(TimeLimit::Run) => {
            (StepStatus::Deferred, "the run's time was up".to_owned())
        }
        Halt::OutOfTime(TimeLimit::Step) if may_not_block_any_more(job) => {
            let why = "cancelled, or not begun, since the window has closed in which it may block others (`blocking_window`); the next run within it tries again, and a longer window gives it more time";
            (StepStatus::Deferred, why.to_owned())
        }
        Halt::OutOfTime(TimeLimit::Step) => {
            let limit = job.execution.limits.step_timeout;
            let why = format!(
                "took longer than `limits.step_timeout` ({limit}) and was cancelled; the next run tries it again, and a larger `step_timeout` gives it more time"
            );
            (StepStatus::Failed, why)
        }
        Halt::Waits(blocker) => {
            record.lock_waits.push(lock_wait(
                record.attempts,
                &(blocker.clone(), Duration::ZERO),
            ));
            record.kept_by = Some(KeptBy::Transaction);
            let limit = job.execution.limits.max_transaction_age;
            let why = format!(
                "not begun, since it would wait for a transaction that is older than `limits.max_transaction_age` ({limit}): {}, open for {}",
                describe(&blocker),
                human(blocker.transaction_age_ms)
            );
            (StepStatus::Deferred, why)
        }
        Halt::HoldsBack(age) => {
            record.kept_by = Some(KeptBy::Transaction);
            let oldest = job.watch.oldest_writer().await;
            let who = oldest.first().map_or_else(String::new, |(blocker, _)| {
                record.lock_waits.push(lock_wait(
                    record.attempts,
                    &(blocker.clone(), Duration::ZERO),
                ));
                format!(
                    "; the oldest transaction that writes: {}",
                    describe(blocker)
                )
            });
            let why = format!(
                "not begun, since it would hold back transaction ids that are {age} transactions old already, more than `limits.max_xid_age` ({}){who}",
                job.execution.limits.max_xid_age
            );
            (StepStatus::Deferred, why)
        }
        Halt::NoSlot => {
            let holders = job.watch.repacking().await;
            let tries = holders.iter().map(|seen| lock_wait(record.attempts, seen));
            record.lock_waits.extend(tries);
            record.kept_by = Some(KeptBy::Server);
            (StepStatus::Deferred, no_slot(&holders))
        }
        Halt::GaveWay => {
            let why = "gave way to a vacuum that prevents transaction id wraparound";
            (StepStatus::Skipped, why.to_owned())
        }
        Halt::Failed(error) => {
            if !error.is_unreachable() {
                note_left(job, record).await?;
            }
            return Err(error);
        }
    };
    end(record, status, why);
    note_left(job, record).await
}

/// What is said where the log kept for a step has become too much.
pub(super) fn too_much_log(kept: i64, job: Job<'_>) -> String {
    let shown = |bytes: i64| Bytes(u64::try_from(bytes).unwrap_or(0)).to_string();
    format!(
        "cancelled, and its slot is given back, since the server kept {} of log for it, more than {} (`max_slot_retention`, or the server's max_slot_wal_keep_size where that is less), which would fill its disk, or make the slot useless; nothing has changed. A quieter hour, or a larger limit where there is room, lets it end",
        shown(kept),
        shown(job.step.body.most_log.unwrap_or(0))
    )
}

/// What is said where all slots are taken, and by whom.
pub(super) fn no_slot(holders: &[(Blocker, Duration)]) -> String {
    let who: Vec<String> = holders
        .iter()
        .map(|(blocker, _)| describe(blocker))
        .collect();
    let who = match who.is_empty() {
        true => "who has them is gone by now".to_owned(),
        false => format!("by {}", who.join(", ")),
    };
    format!(
        "not begun, since all slots are taken that the server has for REPACK (`max_repack_replication_slots`): {who}; the next run tries it again, and a larger value, which needs a restart, lets more be repacked at once"
    )
}

/// A name led nowhere. Only if the step's own object is gone is that no
/// failure: it is asked for again, as before the step.
async fn missing(error: EngineError, job: Job<'_>) -> (StepStatus, String) {
    if job.step.body.only_if.is_none() {
        // What the plan never saw cannot have vanished: it is misspelt.
        return (StepStatus::Failed, with_causes(&error));
    }
    if let Ok(Some(_)) = job.door.unneeded(job.session, job.step).await
        && !goes_on_detached(job).await
    {
        return (
            StepStatus::Skipped,
            format!("vanished: {}", with_causes(&error)),
        );
    }
    let context = match &error {
        EngineError::Statement { origin, .. } => origin.context.as_deref(),
        _ => None,
    };
    let Some(context) = context else {
        let why = format!(
            "{}. {} itself is still there",
            with_causes(&error),
            job.step.object
        );
        return (StepStatus::Failed, why);
    };
    let why = format!(
        "{error}. {} itself is still there: something is missing for code that runs with it, such as a trigger, an event trigger, a check or an index expression: {context}. Sessions of maint search pg_catalog only; a function that relies on another path needs one of its own: ALTER FUNCTION … SET search_path = …",
        job.step.object
    );
    (StepStatus::Failed, why)
}

/// Whether the step's partition is there, though none any more: the step itself
/// has detached it.
async fn goes_on_detached(job: Job<'_>) -> bool {
    let required = |work: &Work| match work {
        Work::Each(statements) => statements.iter().any(|one| one.required.is_some()),
        _ => false,
    };
    if !required(&job.step.body.work) {
        return false;
    }
    let sql = "SELECT pg_catalog.to_regclass($1::text) IS NOT NULL";
    let query = Query::new(sql, [Param::Text(job.step.object.clone())]);
    let there = ask(job.session, "looking whether it is there", &query).await;
    there.is_ok_and(|rows| answer(&rows).is_ok_and(|there| there))
}
