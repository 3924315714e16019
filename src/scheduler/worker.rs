//! Carries an occurrence out: its tasks in their order, each on its targets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use uuid::Uuid;

use super::commands::{Around, Came, not_well};
use super::job::{Job, Outcome, Watcher, Worker};
use super::on_targets::{AtWork, Tried, open_windows};
use super::zone_of;
use crate::config::{Commands, Event, Target, Task, TaskWindow, had_a_chance};
use crate::execute::Live;
use crate::history::{Ended, Notice, OccurrenceStatus, Recorder};
use crate::notify::{Signal, Teller, post_report};
use crate::pipeline::Lanes;
use crate::plan::Finding;
use crate::report::{Asked, Templates};
use crate::values::{wall_clock, with_causes};

/// How the occurrences of a report are named, so that of several instances
/// one posts it.
pub(super) const REPORT: &str = "report:";

/// How long a report may still take once a signal has come.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Runs tasks the way `maint run` does.
pub struct PipelineWorker {
    history: Arc<Recorder>,
    watcher: Arc<dyn Watcher>,
    host: String,
    live: Live,
    words: Mutex<(Arc<Teller>, Templates)>,
    undone: Arc<AtomicBool>,
}

impl PipelineWorker {
    /// Records in `store`, counts with `watcher`, shows what is at work in
    /// `live`; `host` is the name of this machine.
    pub fn new(
        history: Arc<Recorder>,
        watcher: Arc<dyn Watcher>,
        host: String,
        live: Live,
        teller: Arc<Teller>,
        templates: Templates,
    ) -> PipelineWorker {
        PipelineWorker {
            history,
            watcher,
            host,
            live,
            words: Mutex::new((teller, templates)),
            undone: Arc::default(),
        }
    }

    /// Whether a signal left an occurrence to whoever comes next.
    pub fn left_undone(&self) -> bool {
        self.undone.load(Ordering::Relaxed)
    }

    /// Who tells people what happens.
    pub fn teller(&self) -> Arc<Teller> {
        self.words().0
    }

