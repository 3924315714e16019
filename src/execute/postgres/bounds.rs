//! How many rows a rule may take, held to the end of the run: what came in, or
//! became old, after the plan had counted is not in the count.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::gate::{self, Halt};
use super::{Job, guarded};
use crate::engines::EngineError;
use crate::engines::postgres::first;
use crate::plan::{Finding, Most, Range, Severity, Walk, Without};
use crate::values::several_do;

/// Rows that have gone, or are about to, by rule.
#[derive(Debug, Default)]
pub(super) struct Bounds(Mutex<BTreeMap<String, i64>>);

impl Bounds {
    /// Nobody panics while he has it.
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so many rows from what may go; else tells how many have gone.
    fn take(&self, most: &Most, rows: i64) -> Result<(), i64> {
        let mut all = self.all();
        let gone = all.entry(most.rule.clone()).or_default();
        if gone.saturating_add(rows) > most.rows {
            return Err(*gone);
        }
        *gone += rows;
        Ok(())
    }

    /// What was taken, and what of it really went.
    pub(super) fn settle(&self, most: &Most, taken: i64, went: i64) {
        if let Some(gone) = self.all().get_mut(&most.rule) {
            *gone += went - taken;
        }
    }
}

/// Counts a batch before it goes: `None` where the walk has no bound.
///
/// # Errors
/// The inner one is why the walk ends here.
pub(super) async fn allow(
    walk: &Walk,
    range: &Range,
    job: Job<'_>,
) -> Result<Result<Option<i64>, Finding>, EngineError> {
    let Some(most) = &walk.most else {
        return Ok(Ok(None));
    };
    // No more can go than places are named: counted only where that is too many.
    if let Range::Rows(places) = range {
        let rows = i64::try_from(places.len()).unwrap_or(i64::MAX);
        if job.door.gone.take(most, rows).is_ok() {
            return Ok(Ok(Some(rows)));
        }
    }
    let query = walk.select("pg_catalog.count(*)", range, &Without::default());
    let answer = guarded(job, "counting the rows of a batch", &query).await?;
    let rows = first(&answer, 0)?.unwrap_or(0);
    Ok(match job.door.gone.take(most, rows) {
        Ok(()) => Ok(Some(rows)),
        Err(gone) => Err(too_many(&walk.table, gone, rows, most)),
    })
}

/// Counts what leaves as a whole before it does: `None` where the step has no bound.
///
/// # Errors
/// The inner one is why the step does not begin.
pub(super) async fn allow_whole(
    job: Job<'_>,
    step_ends: Instant,
) -> Result<Result<Option<i64>, Finding>, EngineError> {
    let (Some(most), Some(count)) = (&job.step.body.most, &job.step.body.count) else {
        return Ok(Ok(None));
    };
    let (ends, _) = gate::first_limit(job.execution, step_ends);
    // Where no time is left, the step itself says so.
    if let Err(Halt::Failed(error)) = gate::limit(job.session, job.execution, ends).await {
        return Err(error);
    }
    let answer = guarded(job, "counting the rows of a partition", count).await?;
    let rows = first(&answer, 0)?.unwrap_or(0);
    Ok(match job.door.gone.take(most, rows) {
        Ok(()) => Ok(Some(rows)),
        Err(gone) => Err(too_many(&job.step.object, gone, rows, most)),
    })
}

fn too_many(object: &str, gone: i64, rows: i64, most: &Most) -> Finding {
    Finding {
        code: "rows.too_many".to_owned(),
        severity: Severity::Critical,
        object: object.to_owned(),
        message: format!(
            "stopped at {object}: {} gone, {rows} more would go next, and the rule's `max_rows` or `max_share` allows {}; there are more than were counted when the plan was made",
            several_do(gone, "row", ("has", "have")),
            most.rows
        ),
        suggestion: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_of_one_rule_share_a_bound() {
        let bounds = Bounds::default();
        let most = |rule: &str| Most {
            rule: rule.to_owned(),
            rows: 10,
        };
        assert_eq!(bounds.take(&most("a"), 6), Ok(()));
        assert_eq!(bounds.take(&most("b"), 6), Ok(()));
        assert_eq!(bounds.take(&most("a"), 5), Err(6));
        // Two of the six stayed after all.
        bounds.settle(&most("a"), 6, 4);
        assert_eq!(bounds.take(&most("a"), 6), Ok(()));
        assert_eq!(bounds.take(&most("a"), 1), Err(10));
    }
}
