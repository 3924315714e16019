//! What code that hangs on a table has done behind a statement's back: settings that stay in the
//! session, rows that it puts back where they were deleted, and rows that it takes along.

use super::ask;
use crate::engines::EngineError;
use crate::engines::postgres::{Held, Session, settings};
use crate::plan::{Fate, Param, Query, Walk};

/// How it was in the transaction before rows were touched.
pub(super) struct Before {
    held: Held,
    /// What the session has done to rows of the walk's table; unknown where nothing is counted.
    done: Option<Done>,
}

/// How many rows a session has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    /// New ones.
    inserted: i64,
    /// New ones, changed ones, and those that are gone.
    all: i64,
    /// Gone from the table, or from any other of those that inherit from one another with it.
    gone: i64,
}

/// In the transaction that is open, and what was not handed on before it: only the difference says something.
const DONE: &str = "SELECT CASE WHEN pg_catalog.current_setting('track_counts')::pg_catalog.bool
    THEN pg_catalog.pg_stat_get_xact_tuples_inserted($1::pg_catalog.oid) END,
    pg_catalog.pg_stat_get_xact_tuples_inserted($1::pg_catalog.oid)
    + pg_catalog.pg_stat_get_xact_tuples_updated($1::pg_catalog.oid)
    + pg_catalog.pg_stat_get_xact_tuples_deleted($1::pg_catalog.oid),
    (WITH RECURSIVE above(oid) AS (SELECT $1::pg_catalog.oid
            UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN above ON i.inhrelid = above.oid),
        family(oid) AS (SELECT oid FROM above
            UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family ON i.inhparent = family.oid)
        SELECT pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(oid))::pg_catalog.int8 FROM family)";

impl Before {
    /// Looks, once the transaction is open.
    pub(super) async fn of(session: &Session, walk: &Walk) -> Result<Self, EngineError> {
        let (held, done) = futures_util::future::join(session.hold(), done(session, walk)).await;
        Ok(Before {
            held: held?,
            done: done?,
        })
    }

    /// Whether more was done to rows of the table than that so many have gone. Rows that are
    /// changed instead of going are elsewhere then, where the walk would meet them again.
    pub(super) async fn changed(
        &self,
        session: &Session,
        walk: &Walk,
        gone: i64,
    ) -> Result<bool, EngineError> {
        let now = done(session, walk).await?;
        Ok(match (self.done, now) {
            (Some(was), Some(now)) => now.all - was.all != gone,
            _ => true,
        })
    }

    /// Looks again, once everything that is deferred has had its say; so many rows were to go.
    ///
    /// # Errors
    /// When rows are back that had gone, when others have gone along that are stored nowhere, or when keys were not
    /// watched: nothing of it may stay.
    pub(super) async fn compare(
        &self,
        session: &Session,
        walk: &Walk,
        gone: i64,
    ) -> Result<(), EngineError> {
        // First, because it decides how all that follows is read.
        let changed = session.put_back(&self.held).await?;
        if let Some((name, _, why)) = settings::DEMANDED
            .iter()
            .find(|(name, ..)| changed.contains(name))
        {
            return Err(EngineError::Aftermath {
                message: format!(
                    "code that runs when rows of {} go sets {name} for the session: {why}. `SET LOCAL`, or ALTER FUNCTION … SET {name} = …, keeps it where it belongs",
                    walk.table
                ),
            });
        }
        let now = done(session, walk).await?;
        if walk.fires && (walk.spares || walk.fate != Fate::Delete) {
            self.took_along(now, walk, gone)?;
        }
        let inserted = |done: Option<Done>| done.map(|done| done.inserted);
        if now.is_some() && inserted(now) == inserted(self.done) {
            return Ok(());
        }
        let rows = ask(session, "looking for rows that came back", &walk.put_back()).await?;
        let back: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
        if back == 0 {
            return Ok(());
        }
        Err(EngineError::Aftermath {
            message: format!(
                "a trigger or rule puts rows that meet the rule into {} when rows go: {back} in this batch, which was given back",
                walk.table
            ),
        })
    }
}

impl Before {
    /// # Errors
    /// When other rows have gone than those that were to, or nobody can tell.
    fn took_along(&self, now: Option<Done>, walk: &Walk, gone: i64) -> Result<(), EngineError> {
        let which = match walk.fate {
            Fate::Delete => "which the rule may mean to keep",
            _ => "which are archived nowhere",
        };
        let (Some(was), Some(now)) = (self.done, now) else {
            return Err(EngineError::NotVisible {
                what: format!(
                    "nothing was deleted: the server does not count what is done (`track_counts` is off for this role or database), and so nobody can tell whether triggers or rules of {} take other rows along, {which}: ALTER ROLE … RESET track_counts, or ALTER DATABASE … RESET track_counts",
                    walk.table
                ),
            });
        };
        match now.gone - was.gone - gone {
            also @ 1.. => Err(EngineError::Aftermath {
                message: format!(
                    "a trigger, rule or foreign key deletes other rows of {} when rows go, {which}: {also} beside the {gone} of this batch, which was given back",
                    walk.table
                ),
            }),
            _ => Ok(()),
        }
    }
}

async fn done(session: &Session, walk: &Walk) -> Result<Option<Done>, EngineError> {
    let query = Query::new(DONE, [Param::Oid(walk.oid)]);
    let rows = ask(session, "looking for rows that came in", &query).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let Some(inserted) = row.get(0)? else {
        return Ok(None);
    };
    Ok(Some(Done {
        inserted,
        all: row.get(1)?,
        gone: row.get::<Option<i64>>(2)?.unwrap_or_default(),
    }))
}
