//! Questions that change nothing, with bound values, and what they answer.

use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::super::Execution;
use super::limits::set_limits;
use super::limits::under_limits;
use super::limits::{limits, time_left};
use super::{Outcome, judge, until_stopped};
use crate::engines::EngineError;
use crate::engines::postgres::{Row, Session};
use crate::plan::{Param, Query};

/// What is asked besides the work, such as sizes, gets this long.
const ASIDE: Duration = Duration::from_secs(300);

/// Lifts the limits of the work for what follows it: measuring, clearing away.
pub(in crate::execute::postgres) async fn aside(
    session: &Session,
    execution: &Execution,
) -> Result<(), EngineError> {
    let limits = limits(execution.limits.lock_timeout.get(), ASIDE);
    set_limits(session, &limits).await.map(drop)
}

/// Asks a question beside the work, under limits of its own.
pub(in crate::execute::postgres) async fn ask_aside(
    session: &Session,
    execution: &Execution,
    doing: &str,
    query: &Query,
) -> Result<Vec<Row>, EngineError> {
    let limits = limits(execution.limits.lock_timeout.get(), ASIDE);
    let params = bound(&query.params);
    let asked = session.query(doing, &query.sql, &params);
    let (set, rows) = futures_util::future::join(set_limits(session, &limits), asked).await;
    set?;
    rows
}

/// Lets one question pass in a transaction of its own that `begin` opens; it
/// is rolled back afterwards, whatever the answer.
pub(in crate::execute::postgres) async fn ask_alone(
    session: &Session,
    begin: &str,
    query: &Query,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<Vec<Row>> {
    let left = time_left(execution, step_ends)?;
    tracing::debug!(question = query.sql, "asking");
    let lock_timeout = execution.limits.lock_timeout.get();
    let begin = format!("{begin}; {}", limits(lock_timeout, left));
    let params = bound(&query.params);
    let asked = session.query_alone("checking it", &begin, &query.sql, &params);
    let result = until_stopped(session, asked, execution, step_ends, give_way).await;
    result.map_err(|error| judge(error, execution, step_ends, give_way))
}

/// Lets one question pass, and gives its answer.
pub(in crate::execute::postgres) async fn ask(
    session: &Session,
    query: &Query,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<Vec<Row>> {
    let left = time_left(execution, step_ends)?;
    tracing::debug!(question = query.sql, "asking");
    let params = bound(&query.params);
    let limits = limits(execution.limits.lock_timeout.get(), left);
    let work = session.query("checking it", &query.sql, &params);
    let result = under_limits(session, &limits, work, execution, step_ends, give_way).await;
    result
        .map(|(_, rows)| rows)
        .map_err(|error| judge(error, execution, step_ends, give_way))
}

/// The values in the shape that the driver takes.
pub(in crate::execute::postgres) fn bound(params: &[Param]) -> Vec<&(dyn ToSql + Sync)> {
    params
        .iter()
        .map(|param| -> &(dyn ToSql + Sync) { param })
        .collect()
}

/// Whether the answer is `true`.
pub(in crate::execute::postgres) fn answer(rows: &[Row]) -> Result<bool, EngineError> {
    match rows.first() {
        Some(row) => Ok(row.get::<Option<bool>>(0)? == Some(true)),
        None => Ok(false),
    }
}
