use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Failure;
use super::context::{Context, spool_folder};
use super::run::{exit_code, host, tell, worse};
use super::signals::Signals;
use crate::execute::Live;
use crate::history::{Occurrence, OccurrenceStatus, Recorder, RunRecord};
use crate::report::text::run_summary;
use crate::scheduler::{
    Happened, Options, PipelineWorker, Scheduler, SystemClock, Watcher, with_reports,
};

/// Longer than a schedule takes to see that the one before has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(2_500);

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

/// Carries out everything that is due, once, and whatever falls due by that.
/// One CronJob that calls this every few minutes does the whole calendar.
pub(super) async fn run(context: &Context<'_>) -> Result<u8, Failure> {
    let config = Arc::new(context.config()?);
    let store = context.history(&config).await?;
    let spool = spool_folder(&config);
    let recorder = Arc::new(Recorder::start(Arc::clone(&store), spool));
    let grace = config.tasks.values().map(|task| task.limits.grace.get());
    let signals = Signals::listen(grace.max().unwrap_or_default());
    let notes = Arc::new(Notes::default());
    let worker = Arc::new(PipelineWorker::new(
        Arc::clone(&recorder),
        Arc::clone(&notes) as _,
        host(),
        Live::default(),
        Arc::new(context.teller(&config)),
        context.templates(&config),
    ));
    let mut scheduler = Scheduler::new(
        Arc::new(with_reports(&config)),
        Arc::clone(&store),
        Arc::new(SystemClock),
        Arc::clone(&worker) as _,
        Arc::clone(&notes) as _,
        Options::for_host(&host()),
        signals.stop.clone(),
    )
    .await?;
    loop {
        let ticked = scheduler.tick().await?;
        let worked = scheduler.at_work() > 0;
        scheduler.idle().await;
        if signals.stop.is_stopping() || (!worked && ticked.looked_at == 0) {
            break;
        }
        if !worked {
            // What waits for its window or its jitter is left to the next call.
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    tell(&worker.teller(), store.as_ref()).await;
    store.close().await;
    let notes = notes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (runs, occurrences, _) = &*notes;
    let missed = |one: &&Occurrence| one.status == OccurrenceStatus::Missed;
    let code = runs.iter().fold(0, |code, run| {
        worse(code, exit_code(&run.status, false, &signals.stop))
    });
    if context.json() {
        outln!(
            "{}",
            serde_json::json!({ "runs": runs, "occurrences": occurrences })
        );
        return Ok(code);
    }
    let style = context.style(config.timezone);
    for run in runs {
        outln!("{}", run_summary(run, &style));
    }
    for one in occurrences.iter().filter(missed) {
        outln!(
            "{} of {}: missed: {}",
            one.schedule,
            one.scheduled_for
                .with_timezone(&config.timezone)
                .format("%a %Y-%m-%d %H:%M %Z"),
            one.reason.as_deref().unwrap_or_default()
        );
    }
    if occurrences.is_empty() {
        outln!("nothing is due");
    }
    Ok(code)
}
