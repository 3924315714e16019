//! Several tasks, one after another, each on several of its targets at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::exit::{exit_code, signal_code, worse};
use super::pings::Pings;
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::cli::documents::{self, NotStarted};
use crate::cli::screen::{Bars, Screen};
use crate::config::{Config, Target, Task};
use crate::execute::{Observer, Shared, Silent, Stop};
use crate::history::{Kept, Recorder, RunRecord, RunStatus, StepStatus, Store, Trigger};
use crate::notify::{Teller, schedule_of};
use crate::pipeline::PipelineError;
use crate::pipeline::{self, Among, Approved, Lanes, Request, Surroundings};
use crate::plan::{Finding, Saved, SavedPlan};
use crate::report::text::{Style, run_summary};
use crate::scheduler::{DueNow, due_now};
use crate::values::{host, wall_clock};

/// What came of several tasks.
pub(in crate::cli) struct Ran {
    /// The exit code.
    pub(in crate::cli) code: u8,
    /// The runs, in order.
    pub(in crate::cli) records: Vec<RunRecord>,
}

/// How tasks are run by hand.
#[derive(Clone, Copy)]
pub(in crate::cli) struct How<'a> {
    /// Whatever window and schedule say.
    pub(super) now: bool,
    /// Exactly these steps.
    pub(super) approved: Option<&'a Saved>,
    /// Who asks for them.
    pub(super) trigger: Trigger,
}

impl How<'_> {
    /// With plans made from what is there.
    pub(in crate::cli) fn at(now: bool) -> Self {
        How {
            now,
            approved: None,
            trigger: Trigger::Manual,
        }
    }

    /// Because a schedule says so, whose calendar cannot be asked.
    pub(in crate::cli) fn by_schedule() -> Self {
        How {
            trigger: Trigger::Schedule,
            ..How::at(false)
        }
    }
}

/// Runs the tasks one after another, each on several of its targets at once,
/// and prints what came of each.
pub(in crate::cli) async fn run_all(
    context: &Context<'_>,
    config: &Config,
    work: Vec<(Arc<Task>, Target)>,
    how: How<'_>,
    stop: &Stop,
) -> Result<Ran, Failure> {
    let history = context.recorder(config).await?;
    let store = Arc::clone(history.store());
    let teller = Arc::new(context.teller(config));
    let running = Running {
        context,
        config,
        how,
        stop,
        style: context.style(config.timezone),
        pings: Pings::new(&teller),
        bars: Bars::new(),
        history: Arc::clone(&history),
        teller: Arc::clone(&teller),
        refused: Mutex::default(),
        quiet: Mutex::default(),
        changed: Mutex::default(),
    };
    let mut code = 0;
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for of_one_task in work.chunk_by(|(a, _), (b, _)| a.name == b.name) {
        let Some((task, _)) = of_one_task.first() else {
            continue;
        };
        let lanes = Lanes::of(&task.limits);
        let spread = running.spread(of_one_task).await;
        code = worse(code, spread.code);
        let of_one_task = &spread.work;
        let named = of_one_task.len() > 1;
        let among = running.share(task, of_one_task).await;
        let shared = among.shared.as_ref();
        let in_turn = among.order.iter();
        let in_turn = in_turn.filter_map(|n| Some((*n, of_one_task.get(*n)?)));
        let tried = in_turn.map(|(n, work)| {
            let (running, lanes) = (&running, &lanes);
            async move {
                let (task, target) = (&*work.task, &work.target);
                let _leave = lanes.enter(target, &task.limits, running.stop).await;
                let one = running.one(work, named, shared).await;
                if let Some(shared) = shared {
                    shared.release(&target.name);
                }
                (n, one)
            }
        });
        let mut tried = stream::iter(tried).buffer_unordered(of_one_task.len().max(1));
        done.extend(spread.records);
        let mut records = Vec::new();
        while let Some((n, one)) = tried.next().await {
            match one {
                Ok((more, record)) => {
                    code = worse(code, more);
                    records.extend(record.map(|record| (n, record)));
                }
                // What is wrong with one target is no reason to leave the others.
                Err(failure) if named => {
                    let target = &of_one_task[n].target;
                    let what = format!("{} on {}", task.name, target.name);
                    let hint = failure.hint();
                    running.refuse(task, target, &what, &failure.to_string(), hint.as_deref());
                    failures.push(failure);
                }
                Err(failure) => {
                    running.pings.finish();
                    teller.pinged(stop).await;
                    return Err(failure);
                }
            }
        }
        running.say_folded(&task.name);
        records.sort_by_key(|(n, _)| *n);
        done.extend(records.into_iter().map(|(_, record)| record));
    }
    running.pings.finish();
    match history.settle().await {
        Some(kept) => code = worse(code, say_kept(&kept)),
        None => {
            if !tell(&teller, store.as_ref(), stop).await {
                code = worse(code, signal_code(stop));
            }
        }
    }
    teller.pinged(stop).await;
    store.close().await;
    if done.is_empty()
        && let Some(failure) = failures.pop()
    {
        return Err(failure);
    }
    for failure in &failures {
        code = worse(code, failure.code());
    }
    if context.json() {
        let refused = running
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        documents::print(&documents::Runs {
            runs: &done,
            not_started: &refused,
        });
    }
    Ok(Ran {
        code,
        records: done,
    })
}

