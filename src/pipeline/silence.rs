//! A server that says nothing, and closes nothing, while a run is to end or waits
//! for an answer.

use std::time::{Duration, Instant};

use super::record::sum_up;
use super::{Answer, PipelineError, Surroundings, Way};
use crate::config::{Limits, Target};
use crate::engines::EngineError;
use crate::execute::{Awaited, Stop, StopReason};
use crate::history::{HistoryError, RunRecord, RunStatus, StepStatus};

/// What is cancelled has usually ended by then.
const FIRST: Duration = Duration::from_secs(1);
/// A server that takes no new connection within this time does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// Ends when what runs has to be cancelled, and the server does not answer, or
/// the grace is over.
pub(super) async fn of(way: &dyn Way, target: &Target, limits: &Limits, stop: &Stop) {
    stop.now().await;
    let until = Instant::now() + limits.clearing();
    loop {
        tokio::time::sleep(FIRST).await;
        // Who has no connection free still hears who has one.
        if Instant::now() >= until || way.answers(target, PATIENCE).await == Answer::Silent {
            return;
        }
    }
}

/// How often it is looked whether an answer is overdue.
const LOOK: Duration = Duration::from_secs(1);
/// So much later than its time an answer may come: what ends a statement is the
/// server's own limit first, and then our asking it to cancel.
const LATE: Duration = Duration::from_secs(4);
/// So often in a row a server has to say nothing before a run that nobody has
/// stopped is given up.
const SILENT: u32 = 3;
/// After a server has answered, it is asked again only after this.
const ALIVE: Duration = Duration::from_secs(10);

/// Ends when an answer is overdue, and the server takes no new connection
/// either; answers what was waited for. As long as it takes one, its own
/// limits and our asking to cancel are enough.
pub(super) async fn overdue(way: &dyn Way, target: &Target, awaited: &Awaited) -> &'static str {
    let mut silent = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(what) = overdue_by(awaited, LATE) else {
            silent = 0;
            continue;
        };
        if way.answers(target, PATIENCE).await != Answer::Silent {
            silent = 0;
            tokio::time::sleep(ALIVE).await;
            continue;
        }
        silent += 1;
        tracing::warn!(
            target = target.name,
            silent,
            "no answer to {what}, nor to a new connection"
        );
        // It may have come meanwhile.
        if silent >= SILENT && overdue_by(awaited, LATE).is_some() {
            return what;
        }
    }
}

fn overdue_by(awaited: &Awaited, late: Duration) -> Option<&'static str> {
    awaited.overdue(Instant::now().checked_sub(late)?)
}

/// Lets a look at the target pass, unless its server says nothing.
pub(super) async fn unless_silent<T>(
    way: &dyn Way,
    target: &Target,
    look: impl Future<Output = Result<T, PipelineError>>,
) -> Result<T, PipelineError> {
    let awaited = Awaited::default();
    let _looking = awaited.aside("what there is to do");
    tokio::select! {
        looked = look => looked,
        what = overdue(way, target, &awaited) => Err(EngineError::NoAnswer {
            server: format!("the server of `{}`", target.name),
            what: what.to_owned(),
        }
        .into()),
    }
}

/// Leaves without the server's answer: what was at work is recorded as cancelled.
/// `overdue` is what was waited for where nobody has stopped the run.
pub(super) async fn abandon(
    record: &mut RunRecord,
    around: &Surroundings,
    overdue: Option<&'static str>,
) {
    if overdue.is_some() {
        around.stop.at_once(StopReason::Silent);
    }
    // The history may be on the very server that is silent.
    if let Some(StopReason::Signal(_)) = around.stop.reason() {
        around.history.hurry();
    }
    let until_then = "What was at work may go on there until the server notices; the next run ends it, and clears away what it left";
    let why = match overdue {
        None => format!(
            "left without an answer of the server: it was asked to cancel, and said nothing. {until_then}"
        ),
        Some(what) => format!(
            "the server says nothing any more: the answer to {what} is overdue, and it took no new connection either, although nothing was closed. Look at the server, its disks, and any proxy or firewall before it. {until_then}"
        ),
    };
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
    if overdue.is_some() {
        record.status = RunStatus::Failed;
    } else if matches!(record.status, RunStatus::Succeeded | RunStatus::Incomplete) {
        record.status = RunStatus::Cancelled;
    }
    record.error = Some(why);
}
