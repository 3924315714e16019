//! What time it is: by the clock of this machine, and by that of the history.
//!
//! Where the two differ, an occurrence is due when both say so, and a time in the history is
//! disbelieved where it is later than both: neither clock makes anything happen early, or holds
//! it up.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::Scheduler;
use crate::history::{Ahead, CLOCKS_DIFFER, HistoryError, Store, TimeAhead, surely_wrong};
use crate::plan::Memory;
use crate::scheduler::job::Happened;
use crate::values::{TimeSpan, wall_clock};

/// Under which kind, of no target, the history remembers what was wrong.
const SCHEDULER: &str = "scheduler";

/// For so long `maint status` tells what was set right, or was done twice.
pub(super) const TOLD_FOR: TimeDelta = TimeDelta::days(1);

/// For so long it tells of a clock that differs, after somebody has said so.
const DIFFERS_FOR: TimeDelta = TimeDelta::minutes(10);

/// How often that is said again.
const SAY_AGAIN: Duration = Duration::from_secs(240);

/// What this instance knows of the clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    /// How far ours is ahead of the history's.
    ahead: Lead,
    /// When they were compared, and what ours said then.
    compared: Option<(Instant, DateTime<Utc>)>,
    /// When a difference was last said.
    said: Option<Instant>,
}

impl Scheduler {
    /// What both clocks agree has come.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now() - self.clocks.ahead.most.max(TimeDelta::zero())
    }

    /// What is later is yet to come for either clock.
    pub(super) fn latest(&self) -> DateTime<Utc> {
        self.clock.now() - self.clocks.ahead.least.min(TimeDelta::zero())
    }

    /// What the clock of the history says; rather later than too early.
    pub(super) fn by_the_history(&self) -> DateTime<Utc> {
        self.clock.now() - self.clocks.ahead.least
    }

    /// Compares the clocks where it is time to, or ours was set, and sets right what one that was
    /// ahead has left. Says whether the schedules have to be asked for again.
    pub(super) async fn look_at_clocks(&mut self) -> Result<bool, HistoryError> {
        if !self.clock.is_on_the_wall() {
            return Ok(false);
        }
        let ours = self.clock.now();
        let (due, back) = match self.clocks.compared {
            None => (true, true),
            Some((then, showed)) => {
                let passed = then.elapsed();
                let jump = (ours - showed) - TimeDelta::from_std(passed).unwrap_or_default();
                let due = passed >= self.options.lease.min(Duration::from_secs(60)) / 4;
                let set = jump.abs() > super::CLOCK_SET_BACK;
                (due || set, due || jump < -super::CLOCK_SET_BACK)
            }
        };
        if !due {
            return Ok(false);
        }
        self.compare().await?;
        self.clocks.compared = Some((Instant::now(), ours));
        if !back {
            return Ok(false);
        }
        let now = self.latest();
        let ahead = times_ahead(self.store.as_ref(), now, self.options.lease).await?;
        let known = ahead.iter().any(|one| one.what == Ahead::Known);
        set_right(self.store.as_ref(), &ahead, now, self.options.lease).await?;
        Ok(known)
    }

    async fn compare(&mut self) -> Result<(), HistoryError> {
        let asked = self.clock.now();
        let Some(there) = self.store.clock().await? else {
            return Ok(());
        };
        let lead = Lead::of(there, asked, self.clock.now());
        let ahead = lead.at_all();
        self.watcher.on(Happened::Compared(ahead));
        let differ = ahead.abs() > CLOCKS_DIFFER;
        self.clocks.ahead = if differ { lead } else { Lead::default() };
        let host = self.options.owner.split('/').next().unwrap_or_default();
        if differ {
            let again = |said: Instant| said.elapsed() >= SAY_AGAIN;
            if self.clocks.said.is_none_or(again) {
                let text = differs(&format!("the clock of {host}"), ahead);
                tracing::warn!("{text}");
                tell(self.store.as_ref(), there, host, &text, DIFFERS_FOR).await?;
                self.clocks.said = Some(Instant::now());
            }
        } else if self.clocks.said.take().is_some() {
            tracing::warn!("the clocks of this machine and of the history agree again");
            tell(self.store.as_ref(), there, host, "", TimeDelta::zero()).await?;
        }
        Ok(())
    }
}

/// How far our clock is ahead of another: between two bounds, as an answer takes its time.
/// Both are nothing where the clocks are taken for one.
#[derive(Clone, Copy, Debug, Default)]
struct Lead {
    least: TimeDelta,
    most: TimeDelta,
}

impl Lead {
    /// Of a clock that said `there` at some moment between two of ours.
    fn of(there: DateTime<Utc>, asked: DateTime<Utc>, answered: DateTime<Utc>) -> Self {
        Self {
            least: asked - there,
            most: answered - there,
        }
    }

    /// By how much the clocks differ at the least.
    fn at_all(self) -> TimeDelta {
        match () {
            () if self.least > TimeDelta::zero() => self.least,
            () if self.most < TimeDelta::zero() => self.most,
            () => TimeDelta::zero(),
        }
    }
}

