//! Work that is statements: each committed by itself, or all together.

mod after;

use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub(super) use self::after::{left, unless_done};
use super::attempts::{Attempt, ends, is_told_in_part, until_done};
use super::gate::{self, Did, Halt, Outcome, answer};
use super::{Job, ask, guarded};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, LockWaiting, Required, Severity, Statement, Sweep};
use crate::values::with_causes;

/// One statement; nothing comes of it where it is not needed.
pub(super) struct One<'a> {
    statement: &'a Statement,
    /// Whether the server has got it.
    begun: bool,
    /// What is not so that has to be, where that is told by itself.
    found: Option<Finding>,
}

impl<'a> One<'a> {
    pub(super) fn new(statement: &'a Statement) -> Self {
        One {
            statement,
            begun: false,
            found: None,
        }
    }
}

#[async_trait]
impl Attempt for One<'_> {
    type Done = Option<Did>;

    fn is_in_part(&self) -> bool {
        self.begun && self.statement.once
    }

    fn waits_for_writers(&self) -> bool {
        !matches!(self.statement.waiting, LockWaiting::Brief)
    }

    fn waits_everywhere(&self) -> bool {
        matches!(
            self.statement.waiting,
            LockWaiting::Patient {
                everywhere: true,
                ..
            }
        )
    }

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Option<Did>> {
        let statement = self.statement;
        let needed = needed(job, statement).await.map_err(Halt::Failed)?;
        // Asked afterwards: it may not be needed because somebody else has done
        // it in this moment, and that is no reason to go on.
        if let (Some(required), None) = (&statement.required, &statement.lock)
            && !is_so(job, required).await.map_err(Halt::Failed)?
        {
            return Err(self.left_out(job, required).await);
        }
        if !needed {
            return Ok(None);
        }
        let Some(required) = &statement.required else {
            return self.pass(job, step_ends, give_way).await;
        };
        let passed = match &statement.lock {
            Some(lock) => {
                let guard = job.step.body.guard.as_ref();
                let execution = job.execution;
                let under = gate::Under { lock, required };
                gate::pass_under(
                    job.session,
                    under,
                    statement,
                    guard,
                    execution,
                    step_ends,
                    give_way,
                )
                .await
            }
            None => self.pass(job, step_ends, give_way).await,
        };
        match passed {
            Ok(Some(did)) => Ok(Some(did)),
            Ok(None) => Err(self.left_out(job, required).await),
            Err(halt) => {
                let failed = matches!(&halt, Halt::Failed(error) | Halt::Missing(error)
                    if !error.is_unreachable());
                // Somebody may have been quicker.
                match failed && matches!(is_so(job, required).await, Ok(false)) {
                    true => Err(self.left_out(job, required).await),
                    false => Err(halt),
                }
            }
        }
    }
}

