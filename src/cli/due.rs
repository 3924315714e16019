//! Carries out once whatever is due, for who has a scheduler already: it is called from outside,
//! and ends when the work has.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;

use super::Failure;
use super::context::{Context, spool_folder};
use super::documents;
use super::run::{How, exit_code, longest_grace, run_all, say_kept, signal_code, tell, worse};
use super::signals::Signals;
use crate::config::{Config, Schedule};
use crate::execute::Live;
use crate::history::{Ahead, Occurrence, OccurrenceStatus, Recorder, RunRecord, Store, Trigger};
use crate::report::text::run_summary;
use crate::scheduler::{
    Around, Came, Happened, LEASE, Options, PipelineWorker, Scheduler, SystemClock, Watcher,
    definitions, not_well, set_right, times_ahead, went_well, with_reports, zone_of,
};
use crate::values::{host, wall_clock, with_causes};

/// Longer than a schedule takes to see that the one before has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(2_500);

/// What is said of a schedule that has come to nothing.
const NOTHING_TO_RUN: &str =
    "there was nothing to run: its tasks are switched off, or have no target that is configured";

/// How long after its time an occurrence is still taken for the reason of the call: pods are
/// placed and images are pulled meanwhile.
const CALLED_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// Makes a schedule that nobody has heard of before known from just before the occurrence that it
/// is called for.
async fn just_due(config: &Config, name: &str, store: &dyn Store) -> Result<(), Failure> {
    let Some(schedule) = config.schedules.get(name) else {
        return Ok(());
    };
    let now = wall_clock();
    let latest = schedule
        .cron
        .latest_at_or_before(now, zone_of(config, schedule));
    if let Some(at) = latest.filter(|at| now - *at <= CALLED_WITHIN) {
        let known: Vec<_> = definitions(config)
            .into_iter()
            .filter(|(one, _)| one == name)
            .collect();
        let since = at - TimeDelta::seconds(1);
        // What a clock that was ahead has said of it does not cost the occurrence of this call.
        let mut ahead = times_ahead(store, now, LEASE).await?;
        ahead.retain(|one| one.what == Ahead::Known && one.schedule == name);
        set_right(store, &ahead, since, LEASE).await?;
        store.know_schedules(&known, since).await?;
    }
    Ok(())
}

/// What came of it, for the summary.
#[derive(Default)]
struct Notes(Mutex<(Vec<RunRecord>, Vec<Occurrence>, bool)>);

impl Watcher for Notes {
    fn on(&self, happened: Happened<'_>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match happened {
            Happened::Ran(run) => notes.0.push(run.clone()),
            Happened::Over(one) => notes.1.push(one.clone()),
            Happened::HistoryFailed => notes.2 = true,
            _ => {}
        }
    }
}

/// Of one schedule and one reason, more than a few are told with the first and the last of them:
/// after a long down-time there are thousands.
const MOST_MISSED: usize = 3;

fn not_run_lines(not_run: &[&Occurrence], zone: chrono_tz::Tz) -> Vec<String> {
    let shown = |one: &Occurrence| {
        let at = one.scheduled_for.with_timezone(&zone);
        at.format("%a %Y-%m-%d %H:%M %Z").to_string()
    };
    let of = |one: &Occurrence| (one.schedule.clone(), one.status, one.reason.clone());
    let same = |a: &&Occurrence, b: &&Occurrence| of(a) == of(b);
    let mut lines = Vec::new();
    for group in not_run.chunk_by(same) {
        if let [first, .., last] = group
            && group.len() > MOST_MISSED
        {
            lines.push(format!(
                "{}: {} {}, from {} to {}: {}",
                first.schedule,
                group.len(),
                first.status,
                shown(first),
                shown(last),
                first.reason.as_deref().unwrap_or_default()
            ));
            continue;
        }
        lines.extend(group.iter().map(|one| {
            let why = one.reason.as_deref().unwrap_or_default();
            format!("{} of {}: {}: {why}", one.schedule, shown(one), one.status)
        }));
    }
    lines
}