/// That a clock is not that of the history, in a sentence.
fn differs(whose: &str, ahead: TimeDelta) -> String {
    let about = TimeSpan::from(ahead.abs().to_std().unwrap_or_default()).about();
    let side = match ahead > TimeDelta::zero() {
        true => "ahead of",
        false => "behind",
    };
    format!(
        "{whose} is about {about} {side} that of the history: what falls due begins there when \
         both say so; set the clocks (NTP)"
    )
}

/// What holds schedules up by a time that is yet to come. A clock that is surely wrong itself
/// finds nothing.
///
/// # Errors
/// When the history cannot be read.
pub async fn times_ahead(
    store: &dyn Store,
    now: DateTime<Utc>,
    lease: Duration,
) -> Result<Vec<TimeAhead>, HistoryError> {
    if surely_wrong(now) {
        return Ok(Vec::new());
    }
    store.times_ahead(now, lease).await
}

/// Sets back to `now` what holds schedules up by a time that is yet to come, and says so.
///
/// # Errors
/// When the history cannot be used.
pub async fn set_right(
    store: &dyn Store,
    ahead: &[TimeAhead],
    now: DateTime<Utc>,
    lease: Duration,
) -> Result<(), HistoryError> {
    let held = |one: &&TimeAhead| one.what != Ahead::Ran;
    let ahead: Vec<TimeAhead> = ahead.iter().filter(held).cloned().collect();
    if ahead.is_empty() {
        return Ok(());
    }
    store.set_back(&ahead, now, lease).await?;
    for one in &ahead {
        let text = match one.what {
            Ahead::Known => format!(
                "schedule {} was known since {}, by a clock that was ahead; it is known since now, \
                 and what fell due before was not run",
                one.schedule,
                shown(one.at)
            ),
            Ahead::Paused => format!(
                "schedule {} was paused from {} on, by a clock that was ahead; it is paused from \
                 now on, for as long",
                one.schedule,
                shown(one.at)
            ),
            _ => format!(
                "an occurrence of schedule {} was held until {}, by a clock that was ahead; \
                 it is taken over unless its owner gives a sign of life",
                one.schedule,
                shown(one.at)
            ),
        };
        tracing::warn!("{text}");
        let key = format!("{:?} {}", one.what, one.schedule);
        tell(store, now, &key, &text, TOLD_FOR).await?;
    }
    Ok(())
}

/// What is wrong with clocks and claims, in sentences: what is yet to be set right, and what
/// instances have said lately.
///
/// # Errors
/// When the history cannot be read.
pub async fn troubles(store: &dyn Store, now: DateTime<Utc>) -> Result<Vec<String>, HistoryError> {
    let mut told = Vec::new();
    let mut latest = now;
    let asked = wall_clock();
    if let Some(there) = store.clock().await? {
        let ahead = Lead::of(there, asked, wall_clock()).at_all();
        if ahead.abs() > CLOCKS_DIFFER {
            told.push(differs("the clock of this machine", ahead));
        }
        latest = latest.max(there);
    }
    for one in times_ahead(store, latest, super::LEASE).await? {
        let (name, at) = (&one.schedule, shown(one.at));
        told.push(match one.what {
            Ahead::Known => format!(
                "schedule {name} is known since {at}, by a clock that was ahead: nothing of it runs \
                 until `maint serve` or `maint run --due` looks at it again"
            ),
            Ahead::Paused => format!(
                "schedule {name} is paused from {at} on, by a clock that was ahead: it is not \
                 paused now"
            ),
            Ahead::Claimed => format!(
                "an occurrence of schedule {name} is held until {at}, by a clock that was ahead"
            ),
            Ahead::Ran => format!(
                "schedule {name} ran before its time, by a clock that was ahead: what falls due \
                 until {at} counts as done"
            ),
        });
    }
    for (_, memory) in store.memories("", SCHEDULER).await? {
        let until = memory["until"].as_str().and_then(|at| at.parse().ok());
        // Nothing is told for longer, whatever clock has written it.
        let tells = |until: DateTime<Utc>| until > latest && until - latest <= TOLD_FOR;
        if let (true, Some(text)) = (until.is_some_and(tells), memory["text"].as_str()) {
            told.push(text.to_owned());
        }
    }
    told.sort();
    told.dedup();
    Ok(told)
}

/// Has `maint status` tell it for a while.
pub(super) async fn tell(
    store: &dyn Store,
    now: DateTime<Utc>,
    key: &str,
    text: &str,
    length: TimeDelta,
) -> Result<(), HistoryError> {
    let memory = Memory {
        key: key.to_owned(),
        value: serde_json::json!({ "text": text, "until": now + length }),
    };
    store.remember("", SCHEDULER, now, &[memory]).await
}

fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_is_known_as_well_as_an_answer_is_quick() {
        let at =
            |second: i64| DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap_or_default();
        let seconds = |lead: Lead| [lead.least, lead.at_all(), lead.most].map(|t| t.num_seconds());
        assert_eq!(seconds(Lead::of(at(5), at(10), at(14))), [5, 5, 9]);
        assert_eq!(seconds(Lead::of(at(12), at(10), at(14))), [-2, 0, 2]);
        assert_eq!(seconds(Lead::of(at(20), at(10), at(14))), [-10, -6, -6]);
    }
}
