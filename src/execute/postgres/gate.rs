//! The one gate for every statement that changes a target: timeouts before,
//! cancellation during, a verdict afterwards.

use std::time::{Duration, Instant};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::Execution;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::Guard;
use crate::plan::{LockWaiting, Param, Query, Statement};

/// What came of a statement.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Done.
    Done {
        /// Warnings the server raised.
        warnings: Vec<String>,
        /// Rows changed or returned.
        rows: u64,
    },
    /// Somebody holds its locks; nothing has changed. `asked_to_skip` where
    /// the statement itself was told not to wait.
    Locked {
        asked_to_skip: bool,
        message: String,
    },
    /// The object is gone.
    Vanished(String),
    /// The role may not.
    NotAllowed(String),
    /// Cancelled because the run is being stopped.
    Stopped,
    /// Not begun, or cancelled, because no time was left.
    OutOfTime(TimeLimit),
    /// Cancelled because it held up a vacuum that prevents wraparound.
    GaveWay,
    /// The server said no.
    Failed(EngineError),
}

/// The limit that left no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeLimit {
    /// The deadline of the run.
    Run,
    /// `step_timeout`.
    Step,
}

/// With less than this left nothing is begun: what has to be given back
/// afterwards runs under the same limit.
const LEAST_LEFT: Duration = Duration::from_millis(100);

/// The server's clock may be ahead of ours by this much when it says that the
/// time is up.
const CLOCKS_DIFFER: Duration = Duration::from_millis(50);

/// What is asked besides the work, such as sizes, gets this long.
const ASIDE: Duration = Duration::from_secs(300);

/// The limit that comes first, and when.
fn first_limit(execution: &Execution, step_ends: Instant) -> (Instant, TimeLimit) {
    match execution.deadline {
        Some(deadline) if deadline <= step_ends => (deadline, TimeLimit::Run),
        _ => (step_ends, TimeLimit::Step),
    }
}

/// How long a statement that begins now may take.
fn time_left(execution: &Execution, step_ends: Instant) -> Result<Duration, Outcome> {
    let (ends, limit) = first_limit(execution, step_ends);
    let left = ends.saturating_duration_since(Instant::now());
    if left < LEAST_LEFT {
        return Err(Outcome::OutOfTime(limit));
    }
    Ok(left)
}

async fn set_limits(
    session: &Session,
    lock_timeout: Duration,
    statement_timeout: Duration,
) -> Result<(), EngineError> {
    let settings = format!(
        "SET lock_timeout = {}; SET statement_timeout = {}",
        millis(lock_timeout),
        millis(statement_timeout)
    );
    session
        .execute("setting timeouts", &settings)
        .await
        .map(drop)
}

/// Lifts the limits of the work for what follows it: measuring, clearing away.
pub(super) async fn aside(session: &Session, execution: &Execution) -> Result<(), EngineError> {
    set_limits(session, execution.limits.lock_timeout.get(), ASIDE).await
}

