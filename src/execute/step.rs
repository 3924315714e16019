//! One step: is it still needed, measure, try, try again, clear away, measure.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use futures_util::future::LocalBoxFuture;

use super::postgres::monitor::Handle;
use super::postgres::{export, gate, statements, walk, whole};
use super::{Event, Execution};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Baseline, Finding, Place, Query, Step, Work};

/// Bytes, and entries where they are counted.
type Size = (i64, Option<f64>);

/// What carrying a step out needs besides its record.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) step: &'a Step,
    pub(super) session: &'a Session,
    pub(super) execution: &'a Execution,
    pub(super) monitor: &'a Handle,
}

/// A step that has ended.
pub(super) struct Ended {
    pub(super) step: Step,
    pub(super) record: StepRecord,
    /// What it noticed.
    pub(super) findings: Vec<Finding>,
    /// Its session, unless that broke.
    pub(super) session: Option<Session>,
    /// Whether it was its turn at all.
    pub(super) begun: bool,
}

/// Carries one step out, on `session` or a new one, and records it.
pub(super) fn carry_out(
    step: Step,
    session: Option<Session>,
    execution: Arc<Execution>,
    monitor: Handle,
) -> LocalBoxFuture<'static, Ended> {
    Box::pin(async move {
        let mut session = session;
        let mut findings = Vec::new();
        let record = recorded(&step, &mut session, &mut findings, &execution, &monitor).await;
        Ended {
            step,
            record,
            findings,
            session,
            begun: true,
        }
    })
}

/// Records a step that cannot begin any more.
pub(super) fn not_begun(
    step: Step,
    why: String,
    execution: Arc<Execution>,
) -> LocalBoxFuture<'static, Ended> {
    Box::pin(async move {
        let mut record = blank(&step);
        end(&mut record, StepStatus::Skipped, why);
        note(execution.store.close_step(execution.run, &record).await);
        execution.observer.on(Event::Finished(&record));
        Ended {
            step,
            record,
            findings: Vec::new(),
            session: None,
            begun: false,
        }
    })
}

pub(super) fn blank(step: &Step) -> StepRecord {
    StepRecord {
        seq: step.seq,
        object: step.object.clone(),
        action: step.action.clone(),
        status: StepStatus::Running,
        reason: step.reason.clone(),
        statement: step.statement_text(),
        rows: None,
        bytes_before: None,
        bytes_after: None,
        started_at: None,
        duration_ms: 0,
        attempts: 0,
        error: None,
        lock_waits: Vec::new(),
        throttled: Vec::new(),
    }
}

async fn recorded(
    step: &Step,
    session: &mut Option<Session>,
    findings: &mut Vec<Finding>,
    execution: &Execution,
    monitor: &Handle,
) -> StepRecord {
    let mut record = blank(step);
    let held = execution.throttle.hold(execution, &mut record).await;
    if let Err(error) = held {
        end(&mut record, StepStatus::Failed, with_causes(&error));
    } else if execution.stop.is_stopping() {
        end(
            &mut record,
            StepStatus::Deferred,
            "the run was stopped before its turn",
        );
    } else if execution
        .deadline
        .is_some_and(|deadline| Instant::now() >= deadline)
    {
        end(&mut record, StepStatus::Deferred, "no time was left");
    } else {
        record.started_at = Some(Utc::now());
        note(execution.store.open_step(execution.run, &record).await);
        execution
            .observer
            .on(Event::Started(&record, step.estimate.bytes));
        let began = Instant::now();
        if let Err(error) = run(step, session, &mut record, findings, execution, monitor).await {
            if error.is_unreachable() {
                *session = None;
            }
            end(&mut record, StepStatus::Failed, with_causes(&error));
        }
        record.duration_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    }
    note(execution.store.close_step(execution.run, &record).await);
    execution.observer.on(Event::Finished(&record));
    if !findings.is_empty() {
        note(execution.store.add_findings(execution.run, findings).await);
    }
    record
}

