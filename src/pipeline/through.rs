//! The story of one run, through the door of its engine.

mod approved;
mod claim;
mod found;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use self::approved::{applied, document, only_approved};
use self::claim::{claim_patiently, watch_claim};
use self::found::{aborted, note_findings, remember_place, without_history};
use super::failover::Failover;
use super::known::learn;
use super::record::sum_up;
use super::time::{deadline, for_work, whole};
use super::{
    Answer, Known, PipelineError, Request, Surroundings, Way, cancel, commands, dead, error,
    kept_out, lanes, millis,
};
use crate::config::{Limits, Target, Task, Throttle};
use crate::engines::EngineError;
use crate::execute::{
    self, Awaited, BodyOf, Counts, Database, Door, Event, Execution, Held, Pace, StopReason,
    Throttler,
};
use crate::history::{RunRecord, RunStatus, carried_out};
use crate::plan::{AnyKind, Entry, Made, Moment, Plan, Predictor, SavedPlan, Skip};
use crate::values::wall_clock;

/// A kind, and the door that it works through.
pub struct Through<D: Door> {
    kind: Box<dyn AnyKind<D::Session>>,
}

impl<D: Door> Through<D> {
    /// The kind of this task, looked up in its engine's table.
    ///
    /// # Errors
    /// When there is no such kind, or the options do not build it.
    pub fn of(task: &Task, kinds: &[Entry<D::Session>]) -> Result<Self, PipelineError> {
        let entry = kinds
            .iter()
            .find(|entry| entry.info.name == task.kind && entry.info.engine == task.engine)
            .ok_or_else(|| PipelineError::NotAvailable {
                kind: task.kind.clone(),
                engine: task.engine,
            })?;
        let kind = (entry.build)(&task.options).map_err(|message| PipelineError::Options {
            task: task.name.clone(),
            message,
        })?;
        Ok(Through { kind })
    }

    async fn proposed(
        &self,
        task: &Task,
        target: &Target,
        known: Known,
    ) -> Result<(Plan<BodyOf<D>>, D, D::Session), PipelineError> {
        error::configured(target)?;
        let door = D::to(target, &format!("maint plan {}", task.name))?;
        let opening = Failover::until(None);
        let session = opening.open(&door, self.kind.only_reads()).await?;
        door.place(&session, known.place.as_ref()).await?;
        let sight = door.sight(&session).await?;
        let mut site = door.site(session, self.kind.reads_replicas()).await;
        site.trust_owners = trusted(task, target);
        site.scope = target.scope;
        let at = Moment {
            now: wall_clock(),
            round: 1,
            baselines: known.baselines,
            memories: known.memories,
            former: known.former,
            zone: known.zone,
        };
        let by = Predictor::of(&known.past, &task.name);
        let looking = Failover::until(None);
        let plan = looking.propose(&door, self.kind.as_ref(), &site, &at);
        let plan = plan.await.map_err(|error| sight.explain(error).0)?;
        let mut plan = plan.as_written(&task.filled).arranged(&by).numbered(1);
        plan.findings.extend(sight.told());
        plan.forecast = Some(plan.forecast(&by, known.whole, task.limits.jobs));
        Ok((plan, door, site.primary))
    }
}

#[async_trait]
impl<D: Door> Way for Through<D> {
    async fn plan(
        &self,
        task: &Task,
        target: &Target,
        known: Known,
    ) -> Result<Plan<Value>, PipelineError> {
        Ok(self
            .proposed(task, target, known)
            .await?
            .0
            .shown(&task.filled))
    }

    async fn saved(
        &self,
        task: &Task,
        target: &Target,
        known: Known,
    ) -> Result<SavedPlan, PipelineError> {
        let (plan, door, session) = self.proposed(task, target, known).await?;
        let saved = document(task, &target.name, (&door, &session), &plan).await?;
        Ok(SavedPlan {
            made: Made::of(plan.steps),
            ..saved
        })
    }

    async fn dry_run(
        &self,
        task: &Task,
        target: &Target,
        known: Known,
    ) -> Result<(Plan<Value>, Counts), PipelineError> {
        let (plan, door, session) = self.proposed(task, target, known).await?;
        let counts = door.count(&session, &plan.steps).await?;
        Ok((plan.shown(&task.filled), counts))
    }

