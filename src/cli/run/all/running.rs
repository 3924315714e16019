//! What the runs of one call share, and one of them from its turn to what is printed of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::exit::{exit_code, signal_code, worse};
use super::super::pings::Pings;
use super::How;
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::cli::documents::NotStarted;
use crate::cli::screen::{Bars, Screen};
use crate::config::{Config, Target, Task};
use crate::execute::{Observer, Shared, Silent, Stop};
use crate::history::{Recorder, RunRecord, RunStatus, StepStatus};
use crate::notify::{Teller, schedule_of};
use crate::pipeline::{self, Among, Approved, PipelineError, Request, Surroundings};
use crate::plan::{Finding, SavedPlan};
use crate::report::text::{Style, run_summary};
use crate::scheduler::{DueNow, due_now};
use crate::values::host;

/// What the runs of one call share.
pub(super) struct Running<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) config: &'a Config,
    pub(super) how: How<'a>,
    pub(super) stop: &'a Stop,
    pub(super) style: Style,
    pub(super) pings: Pings<'a>,
    pub(super) bars: Bars,
    pub(super) history: Arc<Recorder>,
    pub(super) teller: Arc<Teller>,
    /// What did not become a run, and why, for the JSON document.
    pub(super) refused: Mutex<Vec<NotStarted>>,
    /// In how many databases of a server a task found nothing to do or to say, and in how many
    /// it has run.
    pub(super) quiet: Mutex<BTreeMap<String, (usize, usize)>>,
    /// On which targets a step was begun.
    pub(super) changed: Mutex<BTreeSet<String>>,
}

/// One task on one target, which stands for nothing else any more.
pub(super) struct Work {
    pub(super) task: Arc<Task>,
    pub(super) target: Target,
    news: Vec<Finding>,
}

/// What one task is to do, the databases of its targets found out.
#[derive(Default)]
pub(super) struct Spread {
    pub(super) work: Vec<Work>,
    pub(super) code: u8,
    pub(super) records: Vec<RunRecord>,
}

