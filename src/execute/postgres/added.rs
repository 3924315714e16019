//! Whether a table gets more rows than are put into it: code that hangs on a destination may store each once more.

use super::ask;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::{Param, Query};
use crate::values::several;

/// How many rows the session had put into a table before.
pub(super) struct Added {
    table: String,
    before: Option<i64>,
}

/// How many rows the session has put into a table and all below it, as far as that is counted; only the difference
/// says something. And whether anybody's code runs when rows come in.
const ADDED: &str = "WITH RECURSIVE family (oid) AS (
        SELECT pg_catalog.to_regclass($1::text)::pg_catalog.oid
        UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid)
    SELECT CASE WHEN pg_catalog.current_setting('track_counts')::pg_catalog.bool
            THEN (SELECT pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(f.oid))::pg_catalog.int8 FROM family f) END AS added,
        EXISTS (SELECT FROM family f JOIN pg_catalog.pg_trigger t ON t.tgrelid = f.oid
                WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 4 <> 0)
            OR EXISTS (SELECT FROM family f JOIN pg_catalog.pg_rewrite r ON r.ev_class = f.oid
                WHERE r.ev_type = '3' AND r.ev_enabled <> 'D') AS acts";

impl Added {
    /// Looks, before rows are put into the table of this quoted name.
    pub(super) async fn of(session: &Session, table: &str) -> Result<Added, EngineError> {
        Ok(Added {
            before: added(session, table).await?.0,
            table: table.to_owned(),
        })
    }

    /// Looks again, once everything that is deferred has had its say: why it is not so that so many rows came in,
    /// and no more.
    pub(super) async fn more_than(
        &self,
        session: &Session,
        rows: i64,
    ) -> Result<Option<String>, EngineError> {
        let table = &self.table;
        let (now, acts) = added(session, table).await?;
        let (Some(before), Some(now)) = (self.before, now) else {
            return Ok(acts.then(|| format!(
                "triggers or rules of {table} run when rows come in, and whether they add others nobody can tell, as the server does not count what is done (`track_counts` is off for this role or database): ALTER ROLE … RESET track_counts, or ALTER DATABASE … RESET track_counts"
            )));
        };
        let came = now - before;
        Ok((came > rows).then(|| {
            format!(
                "{table} got {} for {}: a trigger or rule there adds others",
                several(came, "row"),
                several(rows, "row")
            )
        }))
    }
}

async fn added(session: &Session, table: &str) -> Result<(Option<i64>, bool), EngineError> {
    let query = Query::new(ADDED, [Param::Text(table.to_owned())]);
    let rows = ask(session, "looking how many rows came in", &query).await?;
    match rows.first() {
        Some(row) => Ok((row.named("added")?, row.named("acts")?)),
        None => Ok((None, false)),
    }
}
