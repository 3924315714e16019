//! The story of one run: claim, open, inspect, plan, carry out, close. Every
//! trigger takes this road.

mod cancel;
mod dead;
mod error;
mod known;
mod reach;
mod run_id;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::config::{Target, Task};
use crate::engines::EngineError;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::{Session, claim, pooler};
use crate::execute::{self, Event, Execution, Observer, Stop, StopReason, Throttler};
use crate::history::{RunRecord, RunStatus, StepRecord, StepStatus, Store, Trigger};
use crate::kinds;
use crate::notify::Teller;
use crate::plan::{AnyKind, Finding, Moment, Plan, Severity};

pub use error::PipelineError;
pub use known::Known;
pub use reach::dial;

use dead::{is_alive, take_over};
use known::learn;
use reach::{application_name, open, replica_dials, site};

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
    /// How long to wait for somebody who is at work with the task: zero, but
    /// where that is an owner believed to be dead.
    pub patience: Duration,
}

/// How often the lock of the task is asked for, where that is waited for.
const ASK_FOR_CLAIM: Duration = Duration::from_millis(500);

/// What a run needs from its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// Where it is recorded.
    pub store: Arc<dyn Store>,
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
pub async fn plan(task: &Task, target: &Target, known: Known) -> Result<Plan, PipelineError> {
    Ok(proposed(task, target, known).await?.0)
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
) -> Result<(Plan, BTreeMap<u32, i64>), PipelineError> {
    let (plan, session) = proposed(task, target, known).await?;
    let mut counts = BTreeMap::new();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    session.execute("taking a snapshot", begin).await?;
    for step in &plan.steps {
        if let Some(query) = &step.count {
            let rows = execute::ask(&session, "counting rows", query).await?;
            if let Some(row) = rows.first() {
                counts.insert(step.seq, row.get(0));
            }
        }
    }
    session.execute("leaving the snapshot", "ROLLBACK").await?;
    Ok((plan, counts))
}

async fn proposed(
    task: &Task,
    target: &Target,
    known: Known,
) -> Result<(Plan, Session), PipelineError> {
    let kind = build(task)?;
    let dial = dial(target)?;
    let application_name = format!("maint plan {}", task.name);
    let session = open(&dial, &application_name).await?;
    let replicas = replica_dials(target)?;
    let site = site(session, kind.as_ref(), &replicas, &application_name).await;
    let at = Moment {
        now: Utc::now(),
        round: 1,
        baselines: known.baselines,
        memories: known.memories,
        zone: known.zone,
    };
    let plan = kind.propose(&site, &at).await?.numbered(1);
    Ok((plan, site.primary))
}

/// Carries the task out and records it. Failures of the work are in the record.
///
/// # Errors
/// Only when the history cannot be used.
pub async fn run(
    request: &Request<'_>,
    around: &Surroundings,
) -> Result<(RunRecord, Option<EngineError>), PipelineError> {
    let began = Instant::now();
    let mut record = RunRecord {
        id: run_id::next(),
        task: request.task.name.clone(),
        kind: request.task.kind.clone(),
        target: request.target.name.clone(),
        trigger: request.trigger,
        status: RunStatus::Running,
        scheduled_for: request.scheduled_for,
        started_at: Utc::now(),
        finished_at: None,
        duration_ms: 0,
        inspect_ms: 0,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: around.host.clone(),
        pid: i64::from(std::process::id()),
        steps: Vec::new(),
        findings: Vec::new(),
    };
    let dead = around
        .store
        .interrupt_dead(&around.host, &is_alive, Utc::now())
        .await?;
    for run in &dead {
        note(around, run).await;
    }
    let mut unreachable = None;
    // A kind or an address that cannot be used is a failed run like any other: recorded and told.
    let worked = async {
        let kind = build(request.task)?;
        let dial = dial(request.target)?;
        work(request, around, kind.as_ref(), &dial, &mut record).await
    };
    if let Err(error) = worked.await {
        match error {
            PipelineError::Engine(error) => {
                record.error = Some(match &error {
                    EngineError::Dial(_) => format!("target `{}`: {error}", record.target),
                    _ => error.to_string(),
                });
                unreachable = error.is_unreachable().then_some(error);
            }
            other => record.error = Some(other.to_string()),
        }
        record.status = RunStatus::Failed;
    }
    record.finished_at = Some(Utc::now());
    record.duration_ms = millis(began.elapsed());
    if let Err(error) = around.store.close_run(&record).await {
        tracing::error!(%error, "the end of the run could not be recorded");
    }
    note(around, &record).await;
    Ok((record, unreachable))
}

/// Notes what is worth telling. That it could not be noted is logged: a mail
/// less is no reason to fail.
async fn note(around: &Surroundings, run: &RunRecord) {
    if let Some(teller) = &around.teller
        && let Err(error) = teller.note(around.store.as_ref(), run).await
    {
        tracing::error!(%error, "what is worth telling could not be noted");
    }
}

