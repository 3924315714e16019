//! What code has put off until the end of a transaction has its say before anything is compared, however often it
//! puts more off: nothing is left that would happen at COMMIT, when nobody looks any more.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::gate::{self, Outcome};
use super::{Execution, ask};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::Query;

const SETTLE: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// So often code may put more off while it does what it has put off.
const MOST_ROUNDS: usize = 10;

/// How many rows the session has written, and whether that is counted: where there are triggers of somebody's that
/// can be deferred. What the server itself defers are questions, and they end the transaction or change nothing.
const WRITTEN: &str = "SELECT s.counted, CASE WHEN s.counted THEN (
        SELECT pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) + pg_catalog.pg_stat_get_xact_tuples_updated(c.oid)
            + pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid))::pg_catalog.int8
        FROM pg_catalog.pg_class c WHERE c.relkind = 'r') END AS written
    FROM (SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgdeferrable AND NOT t.tgisinternal AND t.tgenabled <> 'D')
        THEN pg_catalog.current_setting('track_counts')::pg_catalog.bool END AS counted) AS s";

/// Has all that is deferred happen now, in the transaction that is open.
///
/// # Errors
/// When it fails, goes on and on, or nobody can tell whether anything is left.
pub(super) async fn settle(session: &Session) -> Result<(), EngineError> {
    let doing = "settling what is deferred";
    session.execute(doing, SETTLE).await?;
    let Some(mut before) = written(session).await? else {
        return Ok(());
    };
    // A round does all that was put off when it began, whatever is put off meanwhile. Only who writes
    // rows puts anything off: after a round in which nobody did, nothing is left.
    for _ in 0..MOST_ROUNDS {
        session.execute(doing, SETTLE).await?;
        let now = written(session).await?;
        if now.is_none_or(|now| now == before) {
            return Ok(());
        }
        before = now.unwrap_or(before);
    }
    Err(EngineError::Aftermath {
        message: format!(
            "deferred triggers put off more than they do (SET CONSTRAINTS … DEFERRED): after {MOST_ROUNDS} rounds they still write rows, and what they would do at COMMIT nobody could prove"
        ),
    })
}

/// The same within the limits of the work.
pub(super) async fn settle_within(
    session: &Session,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<()> {
    gate::limit(session, execution, step_ends).await?;
    let settling = settle(session);
    let settled = gate::until_stopped(session, settling, execution, step_ends, give_way).await;
    settled.map_err(|error| gate::judge(error, execution, step_ends, give_way))
}

async fn written(session: &Session) -> Result<Option<i64>, EngineError> {
    let doing = "looking whether deferred triggers write";
    let rows = ask(session, doing, &Query::new(WRITTEN, [])).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    match row.named::<Option<bool>>("counted")? {
        None => Ok(None),
        Some(true) => Ok(Some(row.named::<Option<i64>>("written")?.unwrap_or_default())),
        Some(false) => Err(EngineError::NotVisible {
            what: "nothing was deleted: the server does not count what is done (`track_counts` is off for this role or database), and so nobody can tell whether deferred triggers have done all they will: ALTER ROLE … RESET track_counts, or ALTER DATABASE … RESET track_counts".to_owned(),
        }),
    }
}
