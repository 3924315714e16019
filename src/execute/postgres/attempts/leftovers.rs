//! What an aborted attempt left, cleared away.

use std::time::{Duration, Instant};

use super::super::gate::{self};
use super::super::{Job, ask};
use crate::engines::EngineError;
use crate::engines::postgres::Fault;
use crate::history::StepRecord;
use crate::plan::Body as _;

/// Between two tries to clear away what somebody holds the locks of.
const CLEAR_AGAIN: Duration = Duration::from_millis(500);

/// How long a try takes at most besides its wait for locks.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);

/// Clears away what an attempt left, and notes what could not be. Where the run is
/// stopped and somebody only holds its locks, it is tried for as long as the grace
/// lasts: the process is to leave nothing, and has that time.
pub(super) async fn note_left(job: Job<'_>, record: &mut StepRecord) -> Result<(), EngineError> {
    let mut left = sweep(job).await?;
    while left.as_ref().is_some_and(|left| left.for_now) && may_clear_again(job) {
        tokio::time::sleep(CLEAR_AGAIN).await;
        left = sweep(job).await?;
    }
    if let Some(Left { text, .. }) = left {
        record.piled_up |= job.step.body.piles_up();
        record.error = Some(match record.error.take() {
            Some(before) if before.contains(&text) => before,
            Some(before) => format!("{before}; {text}"),
            None => text,
        });
    }
    Ok(())
}

/// Whether another try at clearing away ends before the run is given up.
fn may_clear_again(job: Job<'_>) -> bool {
    let execution = job.execution;
    let Some(since) = execution.stop.since() else {
        return false;
    };
    let try_takes = CLEAR_AGAIN + execution.limits.lock_timeout.get() + CANCELLED_WITHIN;
    Instant::now() + try_takes < since + execution.limits.clearing()
}

/// What an attempt has left, and could not remove.
pub(super) struct Left {
    pub(super) text: String,
    /// Whether it is only that somebody holds its locks.
    pub(super) for_now: bool,
}

/// Removes what the aborted attempt left. It goes on although the run is
/// being stopped: that is what a clean stop means.
/// Answers with what could not be removed.
pub(super) async fn sweep(job: Job<'_>) -> Result<Option<Left>, EngineError> {
    let session = job.session;
    let Some(sweep) = &job.step.body.on_abort else {
        return Ok(None);
    };
    let mut left: Vec<String> = Vec::new();
    let mut for_now = true;
    gate::aside(session, job.execution).await?;
    let doing = "looking for what it left";
    for row in ask(session, doing, &sweep.query).await? {
        let object: String = row.get(0)?;
        let Some(sql) = row.get::<Option<String>>(1)? else {
            left.push(format!(
                "{object} was left behind, as somebody works on its table; the next run removes it"
            ));
            continue;
        };
        tracing::info!(
            object,
            statement = sql,
            "removing what an aborted attempt left"
        );
        if let Err(error) = session.execute("removing what it left", &sql).await {
            // The next run finds it again, by name and definition.
            tracing::warn!(object, %error, "could not remove it");
            let fault = Fault::of(&error);
            for_now &= fault == Fault::Locked;
            let text = match fault {
                Fault::Forbidden => {
                    format!("{object} was left behind, as only its owner may remove it: {sql}")
                }
                _ => format!("{object} was left behind: {error}; the next run removes it"),
            };
            left.push(text);
        }
    }
    Ok((!left.is_empty()).then(|| Left {
        text: left.join("; "),
        for_now,
    }))
}