/// Carries out everything that is due, once, and whatever falls due by that.
/// One CronJob that calls this every few minutes does the whole calendar.
///
/// `only`: nothing but this schedule, for a scheduler that has an entry for each. It was called
/// because the schedule is due, so an occurrence of a moment ago is on time, whether or not
/// anybody knew of the schedule before.
pub(super) async fn run(context: &Context<'_>, only: Option<&str>) -> Result<u8, Failure> {
    let config = Arc::new(context.config().await?);
    let scheduled = Arc::new(with_reports(&config));
    if let Some(name) = only
        && !scheduled.schedules.contains_key(name)
    {
        return Err(super::context::unknown(
            "schedule",
            name,
            scheduled.schedules.keys(),
        ));
    }
    let store = match (context.history(&config).await, only) {
        (Err(Failure::History(error)), Some(name)) if error.is_away() => {
            return match config.schedules.get(name) {
                Some(schedule) if schedule.enabled => unclaimed(context, &config, schedule).await,
                // A report is made of what the history says.
                _ => Err(Failure::History(error)),
            };
        }
        (opened, _) => opened?,
    };
    let spool = spool_folder(&config);
    let recorder = Arc::new(Recorder::start(Arc::clone(&store), spool));
    let grace = config.tasks.values().map(|task| task.limits.grace.get());
    let signals = Signals::within(grace.max().unwrap_or_default());
    let notes = Arc::new(Notes::default());
    let worker = Arc::new(PipelineWorker::new(
        Arc::clone(&recorder),
        Arc::clone(&notes) as _,
        host(),
        Live::default(),
        Arc::new(context.teller(&config)),
        context.templates(&config),
    ));
    if let Some(name) = only {
        just_due(&scheduled, name, store.as_ref()).await?;
    }
    let mut scheduler = Scheduler::new(
        Arc::clone(&scheduled),
        Arc::clone(&store),
        Arc::new(SystemClock),
        Arc::clone(&worker) as _,
        Arc::clone(&notes) as _,
        Options {
            only: only.map(str::to_owned),
            ..Options::for_host(&host())
        },
        signals.stop.clone(),
    )
    .await?;
    scheduler.called_for(CALLED_WITHIN);
    let mut begun = false;
    let mut said: Option<String> = None;
    let cut_off = loop {
        match scheduler.tick().await {
            // What was done is told, and kept beside it.
            Err(error) if begun && error.is_away() => {
                tracing::warn!(error = %with_causes(&error), "what else is due is not known");
                break false;
            }
            ticked => ticked?,
        };
        let worked = scheduler.at_work() > 0;
        begun |= worked;
        // A look that a signal has cut short has not found out what is due.
        let looked = worked || !signals.stop.is_stopping();
        scheduler.idle().await;
        // What waits for its window or its jitter is left to the next call, unless that comes
        // only when the next occurrence is due.
        let waits = only.and(scheduler.waits_for());
        if signals.stop.is_stopping() {
            break waits.is_some() || !looked;
        }
        if !worked && waits.is_none() {
            break false;
        }
        signals.idle(waits.is_some());
        if let (Some(name), Some(waits)) = (only, waits)
            && said.as_deref() != Some(waits)
        {
            errln!("{name}: what is due waits for {waits}");
            said = Some(waits.to_owned());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = signals.stop.stopping() => {}
        }
        signals.idle(false);
    };
    let waiting: Vec<documents::Waiting> = scheduler
        .waiting()
        .into_iter()
        .map(|(schedule, waits_for)| documents::Waiting {
            schedule,
            waits_for,
        })
        .collect();
    let teller = worker.teller();
    let kept = recorder.settle().await;
    let told = kept.is_some() || tell(&teller, store.as_ref(), &signals.stop).await;
    teller.pinged(&signals.stop).await;
    store.close().await;
    let notes = notes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (runs, occurrences, _) = &*notes;
    let not_run = |one: &&Occurrence| {
        matches!(
            one.status,
            OccurrenceStatus::Missed | OccurrenceStatus::Skipped
        )
    };
    let mut code = runs.iter().fold(0, |code, run| {
        worse(code, exit_code(&run.status, false, &signals.stop))
    });
    // Its runs may have ended well, or not have begun: a program around them failed, or one of its
    // tasks found its window closed.
    let fell_short = |one: &&Occurrence| one.succeeded == Some(false) && one.reason.is_some();
    if occurrences.iter().any(|one| fell_short(&one)) {
        code = worse(code, 1);
    }
    // Whoever called is to call again: nobody has done what was waited with.
    if !told || cut_off || worker.left_undone() {
        code = worse(code, signal_code(&signals.stop));
    }
    if let Some(kept) = &kept {
        code = worse(code, say_kept(kept));
    }
    if context.json() {
        documents::print(&documents::DueRuns {
            runs,
            occurrences,
            waiting: &waiting,
        });
        return Ok(code);
    }
    let style = context.style(config.timezone);
    for run in runs {
        outln!(
            "{}",
            run_summary(run, config.engine_of(&run.target), &style)
        );
    }
    let not_run: Vec<&Occurrence> = occurrences.iter().filter(not_run).collect();
    for line in not_run_lines(&not_run, config.timezone) {
        outln!("{line}");
    }
    for one in occurrences.iter().filter(fell_short) {
        let why = one.reason.as_deref().unwrap_or_default();
        outln!("{}: {why}", one.schedule);
    }
    for one in &waiting {
        outln!("{}: due, and waits for {}", one.schedule, one.waits_for);
    }
    if occurrences.is_empty() && waiting.is_empty() {
        outln!("nothing is due");
    }
    Ok(code)
}

