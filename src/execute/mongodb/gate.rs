//! Time limits, stops, and what passes by itself: a step-down, a lost connection.

use std::time::{Duration, Instant};

use mongodb::bson::Document;

use super::{Execution, Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, MongoError, Session};
use crate::history::{StepRecord, StepStatus};
use crate::values::with_causes;

/// How long a set may be without a primary before a step gives up.
pub(super) const FAILOVER: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How often it is told that something is tried again.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A command with less time than this is not begun.
const LEAST_LEFT: Duration = Duration::from_millis(5);

/// What is tried again, for as long as a failover takes: told at once, and then every ten seconds.
/// That others write the same documents is told only where it does not end: nobody has to act before.
#[derive(Default)]
pub(super) struct Again {
    told: Option<Instant>,
    conflicts_since: Option<Instant>,
}

impl Again {
    pub(super) fn tell(&mut self, why: &MongoError) {
        match self.is_due(Instant::now(), why.is_conflict()) {
            true => tracing::warn!("trying again: {}", why.in_passing()),
            false => tracing::debug!("trying again: {}", why.in_passing()),
        }
    }

    fn is_due(&mut self, now: Instant, conflict: bool) -> bool {
        let since = *self.conflicts_since.get_or_insert(now);
        if conflict && now - since < TELL_EVERY {
            return false;
        }
        let is_due = self.told.is_none_or(|told| now - told >= TELL_EVERY);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

/// Until when a step may go on, and what sets that limit.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    at: Instant,
    by_run: bool,
}

impl Ends {
    pub(super) fn of(execution: &Execution) -> Ends {
        let step = Instant::now() + execution.limits.step_timeout.get();
        match execution.deadline {
            Some(deadline) if deadline <= step => Ends {
                at: deadline,
                by_run: true,
            },
            _ => Ends {
                at: step,
                by_run: false,
            },
        }
    }

    pub(super) fn left(self) -> Option<Limit> {
        let left = self.at.saturating_duration_since(Instant::now());
        (left >= LEAST_LEFT).then_some(Limit(left))
    }

    /// Resolves when a step must not wait any longer, whatever it waits for: its time is up, or the
    /// run is stopped at once.
    pub(super) async fn passed(self, execution: &Execution) {
        tokio::select! {
            () = tokio::time::sleep_until(self.at.into()) => {}
            () = execution.stop.now() => {}
        }
    }

    /// Ends the step for what [`Ends::passed`] has waited for; `so_far` says what it had done.
    pub(super) fn cut_off(self, execution: &Execution, record: &mut StepRecord, so_far: &str) {
        let (status, why) = match execution.stop.is_now() {
            true => (StepStatus::Cancelled, "the run was stopped".to_owned()),
            false => (StepStatus::Deferred, self.why(execution)),
        };
        record.cut_off = status == StepStatus::Deferred;
        end(record, status, format!("{why}; {so_far}"));
    }

    fn why(self, execution: &Execution) -> String {
        match self.by_run {
            true => "the run's time was up".to_owned(),
            false => format!(
                "`limits.step_timeout` ({}) was reached",
                execution.limits.step_timeout
            ),
        }
    }
}

/// Gives a command, again where it may have been lost in a step-down, which
/// must not matter to it. `lost` counts how often that was. `None`: the step
/// is over, and the record says why.
pub(super) async fn pass(
    job: Job<'_>,
    session: &Session,
    ends: Ends,
    record: &mut StepRecord,
    (doing, database): (&str, &str),
    command: &Document,
    lost: &mut u32,
) -> Result<Option<Document>, EngineError> {
    let execution = job.execution;
    let mut first_failure = None;
    let mut pause = FIRST_PAUSE;
    let mut again = Again::default();
    loop {
        let Some(limit) = ends.left() else {
            record.cut_off = true;
            end(record, StepStatus::Deferred, ends.why(execution));
            return Ok(None);
        };
        if execution.stop.is_now() {
            end(record, StepStatus::Cancelled, "the run was stopped");
            return Ok(None);
        }
        record.attempts = record.attempts.max(1);
        let stop = execution.stop.now();
        let answer = session
            .command_until(doing, database, command.clone(), limit, stop)
            .await;
        let error = match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error,
        };
        let since = *first_failure.get_or_insert_with(Instant::now);
        if error.is_passing() && since.elapsed() < FAILOVER && !execution.stop.is_now() {
            again.tell(&error);
            *lost += 1;
            record.attempts += 1;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = execution.stop.now() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            continue;
        }
        return over(error, execution, ends, record).map(|()| None);
    }
}

/// Makes the place where marks are kept, which does not matter to be asked for twice.
pub(super) async fn make_marks(job: Job<'_>) -> Result<(), MongoError> {
    let (began, mut again) = (Instant::now(), Again::default());
    loop {
        match job.session.make_marks().await {
            Err(error)
                if error.is_passing()
                    && began.elapsed() < FAILOVER
                    && !job.execution.stop.is_now() =>
            {
                again.tell(&error);
                tokio::time::sleep(FIRST_PAUSE).await;
            }
            made => return made,
        }
    }
}

/// How a step ends with this error: in the record, or as a failure.
pub(super) fn over(
    error: MongoError,
    execution: &Execution,
    ends: Ends,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    if execution.stop.is_now() {
        end(record, StepStatus::Cancelled, "the run was stopped");
    } else if error.is_out_of_time() {
        record.cut_off = true;
        end(record, StepStatus::Deferred, ends.why(execution));
    } else if error.is_vanished() {
        end(record, StepStatus::Skipped, with_causes(&error));
    } else {
        return Err(error.into());
    }
    Ok(())
}

/// Looks between batches whether the step may go on.
pub(super) fn may_go_on(job: Job<'_>, ends: Ends, record: &mut StepRecord, so_far: &str) -> bool {
    let execution = job.execution;
    let (status, why) = if execution.stop.is_stopping() {
        (StepStatus::Cancelled, "the run was stopped".to_owned())
    } else if ends.left().is_none() {
        (StepStatus::Deferred, ends.why(execution))
    } else {
        return true;
    };
    record.cut_off = status == StepStatus::Deferred;
    end(record, status, format!("{why}; {so_far}"));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again_is_told_every_ten_seconds() {
        let (begin, mut again) = (Instant::now(), Again::default());
        let told = (0..150).map(|n| again.is_due(begin + Duration::from_millis(200) * n, false));
        let told: Vec<bool> = told.collect();
        let at: Vec<usize> = (0..150).filter(|n| told[*n]).collect();
        assert_eq!(at, [0, 50, 100]);
    }

    #[test]
    fn that_others_write_the_same_is_told_where_it_goes_on() {
        let (begin, mut again) = (Instant::now(), Again::default());
        let told = (0..150).map(|n| again.is_due(begin + Duration::from_millis(200) * n, true));
        let told: Vec<bool> = told.collect();
        let at: Vec<usize> = (0..150).filter(|n| told[*n]).collect();
        assert_eq!(at, [50, 100]);
    }
}
