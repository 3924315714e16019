//! How long a statement, or its wait for locks, may take, and how much of that time is left.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::Execution;
use super::{Halt, Outcome, until_stopped};
use crate::engines::EngineError;
use crate::engines::postgres::connect::Notice;
use crate::engines::postgres::{Done, Session};

/// The limit that left no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::execute::postgres) enum TimeLimit {
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
pub(super) const CLOCKS_DIFFER: Duration = Duration::from_millis(50);

/// The limit that comes first, and when.
pub(in crate::execute::postgres) fn first_limit(
    execution: &Execution,
    step_ends: Instant,
) -> (Instant, TimeLimit) {
    match execution.deadline {
        Some(deadline) if deadline <= step_ends => (deadline, TimeLimit::Run),
        _ => (step_ends, TimeLimit::Step),
    }
}

/// How long a statement that begins now may take.
pub(in crate::execute::postgres) fn time_left(
    execution: &Execution,
    step_ends: Instant,
) -> Outcome<Duration> {
    let (ends, limit) = first_limit(execution, step_ends);
    let left = ends.saturating_duration_since(Instant::now());
    if left < LEAST_LEFT {
        return Err(Halt::OutOfTime(limit));
    }
    Ok(left)
}

/// Sets how long a lock, and a statement, may be waited for.
pub(in crate::execute::postgres) fn limits(
    lock_timeout: Duration,
    statement_timeout: Duration,
) -> String {
    format!(
        "SET lock_timeout = {}; SET statement_timeout = {}",
        millis(lock_timeout),
        millis(statement_timeout)
    )
}

pub(super) async fn set_limits(session: &Session, limits: &str) -> Result<Done, EngineError> {
    session.execute("setting timeouts", limits).await
}

/// Sends the limits and the work that they are for at once, without waiting
/// for the answer in between: the server takes them in this order. The notices
/// of both are in the first answer, whoever they came with.
pub(super) async fn under_limits<T>(
    session: &Session,
    limits: &str,
    work: impl Future<Output = Result<T, EngineError>>,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Result<(Vec<Notice>, T), EngineError> {
    let both = futures_util::future::join(set_limits(session, limits), work);
    let (set, done) = until_stopped(session, both, execution, step_ends, give_way).await;
    // Without the limits it should not have run; what came of it is then of no use.
    let notices = set?.notices;
    Ok((notices, done?))
}

/// Sets the time limits for statements that follow; an outcome where no time is left.
pub(in crate::execute::postgres) async fn limit(
    session: &Session,
    execution: &Execution,
    step_ends: Instant,
) -> Outcome<()> {
    let left = time_left(execution, step_ends)?;
    let lock_timeout = execution.limits.lock_timeout.get();
    let set = set_limits(session, &limits(lock_timeout, left)).await;
    set.map(drop).map_err(Halt::Failed)
}

/// Milliseconds for a setting, rounded up; never 0, which would mean "for ever".
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(i64::from(i32::MAX))
        .clamp(1, i64::from(i32::MAX))
}
