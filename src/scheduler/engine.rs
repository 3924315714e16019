//! Looks at the calendar, claims what is due, and follows it to its end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::job::{Happened, Job, Outcome, Watcher, Worker};
use super::{Before, Clock, Decision, Known, definitions, due, jitter, zone_of};
use crate::config::{Config, Event, Schedule};
use crate::execute::{Stop, StopReason};
use crate::history::{
    Claim, Ended, HistoryError, Notice, Occurrence, OccurrenceFilter, OccurrenceStatus, Pause,
    Store,
};

/// A clock that goes back further than this has been set.
const CLOCK_SET_BACK: TimeDelta = TimeDelta::seconds(2);

/// Pause between two tries to record an end.
const FINISH_AGAIN: Duration = Duration::from_secs(2);

/// How this instance takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who we are: unique among all instances that ever were.
    pub owner: String,
    /// Tells machines apart that share a configuration.
    pub seed: String,
    /// After so long without a sign of life our claims may be taken over.
    pub lease: Duration,
}

impl Options {
    /// What an instance on this host uses.
    pub fn for_host(host: &str) -> Options {
        Options {
            owner: format!("{host}/{}", Uuid::now_v7()),
            seed: host.to_owned(),
            lease: Duration::from_secs(60),
        }
    }
}

/// What one look at the calendar brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Occurrences that were begun.
    pub started: usize,
    /// Schedules with an occurrence that is due and has to wait.
    pub waiting: usize,
    /// Schedules that were looked at.
    pub looked_at: usize,
}

#[derive(Clone, Debug, Default)]
struct State {
    since: DateTime<Utc>,
    attended: Option<DateTime<Utc>>,
}

/// One instance. Any number of them may share a history.
pub struct Scheduler {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    worker: Arc<dyn Worker>,
    watcher: Arc<dyn Watcher>,
    options: Options,
    stop: Stop,
    states: HashMap<String, State>,
    /// When which schedules are to be looked at.
    wakes: BTreeMap<DateTime<Utc>, Vec<String>>,
    last_tick: Option<DateTime<Utc>>,
    last_orphans: Option<DateTime<Utc>>,
    tracker: TaskTracker,
}

impl Scheduler {
    /// Takes the schedules of `config` up. Those never seen before are known
    /// from now on.
    ///
    /// # Errors
    /// When the history cannot be used.
    pub async fn new(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        worker: Arc<dyn Worker>,
        watcher: Arc<dyn Watcher>,
        options: Options,
        stop: Stop,
    ) -> Result<Scheduler, HistoryError> {
        let mut scheduler = Scheduler {
            config: Arc::clone(&config),
            store,
            clock,
            worker,
            watcher,
            options,
            stop,
            states: HashMap::new(),
            wakes: BTreeMap::new(),
            last_tick: None,
            last_orphans: None,
            tracker: TaskTracker::new(),
        };
        scheduler.reload(config).await?;
        Ok(scheduler)
    }

    /// Goes on with another configuration. What runs is not disturbed.
    ///
    /// # Errors
    /// When the history cannot be used; then the old one stays.
    pub async fn reload(&mut self, config: Arc<Config>) -> Result<(), HistoryError> {
        let now = self.clock.now();
        let known = self
            .store
            .know_schedules(&definitions(&config), now)
            .await?;
        self.config = config;
        self.states = known
            .into_iter()
            .map(|(name, since)| {
                let attended = self.states.get(&name).and_then(|state| state.attended);
                (name, State { since, attended })
            })
            .collect();
        self.look_at_everything(now);
        Ok(())
    }

    /// The configuration that is in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Resolves when nothing of ours runs any more.
    pub async fn idle(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }

    /// How many occurrences of ours are at work.
    pub fn at_work(&self) -> usize {
        self.tracker.len()
    }

    /// Looks at the calendar once: records what was missed, and begins what
    /// is due.
    ///
    /// # Errors
    /// When the history cannot be used; the same is done again next time.
    pub async fn tick(&mut self) -> Result<Ticked, HistoryError> {
        let now = self.clock.now();
        if self
            .last_tick
            .is_some_and(|last| now < last - CLOCK_SET_BACK)
        {
            tracing::warn!("the clock was set back: the calendar is looked through again");
            self.look_at_everything(now);
        }
        self.last_tick = Some(now);
        let mut ticked = Ticked::default();
        if !self.stop.is_stopping() {
            ticked.started += self.take_over(now).await?;
            self.what_is_due(now, &mut ticked).await?;
        }
        self.watcher.on(Happened::Ticked);
        Ok(ticked)
    }

