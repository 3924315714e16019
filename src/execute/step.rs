//! One step: is it still needed, measure, try, try again, clear away, measure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures_util::future::LocalBoxFuture;
use tokio_postgres::types::ToSql;

use super::gate::{self, Outcome};
use super::monitor::Handle;
use super::{Event, Execution};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::watch::Blocker;
use crate::history::{LockWait, StepRecord, StepStatus};
use crate::plan::{Baseline, Param, Query, Statement, Step};

/// Bytes, and entries where they are counted.
type Size = (i64, Option<f64>);

/// First pause after a lock could not be had; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Carries one step out, on `session` or a new one, and records it. Gives
/// the session back unless it broke.
pub(super) fn carry_out(
    step: Step,
    session: Option<Session>,
    execution: Arc<Execution>,
    monitor: Handle,
) -> LocalBoxFuture<'static, (StepRecord, String, Option<Session>)> {
    Box::pin(async move {
        let lane = step.lane.clone();
        let (record, session) = recorded(step, session, &execution, &monitor).await;
        (record, lane, session)
    })
}

async fn recorded(
    step: Step,
    session: Option<Session>,
    execution: &Execution,
    monitor: &Handle,
) -> (StepRecord, Option<Session>) {
    let mut record = StepRecord {
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
    };
    let mut session = session;
    if execution.stop.is_stopping() {
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
        if let Err(error) = run(&step, &mut session, &mut record, execution, monitor).await {
            if error.is_unreachable() {
                session = None;
            }
            end(&mut record, StepStatus::Failed, with_causes(&error));
        }
        record.duration_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    }
    note(execution.store.close_step(execution.run, &record).await);
    execution.observer.on(Event::Finished(&record));
    (record, session)
}

fn run<'a>(
    step: &'a Step,
    session: &'a mut Option<Session>,
    record: &'a mut StepRecord,
    execution: &'a Execution,
    monitor: &'a Handle,
) -> LocalBoxFuture<'a, Result<(), EngineError>> {
    Box::pin(async move {
        let session = match session {
            Some(session) => session,
            None => {
                session.insert(Session::open(&execution.dial, &execution.application_name).await?)
            }
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
        attempts(step, session, record, execution, monitor).await?;
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

fn attempts<'a>(
    step: &'a Step,
    session: &'a Session,
    record: &'a mut StepRecord,
    execution: &'a Execution,
    monitor: &'a Handle,
) -> LocalBoxFuture<'a, Result<(), EngineError>> {
    Box::pin(async move {
        let ends = Instant::now() + execution.limits.step_timeout.get();
        let mut pause = FIRST_PAUSE;
        let mut todo = step.statements.iter().peekable();
        while let Some(statement) = todo.peek() {
            if !needed(session, statement).await? {
                todo.next();
                continue;
            }
            record.attempts += 1;
            let give_way = &monitor.enter(session.pid, step.seq, step.yields_to_wraparound_vacuum);
            let outcome = gate::pass(session, statement, execution, ends, give_way).await;
            let mut seen = monitor.leave(session.pid);
            if let (Outcome::Locked { .. }, Some(relation), true) =
                (&outcome, step.relation, seen.is_empty())
            {
                seen = monitor.holders(relation, session.pid).await;
            }
            let attempt = record.attempts;
            record
                .lock_waits
                .extend(seen.iter().map(|seen| lock_wait(attempt, seen)));
            match outcome {
                Outcome::Done(warnings) => {
                    if !warnings.is_empty() {
                        let text = warnings.join("; ");
                        if warnings.iter().any(|w| w.contains("skipping")) {
                            end(record, StepStatus::Skipped, text);
                            return Ok(());
                        }
                        record.error = Some(format!("warning: {text}"));
                    }
                    todo.next();
                    pause = FIRST_PAUSE;
                    continue;
                }
                Outcome::Locked {
                    asked_to_skip,
                    message,
                } => {
                    sweep(step, session, record, execution).await?;
                    if record.attempts > execution.limits.lock_retries {
                        let status = if asked_to_skip {
                            StepStatus::Skipped
                        } else {
                            StepStatus::Failed
                        };
                        let who = seen.first().map_or_else(
                            || message.clone(),
                            |(b, _)| format!("{message}; in the way: {}", describe(b)),
                        );
                        end(
                            record,
                            status,
                            format!("given up after {} attempts: {who}", record.attempts),
                        );
                        return Ok(());
                    }
                    let text = format!("locked; next attempt in {} s", pause.as_secs());
                    execution.observer.on(Event::Waiting(record, &text));
                    note(execution.store.open_step(execution.run, record).await);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = execution.stop.stopping() => {
                            end(record, StepStatus::Cancelled, "the run was stopped while it waited for a lock");
                            return Ok(());
                        }
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Outcome::Vanished(why) => {
                    end(record, StepStatus::Skipped, format!("vanished: {why}"))
                }
                Outcome::Stopped => end(record, StepStatus::Cancelled, "the run was stopped"),
                Outcome::OutOfTime if execution.deadline.is_some_and(|d| Instant::now() >= d) => {
                    end(record, StepStatus::Deferred, "the run's time was up");
                }
                Outcome::OutOfTime => {
                    let limit = execution.limits.step_timeout;
                    end(
                        record,
                        StepStatus::Failed,
                        format!("took longer than step_timeout ({limit})"),
                    );
                }
                Outcome::GaveWay => end(
                    record,
                    StepStatus::Skipped,
                    "gave way to a vacuum that prevents transaction id wraparound",
                ),
                Outcome::Failed(error) => {
                    if !error.is_unreachable() {
                        sweep(step, session, record, execution).await?;
                    }
                    return Err(error);
                }
            }
            return sweep(step, session, record, execution).await;
        }
        record.status = StepStatus::Succeeded;
        Ok(())
    })
}

/// Removes what the aborted attempt left. It goes on although the run is
/// being stopped: that is what a clean stop means.
fn sweep<'a>(
    step: &'a Step,
    session: &'a Session,
    record: &'a mut StepRecord,
    execution: &'a Execution,
) -> LocalBoxFuture<'a, Result<(), EngineError>> {
    Box::pin(async move {
        let Some(sweep) = &step.on_abort else {
            return Ok(());
        };
        let settings = format!(
            "SET lock_timeout = {}; SET statement_timeout = '5min'",
            execution.limits.lock_timeout.get().as_millis().max(1)
        );
        session.execute("setting timeouts", &settings).await?;
        for row in ask(session, "looking for what it left", &sweep.query).await? {
            let (object, sql): (String, String) = (row.get(0), row.get(1));
            tracing::info!(
                object,
                statement = sql,
                "removing what an aborted attempt left"
            );
            if let Err(error) = session.execute("removing what it left", &sql).await {
                // The next run finds it again, by name and definition.
                tracing::warn!(object, %error, "could not remove it");
                let text = format!("{object} was left behind: {error}; the next run removes it");
                record.error = Some(text);
            }
        }
        Ok(())
    })
}

