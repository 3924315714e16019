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
            return Err(pooled(dial));
        }
    }
    // By chance each got the same one twice. A transaction of the second now holds back the
    // backend that the first would get; once that is free again, the first would move to it.
    let doing = "holding a backend";
    if second.execute(doing, "BEGIN").await.is_err() {
        return Err(pooled(dial));
    }
    let mut seen = vec![backend(session).await?, backend(&second).await?];
    second.execute(doing, "COMMIT").await?;
    for _ in 0..2 {
        seen.push(backend(session).await?);
    }
    match seen == [session.pid, second.pid, session.pid, session.pid] {
        true => Ok(()),
        false => Err(pooled(dial)),
    }
}

fn pooled(dial: &Dial) -> EngineError {
    EngineError::Pooler {
        server: dial.describe(),
    }
}

async fn backend(session: &Session) -> Result<i32, EngineError> {
    // By the simple protocol: the other one closes its statement some time later, and that
    // would keep the session where it is.
    let doing = "asking which process serves the session";
    let pid = session.simple_value(doing, WHO).await?;
    Ok(pid.and_then(|pid| pid.parse().ok()).unwrap_or(0))
}
