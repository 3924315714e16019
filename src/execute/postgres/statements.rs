//! Work that is statements: each committed by itself, or all together.

use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::attempts::{Attempt, ends, until_done};
use super::gate::{self, Did, Halt, Outcome};
use super::{Job, ask};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{LockWaiting, Statement};

/// One statement; nothing comes of it where it is not needed.
pub(super) struct One<'a>(pub(super) &'a Statement);

#[async_trait]
impl Attempt for One<'_> {
    type Done = Option<Did>;

    fn waits_for_writers(&self) -> bool {
        matches!(self.0.waiting, LockWaiting::Patient { .. })
    }

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Option<Did>> {
        if !needed(job, self.0).await.map_err(Halt::Failed)? {
            return Ok(None);
        }
        let (session, execution) = (job.session, job.execution);
        if matches!(self.0.waiting, LockWaiting::Patient { .. }) {
            gate::unless_it_waits(session, job.step.body.relation, execution).await?;
        }
        if let Some(guard) = job.step.body.guard.as_ref().filter(|_| self.0.counts) {
            let one = std::slice::from_ref(self.0);
            let guard = Some(guard);
            let passed = gate::pass_together(session, one, guard, execution, step_ends, give_way);
            return passed.await.map(Some);
        }
        let passed = gate::pass(session, self.0, execution, step_ends, give_way);
        passed.await.map(Some)
    }
}

/// Statements in one transaction.
pub(super) struct Together<'a>(pub(super) &'a [Statement]);

#[async_trait]
impl Attempt for Together<'_> {
    type Done = Did;

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Did> {
        let guard = job.step.body.guard.as_ref();
        let (session, execution) = (job.session, job.execution);
        gate::pass_together(session, self.0, guard, execution, step_ends, give_way).await
    }
}

/// Carries statements out one after another, each committed by itself.
/// Whether all were is the answer; otherwise the record says why not.
pub(super) async fn each(
    statements: &[Statement],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<bool, EngineError> {
    let theirs = unpinned(statements, job).await?;
    let done = one_by_one(statements, job, record).await;
    pinned(theirs, job, done).await
}

async fn one_by_one(
    statements: &[Statement],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<bool, EngineError> {
    let ends = ends(job);
    let mut all = Did::default();
    for statement in statements {
        match until_done(&mut One(statement), ends, job, record).await? {
            Some(done) => all.add(done.unwrap_or_default()),
            None => {
                tally(record, all.rows);
                return Ok(false);
            }
        }
    }
    succeeded(record, all);
    Ok(true)
}

/// Carries statements out in one transaction.
pub(super) async fn together(
    statements: &[Statement],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let theirs = unpinned(statements, job).await?;
    let done = until_done(&mut Together(statements), ends(job), job, record).await;
    if let Some(did) = pinned(theirs, job, done).await? {
        succeeded(record, did);
    }
    Ok(())
}

/// Statements of the user's own run under the settings of their role and
/// database: whether there are any.
async fn unpinned(statements: &[Statement], job: Job<'_>) -> Result<bool, EngineError> {
    let theirs = statements.iter().any(|statement| statement.own_settings);
    if theirs {
        job.session.unpin().await?;
    }
    Ok(theirs)
}

/// Whatever comes after them in the session runs under ours.
async fn pinned<T>(
    theirs: bool,
    job: Job<'_>,
    done: Result<T, EngineError>,
) -> Result<T, EngineError> {
    if !theirs || done.as_ref().is_err_and(EngineError::is_unreachable) {
        return done;
    }
    let pinned = job.session.pin().await;
    let done = done?;
    pinned.map(|()| done)
}

fn succeeded(record: &mut StepRecord, did: Did) {
    record.status = StepStatus::Succeeded;
    tally(record, did.rows);
    if !did.warnings.is_empty() {
        record.error = Some(format!("warning: {}", did.warnings.join("; ")));
    }
}

fn tally(record: &mut StepRecord, rows: u64) {
    if rows > 0 {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        record.rows = Some(record.rows.unwrap_or(0).saturating_add(rows));
    }
}

async fn needed(job: Job<'_>, statement: &Statement) -> Result<bool, EngineError> {
    let Some(query) = &statement.only_if else {
        return Ok(true);
    };
    let doing = "looking whether it is needed";
    let rows = ask(job.session, doing, query).await?;
    match rows.first() {
        Some(row) => Ok(row.get::<Option<bool>>(0)? == Some(true)),
        None => Ok(false),
    }
}
