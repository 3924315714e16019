//! A task of an occurrence on its targets: which those are, each with its retries.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use super::job::{Happened, Job, Watcher};
use super::zone_of;
use crate::config::{Schedule, Target, Task};
use crate::execute::{Live, Shared, StopReason};
use crate::history::{HistoryError, Recorder, RunRecord, RunStatus, Trigger, carried_out};
use crate::notify::Teller;
use crate::pipeline::{self, Among, Request, Surroundings};
use crate::plan::Finding;
use crate::report::Templates;
use crate::values::{wall_clock, with_causes};

/// How long the heir of an occurrence waits where the owner before it still
/// has the task's lock: a server notices the death of a client within
/// seconds, and who has only lost the claim stops at its next renewal.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest pause between two tries.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// An occurrence at work.
pub(super) struct AtWork {
    pub(super) history: Arc<Recorder>,
    pub(super) watcher: Arc<dyn Watcher>,
    pub(super) host: String,
    pub(super) live: Live,
    pub(super) teller: Arc<Teller>,
    pub(super) templates: Templates,
    pub(super) job: Job,
}

/// What came of one task on one target.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) runs: Vec<Uuid>,
    pub(super) failed: bool,
    /// Stopped before its end, together with the process.
    pub(super) untouched: bool,
    /// Why it was not run at all.
    pub(super) closed: Option<String>,
}

impl AtWork {
    /// The targets in place of one that stands for many databases, each with what is to be told
    /// of it, and what came of finding them out.
    pub(super) async fn spread(
        &self,
        task: &Task,
        target: &Target,
    ) -> (Vec<(Target, Vec<Finding>)>, Tried) {
        let mut tried = Tried::default();
        if !target.is_many() {
            return (vec![(target.clone(), Vec::new())], tried);
        }
        let zone = zone_of(&self.job.config, &self.job.schedule);
        for attempt in 0..=task.retries.max {
            if self.job.stop.is_stopping() {
                tried.untouched = attempt == 0;
                tried.failed |= attempt > 0;
                break;
            }
            if let Err(closed) = open_windows(Some(&self.job.schedule), task, zone, wall_clock()) {
                tried.closed = (attempt == 0).then_some(closed);
                tried.failed |= attempt > 0;
                break;
            }
            let request = self.request(task, target, None, attempt > 0, &[]);
            let around = self.around(task, target);
            let seats = pipeline::seats(target, &task.limits, &self.job.stop).await;
            let found = pipeline::discover(&request, &around).await;
            drop(seats);
            if let Some(run) = found.run {
                self.watcher.on(Happened::Ran(&run));
                tried.failed = !went_well(run.status);
                tried.runs.push(run.id);
            } else {
                tried.failed = false;
            }
            if !found.targets.is_empty() {
                let mut news = found.news;
                let targets = found.targets.into_iter();
                // The server's own run comes first, and tells them.
                let targets = targets.map(|target| (target, std::mem::take(&mut news)));
                return (targets.collect(), tried);
            }
            if attempt < task.retries.max {
                self.pause(task, attempt).await;
            }
        }
        (Vec::new(), tried)
    }

    /// The order of the targets, and the time that they have together.
    pub(super) async fn share(&self, task: &Task, all: &[(Target, Vec<Finding>)]) -> Among {
        let targets: Vec<&Target> = all.iter().map(|(target, _)| target).collect();
        let (config, schedule) = (&self.job.config, &self.job.schedule);
        let zone = zone_of(config, schedule);
        let Ok(closes_at) = open_windows(Some(schedule), task, zone, wall_clock()) else {
            // Each of them is told so.
            return Among::in_order(all.len());
        };
        let with = (self.history.as_ref(), &self.job.stop);
        pipeline::share(task, &targets, closes_at, config.timezone, with).await
    }

