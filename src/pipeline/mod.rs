//! The story of one run: claim, open, inspect, plan, carry out, close. Every
//! trigger takes this road.

mod cancel;
mod checkup;
mod commands;
mod dead;
mod engine;
mod error;
mod failover;
mod fleet;
mod inventory;
mod kept_out;
mod known;
mod lanes;
pub mod mongodb;
mod postgres;
mod run_id;
mod share;
mod silence;
mod through;
mod way;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::config::{Target, Task};
use crate::execute::{Counts, Held, Observer, Shared, Stop, StopReason};
use crate::history::{Kept, Recorder, RunRecord, RunStatus, StepRecord, StepStatus, Trigger};
use crate::notify::Teller;
use crate::plan::{Finding, Plan, SavedPlan, Skip};
use crate::values::{Window, is_alive, redact, wall_clock, with_causes};

pub use checkup::{Level, Line, last_places};
pub(crate) use commands::run as run_command;
pub use engine::{examine, introduce, locks, warnings};
pub use error::PipelineError;
pub use fleet::{Spread, discover, look_up, shut, spread};
pub use inventory::{NotAnswered, ask};
pub use known::Known;
pub use lanes::{Lanes, Leave, seats};
pub use postgres::dial;
pub use share::{Among, share, shares};
pub use through::Through;
pub use way::{Answer, Way};

/// A run asked for.
pub struct Request<'a> {
    /// What to do.
    pub task: &'a Task,
    /// Where.
    pub target: &'a Target,
    /// Who asks.
    pub trigger: Trigger,
    /// The occurrence it stands for.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Whether the occurrence is tried once more on purpose; otherwise one
    /// that somebody ran meanwhile is left alone.
    pub again: bool,
    /// When the task's window closes.
    pub closes_at: Option<DateTime<Utc>>,
    /// Where its days and months begin.
    pub zone: Tz,
    /// Exactly these steps, and no others.
    pub approved: Option<Approved<'a>>,
    /// How long to wait for somebody who is at work with the task: zero, but
    /// where that is an owner believed to be dead.
    pub patience: Duration,
    /// What is to be told of the target besides what the run finds.
    pub news: &'a [Finding],
    /// The time that all databases of the task have together; `None` where each has its own.
    pub shared: Option<&'a Arc<Shared>>,
}

/// A plan that was saved, and found to fit before the first of its document began.
#[derive(Clone, Copy, Debug)]
pub struct Approved<'a> {
    /// What is to be done, with the steps as they were made then.
    pub plan: &'a SavedPlan,
    /// Whether plans of the same document have changed this target since: what they did is no
    /// difference.
    pub behind_own: bool,
}

/// What a run needs from its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// Where it is recorded.
    pub history: Arc<Recorder>,
    /// How it is stopped.
    pub stop: Stop,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Name of this machine.
    pub host: String,
    /// Who notes what is worth telling; `None` tells nobody.
    pub teller: Option<Arc<Teller>>,
}

/// What the task would do now. Changes nothing.
///
/// # Errors
/// When the target cannot be reached or asked.
pub async fn plan(
    task: &Task,
    target: &Target,
    known: Known,
) -> Result<Plan<Value>, PipelineError> {
    let way = engine::of(task)?;
    silence::unless_silent(way.as_ref(), target, way.plan(task, target, known)).await
}

/// What the task would do now, as a document.
///
/// # Errors
/// When the target cannot be reached or asked.
pub async fn saved(task: &Task, target: &Target, known: Known) -> Result<SavedPlan, PipelineError> {
    let way = engine::of(task)?;
    silence::unless_silent(way.as_ref(), target, way.saved(task, target, known)).await
}

/// What the task would do now, and exactly how many rows each step would
/// change, where its kind knows how to count them, by the step's `seq`.
/// All are counted in one snapshot. Changes nothing, locks nothing.
///
/// # Errors
/// When the target cannot be reached or asked.
pub async fn dry_run(
    task: &Task,
    target: &Target,
    known: Known,
) -> Result<(Plan<Value>, Counts), PipelineError> {
    let way = engine::of(task)?;
    silence::unless_silent(way.as_ref(), target, way.dry_run(task, target, known)).await
}

/// What `throttle` would hold a run of the task up by now, before its first step.
///
/// # Errors
/// When the target's address makes no sense.
pub async fn held(task: &Task, target: &Target) -> Result<Vec<Held>, PipelineError> {
    engine::of(task)?.held(task, target).await
}

/// Carries the task out and records it. Failures of the work are in the record.
///
/// # Errors
/// Only when the history cannot be used.
pub async fn run(
    request: &Request<'_>,
    around: &Surroundings,
) -> Result<(RunRecord, Option<PipelineError>), PipelineError> {
    recorded(engine::of(request.task), request, around).await
}

