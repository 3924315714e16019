//! Rows that are told to go and stay, without an error: which they are, and whether what hangs on
//! the table changes them instead. All that is tried here is given back.

use std::collections::BTreeSet;

use super::aftermath::Before;
use super::{Job, ask, gate};
use crate::engines::EngineError;
use crate::plan::{Range, Walk, Without};

/// More rows than this are not changed in vain where fewer have gone: each leaves a dead one behind.
const MOST_CHANGED: i64 = 1_000;

/// What stays of a range.
#[derive(Debug, Default)]
pub(super) struct Stayers {
    /// Their places.
    pub(super) places: Vec<String>,
    /// Whether that is all rows of the range.
    pub(super) all: bool,
    /// Whether rows of the table were changed instead of going.
    pub(super) changed: bool,
}

/// Whether a walk has to end, which only changes rows.
pub(super) fn in_vain(changed: i64, gone: i64) -> bool {
    changed > MOST_CHANGED && changed > gone
}

/// Looks for them, in a transaction that is given back.
pub(super) async fn look(
    walk: &Walk,
    range: &Range,
    without: &Without,
    job: Job<'_>,
) -> Result<Stayers, EngineError> {
    let session = job.session;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    session.execute("opening a transaction", begin).await?;
    let compared = compare(walk, range, without, job).await;
    session.execute("rolling back", "ROLLBACK").await?;
    compared
}

async fn compare(
    walk: &Walk,
    range: &Range,
    without: &Without,
    job: Job<'_>,
) -> Result<Stayers, EngineError> {
    let (session, doing) = (job.session, "looking which rows stay");
    if let Some(guard) = &job.step.body.guard {
        guard.take(session).await?;
    }
    let mut places = BTreeSet::new();
    for row in ask(session, doing, &walk.select("ctid::text", range, without)).await? {
        places.insert(row.get::<String>(0)?);
    }
    if places.is_empty() {
        return Ok(Stayers::default());
    }
    let before = Before::of(session, walk).await?;
    let (all, mut gone) = (places.len(), 0);
    session.execute(doing, "SAVEPOINT which").await?;
    match ask(session, doing, &walk.going(range, without)).await {
        Ok(going) => {
            for row in &going {
                gone += i64::from(places.remove(&row.get::<String>(0)?));
            }
        }
        // A rule that does something instead answers with no rows.
        Err(error) if error.sqlstate() == Some("0A000") => {
            session
                .execute(doing, "ROLLBACK TO SAVEPOINT which")
                .await?;
            gone = instead(walk, range, without, &mut places, job).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(Stayers {
        all: places.len() == all,
        changed: before.changed(session, walk, gone).await?,
        places: places.into_iter().collect(),
    })
}

/// Leaves of places only those that stay, as far as the number of rows that go tells; answers
/// with that number.
async fn instead(
    walk: &Walk,
    range: &Range,
    without: &Without,
    places: &mut BTreeSet<String>,
    job: Job<'_>,
) -> Result<i64, EngineError> {
    let (session, doing) = (job.session, "looking which rows stay");
    let delete = walk.delete(range, without);
    let params = gate::bound(&delete.params);
    let rows = session.execute_with(doing, &delete.sql, &params).await?;
    if rows.rows == 0 {
        return Ok(0);
    }
    session
        .execute(doing, "ROLLBACK TO SAVEPOINT which")
        .await?;
    let mut gone = 0;
    for place in places.clone() {
        if job.execution.stop.is_stopping() {
            break;
        }
        let only = walk.only(&place);
        let params = gate::bound(&only.params);
        let rows = session.execute_with(doing, &only.sql, &params).await?;
        if rows.rows > 0 {
            places.remove(&place);
            gone += 1;
        }
    }
    Ok(gone)
}