impl Running<'_> {
    /// Says why there is no run.
    pub(super) fn refuse(
        &self,
        task: &Task,
        target: &Target,
        what: &str,
        reason: &str,
        hint: Option<&str>,
    ) {
        let hint_text = hint.map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
        errln!("{what}: {reason}{hint_text}");
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.push(NotStarted {
            task: task.name.clone(),
            target: target.name.clone(),
            reason: reason.to_owned(),
            hint: hint.map(str::to_owned),
        });
    }

    /// Puts the databases in place of the targets that stand for them. Where those of one cannot
    /// be found out, that is a run that failed, and the others go on.
    pub(super) async fn spread(&self, of_one_task: &[(Arc<Task>, Target)]) -> Spread {
        let mut spread = Spread::default();
        for (task, target) in of_one_task {
            let one = |target: Target, news: Vec<Finding>| Work {
                task: Arc::clone(task),
                target,
                news,
            };
            if !target.is_many() || self.stop.is_stopping() {
                spread.work.push(one(target.clone(), Vec::new()));
                continue;
            }
            let mut request = self.request(task, target, &[]);
            if !self.how.now {
                match due_now(self.config, task, &target.name, &self.history).await {
                    DueNow::Now {
                        scheduled_for,
                        schedule,
                        ..
                    } => {
                        request.scheduled_for = scheduled_for;
                        request.schedule = schedule;
                    }
                    // That of the server is over; a database may still have to be looked after.
                    DueNow::Done(_) => {}
                    DueNow::Outside(text) => {
                        let what = format!("{} on {}", task.name, target.name);
                        let reason = format!("not started: {text}");
                        let hint = Some("`--now` runs it at once");
                        self.refuse(task, target, &what, &reason, hint);
                        spread.code = worse(spread.code, 4);
                        continue;
                    }
                }
            }
            let around = self.around(Arc::new(Silent));
            let seats = pipeline::seats(target, &task.limits, self.stop).await;
            let found = pipeline::discover(&request, &around).await;
            drop(seats);
            if let Some(record) = found.run {
                let unreachable = found.unreachable.is_some();
                let code = exit_code(&record.status, unreachable, &around.stop);
                spread.code = worse(spread.code, code);
                self.say(&record, found.unreachable.as_ref());
                spread.records.push(record);
            }
            let mut news = found.news;
            for target in found.targets {
                // The server's own run comes first, and tells them.
                spread.work.push(one(target, std::mem::take(&mut news)));
            }
        }
        spread
    }

    /// The order of the targets of a task, and the time that they have together. An approved plan
    /// says itself what is done.
    pub(super) async fn share(&self, task: &Task, work: &[Work]) -> Among {
        let targets: Vec<&Target> = work.iter().map(|one| &one.target).collect();
        let in_order = Among::in_order(work.len());
        if self.how.approved.is_some() || targets.len() < 2 {
            return in_order;
        }
        let mut closes_at = None;
        if !self.how.now {
            for target in &targets {
                match due_now(self.config, task, &target.name, &self.history).await {
                    DueNow::Now { closes_at: at, .. } => closes_at = at,
                    // Another one may still be due.
                    DueNow::Done(_) => continue,
                    // Each of them is told so.
                    DueNow::Outside(_) => return in_order,
                }
                break;
            }
        }
        let with = (self.history.as_ref(), self.stop);
        pipeline::share(task, &targets, closes_at, self.config.timezone, with).await
    }

    fn request<'r>(
        &'r self,
        task: &'r Task,
        target: &'r Target,
        news: &'r [Finding],
    ) -> Request<'r> {
        Request {
            task,
            target,
            trigger: self.how.trigger,
            scheduled_for: None,
            schedule: None,
            again: self.how.now,
            closes_at: None,
            zone: self.config.timezone,
            approved: self.how.approved.and_then(|saved| {
                let of = |plan: &&SavedPlan| plan.task == task.name && plan.target == target.name;
                let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
                Some(Approved {
                    plan: saved.plans.iter().find(of)?,
                    behind_own: changed.contains(&target.name),
                })
            }),
            patience: Duration::ZERO,
            news,
            shared: None,
        }
    }

    fn around(&self, observer: Arc<dyn Observer>) -> Surroundings {
        Surroundings {
            history: Arc::clone(&self.history),
            stop: self.stop.part(),
            observer,
            host: host(),
            teller: Some(Arc::clone(&self.teller)),
        }
    }

    /// Prints how a run has ended.
    fn say(&self, record: &RunRecord, unreachable: Option<&PipelineError>) {
        if self.context.json() {
            return;
        }
        let hint = unreachable
            .and_then(PipelineError::hint)
            .map_or_else(String::new, |hint| format!("  hint: {hint}\n"));
        // At once, so that what others say does not come in between.
        outln!(
            "{}{hint}",
            run_summary(record, self.config.engine_of(&record.target), &self.style)
        );
    }

    /// Whether a run is one of many databases in which nothing was to do or to say: such are
    /// told together.
    fn folds(&self, target: &Target, record: &RunRecord) -> bool {
        if target.database.is_none() {
            return false;
        }
        let quiet = record.status == RunStatus::Succeeded
            && record.steps.is_empty()
            && record.findings.is_empty();
        let mut all = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let (nothing, ran) = all.entry(target.server().to_owned()).or_default();
        *ran += 1;
        *nothing += usize::from(quiet);
        quiet
    }

    /// Tells them.
    pub(super) fn say_folded(&self, task: &str) {
        let all = std::mem::take(&mut *self.quiet.lock().unwrap_or_else(PoisonError::into_inner));
        for (server, (nothing, ran)) in all {
            if nothing > 0 && !self.context.json() {
                outln!(
                    "{}",
                    crate::report::text::folded(task, &server, nothing, ran, "nothing to do")
                );
            }
        }
    }

    /// One task on one target: its exit code, and its run where there was
    /// one. `named`: its lines say which target they are about.
    pub(super) async fn one(
        &self,
        work: &Work,
        named: bool,
        shared: Option<&Arc<Shared>>,
    ) -> Result<(u8, Option<RunRecord>), Failure> {
        let (task, target) = (&*work.task, &work.target);
        let what = match named {
            true => format!("{} on {}", task.name, target.name),
            false => task.name.clone(),
        };
        if self.stop.is_stopping() {
            self.refuse(
                task,
                target,
                &what,
                "not started: stopped by a signal",
                None,
            );
            return Ok((signal_code(self.stop), None));
        }
        let mut request = self.request(task, target, &work.news);
        request.shared = shared;
        if !self.how.now {
            match due_now(self.config, task, &target.name, &self.history).await {
                DueNow::Now {
                    scheduled_for,
                    schedule,
                    closes_at,
                } => {
                    request.scheduled_for = scheduled_for;
                    request.schedule = schedule;
                    request.closes_at = closes_at;
                }
                DueNow::Done(text) => {
                    let reason = format!("nothing to do: {text}");
                    self.refuse(task, target, &what, &reason, None);
                    return Ok((0, None));
                }
                // Its time was over before its turn: what it leaves has to come first next time.
                DueNow::Outside(_) if shared.is_some() => {}
                DueNow::Outside(text) => {
                    let reason = format!("not started: {text}");
                    self.refuse(
                        task,
                        target,
                        &what,
                        &reason,
                        Some("`--now` runs it at once"),
                    );
                    return Ok((4, None));
                }
            }
        }
        let observer: Arc<dyn Observer> = if self.context.json() {
            Arc::new(Silent)
        } else {
            Arc::new(Screen::new(
                &self.bars,
                target.engine,
                named.then_some(target.name.as_str()),
            ))
        };
        let around = self.around(observer);
        let schedule = schedule_of(self.config, &task.name, request.scheduled_for);
        self.pings.start(schedule);
        let ran = pipeline::run(&request, &around).await;
        self.pings
            .ended(schedule, ran.as_ref().ok().map(|(record, _)| record.status));
        let (record, unreachable) = ran?;
        if record
            .steps
            .iter()
            .any(|step| step.status != StepStatus::Skipped)
        {
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            changed.insert(target.name.clone());
        }
        let code = match &unreachable {
            // Nothing was out of reach: what the file says makes no sense.
            Some(PipelineError::Engine(error)) if error.is_address() => 2,
            other => exit_code(&record.status, other.is_some(), &around.stop),
        };
        if !self.folds(target, &record) {
            self.say(&record, unreachable.as_ref());
        }
        let failed = matches!(record.status, RunStatus::Failed | RunStatus::Partial);
        if failed && task.retries.max > 0 {
            errln!(
                "{what}: not tried again: `retries` (max: {}) hold for runs of a schedule (`maint serve`, `maint run --due`)",
                task.retries.max
            );
        }
        Ok((code, Some(record)))
    }
}