    fn look_at_everything(&mut self, now: DateTime<Utc>) {
        let names = self.states.keys().cloned().collect();
        self.wakes = BTreeMap::from([(now, names)]);
    }

    fn wake_at(&mut self, name: &str, at: Option<DateTime<Utc>>) {
        if let Some(at) = at {
            self.wakes.entry(at).or_default().push(name.to_owned());
        }
    }

    async fn what_is_due(
        &mut self,
        now: DateTime<Utc>,
        ticked: &mut Ticked,
    ) -> Result<(), HistoryError> {
        let mut names = Vec::new();
        while let Some(entry) = self.wakes.first_entry().filter(|entry| *entry.key() <= now) {
            names.extend(entry.remove());
        }
        if names.is_empty() {
            return Ok(());
        }
        names.sort();
        names.dedup();
        // Whatever goes wrong from here on, they are looked at again.
        let looked = self.look_at(&names, now, ticked).await;
        if looked.is_err() {
            for name in &names {
                self.wake_at(name, Some(now));
            }
        }
        looked
    }

    async fn look_at(
        &mut self,
        names: &[String],
        now: DateTime<Utc>,
        ticked: &mut Ticked,
    ) -> Result<(), HistoryError> {
        let newest = self.store.newest_occurrences(names, now, now).await?;
        let pauses: HashMap<String, Pause> = self
            .store
            .pauses()
            .await?
            .into_iter()
            .map(|pause| (pause.schedule.clone(), pause))
            .collect();
        let filter = OccurrenceFilter {
            statuses: vec![OccurrenceStatus::Running],
            ..OccurrenceFilter::default()
        };
        let running: HashMap<String, DateTime<Utc>> = self
            .store
            .occurrences(&filter)
            .await?
            .into_iter()
            .map(|one| (one.schedule, one.scheduled_for))
            .collect();
        let config = Arc::clone(&self.config);
        for name in names {
            let Some(schedule) = config.schedules.get(name) else {
                continue;
            };
            let Some(state) = self.states.get(name).cloned() else {
                continue;
            };
            ticked.looked_at += 1;
            let zone = zone_of(&config, schedule);
            let mut known = Known {
                since: state.since,
                newest: newest.get(name).map(|one| one.scheduled_for),
                running: running.get(name).copied(),
                pause: pauses.get(name),
                attended: state.attended,
                before: Before::Done,
            };
            let mut due_now = due(schedule, zone, &self.options.seed, &known, now);
            if let Some(Decision::Start { at, .. }) = due_now.decisions.last()
                && !schedule.after.is_empty()
            {
                known.before = self.before(&config, schedule, *at).await?;
                due_now = due(schedule, zone, &self.options.seed, &known, now);
            }
            ticked.waiting += usize::from(due_now.waiting.is_some());
            self.record(schedule, &due_now.decisions, now).await?;
            if let Some(Decision::Start { at, catch_up }) = due_now.decisions.last()
                && self.begin(schedule, *at, *catch_up, now).await?
            {
                ticked.started += 1;
            }
            if let Some(state) = self.states.get_mut(name) {
                state.attended = due_now.waiting;
            }
            self.wake_at(name, due_now.wake);
        }
        Ok(())
    }

    /// How the schedules of `after` stand to an occurrence.
    async fn before(
        &self,
        config: &Config,
        schedule: &Schedule,
        at: DateTime<Utc>,
    ) -> Result<Before, HistoryError> {
        let newest = self
            .store
            .newest_occurrences(&schedule.after, at, self.clock.now())
            .await?;
        let mut standing = Before::Done;
        for name in &schedule.after {
            let Some(other) = config.schedules.get(name).filter(|other| other.enabled) else {
                continue;
            };
            let since = self.states.get(name).map(|state| state.since);
            let planned = other
                .cron
                .latest_at_or_before(at, zone_of(config, other))
                .filter(|planned| since.is_some_and(|since| *planned > since));
            let known = newest.get(name);
            if planned
                .is_some_and(|planned| known.is_none_or(|known| known.scheduled_for < planned))
            {
                standing = Before::Waiting(name.clone());
                continue;
            }
            match known.map(|known| (known.status, known.succeeded)) {
                None | Some((OccurrenceStatus::Ran | OccurrenceStatus::CaughtUp, Some(true))) => {}
                Some((OccurrenceStatus::Running, _)) => standing = Before::Waiting(name.clone()),
                Some((OccurrenceStatus::Ran | OccurrenceStatus::CaughtUp, _)) => {
                    return Ok(Before::Failed(format!("`{name}` did not succeed")));
                }
                Some((OccurrenceStatus::Skipped | OccurrenceStatus::Missed, _)) => {
                    return Ok(Before::Failed(format!("`{name}` did not run")));
                }
            }
        }
        Ok(standing)
    }