/// The same, by a way of one's own.
///
/// # Errors
/// Only when the history cannot be used.
pub async fn run_by(
    way: Box<dyn Way>,
    request: &Request<'_>,
    around: &Surroundings,
) -> Result<(RunRecord, Option<PipelineError>), PipelineError> {
    recorded(Ok(way), request, around).await
}

async fn recorded(
    way: Result<Box<dyn Way>, PipelineError>,
    request: &Request<'_>,
    around: &Surroundings,
) -> Result<(RunRecord, Option<PipelineError>), PipelineError> {
    let began = Instant::now();
    let mut record = blank(request, around);
    let store = around.history.store();
    let dead = store.interrupt_dead(&around.host, &is_alive, wall_clock());
    for run in &around.history.ask(dead).await.unwrap_or_default() {
        note(around, run).await;
    }
    let mut unreachable = None;
    // A kind or an address that cannot be used is a failed run like any other: recorded and told.
    let worked = match (error::configured(request.target), way) {
        (Ok(()), Ok(way)) => {
            let way = way.as_ref();
            let worked = tokio::select! {
                worked = way.work(request, around, &mut record) => Ok(worked),
                () = silence::of(way, request.target, &request.task.limits, &around.stop) => Err(None),
                what = silence::overdue(way, request.target, around.stop.awaited()) => Err(Some(what)),
            };
            // Steps may fail of it before anybody has noticed that the claim is lost.
            let failed = |step: &StepRecord| step.status == StepStatus::Failed;
            let lost = around.stop.reason() == Some(StopReason::ClaimLost);
            let look = worked.is_ok() && (lost || record.steps.iter().any(failed));
            if look {
                match way.answers(request.target, silence::PATIENCE).await {
                    Answer::Up => {}
                    Answer::Full => record.error = Some(full(lost)),
                    Answer::Silent => {
                        let why = "the server went away while the run was at work";
                        record.error = Some(why.to_owned());
                    }
                }
            }
            worked
        }
        (Err(error), _) | (_, Err(error)) => Ok(Err(error)),
    };
    match worked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            record.error = Some(match &error {
                PipelineError::Engine(error) if error.is_address() => {
                    format!("target `{}`: {}", record.target, with_causes(error))
                }
                other => with_causes(other),
            });
            record.status = match around.stop.reason() {
                Some(StopReason::Signal(_) | StopReason::Asked) if around.stop.is_now() => {
                    RunStatus::Cancelled
                }
                _ => RunStatus::Failed,
            };
            unreachable = error.is_unreachable().then_some(error);
        }
        Err(what) => silence::abandon(&mut record, around, what).await,
    }
    commands::after(&request.task.commands, &mut record, &around.stop).await;
    record.duration_ms = millis(began.elapsed());
    Ok((closed(record, around).await, unreachable))
}

/// What is told where the server is up, and nobody gets in any more.
fn full(lost: bool) -> String {
    let before = if lost {
        "the connection that held the task's lock was lost; "
    } else {
        ""
    };
    format!(
        "{before}the server is up, and had no connection free for the role when the run looked after its steps"
    )
}

/// The record of a run that has just begun.
fn blank(request: &Request<'_>, around: &Surroundings) -> RunRecord {
    RunRecord {
        id: run_id::next(),
        task: request.task.name.clone(),
        kind: request.task.kind.clone(),
        target: request.target.name.clone(),
        trigger: request.trigger,
        status: RunStatus::Running,
        scheduled_for: request.scheduled_for,
        started_at: wall_clock(),
        finished_at: None,
        duration_ms: 0,
        inspect_ms: 0,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: around.host.clone(),
        pid: i64::from(std::process::id()),
        part: part(request.task),
        steps: Vec::new(),
        findings: Vec::new(),
    }
}

/// What limits a run to a part of its task, as it was asked for.
fn part(task: &Task) -> Option<String> {
    let changed = task.changed.iter().map(|one| format!("--set {one}"));
    let changed = redact(&changed.collect::<Vec<_>>().join(" "));
    (!changed.is_empty()).then_some(changed)
}

/// Writes down how a run has ended, and notes what is worth telling.
async fn closed(mut record: RunRecord, around: &Surroundings) -> RunRecord {
    record.finished_at = Some(wall_clock());
    around.history.close_run(&record);
    if note(around, &record).await == Some(Kept::Nowhere) {
        for finding in &mut record.findings {
            if finding.code == "history.unreachable" {
                finding.message = "the history did not answer, and no file beside it could be written: this run decided without what earlier runs had learned, and its records are in the log of this process, and nowhere else".to_owned();
            }
        }
    }
    record
}

