//! Occurrences that are claimed: set off, followed to their end, and taken
//! over from instances that died.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Scheduler;
use super::clocks::{TOLD_FOR, tell};
use crate::config::Schedule;
use crate::execute::StopReason;
use crate::history::{
    CLOCKS_DIFFER, Claim, Ended, HistoryError, Occurrence, OccurrenceStatus, Store,
};
use crate::scheduler::job::{Happened, Job, Outcome, Watcher, Worker};
use crate::scheduler::{Clock, jitter};
use crate::values::with_causes;

/// Pause between two tries to record an end.
const FINISH_AGAIN: Duration = Duration::from_secs(2);

impl Scheduler {
    /// Claims an occurrence and sets it off; `false` where somebody else was
    /// faster.
    pub(super) async fn begin(
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
            now: self.latest(),
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
            clock: Arc::clone(&self.clock),
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
    pub(super) async fn take_over(&mut self, now: DateTime<Utc>) -> Result<usize, HistoryError> {
        let every = TimeDelta::from_std(self.options.lease / 4).unwrap_or(TimeDelta::seconds(15));
        if self
            .last_orphans
            .is_some_and(|last| now - last < every && now >= last)
        {
            return Ok(0);
        }
        let mut taken = 0;
        let orphans = self.store.orphaned_occurrences().await?;
        let only = self.options.only.clone();
        let ours = |one: &Occurrence| only.as_ref().is_none_or(|only| *only == one.schedule);
        for orphan in orphans.into_iter().filter(ours) {
            if orphan.scheduled_for > self.latest() + CLOCKS_DIFFER {
                self.give_back(&orphan).await?;
                continue;
            }
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

    /// Forgets a claim that a clock which was ahead has made: its time is yet to come.
    async fn give_back(&self, orphan: &Occurrence) -> Result<(), HistoryError> {
        let claim = self.claim_of(orphan);
        if self.store.claim_occurrence(&claim).await?.is_some() {
            self.store.release_occurrence(&claim).await?;
        }
        Ok(())
    }

    /// Our wish for what somebody has left.
    fn claim_of(&self, orphan: &Occurrence) -> Claim {
        Claim {
            schedule: orphan.schedule.clone(),
            scheduled_for: orphan.scheduled_for,
            catch_up: orphan.catch_up,
            owner: self.options.owner.clone(),
            lease: self.options.lease,
            now: self.latest(),
        }
    }

    /// Ends a claim of a schedule that is no longer there.
    async fn bury(&self, orphan: &Occurrence) -> Result<(), HistoryError> {
        let claim = self.claim_of(orphan);
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
    clock: Arc<dyn Clock>,
    claim: Claim,
    occurrence: Occurrence,
}

impl Following {
    /// Keeps the claim while the worker is at it, and records the end.
    async fn follow(self, worker: Arc<dyn Worker>, job: Job) {
        let stop = job.stop.clone();
        let mut work = worker.carry_out(job);
        let mut renewals = tokio::time::interval(self.claim.lease / 3);
        // Whoever stood still has one to make up for, not all.
        renewals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                        stop.at_once(StopReason::TakenOver);
                    }
                    Err(error) => {
                        tracing::warn!(error = %with_causes(&error), "a claim could not be renewed");
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
                    tracing::warn!(error = %with_causes(&error), "a claim could not be given up; it will run out");
                }
            }
        }
    }

    /// Tells what was done here although somebody else has the occurrence by now: whoever was cut
    /// off from the history for longer than a lease cannot know.
    async fn lost(self, ended: &Ended) {
        if ended.runs.is_empty() {
            return;
        }
        let at = self.claim.scheduled_for.format("%Y-%m-%d %H:%M UTC");
        let schedule = &self.claim.schedule;
        let runs: Vec<String> = ended.runs.iter().map(ToString::to_string).collect();
        let text = format!(
            "the occurrence of {at} of schedule {schedule} was done here although another instance \
             had taken it over, because this one did not renew its claim in time (the history was out \
             of reach, or this process or machine stood still): what it did may have been done twice; \
             see `maint show` {}",
            runs.join(", ")
        );
        tracing::error!("{text}");
        let key = format!("twice {schedule} {at}");
        let now = self.clock.now();
        if let Err(error) = tell(self.store.as_ref(), now, &key, &text, TOLD_FOR).await {
            tracing::warn!(error = %with_causes(&error), "that an occurrence was done twice could not be kept");
        }
    }

    /// Tries for as long as the claim is surely ours.
    async fn finish(self, ended: Ended) {
        let began = tokio::time::Instant::now();
        loop {
            match self.store.finish_occurrence(&self.claim, &ended).await {
                // Lost: who has it now will say how it ended.
                Ok(false) => return self.lost(&ended).await,
                Ok(true) => {
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
                    tracing::warn!(error = %with_causes(&error), "the end of an occurrence could not be recorded");
                    self.watcher.on(Happened::HistoryFailed);
                    if began.elapsed() > self.claim.lease * 10 {
                        tracing::error!(
                            schedule = self.claim.schedule,
                            "the end of an occurrence is not recorded: whoever finds its claim run \
                             out does it again"
                        );
                        return;
                    }
                    tokio::time::sleep(FINISH_AGAIN).await;
                }
            }
        }
    }
}