    /// Records what was skipped and missed, and keeps a notice of what nobody
    /// makes up for.
    async fn record(
        &self,
        schedule: &Schedule,
        decisions: &[Decision],
        now: DateTime<Utc>,
    ) -> Result<(), HistoryError> {
        let mut rows = Vec::new();
        let mut told = Vec::new();
        for decision in decisions {
            let (at, status, reason) = match decision {
                Decision::Start { .. } => continue,
                Decision::Skip { at, reason } => (*at, OccurrenceStatus::Skipped, reason),
                Decision::Miss {
                    at,
                    reason,
                    covered,
                } => {
                    if !covered {
                        told.push(*at);
                    }
                    (*at, OccurrenceStatus::Missed, reason)
                }
            };
            rows.push(Occurrence {
                schedule: schedule.name.clone(),
                scheduled_for: at,
                status,
                catch_up: false,
                claimed_by: None,
                lease_until: None,
                claims: 0,
                recorded_at: now,
                finished_at: Some(now),
                succeeded: None,
                reason: Some(reason.clone()),
                runs: Vec::new(),
            });
        }
        if rows.is_empty() {
            return Ok(());
        }
        let new = self.store.record_occurrences(&rows).await?;
        for one in &new {
            self.watcher.on(Happened::Over(one));
        }
        // Only who recorded them tells: somebody else may have been faster.
        let missed: Vec<&Occurrence> = new
            .iter()
            .filter(|one| told.contains(&one.scheduled_for))
            .collect();
        self.tell(schedule, &missed, now).await
    }

    async fn tell(
        &self,
        schedule: &Schedule,
        missed: &[&Occurrence],
        now: DateTime<Utc>,
    ) -> Result<(), HistoryError> {
        let (Some(first), Some(last)) = (missed.first(), missed.last()) else {
            return Ok(());
        };
        let notify = self.config.notify.as_ref();
        if !notify.is_some_and(|notify| notify.on.contains(&Event::Missed)) {
            return Ok(());
        }
        let zone = zone_of(&self.config, schedule);
        let shown = |one: &Occurrence| {
            one.scheduled_for
                .with_timezone(&zone)
                .format("%Y-%m-%d %H:%M %Z")
                .to_string()
        };
        let reason = last.reason.clone().unwrap_or_default();
        let text = match missed.len() {
            1 => format!(
                "`{}` did not run at {}: {reason}",
                schedule.name,
                shown(last)
            ),
            many => format!(
                "`{}` did not run {many} times, from {} to {}: {reason}",
                schedule.name,
                shown(first),
                shown(last)
            ),
        };
        let notices: Vec<Notice> = schedule
            .tasks
            .iter()
            .map(|task| Notice {
                id: Uuid::now_v7(),
                at: now,
                event: "missed".to_owned(),
                task: task.clone(),
                target: self
                    .config
                    .tasks
                    .get(task)
                    .map_or_else(String::new, |task| task.target.clone()),
                schedule: Some(schedule.name.clone()),
                run: None,
                text: text.clone(),
            })
            .collect();
        self.store.add_notices(&notices).await
    }

    /// Claims an occurrence and sets it off; `false` where somebody else was
    /// faster.
    async fn begin(
        &self,
        schedule: &Schedule,
        at: DateTime<Utc>,
        catch_up: bool,
        now: DateTime<Utc>,
    ) -> Result<bool, HistoryError> {
        let claim = Claim {
            schedule: schedule.name.clone(),
            scheduled_for: at,
            catch_up,
            owner: self.options.owner.clone(),
            lease: self.options.lease,
            now: self.clock.now(),
        };
        let Some(occurrence) = self.store.claim_occurrence(&claim).await? else {
            return Ok(false);
        };
        // What waited for a window or for another schedule was not late.
        let waits = schedule.window.is_some() || !schedule.after.is_empty();
        let attended = self
            .states
            .get(&schedule.name)
            .and_then(|state| state.attended);
        let late = match waits && attended == Some(at) {
            true => TimeDelta::zero(),
            false => now - at - jitter(schedule, &self.options.seed),
        };
        self.watcher.on(Happened::Started(&occurrence, late));
        let job = Job {
            config: Arc::clone(&self.config),
            schedule: schedule.clone(),
            at,
            catch_up: occurrence.catch_up,
            claims: occurrence.claims,
            stop: self.stop.part(),
        };
        let following = Following {
            store: Arc::clone(&self.store),
            watcher: Arc::clone(&self.watcher),
            claim,
            occurrence,
        };
        let worker = Arc::clone(&self.worker);
        self.tracker.spawn(async move {
            following.follow(worker, job).await;
        });
        Ok(true)
    }

