//! Exactly how many rows steps would change, before anything is done.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ask;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::Guard;
use crate::plan::Step;
use crate::values::with_causes;

/// What counting the rows of one step may take where a plan is saved, or compared with a saved one.
const REVIEWING: Duration = Duration::from_secs(15);

/// A snapshot in which nothing changes.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Takes the guards of all steps that are going to be counted; `false`, in a
/// new transaction, where that cannot be.
async fn hold_all(session: &Session, steps: &[Step]) -> Result<bool, EngineError> {
    let counted = steps.iter().filter(|step| step.body.count.is_some());
    let guards: Vec<&Guard> = counted
        .filter_map(|step| step.body.guard.as_ref())
        .collect();
    let Some(all) = Guard::of_all(&guards) else {
        return Ok(true);
    };
    let brief = "SET LOCAL lock_timeout = '2s'";
    session
        .execute("limiting the wait for locks", brief)
        .await?;
    match all.take(session).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_unreachable() => Err(error),
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "rows of some tables are not counted");
            session.execute("leaving the snapshot", "ROLLBACK").await?;
            session.execute("taking a snapshot", BEGIN).await?;
            Ok(false)
        }
    }
}

/// All of them in one snapshot, however long that takes.
pub(super) async fn all(
    session: &Session,
    steps: &[Step],
) -> Result<BTreeMap<u32, i64>, EngineError> {
    let mut counts = BTreeMap::new();
    session.execute("taking a snapshot", BEGIN).await?;
    let held = hold_all(session, steps).await?;
    for step in steps {
        if let Some(rows) = one(session, step, held).await? {
            counts.insert(step.seq, rows);
        }
    }
    session.execute("leaving the snapshot", "ROLLBACK").await?;
    Ok(counts)
}

/// Each by itself, as far as that is soon done.
pub(super) async fn for_review(
    session: &Session,
    steps: &[Step],
) -> Result<BTreeMap<u32, i64>, EngineError> {
    let mut counts = BTreeMap::new();
    for step in steps.iter().filter(|step| step.body.count.is_some()) {
        let counted = within(session, step, REVIEWING).await;
        if counted.as_ref().is_err_and(EngineError::is_unreachable) {
            counted?;
            continue;
        }
        session.execute("leaving the snapshot", "ROLLBACK").await?;
        match counted {
            Ok(Some(rows)) => {
                counts.insert(step.seq, rows);
            }
            Ok(None) => {}
            // Whatever is wrong is told by who carries the step out.
            Err(error) => {
                tracing::debug!(error = %with_causes(&error), step = step.object, "its rows are not counted");
            }
        }
    }
    Ok(counts)
}

async fn within(
    session: &Session,
    step: &Step,
    most: Duration,
) -> Result<Option<i64>, EngineError> {
    session.execute("taking a snapshot", BEGIN).await?;
    let held = hold_all(session, std::slice::from_ref(step)).await?;
    let limit = format!("SET LOCAL statement_timeout = '{}ms'", most.as_millis());
    session.execute("limiting the time", &limit).await?;
    one(session, step, held).await
}

async fn one(session: &Session, step: &Step, held: bool) -> Result<Option<i64>, EngineError> {
    // What could not be kept from getting code of others is not counted.
    let counted = step.body.count.as_ref();
    let Some(query) = counted.filter(|_| held || step.body.guard.is_none()) else {
        return Ok(None);
    };
    let doing = "saying how conditions are read";
    let settings = step.body.under.settings("SET LOCAL");
    session.execute(doing, &settings).await?;
    let rows = ask(session, "counting rows", query).await?;
    rows.first().map(|row| row.get(0)).transpose()
}
