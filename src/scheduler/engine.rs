//! Looks at the calendar, and has what is due claimed or written down.

mod claims;
mod clocks;
mod look;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::job::{Happened, Watcher, Worker};
use super::{Clock, Running, definitions, zone_of};
use crate::config::Config;
use crate::execute::Stop;
use crate::history::{HistoryError, Occurrence, Store};

pub use clocks::{set_right, times_ahead, troubles};

/// A clock that goes back further than this has been set.
const CLOCK_SET_BACK: TimeDelta = TimeDelta::seconds(2);

/// After so long without a sign of life the claims of an instance may be taken over.
pub const LEASE: Duration = Duration::from_secs(60);

/// How this instance takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who we are: unique among all instances that ever were.
    pub owner: String,
    /// Tells machines apart that share a configuration.
    pub seed: String,
    /// After so long without a sign of life our claims may be taken over.
    pub lease: Duration,
    /// Nothing but this schedule is looked after here.
    pub only: Option<String>,
}

impl Options {
    /// What an instance on this host uses.
    pub fn for_host(host: &str) -> Options {
        Options {
            owner: format!("{host}/{}", Uuid::now_v7()),
            seed: host.to_owned(),
            lease: LEASE,
            only: None,
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
    /// What that waits for, in words.
    waits_for: Option<String>,
    /// The lease of the one before as it was when its successor began to wait.
    lease_seen: Option<DateTime<Utc>>,
}

impl State {
    /// Whether the one before is really at work: its owner is this instance,
    /// or has renewed the lease since the successor is due. A lease alone
    /// also holds for a while after its owner has died. What was taken over
    /// from the dead is late through no fault of the schedule: its successor
    /// waits for it.
    fn running(&self, one: &Occurrence, owner: &str) -> Running {
        let renewed = || {
            let (seen, now) = (self.lease_seen, one.lease_until);
            seen.is_some_and(|seen| now.is_some_and(|now| now > seen))
        };
        let ours = one.claimed_by.as_deref() == Some(owner);
        match one.claims == 1 && (ours || renewed()) {
            true => Running::AtWork(one.scheduled_for),
            false => Running::Unproven(one.scheduled_for),
        }
    }
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
    clocks: clocks::Clocks,
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
            clocks: clocks::Clocks::default(),
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
        self.look_at_clocks().await?;
        self.know(config).await
    }

    /// Asks the history since when the schedules are known.
    async fn know(&mut self, config: Arc<Config>) -> Result<(), HistoryError> {
        let mut listed = definitions(&config);
        if let Some(only) = &self.options.only {
            // Others become known when they are called for themselves: known from now on, what
            // they are due for at this minute would be nobody's concern.
            let after = config.schedules.get(only).map(|one| &one.after);
            listed.retain(|(name, _)| {
                name == only || after.is_some_and(|after| after.contains(name))
            });
        }
        // Instances whose clocks differ must not make each other's schedules begin ahead of time.
        let since = self.by_the_history();
        let known = self.store.know_schedules(&listed, since).await?;
        self.config = config;
        self.states = known
            .into_iter()
            .map(|(name, since)| {
                let state = self.states.remove(&name).unwrap_or_default();
                (name, State { since, ..state })
            })
            .collect();
        self.look_at_everything(self.now());
        Ok(())
    }

    /// Takes an occurrence of the only schedule that is at most `within` old for one that is on
    /// time: it is what this instance was started for.
    pub fn called_for(&mut self, within: TimeDelta) {
        let now = self.now();
        if let Some(name) = &self.options.only
            && let Some(schedule) = self.config.schedules.get(name)
            && let Some(state) = self.states.get_mut(name)
        {
            let latest = schedule
                .cron
                .latest_at_or_before(now, zone_of(&self.config, schedule));
            state.attended = latest.filter(|at| now - *at <= within);
        }
        self.look_at_everything(now);
    }

    /// What the only schedule waits for with an occurrence that is due, in words.
    pub fn waits_for(&self) -> Option<&str> {
        let name = self.options.only.as_ref()?;
        let state = self.states.get(name)?;
        state.attended?;
        Some(state.waits_for.as_deref().unwrap_or("its turn"))
    }

    /// Which schedules have an occurrence that is due and waits, and for what, in words; by their names.
    pub fn waiting(&self) -> Vec<(String, String)> {
        let waits = self
            .states
            .iter()
            .filter(|(_, state)| state.attended.is_some());
        let mut all: Vec<(String, String)> = waits
            .map(|(name, state)| {
                let what = state.waits_for.as_deref().unwrap_or("its turn");
                (name.clone(), what.to_owned())
            })
            .collect();
        all.sort();
        all
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
        if self.look_at_clocks().await? {
            self.know(Arc::clone(&self.config)).await?;
        }
        let now = self.now();
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
        let only = self.options.only.as_ref();
        let looked_after = |name: &&String| only.is_none_or(|only| only == *name);
        let names = self.states.keys().filter(looked_after).cloned().collect();
        self.wakes = BTreeMap::from([(now, names)]);
    }

    fn wake_at(&mut self, name: &str, at: Option<DateTime<Utc>>) {
        if let Some(at) = at {
            self.wakes.entry(at).or_default().push(name.to_owned());
        }
    }
}
