//! A server that says nothing, and closes nothing, while a run is to end.

use std::time::{Duration, Instant};

use super::{Answer, Surroundings, Way, sum_up};
use crate::config::{Limits, Target};
use crate::execute::{Stop, StopReason};
use crate::history::{HistoryError, RunRecord, RunStatus, StepStatus};

/// What is cancelled has usually ended by then.
const FIRST: Duration = Duration::from_secs(1);
/// A server that takes no new connection within this time does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// So much of the grace is kept for writing down what has happened.
const ENDING: Duration = Duration::from_secs(3);
/// However short the grace is: clearing away has so much time where the server answers.
const LEAST: Duration = Duration::from_secs(10);

/// Ends when what runs has to be cancelled, and the server does not answer, or
/// the grace is over.
pub(super) async fn of(way: &dyn Way, target: &Target, limits: &Limits, stop: &Stop) {
    stop.now().await;
    let clearing = limits.grace.get().saturating_sub(limits.patience());
    let clearing = clearing.saturating_sub(ENDING);
    let until = Instant::now() + clearing.max(LEAST);
    loop {
        tokio::time::sleep(FIRST).await;
        // Who has no connection free still hears who has one.
        if Instant::now() >= until || way.answers(target, PATIENCE).await == Answer::Silent {
            return;
        }
    }
}

/// Leaves without the server's answer: what was at work is recorded as cancelled.
pub(super) async fn abandon(record: &mut RunRecord, around: &Surroundings) {
    // The history may be on the very server that is silent.
    if let Some(StopReason::Signal(_)) = around.stop.reason() {
        around.history.hurry();
    }
    let why = "left without an answer of the server: it was asked to cancel, and said nothing. \
        What was at work may go on there until the server notices; the next run ends it, and \
        clears away what it left";
    around.history.settle().await;
    let id = record.id.to_string();
    let history = &around.history;
    // One that ends before it was opened is not known.
    let known = async {
        match history.store().run(&id).await {
            Err(HistoryError::UnknownRun { .. }) => Ok(None),
            found => found.map(Some),
        }
    };
    if let Some(Some(known)) = history.ask(known).await {
        record.steps = known.steps;
    }
    let mut at_work = 0;
    for step in &mut record.steps {
        if step.status == StepStatus::Running {
            step.status = StepStatus::Cancelled;
            step.error = Some("the run left without an answer of the server".to_owned());
            at_work += 1;
        }
    }
    tracing::warn!(run = %record.id, at_work, "{why}");
    sum_up(record, &[], &around.stop);
    if matches!(record.status, RunStatus::Succeeded | RunStatus::Incomplete) {
        record.status = RunStatus::Cancelled;
    }
    record.error = Some(why.to_owned());
}
