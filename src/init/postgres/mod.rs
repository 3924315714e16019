//! Drafts for PostgreSQL.

mod bounds;
mod choose;
mod collect;
mod command;
pub mod crontab;
mod facts;
mod growing;
mod hidden;
mod hours;
mod lexer;
pub mod pg_cron;
pub mod pg_partman;
mod statement;

use super::Draft;
use crate::engines::EngineError;
use crate::engines::postgres::Session;

/// Looks at a database, and says what would fit it. `variable` is to hold its URL.
///
/// # Errors
/// When the server cannot be asked.
pub async fn look(session: &Session, variable: &str) -> Result<Draft, EngineError> {
    let facts = choose::Facts {
        overview: facts::overview(session).await?,
        tables: facts::tables(session).await?,
        partitioned: facts::partitioned(session).await?,
        views: facts::views(session).await?,
    };
    Ok(choose::draft(&session.server, variable, &facts))
}