/// The tasks of a schedule that somebody calls for because it is due, while the history is away: the
/// occurrence is nobody's, since claims are rows there, and the tasks' own claims on the targets keep
/// two from working at once. What comes of them is recorded later, as what `maint run` does is; who then
/// makes up for the occurrence finds it done.
async fn unclaimed(
    context: &Context<'_>,
    config: &Config,
    schedule: &Schedule,
) -> Result<u8, Failure> {
    let enabled = |name: &&String| config.tasks.get(*name).is_some_and(|task| task.enabled);
    let names: Vec<String> = schedule.tasks.iter().filter(enabled).cloned().collect();
    let work = match names.is_empty() {
        true => Vec::new(),
        false => context.tasks(config, &names, None, &[])?,
    };
    if work.is_empty() {
        if context.json() {
            documents::print(&documents::DueRuns {
                runs: &[],
                occurrences: &[],
                waiting: &[],
            });
        } else {
            outln!("{}: {NOTHING_TO_RUN}", schedule.name);
        }
        return Ok(0);
    }
    let signals = Signals::within(longest_grace(&work));
    let now = wall_clock();
    let planned = schedule
        .cron
        .latest_at_or_before(now, zone_of(config, schedule));
    let around = Around {
        schedule,
        at: planned.unwrap_or(now),
        trigger: Trigger::Schedule,
        stop: &signals.stop,
    };
    let (mut code, mut runs) = (1, Vec::new());
    let error;
    match around.before().await {
        Ok(_) => {
            let ran = run_all(context, config, work, How::by_schedule(), &signals.stop).await?;
            let mut failed: Vec<String> = Vec::new();
            for run in ran.records.iter().filter(|run| !went_well(run.status)) {
                if !failed.contains(&run.task) {
                    failed.push(run.task.clone());
                }
            }
            error = not_well(&failed);
            (code, runs) = (ran.code, ran.records.iter().map(|run| run.id).collect());
        }
        Err(why) => {
            tracing::error!(schedule = schedule.name, "{why}");
            if signals.stop.is_stopping() {
                code = signal_code(&signals.stop);
            }
            error = Some(why);
        }
    }
    let came = Came {
        status: if code == 0 { "succeeded" } else { "failed" },
        runs: &runs,
        error: error.as_deref(),
    };
    match around.after(&came).await.well {
        true => Ok(code),
        false => Ok(worse(code, 1)),
    }
}