/// Notes what is worth telling, once the record is in the history. Where it
/// is only beside it, what is to be told is kept there too: without what the
/// history knows of earlier failures. Tells where the records are, if not in the history.
async fn note(around: &Surroundings, run: &RunRecord) -> Option<Kept> {
    let kept = around.history.settle().await;
    let Some(teller) = &around.teller else {
        return kept;
    };
    if kept.is_none() {
        match teller.note(around.history.store().as_ref(), run).await {
            Ok(()) => return None,
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "what is worth telling is kept for later")
            }
        }
    }
    around.history.add_notices(teller.notices_alone(run));
    around.history.settle().await
}

fn sum_up(record: &mut RunRecord, refused: &[Skip], stop: &Stop) {
    let count = |status: StepStatus| record.steps.iter().filter(|s| s.status == status).count();
    let (failed, deferred) = (count(StepStatus::Failed), count(StepStatus::Deferred));
    let cancelled = count(StepStatus::Cancelled);
    record.status = match stop.reason() {
        Some(StopReason::Signal(_) | StopReason::Asked)
            if cancelled + deferred > 0 || record.steps.is_empty() =>
        {
            RunStatus::Cancelled
        }
        Some(StopReason::TakenOver) if cancelled + deferred > 0 || record.steps.is_empty() => {
            record.error = Some(
                "its claim was not renewed in time, and another instance took it over".to_owned(),
            );
            RunStatus::Interrupted
        }
        // What was cancelled is tried again like what was left.
        Some(StopReason::TooMuch) if cancelled + deferred > 0 => RunStatus::Incomplete,
        // The next run would see no more.
        Some(StopReason::Unseen) if cancelled + deferred > 0 => {
            match count(StepStatus::Succeeded) {
                0 => RunStatus::Failed,
                _ => RunStatus::Partial,
            }
        }
        Some(StopReason::ClaimLost) => {
            record.error = Some("the connection that held the task's lock was lost".to_owned());
            RunStatus::Failed
        }
        // Whoever cancelled them, they have not done their work.
        None if cancelled > 0 => RunStatus::Cancelled,
        // What was skipped because of it is no part of the work that was done.
        _ if failed > 0 && count(StepStatus::Succeeded) + deferred == 0 => RunStatus::Failed,
        // Steps that did something, but not all that was asked for.
        _ if !refused.is_empty() => {
            record.error = refused
                .first()
                .map(|left| format!("{}: {}", left.object, left.reason));
            if count(StepStatus::Succeeded) > 0 {
                RunStatus::Partial
            } else {
                RunStatus::Failed
            }
        }
        _ if failed > 0 => RunStatus::Partial,
        _ if deferred > 0 => RunStatus::Incomplete,
        _ => RunStatus::Succeeded,
    };
    record.rows = record.steps.iter().filter_map(|s| s.rows).sum();
    let measured = |s: &&StepRecord| s.bytes_before.is_some() && s.bytes_after.is_some();
    let sum = |of: fn(&StepRecord) -> Option<i64>| {
        record.steps.iter().filter(measured).filter_map(of).sum()
    };
    record.bytes_before = sum(|s| s.bytes_before);
    record.bytes_after = sum(|s| s.bytes_after);
}

/// Until when a run works that has `looked` for so long at what there is to do: a look that takes
/// most of a budget would else be all that ever happens. A window is never exceeded.
fn deadline(request: &Request<'_>, looked: Duration) -> Option<Instant> {
    let budget = request.task.limits.budget.as_ref();
    let budget = budget.filter(|_| request.shared.is_none());
    let budget = budget.map(|budget| for_work(budget.get(), looked));
    let window = request
        .closes_at
        .map(|closes| (closes - wall_clock()).to_std().unwrap_or(Duration::ZERO));
    budget
        .into_iter()
        .chain(window)
        .map(|left| Instant::now() + left)
        .chain(request.shared.map(|shared| shared.deadline()))
        .min()
}

/// What is left for work of a time of which looking took so much: half of it at least.
fn for_work(whole: Duration, looked: Duration) -> Duration {
    whole.saturating_sub(looked).max(whole / 2)
}

/// How much time a run has that begins when it should: the budget, or the
/// window from the occurrence on. Nothing is said of a window that somebody
/// has begun to use late.
fn whole(request: &Request<'_>, began: DateTime<Utc>) -> Option<Duration> {
    if let Some(shared) = request.shared {
        return Some(shared.whole());
    }
    let task = request.task;
    let budget = task.limits.budget.as_ref().map(|budget| budget.get());
    let window = task.window.as_ref().filter(|_| request.closes_at.is_some());
    let since_occurrence = request
        .closes_at
        .zip(request.scheduled_for)
        .and_then(|(closes, at)| (closes - at.min(began)).to_std().ok());
    let spans = budget.into_iter().chain(window.map(Window::length));
    spans.chain(since_occurrence).min()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
