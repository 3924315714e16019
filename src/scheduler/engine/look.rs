//! One look at the calendar: what is due is claimed and begun.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::super::{Before, Decision, Known, due, zone_of};
use super::{Scheduler, Ticked};
use crate::config::{Config, Schedule, windows_of};
use crate::history::{HistoryError, Occurrence, OccurrenceFilter, OccurrenceStatus, Pause};

impl Scheduler {
    pub(super) async fn what_is_due(
        &mut self,
        now: DateTime<Utc>,
        ticked: &mut Ticked,
    ) -> Result<(), HistoryError> {
        // After a long down-time not everything is decided at once, and the newest comes last: who
        // is called once has to get that far.
        while !self.stop.is_stopping() {
            let mut names = Vec::new();
            while let Some(entry) = self.wakes.first_entry().filter(|entry| *entry.key() <= now) {
                names.extend(entry.remove());
            }
            if names.is_empty() {
                break;
            }
            names.sort();
            names.dedup();
            // Whatever goes wrong from here on, they are looked at again.
            let looked = self.look_at(&names, now, ticked).await;
            if looked.is_err() {
                for name in &names {
                    self.wake_at(name, Some(now));
                }
                return looked;
            }
        }
        Ok(())
    }

    async fn look_at(
        &mut self,
        names: &[String],
        now: DateTime<Utc>,
        ticked: &mut Ticked,
    ) -> Result<(), HistoryError> {
        let newest = self
            .store
            .newest_occurrences(names, now, self.latest())
            .await?;
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
        let running: HashMap<String, Occurrence> = self
            .store
            .occurrences(&filter)
            .await?
            .into_iter()
            .map(|one| (one.schedule.clone(), one))
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
                running: running
                    .get(name)
                    .map(|one| state.running(one, &self.options.owner)),
                pause: pauses.get(name),
                attended: state.attended,
                before: Before::Done,
                windows: windows_of(&config, schedule),
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
                let lease = running.get(name).and_then(|one| one.lease_until);
                state.lease_seen = match due_now.waiting {
                    None => None,
                    Some(_) if due_now.waiting == state.attended => state.lease_seen.or(lease),
                    Some(_) => lease,
                };
                state.attended = due_now.waiting;
                state.waits_for = due_now.waits_for;
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
            .newest_occurrences(&schedule.after, at, self.latest())
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
}
