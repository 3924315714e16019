//! Work that is statements or questions: try, wait for the lock, try again, clear away.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::export::Exporter;
use super::gate::{self, Outcome, TimeLimit};
use super::send::Sender;
use super::whole::{Part, Retirer};
use super::{Event, check};
use super::{Job, ask, end};
use crate::engines::EngineError;
use crate::engines::postgres::watch::Blocker;
use crate::history::{LockWait, StepRecord, StepStatus};
use crate::plan::{Check, Finding, Place, Range, Statement};

/// First pause after a lock could not be had; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is tried, and tried again, as one.
#[derive(Clone, Copy)]
enum Unit<'a> {
    One(&'a Statement),
    Together(&'a [Statement]),
    Check(&'a Check),
    Export(&'a Exporter<'a>, &'a Range),
    Send(&'a Sender<'a>, &'a Range),
    Part(&'a Retirer<'a>, Part<'a>),
}

/// Carries statements out one after another, each committed by itself.
pub(super) async fn each(
    statements: &[Statement],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let units: Vec<Unit<'_>> = statements.iter().map(Unit::One).collect();
    let theirs = statements.iter().any(|statement| statement.own_settings);
    under(theirs, &units, job, record).await
}

/// Carries statements out in one transaction.
pub(super) async fn together(
    statements: &[Statement],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let theirs = statements.iter().any(|statement| statement.own_settings);
    under(theirs, &[Unit::Together(statements)], job, record).await
}

/// Statements of the user's own run under the settings of their role and
/// database; whatever comes after them in the session, under ours.
async fn under(
    theirs: bool,
    units: &[Unit<'_>],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    if !theirs {
        return attempts(units, job, record, &mut Vec::new()).await;
    }
    job.session.unpin().await?;
    let done = attempts(units, job, record, &mut Vec::new()).await;
    if done.as_ref().is_err_and(EngineError::is_unreachable) {
        return done;
    }
    let pinned = job.session.pin().await;
    done?;
    pinned
}

/// Asks the questions of a check, and carries out its statements if they find nothing.
pub(super) async fn check(
    check: &Check,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    attempts(&[Unit::Check(check)], job, record, findings).await?;
    if record.status == StepStatus::Succeeded && findings.is_empty() && !check.when_clean.is_empty()
    {
        match &job.step.body.guard {
            Some(_) => together(&check.when_clean, job, record).await?,
            None => each(&check.when_clean, job, record).await?,
        }
    }
    Ok(())
}

/// Sends one batch into another database.
pub(super) async fn send(
    sender: &Sender<'_>,
    range: &Range,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let units = [Unit::Send(sender, range)];
    attempts(&units, job, record, &mut Vec::new()).await
}

/// Archives one batch.
pub(super) async fn export(
    exporter: &Exporter<'_>,
    range: &Range,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let units = [Unit::Export(exporter, range)];
    attempts(&units, job, record, &mut Vec::new()).await
}

/// Stores one part of a whole partition, or drops it.
pub(super) async fn part(
    retirer: &Retirer<'_>,
    part: Part<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    attempts(&[Unit::Part(retirer, part)], job, record, &mut Vec::new()).await
}

fn attempts<'a>(
    units: &'a [Unit<'a>],
    job: Job<'a>,
    record: &'a mut StepRecord,
    findings: &'a mut Vec<Finding>,
) -> BoxFuture<'a, Result<(), EngineError>> {
    Box::pin(async move {
        let Job {
            step,
            session,
            execution,
            watch: monitor,
            ..
        } = job;
        let ends = Instant::now() + execution.limits.step_timeout.get();
        let mut pause = FIRST_PAUSE;
        let mut warned = None;
        let mut done = 0;
        while let Some(unit) = units.get(done).copied() {
            if !needed(job, unit).await? {
                done += 1;
                continue;
            }
            record.attempts += 1;
            // The monitor looks at the primary: there the pid of a session on a
            // replica belongs to somebody else.
            let watched = step.place == Place::Primary;
            let give_way = &if watched {
                monitor.enter(session.pid, step.seq, step.body.yields_to_wraparound_vacuum)
            } else {
                CancellationToken::new()
            };
            let outcome = match unit {
                Unit::One(statement) => {
                    gate::pass(session, statement, execution, ends, give_way).await
                }
                Unit::Together(statements) => {
                    let guard = step.body.guard.as_ref();
                    gate::pass_together(session, statements, guard, execution, ends, give_way).await
                }
                Unit::Check(check) => check::pass(check, job, ends, give_way, findings).await,
                Unit::Export(exporter, range) => exporter.pass(range, job, ends, give_way).await,
                Unit::Send(sender, range) => sender.pass(range, job, ends, give_way).await,
                Unit::Part(retirer, part) => retirer.pass(part, job, ends, give_way).await,
            };
            let mut seen = if watched {
                monitor.leave(session.pid)
            } else {
                Vec::new()
            };
            if let (Outcome::Locked { .. }, Some(relation), true) =
                (&outcome, step.body.relation, watched && seen.is_empty())
            {
                seen = monitor.holders(relation, session.pid).await;
            }
            let attempt = record.attempts;
            record
                .lock_waits
                .extend(seen.iter().map(|seen| lock_wait(attempt, seen)));
            match outcome {
                Outcome::Done { warnings, rows } => {
                    if rows > 0 {
                        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
                        record.rows = Some(record.rows.unwrap_or(0).saturating_add(rows));
                    }
                    if !warnings.is_empty() {
                        let text = warnings.join("; ");
                        if warnings.iter().any(|w| w.contains("skipping")) {
                            end(record, StepStatus::Skipped, text);
                            return Ok(());
                        }
                        warned = Some(format!("warning: {text}"));
                    }
                    done += 1;
                    pause = FIRST_PAUSE;
                    continue;
                }
                Outcome::Locked {
                    asked_to_skip,
                    message,
                } => {
                    sweep(job, record).await?;
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
                    execution.history.step(execution.run, record);
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
                // What the plan never saw cannot have vanished: it is misspelt.
                Outcome::Vanished(why) if step.body.only_if.is_none() => {
                    end(record, StepStatus::Failed, why);
                }
                Outcome::Vanished(why) => {
                    end(record, StepStatus::Skipped, format!("vanished: {why}"))
                }
                Outcome::NotAllowed(why) => {
                    end(record, StepStatus::Skipped, format!("not allowed: {why}"))
                }
                Outcome::Stopped => end(record, StepStatus::Cancelled, "the run was stopped"),
                Outcome::OutOfTime(TimeLimit::Run) => {
                    end(record, StepStatus::Deferred, "the run's time was up");
                }
                Outcome::OutOfTime(TimeLimit::Step) => {
                    let limit = execution.limits.step_timeout;
                    end(
                        record,
                        StepStatus::Failed,
                        format!(
                            "took longer than `limits.step_timeout` ({limit}) and was cancelled; the next run tries it again, and a larger `step_timeout` gives it more time"
                        ),
                    );
                }
                Outcome::GaveWay => end(
                    record,
                    StepStatus::Skipped,
                    "gave way to a vacuum that prevents transaction id wraparound",
                ),
                Outcome::Failed(error) => {
                    if !error.is_unreachable() {
                        sweep(job, record).await?;
                    }
                    return Err(error);
                }
            }
            return sweep(job, record).await;
        }
        record.status = StepStatus::Succeeded;
        // What an earlier attempt left is no news once a later one succeeded.
        record.error = warned;
        Ok(())
    })
}

/// Removes what the aborted attempt left. It goes on although the run is
/// being stopped: that is what a clean stop means.
fn sweep<'a>(job: Job<'a>, record: &'a mut StepRecord) -> BoxFuture<'a, Result<(), EngineError>> {
    Box::pin(async move {
        let session = job.session;
        let Some(sweep) = &job.step.body.on_abort else {
            return Ok(());
        };
        gate::aside(session, job.execution).await?;
        for row in ask(session, "looking for what it left", &sweep.query).await? {
            let doing = "looking for what it left";
            let object: String = session.column(doing, &row, 0)?;
            let sql: String = session.column(doing, &row, 1)?;
            tracing::info!(
                object,
                statement = sql,
                "removing what an aborted attempt left"
            );
            if let Err(error) = session.execute("removing what it left", &sql).await {
                // The next run finds it again, by name and definition.
                tracing::warn!(object, %error, "could not remove it");
                let text = format!("{object} was left behind: {error}; the next run removes it");
                record.error = Some(match record.error.take() {
                    Some(before) if before.contains(&text) => before,
                    Some(before) => format!("{before}; {text}"),
                    None => text,
                });
            }
        }
        Ok(())
    })
}

async fn needed(job: Job<'_>, unit: Unit<'_>) -> Result<bool, EngineError> {
    let Unit::One(Statement {
        only_if: Some(query),
        ..
    }) = unit
    else {
        return Ok(true);
    };
    let doing = "looking whether it is needed";
    let rows = ask(job.session, doing, query).await?;
    match rows.first() {
        Some(row) => Ok(job.session.column::<Option<bool>>(doing, row, 0)? == Some(true)),
        None => Ok(false),
    }
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
