//! Drafts for PostgreSQL.

mod bounds;
mod choose;
mod collect;
mod command;
pub mod crontab;
mod delete;
mod facts;
mod growing;
mod hidden;
mod hours;
mod lexer;
pub mod pg_cron;
pub mod pg_partman;
mod statement;
mod work;

use super::Draft;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::{self, Use};

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

/// Begins a transaction in which these tables may be read, quoted and qualified as they are; or
/// says why they are not. Whoever owns the table of an extension may hang code on it as on any other.
async fn may_read(session: &Session, tables: &[String]) -> Result<Option<String>, EngineError> {
    let begin = "BEGIN READ ONLY; SET LOCAL lock_timeout = '2s'";
    session.execute("opening a transaction", begin).await?;
    for table in tables {
        match trust::admit(session, table, &[Use::Read], &[]).await {
            Ok(()) => {}
            Err(EngineError::UntrustedCode { what }) => {
                return Ok(Some(format!(
                    "{table} is not read: with the rights of {} that would run code of others: {what}. Connect as their owner",
                    session.server.role
                )));
            }
            Err(EngineError::NotVisible { what }) => {
                return Ok(Some(format!("{table} is not read: {what}")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
