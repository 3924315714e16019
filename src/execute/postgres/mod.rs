//! How steps are carried out on PostgreSQL. The one gate for every statement
//! that changes a target is `gate.rs`.

mod attempts;
mod batch;
mod check;
mod door;
pub(super) mod export;
mod gate;
mod load;
mod monitor;
mod param;
pub(super) mod restore;
mod send;
mod kept;
mod stored;
mod statements;
mod walk;
mod weight;
mod whole;

pub(crate) use door::{Door, dial};

use super::step::end;
use super::{Event, Execution, Observer};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::Query;
use door::Job;

/// Asks a question of a plan; `doing` completes "while …" in errors.
async fn ask(
    session: &Session,
    doing: &str,
    query: &Query,
) -> Result<Vec<tokio_postgres::Row>, EngineError> {
    let params = gate::bound(&query.params);
    session.query(doing, &query.sql, &params).await
}