fn run<'a>(
    step: &'a Step,
    session: &'a mut Option<Session>,
    record: &'a mut StepRecord,
    findings: &'a mut Vec<Finding>,
    execution: &'a Execution,
    monitor: &'a Handle,
) -> LocalBoxFuture<'a, Result<(), EngineError>> {
    Box::pin(async move {
        let session = match session {
            Some(session) => session,
            None => session.insert(open(step.place, execution).await?),
        };
        if let Some(condition) = &step.only_if {
            let answer = ask(
                session,
                "looking whether it is still needed",
                &condition.query,
            )
            .await?;
            let still = answer.first().and_then(|row| row.get::<_, Option<bool>>(0));
            if still != Some(true) {
                end(record, StepStatus::Skipped, condition.otherwise.clone());
                return Ok(());
            }
        }
        record.bytes_before = measure(session, step).await?.map(|(bytes, _)| bytes);
        let job = Job {
            step,
            session,
            execution,
            monitor,
        };
        match &step.work {
            Work::Each(statements) => statements::each(statements, job, record).await?,
            Work::Together(statements) => statements::together(statements, job, record).await?,
            Work::Check(check) => statements::check(check, job, record, findings).await?,
            Work::Walk(way) => walk::carry_out(way, job, record).await?,
            Work::Retire(retire) => whole::carry_out(retire, job, record).await?,
            Work::Settle(pending) => export::carry_out(pending, job, record).await?,
        }
        if let (StepStatus::Succeeded, true, Some(memory)) =
            (record.status, findings.is_empty(), &step.remember)
        {
            let (target, kind) = (&execution.target, &execution.kind);
            let memory = std::slice::from_ref(memory);
            note(
                execution
                    .store
                    .remember(target, kind, Utc::now(), memory)
                    .await,
            );
        }
        if step.measure.is_some() {
            gate::aside(session, execution).await?;
        }
        if let Some((bytes, tuples)) = measure(session, step).await? {
            record.bytes_after = Some(bytes);
            let learned = tuples.filter(|_| step.learn && record.status == StepStatus::Succeeded);
            if let Some(tuples) = learned {
                let baseline = Baseline {
                    object: step.object.clone(),
                    bytes,
                    tuples,
                    learned_at: Utc::now(),
                    rebuilt: true,
                };
                note(execution.store.learn(&execution.target, &baseline).await);
            }
        }
        Ok(())
    })
}

async fn open(place: Place, execution: &Execution) -> Result<Session, EngineError> {
    let dial = match place {
        Place::Primary => &execution.dial,
        // A plan names only replicas that were reached while it was made.
        Place::Replica(n) => execution.replicas.get(n).unwrap_or(&execution.dial),
    };
    Session::open(dial, &execution.application_name).await
}

fn measure<'a>(
    session: &'a Session,
    step: &'a Step,
) -> LocalBoxFuture<'a, Result<Option<Size>, EngineError>> {
    Box::pin(async move {
        let Some(query) = &step.measure else {
            return Ok(None);
        };
        let rows = ask(session, "measuring it", query).await?;
        Ok(rows
            .first()
            .and_then(|row| Some((row.get::<_, Option<i64>>(0)?, row.get(1)))))
    })
}

/// Asks a question of a plan; `doing` completes "while …" in errors.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub fn ask<'a>(
    session: &'a Session,
    doing: &'a str,
    query: &'a Query,
) -> LocalBoxFuture<'a, Result<Vec<tokio_postgres::Row>, EngineError>> {
    Box::pin(async move {
        let params = gate::bound(&query.params);
        session.query(doing, &query.sql, &params).await
    })
}

pub(super) fn end(record: &mut StepRecord, status: StepStatus, why: impl Into<String>) {
    record.status = status;
    let why = why.into();
    record.error = Some(match record.error.take() {
        Some(before) => format!("{why}; {before}"),
        None => why,
    });
}

/// The error with what caused it.
fn with_causes(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// History never stops the work: what could not be written is logged.
pub(super) fn note<E: std::fmt::Display>(written: Result<(), E>) {
    if let Err(error) = written {
        tracing::error!(%error, "the history could not be written");
    }
}