/// Lets statements pass in one transaction: all or nothing.
pub(super) async fn pass_together(
    session: &Session,
    statements: &[Statement],
    guard: Option<&Guard>,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome {
    if let Err(error) = session.execute("opening a transaction", "BEGIN").await {
        return Outcome::Failed(error);
    }
    let (mut all_warnings, mut all_rows) = (Vec::new(), 0);
    let mut guard = guard;
    for statement in statements {
        // The isolation level can only be set before anything is asked.
        if !statement.sql.starts_with("SET TRANSACTION")
            && let Some(guard) = guard.take()
            && let Err(outcome) = keep(session, guard, execution, step_ends, give_way).await
        {
            return roll_back(session, outcome).await;
        }
        match pass(session, statement, execution, step_ends, give_way).await {
            Outcome::Done { warnings, rows } => {
                all_warnings.extend(warnings);
                all_rows += rows;
            }
            other => return roll_back(session, other).await,
        }
    }
    if execution.stop.is_now() {
        return roll_back(session, Outcome::Stopped).await;
    }
    // Deferred constraints are checked here.
    match session.execute("committing", "COMMIT").await {
        Ok(_) => Outcome::Done {
            warnings: all_warnings,
            rows: all_rows,
        },
        Err(error) => judge(error, execution, step_ends, give_way),
    }
}

/// Takes a guard in the transaction that is open.
pub(in crate::execute) async fn keep(
    session: &Session,
    guard: &Guard,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Result<(), Outcome> {
    limit(session, execution, step_ends).await?;
    let taken = guard.take(session).await;
    taken.map_err(|error| judge(error, execution, step_ends, give_way))
}

async fn roll_back(session: &Session, outcome: Outcome) -> Outcome {
    match session.execute("rolling back", "ROLLBACK").await {
        Ok(_) => outcome,
        Err(error) => match outcome {
            // What went wrong first is what matters.
            Outcome::Failed(first) => Outcome::Failed(first),
            _ => Outcome::Failed(error),
        },
    }
}

/// Sets the time limits for statements that follow; an outcome where no time is left.
pub(super) async fn limit(
    session: &Session,
    execution: &Execution,
    step_ends: Instant,
) -> Result<(), Outcome> {
    let left = time_left(execution, step_ends)?;
    let lock_timeout = execution.limits.lock_timeout.get();
    let set = set_limits(session, lock_timeout, left).await;
    set.map_err(Outcome::Failed)
}

/// Lets one statement pass.
pub(super) async fn pass(
    session: &Session,
    statement: &Statement,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome {
    let left = match time_left(execution, step_ends) {
        Ok(left) => left,
        Err(outcome) => return outcome,
    };
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
            return judge(error, execution, step_ends, give_way);
        }
    }
    let lock_timeout = match statement.waiting {
        LockWaiting::Brief => brief,
        LockWaiting::Patient { .. } => execution.limits.transaction_wait.get(),
    };
    if let Err(error) = set_limits(session, lock_timeout, left).await {
        return Outcome::Failed(error);
    }
    tracing::debug!(statement = statement.sql, "running");
    let params = bound(&statement.params);
    let work = if params.is_empty() {
        session.execute("running it", &statement.sql)
    } else {
        session.execute_with("running it", &statement.sql, &params)
    };
    tokio::pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        () = execution.stop.now() => { cancel(session).await; work.await }
        () = give_way.cancelled() => { cancel(session).await; work.await }
    };
    match result {
        Ok(done) => {
            let warnings: Vec<_> = done
                .notices
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
                None => Outcome::Done {
                    warnings: warnings.into_iter().map(|n| n.message).collect(),
                    rows: done.rows,
                },
            }
        }
        Err(error) => judge(error, execution, step_ends, give_way),
    }
}

/// Lets one question pass, and gives its answer.
pub(super) async fn ask(
    session: &Session,
    query: &Query,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Result<Vec<Row>, Outcome> {
    limit(session, execution, step_ends).await?;
    tracing::debug!(question = query.sql, "asking");
    let params = bound(&query.params);
    let work = session.query("checking it", &query.sql, &params);
    tokio::pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        () = execution.stop.now() => { cancel(session).await; work.await }
        () = give_way.cancelled() => { cancel(session).await; work.await }
    };
    result.map_err(|error| judge(error, execution, step_ends, give_way))
}

/// The values in the shape that the driver takes.
pub(super) fn bound(params: &[Param]) -> Vec<&(dyn ToSql + Sync)> {
    params
        .iter()
        .map(|param| -> &(dyn ToSql + Sync) { param })
        .collect()
}

/// Asks the server to give up; the statement's own answer then tells whether it did.
async fn cancel(session: &Session) {
    if let Err(error) = session.cancel().await {
        tracing::warn!(%error, "could not cancel a statement");
    }
}

pub(super) fn judge(
    error: EngineError,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome {
    let (ends, limit) = first_limit(execution, step_ends);
    match error.sqlstate() {
        // lock_not_available, deadlock_detected, serialization_failure; the
        // latter also on a standby, where what is read was removed on the primary
        Some("55P03" | "40P01" | "40001") => Outcome::Locked {
            asked_to_skip: false,
            message: error.to_string(),
        },
        // undefined_table, undefined_object, invalid_schema_name
        Some("42P01" | "42704" | "3F000") => Outcome::Vanished(error.to_string()),
        // query_canceled: by whom?
        Some("57014") if execution.stop.is_now() => Outcome::Stopped,
        Some("57014") if give_way.is_cancelled() => Outcome::GaveWay,
        Some("57014") if Instant::now() + CLOCKS_DIFFER >= ends => Outcome::OutOfTime(limit),
        _ => Outcome::Failed(error),
    }
}

/// Milliseconds for a setting, rounded up; never 0, which would mean "for ever".
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(i64::from(i32::MAX))
        .clamp(1, i64::from(i32::MAX))
}
