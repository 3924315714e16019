//! A pooler in transaction mode hands every transaction to whichever server
//! session is free: locks and settings of a session are then somebody else's.

use super::Session;
use super::connect::Dial;
use crate::engines::EngineError;

const WHO: &str = "SELECT pg_catalog.pg_backend_pid()";

/// Refuses such a pooler. Two sessions that are open at the same time are
/// served by the same backend there, or one session by several.
///
/// # Errors
/// [`EngineError::Pooler`]; or when the server cannot be asked.
pub async fn refuse(session: &Session, dial: &Dial) -> Result<(), EngineError> {
    let second = Session::open(dial, "maint looks for a pooler").await?;
    for _ in 0..2 {
        let (first_pid, second_pid) = (backend(session).await?, backend(&second).await?);
        if first_pid == second_pid || first_pid != session.pid || second_pid != second.pid {
            return Err(EngineError::Pooler {
                server: dial.describe(),
            });
        }
    }
    Ok(())
}

async fn backend(session: &Session) -> Result<i32, EngineError> {
    let rows = session
        .query("asking which process serves the session", WHO, &[])
        .await?;
    Ok(rows.first().map_or(session.pid, |row| row.get(0)))
}