    /// Goes on with what a dead instance left.
    async fn take_over(&mut self, now: DateTime<Utc>) -> Result<usize, HistoryError> {
        let every = TimeDelta::from_std(self.options.lease / 4).unwrap_or(TimeDelta::seconds(15));
        if self
            .last_orphans
            .is_some_and(|last| now - last < every && now >= last)
        {
            return Ok(0);
        }
        let mut taken = 0;
        for orphan in self.store.orphaned_occurrences().await? {
            let known = self.config.schedules.get(&orphan.schedule);
            if let Some(schedule) = known.filter(|schedule| schedule.enabled).cloned() {
                let begun = self
                    .begin(&schedule, orphan.scheduled_for, orphan.catch_up, now)
                    .await?;
                taken += usize::from(begun);
            } else {
                self.bury(&orphan).await?;
            }
        }
        self.last_orphans = Some(now);
        Ok(taken)
    }

    /// Ends a claim of a schedule that is no longer there.
    async fn bury(&self, orphan: &Occurrence) -> Result<(), HistoryError> {
        let claim = Claim {
            schedule: orphan.schedule.clone(),
            scheduled_for: orphan.scheduled_for,
            catch_up: orphan.catch_up,
            owner: self.options.owner.clone(),
            lease: self.options.lease,
            now: self.clock.now(),
        };
        if self.store.claim_occurrence(&claim).await?.is_some() {
            let ended = Ended {
                status: OccurrenceStatus::Ran,
                succeeded: Some(false),
                reason: Some("its process died, and the schedule is gone".to_owned()),
                runs: orphan.runs.clone(),
            };
            self.store.finish_occurrence(&claim, &ended).await?;
        }
        Ok(())
    }
}

/// What is needed to see a claimed occurrence through.
struct Following {
    store: Arc<dyn Store>,
    watcher: Arc<dyn Watcher>,
    claim: Claim,
    occurrence: Occurrence,
}

impl Following {
    /// Keeps the claim while the worker is at it, and records the end.
    async fn follow(self, worker: Arc<dyn Worker>, job: Job) {
        let stop = job.stop.clone();
        let mut work = worker.carry_out(job);
        let mut renewals = tokio::time::interval(self.claim.lease / 3);
        renewals.tick().await;
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                _ = renewals.tick() => match self.store.renew_occurrence(&self.claim).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::error!(
                            schedule = self.claim.schedule,
                            "another instance has taken the occurrence over; what runs here is stopped"
                        );
                        stop.at_once(StopReason::ClaimLost);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a claim could not be renewed");
                        self.watcher.on(Happened::HistoryFailed);
                    }
                },
            }
        };
        match outcome {
            Outcome::Ended(ended) => self.finish(ended).await,
            Outcome::Unfinished => {
                // Somebody else may go on at once.
                let over = Claim {
                    lease: Duration::ZERO,
                    ..self.claim.clone()
                };
                if let Err(error) = self.store.renew_occurrence(&over).await {
                    tracing::warn!(%error, "a claim could not be given up; it will run out");
                }
            }
        }
    }

    /// Tries for as long as the claim is surely ours.
    async fn finish(self, ended: Ended) {
        let began = tokio::time::Instant::now();
        loop {
            match self.store.finish_occurrence(&self.claim, &ended).await {
                Ok(_) => {
                    let over = Occurrence {
                        status: ended.status,
                        succeeded: ended.succeeded,
                        reason: ended.reason,
                        runs: ended.runs,
                        ..self.occurrence
                    };
                    self.watcher.on(Happened::Over(&over));
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the end of an occurrence could not be recorded");
                    self.watcher.on(Happened::HistoryFailed);
                    if began.elapsed() > self.claim.lease * 10 {
                        return;
                    }
                    tokio::time::sleep(FINISH_AGAIN).await;
                }
            }
        }
    }
}
