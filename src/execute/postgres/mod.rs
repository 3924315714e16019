//! How steps are carried out on PostgreSQL. The one gate for every statement
//! that changes a target is `gate.rs`.

mod added;
mod aftermath;
mod again;
mod ahead;
mod attempts;
pub(super) mod back;
mod batch;
mod begun;
mod beyond;
mod bounds;
mod came;
mod check;
mod counting;
mod damage;
mod deferred;
mod door;
pub(super) mod export;
mod fate;
mod former;
mod gate;
mod image;
mod kept;
pub(super) mod known;
mod living;
mod load;
mod lot;
mod monitor;
mod naming;
mod outside;
mod param;
mod parts;
mod pieces;
mod probing;
mod raised;
pub(super) mod restore;
mod returning;
mod reach;
mod room;
mod seek;
mod seen;
mod send;
pub(super) mod settle;
mod shrink;
mod size;
mod standing;
mod statements;
mod stayers;
mod stored;
mod strangers;
mod there;
mod vanished;
mod walk;
mod walked;
mod way;
mod weight;
mod whence;
mod whole;

pub(crate) use reach::{Door, dial, replicas};

use super::step::end;
use super::{Event, Execution, Observer};
use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::{Row, Session};
use crate::plan::Query;
use reach::Job;

/// Asks a question of a plan; `doing` completes "while …" in errors.
async fn ask(session: &Session, doing: &str, query: &Query) -> Result<Vec<Row>, EngineError> {
    let params = gate::bound(&query.params);
    session.query(doing, &query.sql, &params).await
}

/// The same, under a guard where there is one.
async fn ask_under(
    session: &Session,
    guard: Option<&Guard>,
    doing: &str,
    query: &Query,
) -> Result<Vec<Row>, EngineError> {
    let Some(guard) = guard else {
        return ask(session, doing, query).await;
    };
    session.execute("opening a transaction", "BEGIN").await?;
    let answer = match guard.take(session).await {
        Ok(()) => ask(session, doing, query).await,
        Err(error) => Err(error),
    };
    let ended = session.execute("ending the transaction", "ROLLBACK").await;
    let answer = answer?;
    ended?;
    Ok(answer)
}

/// Asks a question of the step at work, under its guard if it has one.
async fn guarded(job: Job<'_>, doing: &str, query: &Query) -> Result<Vec<Row>, EngineError> {
    ask_under(job.session, job.step.body.guard.as_ref(), doing, query).await
}
