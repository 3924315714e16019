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
mod record;
mod run_id;
mod share;
mod silence;
mod through;
mod time;
mod way;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use self::record::{blank, closed, note};
use crate::config::{Target, Task};
use crate::execute::{Counts, Held, Observer, Shared, Stop, StopReason};
use crate::history::{Recorder, RunRecord, RunStatus, StepRecord, StepStatus, Trigger, is_alive};
use crate::notify::Teller;
use crate::plan::{Finding, Plan, SavedPlan};
use crate::values::{wall_clock, with_causes};

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
    /// The schedule that this is of.
    pub schedule: Option<&'a str>,
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
    let dead = store.interrupt_dead(&is_alive, wall_clock());
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
                    Answer::Gone => {
                        let why = "the server is up, and its database is there no more: somebody dropped or renamed it while the run was at work";
                        record.error = Some(why.to_owned());
                    }
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
            if let Some(why) = &mut record.error {
                request.task.filled.hide(why);
            }
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

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