fn needed<'a>(
    session: &'a Session,
    statement: &'a Statement,
) -> LocalBoxFuture<'a, Result<bool, EngineError>> {
    Box::pin(async move {
        let Some(query) = &statement.only_if else {
            return Ok(true);
        };
        let rows = ask(session, "looking whether it is needed", query).await?;
        Ok(rows
            .first()
            .is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true)))
    })
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

fn ask<'a>(
    session: &'a Session,
    doing: &'a str,
    query: &'a Query,
) -> LocalBoxFuture<'a, Result<Vec<tokio_postgres::Row>, EngineError>> {
    Box::pin(async move {
        let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(query.params.len());
        for param in &query.params {
            match param {
                Param::Oid(oid) => params.push(oid),
                Param::Text(text) => params.push(text),
            }
        }
        session.query(doing, &query.sql, &params).await
    })
}

fn lock_wait(attempt: u32, (blocker, waited): &(Blocker, Duration)) -> LockWait {
    LockWait {
        attempt,
        blocker_pid: blocker.pid,
        blocker_user: blocker.user.clone(),
        blocker_application: blocker.application.clone(),
        blocker_state: blocker.state.clone(),
        blocker_query_age_ms: blocker.query_age_ms,
        blocker_transaction_age_ms: blocker.transaction_age_ms,
        waited_ms: i64::try_from(waited.as_millis()).unwrap_or(i64::MAX),
    }
}

fn describe(blocker: &Blocker) -> String {
    format!(
        "pid {} ({}, {}, {}, query {} s old)",
        blocker.pid,
        blocker.user,
        blocker.application,
        blocker.state,
        blocker.query_age_ms / 1000
    )
}

fn end(record: &mut StepRecord, status: StepStatus, why: impl Into<String>) {
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
fn note<E: std::fmt::Display>(written: Result<(), E>) {
    if let Err(error) = written {
        tracing::error!(%error, "the history could not be written");
    }
}