    /// Goes on with the words of another configuration.
    pub fn reload(&self, teller: &Teller, templates: Templates) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        *words = (Arc::new(teller.in_place_of(&words.0)), templates);
    }

    fn words(&self) -> (Arc<Teller>, Templates) {
        self.words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Worker for PipelineWorker {
    fn carry_out(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let (teller, templates) = self.words();
        let at_work = AtWork {
            history: Arc::clone(&self.history),
            watcher: Arc::clone(&self.watcher),
            host: self.host.clone(),
            live: self.live.clone(),
            teller,
            templates,
            job,
        };
        let undone = Arc::clone(&self.undone);
        Box::pin(async move {
            // A task of its own: a defect in one run takes down no other.
            match tokio::spawn(at_work.all()).await {
                Ok(outcome) => {
                    if outcome == Outcome::Unfinished {
                        undone.store(true, Ordering::Relaxed);
                    }
                    outcome
                }
                Err(error) => {
                    tracing::error!(%error, "a run ended by a defect of maint");
                    Outcome::Ended(Ended {
                        status: OccurrenceStatus::Ran,
                        succeeded: Some(false),
                        reason: Some("the run ended by a defect of maint".to_owned()),
                        runs: Vec::new(),
                    })
                }
            }
        })
    }
}

/// What an occurrence did not do, in sentences.
#[derive(Default)]
struct Left {
    /// It was this one's to do.
    missed: Vec<String>,
    /// No window was open between its time and the next one.
    later: Vec<String>,
}

impl AtWork {
    async fn all(self) -> Outcome {
        if let Some(name) = self.job.schedule.name.strip_prefix(REPORT) {
            let late = async {
                self.job.stop.stopping().await;
                tokio::time::sleep(LAST_WORDS).await;
            };
            // It only reads: whoever has the occurrence next makes it anew.
            return tokio::select! {
                ended = self.report(name) => Outcome::Ended(ended),
                () = late => Outcome::Unfinished,
            };
        }
        let schedule = &self.job.schedule.name;
        self.teller.ping(schedule, Signal::Start);
        let outcome = self.surrounded().await;
        if let Outcome::Ended(ended) = &outcome {
            let signal = match (ended.status, ended.succeeded) {
                // Whoever waits for a word of success is not to be told of one.
                (OccurrenceStatus::Skipped, _) => None,
                (_, Some(true)) => Some(Signal::Success),
                _ => Some(Signal::Fail),
            };
            if let Some(signal) = signal {
                self.teller.ping(schedule, signal);
            }
        }
        outcome
    }

    /// Its tasks, between the programs of the schedule.
    async fn surrounded(&self) -> Outcome {
        let around = Around::of(&self.job);
        let mut said = match around.before().await {
            Ok(said) => said,
            // Whoever has the occurrence next begins with it.
            Err(_) if self.job.stop.is_stopping() => return Outcome::Unfinished,
            Err(why) => return self.nothing_done(why).await,
        };
        let mut failed = Vec::new();
        let Outcome::Ended(mut ended) = self.tasks(&mut failed).await else {
            return Outcome::Unfinished;
        };
        // Whoever is told by a program is told what of; else the runs themselves say it.
        if self.job.schedule.commands != Commands::default() {
            let left = ended.reason.take();
            let told: Vec<String> = not_well(&failed).into_iter().chain(left).collect();
            ended.reason = (!told.is_empty()).then(|| told.join("; "));
        }
        let after = around.after(&Came::of(&ended)).await;
        ended.succeeded = ended.succeeded.map(|well| well && after.well);
        said.extend(after.said);
        let reason = ended.reason.take().into_iter().chain(said);
        let reason = reason.collect::<Vec<_>>().join("; ");
        ended.reason = (!reason.is_empty()).then_some(reason);
        Outcome::Ended(ended)
    }

    /// What comes before the tasks failed: none of them is run, and that is told.
    async fn nothing_done(&self, why: String) -> Outcome {
        let config = &self.job.config;
        tracing::warn!(schedule = self.job.schedule.name, "{why}");
        let tasks = self.job.schedule.tasks.iter();
        for task in tasks.filter_map(|name| config.tasks.get(name).filter(|task| task.enabled)) {
            self.tell_missed(task, format!("`{}` was not run: {why}", task.name))
                .await;
        }
        let mut ended = self.ended(false, Some(why), Vec::new());
        let after = Around::of(&self.job).after(&Came::of(&ended)).await;
        let told = ended.reason.take().into_iter().chain(after.said);
        ended.reason = Some(told.collect::<Vec<_>>().join("; "));
        Outcome::Ended(ended)
    }

    /// Posts a report; the letter goes with the others.
    async fn report(&self, name: &str) -> Ended {
        let config = &self.job.config;
        let posted = match config.reports.get(name) {
            None => Err(format!("there is no report `{name}`")),
            Some(report) => post_report(
                self.history.store().as_ref(),
                config,
                &self.templates,
                (name, report),
                Asked::Back(report.period),
                self.job.at,
            )
            .await
            .map_err(|error| with_causes(&error)),
        };
        if let Err(error) = &posted {
            tracing::error!(report = name, "{error}");
        }
        self.ended(posted.is_ok(), posted.err(), Vec::new())
    }

    fn ended(&self, well: bool, reason: Option<String>, runs: Vec<Uuid>) -> Ended {
        Ended {
            status: match self.job.catch_up {
                true => OccurrenceStatus::CaughtUp,
                false => OccurrenceStatus::Ran,
            },
            succeeded: Some(well),
            reason,
            runs,
        }
    }

    /// Carries out the tasks; `failed` gets the names of those that did not end well.
    async fn tasks(&self, failed: &mut Vec<String>) -> Outcome {
        let config = &self.job.config;
        let mut runs = Vec::new();
        let mut untouched = false;
        let mut left = Left::default();
        for name in &self.job.schedule.tasks {
            let Some(task) = config.tasks.get(name).filter(|task| task.enabled) else {
                continue;
            };
            if let Some(closed) = self.closed(task) {
                self.leave(task, closed, &mut left).await;
                continue;
            }
            let mut closed = None;
            let mut well = true;
            let mut all: Vec<(Target, Vec<Finding>)> = Vec::new();
            for name in &task.targets {
                if let Some(target) = config.targets.get(name).filter(|t| t.configured) {
                    let (targets, tried) = self.spread(task, target).await;
                    all.extend(targets);
                    runs.extend(tried.runs);
                    well &= !tried.failed;
                    untouched |= tried.untouched;
                    closed = closed.or(tried.closed);
                }
            }
            let lanes = Lanes::of(&task.limits);
            let among = self.share(task, &all).await;
            let shared = among.shared.as_ref();
            let mut targets: Vec<BoxFuture<'_, Tried>> = Vec::new();
            for (target, news) in among.order.iter().filter_map(|n| all.get(*n)) {
                let lanes = &lanes;
                targets.push(Box::pin(async move {
                    let _leave = lanes.enter(target, &task.limits, &self.job.stop).await;
                    let tried = self.one(task, target, news, shared).await;
                    if let Some(shared) = shared {
                        shared.release(&target.name);
                    }
                    tried
                }));
            }
            let many = targets.len().max(1);
            let mut tries = stream::iter(targets).buffer_unordered(many);
            while let Some(tried) = tries.next().await {
                runs.extend(tried.runs);
                well &= !tried.failed;
                untouched |= tried.untouched;
                closed = closed.or(tried.closed);
            }
            if let Some(closed) = closed {
                self.leave(task, closed, &mut left).await;
            }
            if !well {
                failed.push(name.clone());
            }
        }
        if untouched {
            return Outcome::Unfinished;
        }
        let missed = (!left.missed.is_empty()).then(|| left.missed.join("; "));
        if runs.is_empty()
            && failed.is_empty()
            && let Some(reason) = &missed
        {
            return Outcome::Ended(Ended {
                status: OccurrenceStatus::Missed,
                succeeded: None,
                reason: Some(reason.clone()),
                runs,
            });
        }
        if runs.is_empty() && failed.is_empty() && !left.later.is_empty() {
            return Outcome::Ended(Ended {
                status: OccurrenceStatus::Skipped,
                succeeded: None,
                reason: Some(left.later.join("; ")),
                runs,
            });
        }
        if runs.is_empty() && failed.is_empty() {
            return Outcome::Ended(Ended {
                status: OccurrenceStatus::Skipped,
                succeeded: None,
                reason: Some(
                    "there was nothing to run: its tasks are switched off, or have no target that is configured"
                        .to_owned(),
                ),
                runs,
            });
        }
        Outcome::Ended(self.ended(failed.is_empty() && missed.is_none(), missed, runs))
    }

    /// Why a task cannot run now, where a window is closed. What was at work before it may have
    /// taken the time that there was.
    fn closed(&self, task: &Task) -> Option<String> {
        // What an owner before us has done is done, whatever is closed by now.
        if self.job.stop.is_stopping() || self.job.claims > 1 {
            return None;
        }
        let zone = zone_of(&self.job.config, &self.job.schedule);
        open_windows(Some(&self.job.schedule), task, zone, wall_clock()).err()
    }

    /// Notes that a task did not run, and tells it where no later occurrence was to do it.
    async fn leave(&self, task: &Task, closed: String, left: &mut Left) {
        let (config, schedule) = (&self.job.config, &self.job.schedule);
        let text = format!("`{}` was not run: {closed}", task.name);
        let zone = zone_of(config, schedule);
        let next = schedule.cron.next_after(self.job.at, zone);
        let own = TaskWindow {
            task: task.name.clone(),
            window: task.window.clone(),
        };
        if !had_a_chance(schedule.window.as_ref(), &own, zone, (self.job.at, next)) {
            tracing::info!(schedule = schedule.name, "{text}");
            left.later.push(text);
            return;
        }
        tracing::warn!(schedule = schedule.name, "{text}");
        self.tell_missed(task, text.clone()).await;
        left.missed.push(text);
    }

    /// Tells who wants to hear of it that a task was not run.
    async fn tell_missed(&self, task: &Task, text: String) {
        let (config, schedule) = (&self.job.config, &self.job.schedule);
        let notify = config.notify.as_ref();
        if notify.is_some_and(|notify| notify.on.contains(&Event::Missed)) {
            let notice = Notice {
                id: Uuid::now_v7(),
                at: wall_clock(),
                event: "missed".to_owned(),
                task: task.name.clone(),
                target: task.target.clone(),
                schedule: Some(schedule.name.clone()),
                run: None,
                text: format!("`{}`: {text}", schedule.name),
            };
            self.history.add_notices(vec![notice]);
            self.history.settle().await;
        }
    }
}
