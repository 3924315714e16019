//! Occurrences that nobody carries out: written down, and told.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Scheduler;
use crate::config::{Event, Schedule};
use crate::history::{HistoryError, Notice, Occurrence, OccurrenceStatus};
use crate::scheduler::job::Happened;
use crate::scheduler::{Decision, zone_of};

impl Scheduler {
    /// Records what was skipped and missed, and keeps a notice of what nobody
    /// makes up for.
    pub(super) async fn record(
        &self,
        schedule: &Schedule,
        decisions: &[Decision],
        now: DateTime<Utc>,
    ) -> Result<(), HistoryError> {
        let mut rows = Vec::new();
        let recorded_at = self.by_the_history();
        let mut told = HashMap::new();
        for decision in decisions {
            let (at, status, reason) = match decision {
                Decision::Start { .. } => continue,
                Decision::Skip { at, reason } => (*at, OccurrenceStatus::Skipped, reason),
                Decision::Miss {
                    at,
                    reason,
                    covered,
                    with,
                } => {
                    if !covered {
                        told.insert(*at, *with);
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
                recorded_at,
                finished_at: Some(recorded_at),
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
            .filter(|one| told.contains_key(&one.scheduled_for))
            .collect();
        let with = missed.iter().filter_map(|one| told.get(&one.scheduled_for));
        let count = missed.len() + with.sum::<usize>();
        self.tell(schedule, &missed, count, now).await
    }

    async fn tell(
        &self,
        schedule: &Schedule,
        missed: &[&Occurrence],
        count: usize,
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
        let text = match count {
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
}