async fn work(
    request: &Request<'_>,
    around: &Surroundings,
    kind: &dyn AnyKind<Session>,
    dial: &Dial,
    record: &mut RunRecord,
) -> Result<(), PipelineError> {
    let application_name = application_name(record.id);
    let session = open(dial, &application_name).await?;
    // A claim in a session that others share would be no claim.
    pooler::refuse(&session, dial).await?;
    if let Some(holder) = claim_patiently(request, around, &session).await? {
        record.status = RunStatus::Skipped;
        record.error = Some(format!(
            "`{}` is already at work on this target: {holder}",
            record.task
        ));
        return Ok(());
    }
    // Only who holds the claim knows that runs still open are dead.
    take_over(request, around, &session).await?;
    if let Some(at) = request.scheduled_for.filter(|_| !request.again)
        && let Some(run) = around
            .store
            .occurrence(&record.task, &record.target, at)
            .await?
            .filter(|run| run.status != RunStatus::Interrupted)
    {
        record.status = RunStatus::Skipped;
        record.error = Some(format!(
            "the occurrence ran already: {} ({})",
            run.status, run.id
        ));
        return Ok(());
    }
    around.store.open_run(record).await?;
    watch_claim(&session, &around.stop);
    let _watching = cancel::watch(around, record.id, request.task.limits.grace.get());

    let replicas = replica_dials(request.target)?;
    let site = site(session, kind, &replicas, &application_name).await;
    let deadline = deadline(request);
    let mut tried: HashSet<(String, String)> = HashSet::new();
    for round in 1..=2 {
        let looking = Instant::now();
        let known = Known::of(
            around.store.as_ref(),
            request.task,
            &record.target,
            request.zone,
        )
        .await?;
        let at = Moment {
            now: Utc::now(),
            round,
            baselines: known.baselines,
            memories: known.memories,
            zone: known.zone,
        };
        let mut plan = kind.propose(&site, &at).await?;
        record.inspect_ms += millis(looking.elapsed());
        // What was tried in the first round has had its chance.
        plan.steps
            .retain(|step| tried.insert((step.action.clone(), step.object.clone())));
        let first = u32::try_from(record.steps.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let plan = plan.numbered(first);
        around.observer.on(Event::Planned(&plan));
        if round == 1 {
            record.findings.clone_from(&plan.findings);
            around.store.add_findings(record.id, &plan.findings).await?;
        }
        learn(around, request, &at, &plan).await;
        let look_again = !plan.pending.is_empty();
        let execution = Arc::new(Execution {
            dial: dial.clone(),
            replicas: replicas.clone(),
            application_name: application_name.clone(),
            target: record.target.clone(),
            kind: record.kind.clone(),
            limits: request.task.limits.clone(),
            throttle: Throttler::new(request.task.throttle.clone()),
            deadline,
            stop: around.stop.clone(),
            store: Arc::clone(&around.store),
            run: record.id,
            elsewhere: Arc::clone(&request.task.elsewhere),
            observer: Arc::clone(&around.observer),
        });
        let carried_out = execute::carry_out(plan.steps, execution).await?;
        record.steps.extend(carried_out.records);
        record.findings.extend(carried_out.findings);
        if !look_again || around.stop.is_stopping() {
            break;
        }
    }
    if site.primary.server.major() < 15 {
        // Before 15 statistics travel through a collector that writes them
        // twice a second; the next run must see what this one did.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    sum_up(record, &around.stop);
    Ok(())
}

/// Takes the lock of the task; tells who has it when patience is over.
async fn claim_patiently(
    request: &Request<'_>,
    around: &Surroundings,
    session: &Session,
) -> Result<Option<String>, EngineError> {
    let until = Instant::now() + request.patience;
    loop {
        let holder = claim::claim(session, &request.task.name).await?;
        if holder.is_none() || Instant::now() >= until || around.stop.is_stopping() {
            return Ok(holder);
        }
        tokio::time::sleep(ASK_FOR_CLAIM).await;
    }
}

/// Stops the run when the connection that holds its claim ends.
fn watch_claim(session: &Session, stop: &Stop) {
    let (closed, stop) = (session.closed(), stop.clone());
    tokio::spawn(async move {
        closed.cancelled().await;
        // Also reached after a regular end, when nothing is left to stop.
        stop.at_once(StopReason::ClaimLost);
    });
}

fn sum_up(record: &mut RunRecord, stop: &Stop) {
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
        Some(StopReason::ClaimLost) => {
            record.error = Some("the connection that held the task's lock was lost".to_owned());
            RunStatus::Failed
        }
        _ if failed > 0 && failed == record.steps.len() => RunStatus::Failed,
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

/// The worst severity among findings.
pub fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}

fn build(task: &Task) -> Result<Box<dyn AnyKind<Session>>, PipelineError> {
    let entry = kinds::postgres::KINDS
        .iter()
        .find(|entry| entry.info.name == task.kind && entry.info.engine == task.engine)
        .ok_or_else(|| PipelineError::NotAvailable {
            kind: task.kind.clone(),
            engine: task.engine,
        })?;
    (entry.build)(&task.options).map_err(|message| PipelineError::Options {
        task: task.name.clone(),
        message,
    })
}

fn deadline(request: &Request<'_>) -> Option<Instant> {
    let budget = request
        .task
        .limits
        .budget
        .as_ref()
        .map(|budget| budget.get());
    let window = request
        .closes_at
        .map(|closes| (closes - Utc::now()).to_std().unwrap_or(Duration::ZERO));
    budget
        .into_iter()
        .chain(window)
        .min()
        .map(|left| Instant::now() + left)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