    /// Waits before the next try.
    async fn pause(&self, task: &Task, attempt: u32) {
        let pause = task
            .retries
            .backoff
            .get()
            .saturating_mul(2_u32.saturating_pow(attempt))
            .min(LONGEST_BACKOFF);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.job.stop.stopping() => {}
        }
    }

    /// One task on one target, with its retries. A failure here stops nobody else.
    pub(super) async fn one(
        &self,
        task: &Task,
        target: &Target,
        news: &[Finding],
        shared: Option<&Arc<Shared>>,
    ) -> Tried {
        let mut tried = Tried::default();
        match self.before_us(task, target).await {
            Ok(Some(run)) => {
                tried.failed = !went_well(run.status);
                tried.runs.push(run.id);
                return tried;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "what ran before is not known")
            }
        }
        let zone = zone_of(&self.job.config, &self.job.schedule);
        for attempt in 0..=task.retries.max {
            if self.job.stop.is_stopping() {
                tried.untouched = attempt == 0;
                tried.failed |= attempt > 0;
                return tried;
            }
            let now = wall_clock();
            let closes_at = match open_windows(Some(&self.job.schedule), task, zone, now) {
                Ok(closes_at) => closes_at,
                // Its time was over before its turn: what it leaves has to come first next time.
                Err(_) if shared.is_some() && attempt == 0 => None,
                Err(closed) => {
                    // After a try that failed there is a run that tells it.
                    tried.closed = (attempt == 0).then_some(closed);
                    tried.failed |= attempt > 0;
                    return tried;
                }
            };
            let request = Request {
                shared,
                ..self.request(task, target, closes_at, attempt > 0, news)
            };
            match self.run(&request).await {
                Some(run) => {
                    self.watcher.on(Happened::Ran(&run));
                    tried.failed = !went_well(run.status);
                    tried.runs.push(run.id);
                    // Not by a person: the process ends, and the next one has it to do.
                    tried.untouched = run.status == RunStatus::Cancelled
                        && matches!(self.job.stop.reason(), Some(StopReason::Signal(_)));
                    if run.status == RunStatus::Skipped
                        && let Ok(Some(run)) = self.before_us(task, target).await
                    {
                        // The owner before us has ended it meanwhile.
                        tried.failed = !went_well(run.status);
                        tried.runs.push(run.id);
                    }
                    if !matches!(run.status, RunStatus::Failed | RunStatus::Partial) {
                        return tried;
                    }
                }
                None => tried.failed = true,
            }
            if attempt < task.retries.max {
                self.pause(task, attempt).await;
            }
        }
        tried
    }

    /// The run that stands for the occurrence already, unless it ended with its owner: that of an owner
    /// before us, or of somebody who could not claim it; what a person has stopped stays stopped.
    async fn before_us(
        &self,
        task: &Task,
        target: &Target,
    ) -> Result<Option<RunRecord>, HistoryError> {
        let store = self.history.store().as_ref();
        let run = carried_out(
            store,
            &task.name,
            &target.name,
            self.job.at,
            Some(&self.job.schedule.name),
        )
        .await?;
        Ok(run.filter(|run| run.status != RunStatus::Running))
    }

    fn request<'r>(
        &'r self,
        task: &'r Task,
        target: &'r Target,
        closes_at: Option<DateTime<Utc>>,
        again: bool,
        news: &'r [Finding],
    ) -> Request<'r> {
        Request {
            task,
            target,
            trigger: match self.job.catch_up {
                true => Trigger::CatchUp,
                false => Trigger::Schedule,
            },
            scheduled_for: Some(self.job.at),
            schedule: Some(&self.job.schedule.name),
            again,
            closes_at,
            zone: self.job.config.timezone,
            approved: None,
            patience: match self.job.claims {
                0 | 1 => Duration::ZERO,
                _ => PATIENCE,
            },
            news,
            shared: None,
        }
    }

    fn around(&self, task: &Task, target: &Target) -> Surroundings {
        Surroundings {
            history: Arc::clone(&self.history),
            stop: self.job.stop.part(),
            observer: self.live.observer(&task.name, &target.name),
            host: self.host.clone(),
            teller: Some(Arc::clone(&self.teller)),
        }
    }

    async fn run(&self, request: &Request<'_>) -> Option<RunRecord> {
        let (task, target) = (request.task, request.target);
        let around = self.around(task, target);
        match pipeline::run(request, &around).await {
            Ok((run, _)) => {
                tracing::info!(
                    run = %run.id, task = run.task, target = run.target, status = %run.status,
                    error = run.error, "run ended"
                );
                Some(run)
            }
            Err(error) => {
                tracing::error!(
                    task = task.name,
                    target = target.name,
                    "{}",
                    with_causes(&error)
                );
                None
            }
        }
    }
}

/// Whether nothing has to be done again.
pub(crate) fn went_well(status: RunStatus) -> bool {
    matches!(status, RunStatus::Succeeded | RunStatus::Incomplete)
}

/// When the windows of a task and of its schedule close: both must be open,
/// and the first to close ends the run.
///
/// # Errors
/// In words, which of them is closed, and when it opens.
pub(super) fn open_windows(
    schedule: Option<&Schedule>,
    task: &Task,
    zone: Tz,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, String> {
    let windows = [
        task.window.as_ref(),
        schedule.and_then(|schedule| schedule.window.as_ref()),
    ];
    let mut closes_at: Option<DateTime<Utc>> = None;
    for window in windows.into_iter().flatten() {
        if !window.contains(now, zone) {
            let next = window
                .next_opening(now, zone)
                .map_or_else(String::new, |at| {
                    let at = at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z");
                    format!(", which opens next at {at}")
                });
            return Err(format!("outside its window `{window}`{next}"));
        }
        closes_at = closes_at
            .into_iter()
            .chain(window.closes_at(now, zone))
            .min();
    }
    Ok(closes_at)
}
