//! Watchdogs of schedules that are told.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Schedule;
use crate::history::RunStatus;
use crate::notify::{Signal, Teller};

/// Tells the watchdogs of schedules: once at the beginning of the first of
/// its tasks, once at the end of all.
pub(super) struct Pings<'a> {
    teller: &'a Teller,
    schedules: Mutex<BTreeMap<String, bool>>,
}

impl<'a> Pings<'a> {
    pub(super) fn new(teller: &'a Teller) -> Pings<'a> {
        Pings {
            teller,
            schedules: Mutex::default(),
        }
    }

    fn schedules(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.schedules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, schedule: Option<&Schedule>) {
        let Some(schedule) = schedule else {
            return;
        };
        let first = match self.schedules().entry(schedule.name.clone()) {
            Entry::Vacant(place) => {
                place.insert(true);
                true
            }
            Entry::Occupied(_) => false,
        };
        if first {
            self.teller.ping(&schedule.name, Signal::Start);
        }
    }

    pub(super) fn ended(&self, schedule: Option<&Schedule>, status: Option<RunStatus>) {
        let good = matches!(
            status,
            Some(RunStatus::Succeeded | RunStatus::Incomplete | RunStatus::Skipped)
        );
        if let Some(schedule) = schedule
            && let Some(well) = self.schedules().get_mut(&schedule.name)
        {
            *well &= good;
        }
    }

    pub(super) fn finish(&self) {
        let schedules = self.schedules().clone();
        for (schedule, well) in &schedules {
            let signal = if *well { Signal::Success } else { Signal::Fail };
            self.teller.ping(schedule, signal);
        }
    }
}