impl One<'_> {
    /// What the step ends with where something is not so: the one thing that it is, if that can be told.
    async fn left_out(&mut self, job: Job<'_>, required: &Required) -> Halt {
        if let Some(undo) = &required.undo {
            match take_back(job, undo).await {
                Ok(()) => {}
                Err(error) if error.is_unreachable() => return Halt::Failed(error),
                // Whose it is may have been faster with that, too.
                Err(error) => {
                    tracing::warn!(error = %with_causes(&error), "what was begun could not be taken back")
                }
            }
        }
        for part in &required.parts {
            let doing = "looking what is not as it was";
            let asked = guarded(job, doing, &part.query).await;
            if asked.is_ok_and(|rows| matches!(answer(&rows), Ok(false))) {
                self.found = Some(part.finding.clone());
                return Halt::LeftOut(part.finding.message.clone());
            }
        }
        Halt::otherwise(required)
    }

    async fn pass(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Option<Did>> {
        let statement = self.statement;
        let (session, execution) = (job.session, job.execution);
        if self.waits_for_writers() {
            let everywhere = self.waits_everywhere();
            let waits =
                gate::unless_it_waits(session, job.step.body.relation, everywhere, execution);
            if job.step.body.yields_to_wraparound_vacuum {
                // Sent at once: for a small index it is the questions that take the time.
                let holds_back = gate::unless_it_holds_back(session, execution);
                let (waits, holds_back) = futures_util::future::join(waits, holds_back).await;
                waits.and(holds_back)?;
            } else {
                waits.await?;
            }
        }
        if let Some(guard) = job.step.body.guard.as_ref().filter(|_| statement.counts) {
            let one = std::slice::from_ref(statement);
            let guard = Some(guard);
            let passed = gate::pass_together(session, one, guard, execution, step_ends, give_way);
            return passed.await.map(Some);
        }
        gate::time_left(execution, step_ends)?;
        self.begun = true;
        let passed = gate::pass(session, statement, execution, step_ends, give_way);
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
    each_told(statements, job, record, &mut Vec::new()).await
}

/// The same; what may have been done in part is told.
pub(super) async fn each_told(
    statements: &[Statement],
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<bool, EngineError> {
    let theirs = unpinned(statements, job).await?;
    let done = one_by_one(statements, job, record, findings).await;
    pinned(theirs, job, done).await
}

async fn one_by_one(
    statements: &[Statement],
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<bool, EngineError> {
    let ends = ends(job);
    let (mut all, mut counted) = (Did::default(), Did::default());
    let mut not_run = false;
    for statement in statements {
        let mut one = One::new(statement);
        let done = match until_done(&mut one, ends, job, record).await {
            Err(error) => {
                if matches!(error, EngineError::InPart { .. }) && job.step.body.leaves.is_none() {
                    findings.push(in_part(job, with_causes(&error)));
                }
                return Err(error);
            }
            Ok(done) => done,
        };
        not_run |= statement.own_settings && !one.begun;
        match done {
            // What was counted goes with a statement that is still to come.
            Some(done) if statement.counts => counted.add(done.unwrap_or_default()),
            Some(done) => all.add(done.unwrap_or_default()),
            None => {
                if is_told_in_part(record) && job.step.body.leaves.is_none() {
                    findings.push(in_part(job, record.error.clone().unwrap_or_default()));
                }
                findings.extend(one.found);
                tally(record, all.rows);
                return Ok(false);
            }
        }
    }
    all.add(counted);
    succeeded(record, all);
    if not_run {
        let why = "not run: its `only_if` did not answer `true`";
        record.error = Some(why.to_owned());
    }
    Ok(true)
}

fn in_part(job: Job<'_>, message: String) -> Finding {
    Finding {
        code: "statement.in_part".to_owned(),
        severity: Severity::Warning,
        object: job.step.object.clone(),
        message,
        suggestion: None,
    }
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

/// Statements of the user's own, and those that store what their expressions make, run under the
/// settings of role and database: whether there are any.
async fn unpinned(statements: &[Statement], job: Job<'_>) -> Result<bool, EngineError> {
    if statements.iter().any(|statement| statement.own_settings) {
        job.session.unpin().await?;
        return Ok(true);
    }
    let stores = statements.iter().any(|one| one.stores_what_users_say);
    if stores {
        job.session.unpin_values().await?;
    }
    Ok(stores)
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

async fn take_back(job: Job<'_>, undo: &Sweep) -> Result<(), EngineError> {
    gate::aside(job.session, job.execution).await?;
    let doing = "looking what is to be taken back";
    for row in ask(job.session, doing, &undo.query).await? {
        let sql: String = row.get(1)?;
        job.session.execute("taking it back", &sql).await?;
    }
    Ok(())
}

async fn is_so(job: Job<'_>, required: &Required) -> Result<bool, EngineError> {
    let doing = "looking whether it is as it was";
    answer(&guarded(job, doing, &required.query).await?)
}

async fn needed(job: Job<'_>, statement: &Statement) -> Result<bool, EngineError> {
    let Some(query) = &statement.only_if else {
        return Ok(true);
    };
    let doing = "looking whether it is needed";
    let rows = match statement.own_settings {
        // A question that changes something would be no question.
        true => {
            let begin = "BEGIN TRANSACTION READ ONLY";
            let params = gate::bound(&query.params);
            job.session
                .query_alone(doing, begin, &query.sql, &params)
                .await?
        }
        false => ask(job.session, doing, query).await?,
    };
    answer(&rows).map_err(|error| match statement.own_settings {
        true => EngineError::NotVisible {
            what: "its `only_if` has to answer `true` or `false`, and answers something else"
                .to_owned(),
        },
        false => error,
    })
}
