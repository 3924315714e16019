//! The one gate for every statement that changes a target: timeouts before,
//! cancellation during, a verdict afterwards.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Execution;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::{LockWaiting, Statement};

/// What came of a statement.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Done; with warnings the server raised.
    Done(Vec<String>),
    /// Somebody holds its locks; nothing has changed. `asked_to_skip` where
    /// the statement itself was told not to wait.
    Locked {
        asked_to_skip: bool,
        message: String,
    },
    /// The object is gone.
    Vanished(String),
    /// Cancelled because the run is being stopped.
    Stopped,
    /// Cancelled because the deadline of the run came.
    OutOfTime,
    /// Cancelled because it held up a vacuum that prevents wraparound.
    GaveWay,
    /// The server said no.
    Failed(EngineError),
}

/// Lets one statement pass.
pub(super) async fn pass(
    session: &Session,
    statement: &Statement,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome {
    let now = Instant::now();
    let ends = execution
        .deadline
        .map_or(step_ends, |deadline| deadline.min(step_ends));
    let left = ends.saturating_duration_since(now);
    if left.is_zero() {
        return Outcome::OutOfTime;
    }
    let brief = execution.limits.lock_timeout.get();
    if let LockWaiting::Patient { probe } = &statement.waiting {
        // A simple query of several statements is one transaction: the lock
        // is given back by the ROLLBACK, or by the failure itself.
        let sql = format!(
            "BEGIN; SET LOCAL lock_timeout = {}; {probe}; ROLLBACK",
            millis(brief)
        );
        if let Err(error) = session.execute("trying the lock", &sql).await {
            // After a failure inside of it the transaction is still open.
            if !error.is_unreachable()
                && let Err(error) = session.execute("ending the try", "ROLLBACK").await
            {
                return Outcome::Failed(error);
            }
            return judge(error, execution, ends, give_way);
        }
    }
    let lock_timeout = match statement.waiting {
        LockWaiting::Brief => brief,
        LockWaiting::Patient { .. } => execution.limits.transaction_wait.get(),
    };
    let settings = format!(
        "SET lock_timeout = {}; SET statement_timeout = {}",
        millis(lock_timeout),
        millis(left)
    );
    if let Err(error) = session.execute("setting timeouts", &settings).await {
        return Outcome::Failed(error);
    }
    tracing::debug!(statement = statement.sql, "running");
    let work = session.execute("running it", &statement.sql);
    tokio::pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        () = execution.stop.now() => { cancel(session).await; work.await }
        () = give_way.cancelled() => { cancel(session).await; work.await }
    };
    match result {
        Ok(notices) => {
            let warnings: Vec<_> = notices
                .into_iter()
                .filter(|notice| {
                    notice.severity.eq_ignore_ascii_case("warning")
                        || !notice.code.starts_with("00")
                })
                .collect();
            match warnings.iter().find(|notice| notice.code == "55P03") {
                Some(notice) => Outcome::Locked {
                    asked_to_skip: true,
                    message: notice.message.clone(),
                },
                None => Outcome::Done(warnings.into_iter().map(|n| n.message).collect()),
            }
        }
        Err(error) => judge(error, execution, ends, give_way),
    }
}

/// Asks the server to give up; the statement's own answer then tells whether it did.
async fn cancel(session: &Session) {
    if let Err(error) = session.cancel().await {
        tracing::warn!(%error, "could not cancel a statement");
    }
}

fn judge(
    error: EngineError,
    execution: &Execution,
    ends: Instant,
    give_way: &CancellationToken,
) -> Outcome {
    match error.sqlstate() {
        // lock_not_available, deadlock_detected
        Some("55P03" | "40P01") => Outcome::Locked {
            asked_to_skip: false,
            message: error.to_string(),
        },
        // undefined_table, undefined_object, invalid_schema_name
        Some("42P01" | "42704" | "3F000") => Outcome::Vanished(error.to_string()),
        // query_canceled: by whom?
        Some("57014") if execution.stop.is_now() => Outcome::Stopped,
        Some("57014") if give_way.is_cancelled() => Outcome::GaveWay,
        Some("57014") if execution.deadline == Some(ends) && Instant::now() >= ends => {
            Outcome::OutOfTime
        }
        _ => Outcome::Failed(error),
    }
}

/// Milliseconds for a setting; never 0, which would mean "for ever".
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::from(i32::MAX))
        .clamp(1, i64::from(i32::MAX))
}