    async fn work(
        &self,
        request: &Request<'_>,
        around: &Surroundings,
        record: &mut RunRecord,
    ) -> Result<(), PipelineError> {
        let door = D::to(request.target, &execute::run_name(record.id))?;
        let awaited = around.stop.awaited();
        let opening = awaited.aside("opening a session");
        let failover = || Failover::until(Some(&around.stop));
        let session = failover().open(&door, self.kind.only_reads()).await?;
        remember_place(&door, &session, around, &record.target).await?;
        // A claim in a session that others share would be no claim.
        door.fit_for_claim(&session).await?;
        if let Some(holder) = claim_patiently(request, around, &door, &session).await? {
            let task = &record.task;
            let (status, error) = match &holder.finding {
                None => (
                    RunStatus::Skipped,
                    format!("`{task}` is already at work on this target: {}", holder.who),
                ),
                Some(_) => (
                    RunStatus::Failed,
                    format!("`{task}` is kept from running by {}", holder.who),
                ),
            };
            (record.status, record.error) = (status, Some(error));
            record.findings.extend(holder.finding);
            return Ok(());
        }
        // Only who holds the claim knows that runs still open are dead.
        dead::take_over(request, around, &door, &session).await?;
        if let Some(at) = request.scheduled_for.filter(|_| !request.again)
            && let Some(run) = around
                .history
                .ask(carried_out(
                    around.history.store().as_ref(),
                    &record.task,
                    &record.target,
                    at,
                    request.schedule,
                ))
                .await
                .flatten()
        {
            record.status = RunStatus::Skipped;
            record.error = Some(format!(
                "the occurrence ran already: {} ({})",
                run.status, run.id
            ));
            return Ok(());
        }
        // Whoever comes after a death before the first step must know of this run.
        around.history.open_run(record);
        around.history.settle().await;
        let lost = door.claim_lost(&session);
        let _watching = cancel::watch(around, record.id, request.task.limits.patience());

        let sight = door.sight(&session).await?;
        let mut site = door.site(session, self.kind.reads_replicas()).await;
        // After the site, and so dropped before it: with it the claim ends.
        let _watching_claim = watch_claim(lost, &around.stop);
        site.trust_owners = trusted(request.task, request.target);
        site.scope = request.target.scope;
        record.findings.extend(request.news.iter().cloned());
        record.findings.extend(sight.told());
        let commands = &request.task.commands;
        let began = Instant::now();
        let mut until = deadline(request, Duration::ZERO);
        // Where the time is over before its turn, a run only notes what it leaves.
        let over = until.is_some_and(|at| at <= Instant::now());
        drop(opening);
        if !over && let Err(why) = commands::before(commands, record, &around.stop).await {
            record.status = match around.stop.reason() {
                Some(StopReason::Signal(_) | StopReason::Asked) => RunStatus::Cancelled,
                _ => RunStatus::Failed,
            };
            record.error = Some(why);
            return Ok(());
        }
        let mut pace: Option<Arc<Pace>> = None;
        let mut tried: HashSet<(String, String)> = HashSet::new();
        let mut refused: Vec<Skip> = Vec::new();
        for round in 1..=2 {
            let looking = Instant::now();
            let store = around.history.store().as_ref();
            let ask = || Known::for_look(store, request.task, &record.target, request.zone);
            let known = if self.kind.needs_history() {
                let insisted = around.history.insist(ask).await;
                insisted.map_err(PipelineError::NoProof)?
            } else if let Some(known) = around.history.ask(ask()).await {
                known
            } else {
                record.findings.push(without_history());
                Known {
                    zone: request.zone,
                    ..Known::default()
                }
            };
            let at = Moment {
                now: wall_clock(),
                round,
                baselines: known.baselines,
                memories: known.memories,
                former: known.former,
                zone: known.zone,
            };
            // Whoever looks has no time of its own: a budget, or the window, may end sooner.
            let by_then = Instant::now() + Awaited::ASIDE;
            let by_then = until.map_or(by_then, |until| until.min(by_then));
            let proposing = awaited.by(by_then, "what there is to do");
            let plan = failover().propose(&door, self.kind.as_ref(), &site, &at);
            let plan = match plan.await {
                Ok(plan) => plan,
                Err(error) => {
                    let (error, lacks) = sight.explain(error);
                    record.findings.extend(lacks);
                    return Err(error.into());
                }
            };
            let past = match plan.steps.is_empty() {
                true => None,
                false => {
                    let past = store.past_steps(&record.target, &request.task.kind);
                    around.history.ask(past).await
                }
            };
            let by = Predictor::of(&past.unwrap_or_default(), &record.task);
            let mut plan = plan.as_written(&request.task.filled).arranged(&by);
            record.inspect_ms += millis(looking.elapsed());
            if round == 1 {
                until = deadline(request, began.elapsed());
            }
            if let Some(approved) = &request.approved {
                plan = plan.numbered(1);
                let through = (&door, &site.primary);
                let found = document(request.task, &record.target, through, &plan).await?;
                if only_approved(approved, &found, &mut plan)? {
                    let also = record.part.take().map(|part| format!("{part}, "));
                    let also = also.unwrap_or_default();
                    record.part = Some(format!("{also}saved plan {}", approved.plan.document));
                }
                plan.findings.push(applied(approved.plan));
            }
            drop(proposing);
            // What was tried in the first round has had its chance.
            plan.steps
                .retain(|step| tried.insert((step.action.clone(), step.object.clone())));
            let first = u32::try_from(record.steps.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            let plan = plan.numbered(first);
            around.observer.on(Event::Planned(plan.steps.len()));
            note_findings(around, record, round, &plan.findings);
            // Of some objects only the second look knows enough to refuse them.
            for skip in &plan.refused {
                if !refused.iter().any(|old| old.object == skip.object) {
                    refused.push(skip.clone());
                }
            }
            learn(around, request, &at, &plan);
            if let Some(blind) = sight.told().filter(|_| !plan.steps.is_empty()) {
                record.status = RunStatus::Failed;
                record.error = Some(blind.message);
                return Ok(());
            }
            let pace = pace.get_or_insert_with(|| {
                let part = request.shared.map(|shared| shared.part(&record.target));
                let whole = whole(request, record.started_at).map(|whole| match request.shared {
                    Some(_) => whole,
                    None => for_work(whole, began.elapsed()),
                });
                let pace = Pace::new(by, until, whole);
                Arc::new(pace.sharing(part))
            });
            let look_again = !plan.pending.is_empty();
            let jobs = lanes::jobs(request.target, &request.task.limits);
            let fewer = match plan.steps.len() > 1 && jobs > 1 {
                true => {
                    let spare = door.spare(&site.primary).await?;
                    lanes::fewer(jobs, &request.task.throttle, spare)
                }
                false => jobs,
            };
            if fewer < jobs {
                tracing::info!(
                    jobs,
                    fewer,
                    "the server has connections for fewer steps at once"
                );
            }
            let execution = Execution {
                target: record.target.clone(),
                kind: record.kind.clone(),
                limits: Limits {
                    jobs: fewer,
                    ..request.task.limits.clone()
                },
                throttle: Throttler::new(request.task.throttle.clone()),
                deadline: until,
                pace: Arc::clone(pace),
                stop: around.stop.clone(),
                history: Arc::clone(&around.history),
                run: record.id,
                elsewhere: Arc::clone(&request.task.elsewhere),
                filled: request.task.filled.clone(),
                observer: Arc::clone(&around.observer),
            };
            let carried_out = execute::carry_out(plan.steps, &door, &execution).await?;
            let _ending = awaited.aside("the end of the work");
            if !carried_out.records.is_empty() {
                door.end(&site.primary).await;
            }
            record.steps.extend(carried_out.records);
            record.findings.extend(carried_out.findings);
            if let Some(why) = execution.throttle.aborted() {
                record.error = Some(format!("the run was ended: {why}"));
                record.findings.push(aborted(why));
            }
            if !look_again || around.stop.is_stopping() {
                break;
            }
        }
        sum_up(record, &refused, &around.stop);
        kept_out::tell(record, pace.as_deref());
        Ok(())
    }

    async fn held(&self, task: &Task, target: &Target) -> Result<Vec<Held>, PipelineError> {
        if task.throttle == Throttle::default() {
            return Ok(Vec::new());
        }
        let door = D::to(target, &format!("maint plan {}", task.name))?;
        Ok(Throttler::new(task.throttle.clone()).look(&door).await)
    }

    async fn answers(&self, target: &Target, patience: Duration) -> Answer {
        let Ok(door) = D::to(target, "maint looks whether it answers") else {
            return Answer::Silent;
        };
        match tokio::time::timeout(patience, door.open(true)).await {
            Err(_) => Answer::Silent,
            Ok(Err(error)) if error.is_full() => Answer::Full,
            Ok(Err(error)) if error.has_no_such_database() => Answer::Gone,
            Ok(Err(
                EngineError::Connect(_) | EngineError::Lost { .. } | EngineError::NoAnswer { .. },
            )) => Answer::Silent,
            Ok(_) => Answer::Up,
        }
    }
}

/// Every database of the target's server that work may be done in.
pub(super) async fn databases<D: Door>(target: &Target) -> Result<Vec<Database>, PipelineError> {
    let door = D::to(target, "maint looks for databases")?;
    // A standby knows them as well.
    let session = door.open(true).await?;
    Ok(door.databases(&session).await?)
}

/// Roles whose code the task may run on this target.
fn trusted(task: &Task, target: &Target) -> Vec<String> {
    let all = task.trust_owners.iter().chain(&target.trust_owners);
    all.cloned().collect()
}
