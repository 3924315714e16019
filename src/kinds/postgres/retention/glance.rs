//! The transaction in which the rows of a rule are looked at while it is planned.

use std::collections::HashSet;

use tokio_postgres::types::ToSql;

use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::{Session, each};

/// Opens the transaction of a look; `false` where nothing may be asked now.
pub(super) async fn begin(
    db: &Session,
    guard: Option<&Guard>,
    settings: &str,
) -> Result<bool, EngineError> {
    // Nobody may have to wait for us, nor we for them; what cannot be told stays unknown.
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '20s';
        SET LOCAL max_parallel_workers_per_gather = 0; {settings}"
    );
    db.execute("beginning to look", &begin).await?;
    let Some(guard) = guard else {
        return Ok(true);
    };
    match guard.take(db).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_unreachable() => Err(error),
        Err(_) => {
            db.execute("ending the look", "ROLLBACK").await?;
            Ok(false)
        }
    }
}

/// Which tables have what is looked for, by arms that each answer with the id of a table that has; ends what
/// [`begin`] has begun.
pub(super) async fn which(
    db: &Session,
    doing: &str,
    arms: &[String],
    params: &[&(dyn ToSql + Sync)],
) -> Result<HashSet<u32>, EngineError> {
    let answer = db.query(doing, &arms.join(" UNION ALL "), params).await;
    db.execute("ending the look", "ROLLBACK").await?;
    let found = each(&answer?, |row| row.get(0))?;
    Ok(found.into_iter().collect())
}