/// What the runs of one call share.
struct Running<'a> {
    context: &'a Context<'a>,
    config: &'a Config,
    how: How<'a>,
    stop: &'a Stop,
    style: Style,
    pings: Pings<'a>,
    bars: Bars,
    history: Arc<Recorder>,
    teller: Arc<Teller>,
    /// What did not become a run, and why, for the JSON document.
    refused: Mutex<Vec<NotStarted>>,
    /// In how many databases of a server a task found nothing to do or to say, and in how many
    /// it has run.
    quiet: Mutex<BTreeMap<String, (usize, usize)>>,
    /// On which targets a step was begun.
    changed: Mutex<BTreeSet<String>>,
}

/// One task on one target, which stands for nothing else any more.
struct Work {
    task: Arc<Task>,
    target: Target,
    news: Vec<Finding>,
}

/// What one task is to do, the databases of its targets found out.
#[derive(Default)]
struct Spread {
    work: Vec<Work>,
    code: u8,
    records: Vec<RunRecord>,
}

impl Running<'_> {
    /// Says why there is no run.
    fn refuse(&self, task: &Task, target: &Target, what: &str, reason: &str, hint: Option<&str>) {
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
    async fn spread(&self, of_one_task: &[(Arc<Task>, Target)]) -> Spread {
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
                    DueNow::Now { scheduled_for, .. } => request.scheduled_for = scheduled_for,
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
    async fn share(&self, task: &Task, work: &[Work]) -> Among {
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
    fn say_folded(&self, task: &str) {
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
    async fn one(
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
                    closes_at,
                } => {
                    request.scheduled_for = scheduled_for;
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

/// How long messages may still be on their way once a signal has come.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Sends what is to be told. What could not be sent is kept, and said here. The answer is whether
/// a signal left it time to the end: whoever waits for us is not to wait for a mail server.
pub(in crate::cli) async fn tell(teller: &Teller, store: &dyn Store, stop: &Stop) -> bool {
    let late = async {
        stop.stopping().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        told = teller.tell(store, wall_clock(), false) => {
            match told {
                Ok(done) => {
                    for problem in done.problems {
                        errln!("note: a message was not sent: {problem}");
                    }
                }
                Err(error) => tracing::error!(%error, "messages could not be sent"),
            }
            true
        }
        () = late => {
            errln!("note: stopped before all messages were sent; they are kept, and go out with the next run");
            false
        }
    }
}

/// Says where records are that the history has not taken; the exit code that this means.
pub(in crate::cli) fn say_kept(kept: &Kept) -> u8 {
    match kept {
        Kept::InFile(kept) => {
            errln!(
                "note: the history could not be written; the records are in {} and go in with the next run",
                kept.display()
            );
            0
        }
        Kept::Nowhere => {
            errln!(
                "error: neither the history nor a file beside it could be written; what was done is told here and in the log, and nowhere else"
            );
            3
        }
    }
}
