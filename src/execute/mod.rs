//! Carries steps out; knows no kind.

mod awaited;
mod door;
mod goal;
mod live;
pub(crate) mod mongodb;
mod observer;
mod pace;
pub(crate) mod postgres;
mod queue;
mod shared;
mod step;
mod stop;
mod throttle;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use uuid::Uuid;

pub use awaited::{Awaited, Wait};
pub use door::{
    BodyOf, Busy, Counts, Database, Door, Holder, Job, LAST_PLACE, PLACES, Sight, Size,
};
pub use live::{Live, RunAtWork, StepAtWork};
pub use observer::{Event, Observer, Silent};
pub use pace::Pace;
pub use postgres::back::{Back, is_back};
pub use postgres::export::check as check_file;
pub use postgres::known::put_beside;
pub use postgres::restore::labels::{Labels, lost as labels_lost};
pub use postgres::restore::rights::{allowed as allowed_to_restore, unforeseen};
pub use postgres::restore::room::{Places, room as room_for};
pub use postgres::restore::site::{Site, look as look_at};
pub use postgres::restore::{NAME as RESTORING, Restore, Returned, restore};
pub use shared::{Part, Shared};
pub use stop::{Stop, StopReason};
pub use throttle::{Held, Throttler};

use self::queue::{Next, Queue, Room};
use crate::config::{Limits, Target};
use crate::engines::EngineError;
use crate::history::{Recorder, StepRecord, StepStatus};
use crate::plan::{Finding, KeptBy, Place, Step};
use crate::values::Filled;

/// Everything a step needs besides itself and its target.
pub struct Execution {
    /// Name of the target, under which baselines are kept.
    pub target: String,
    /// The task's kind, under which it remembers.
    pub kind: String,
    /// The task's limits.
    pub limits: Limits,
    /// When it leaves the server to others.
    pub throttle: Throttler,
    /// No statement runs beyond this.
    pub deadline: Option<Instant>,
    /// Which steps still fit before it.
    pub pace: Arc<Pace>,
    /// How the run is stopped from outside.
    pub stop: Stop,
    /// Where steps are recorded.
    pub history: Arc<Recorder>,
    /// The run they belong to.
    pub run: Uuid,
    /// Every target of the configuration, by name.
    pub elsewhere: Arc<BTreeMap<String, Target>>,
    /// What variables have put into texts of the task: not to be shown, nor recorded.
    pub filled: Filled,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

/// What came of the steps.
#[derive(Debug, Default)]
pub struct CarriedOut {
    /// One record for each step, in the order of the plan.
    pub records: Vec<StepRecord>,
    /// What the steps noticed; already in the history.
    pub findings: Vec<Finding>,
}

/// Why a step does not begin where one before it has waited in vain.
const NO_CONNECTION: &str = "not begun: a step before it waited for a connection until the pooler gave up, and there is none that others have left";

/// What the sessions of a run are called on the server: 63 bytes at most.
pub fn run_name(run: Uuid) -> String {
    format!("maint {run}")
}

/// Carries out the steps: in order, `jobs` at a time, never two in one lane,
/// none before the steps it needs. One failing step stops no other, except
/// those that need it.
///
/// # Errors
/// Only when nobody can look on; whatever happens to a step is in its record.
pub async fn carry_out<D: Door>(
    steps: Vec<Step<BodyOf<D>>>,
    door: &D,
    execution: &Execution,
) -> Result<CarriedOut, EngineError> {
    let mut out = CarriedOut::default();
    if steps.is_empty() {
        return Ok(out);
    }
    let awaited = execution.stop.awaited();
    let opening = awaited.aside("opening the session that watches the others");
    let watch = door.watch(execution).await?;
    drop(opening);
    door.coming(&steps);
    let mut queue = Queue::new(steps);
    let mut idle: HashMap<Place, Vec<D::Session>> = HashMap::new();
    let mut running = FuturesUnordered::new();
    let mut jobs = usize::try_from(execution.limits.jobs.max(1)).unwrap_or(1);
    // Where nobody gets a connection any more: another step would wait for one as long, in vain.
    let mut closed: HashSet<Place> = HashSet::new();
    let too_much = execution.throttle.end_when_too_much(door, execution);
    tokio::pin!(too_much);
    let room = |step: &Step<BodyOf<D>>| match execution.stop.is_stopping() {
        true => Room::Enough,
        false => execution.pace.room(step),
    };
    loop {
        while running.len() < jobs {
            match queue.next(&room) {
                Next::Ready(step) if closed.contains(&step.place) => {
                    execution.pace.over(&step);
                    queue.ended(&step, StepStatus::Skipped);
                    let ended = step::NotBegun::new(StepStatus::Skipped, NO_CONNECTION.to_owned());
                    running.push(step::not_begun(step, ended, execution));
                }
                Next::Ready(step) => {
                    execution.pace.over(&step);
                    let session = idle.get_mut(&step.place).and_then(Vec::pop);
                    running.push(step::carry_out(step, session, door, &watch, execution));
                }
                // Recorded beside the running steps: whoever waits here for the history
                // would keep a step that is using it from ever letting go.
                Next::InVain(step, why) => {
                    execution.pace.over(&step);
                    let ended = step::NotBegun::new(StepStatus::Skipped, why);
                    running.push(step::not_begun(step, ended, execution));
                }
                Next::Shut(step, why) => {
                    execution.pace.over(&step);
                    let ended = step::NotBegun {
                        kept_by: Some(KeptBy::Sessions),
                        ..step::NotBegun::new(StepStatus::Deferred, why)
                    };
                    running.push(step::not_begun(step, ended, execution));
                }
                Next::NoTime(step) => {
                    let (why, finding) = execution.pace.why_not(&step);
                    execution.pace.over(&step);
                    let ended = step::NotBegun {
                        finding,
                        ..step::NotBegun::new(StepStatus::Deferred, why)
                    };
                    running.push(step::not_begun(step, ended, execution));
                }
                Next::Later => break,
            }
        }
        let ended = tokio::select! {
            ended = running.next() => ended,
            // Never ends by itself: it only stops the run.
            () = &mut too_much => None,
        };
        match ended {
            None => break,
            Some(ended) => {
                if ended.record.piled_up {
                    queue.piled_up(&ended.step);
                }
                if ended.begun {
                    queue.ended(&ended.step, ended.record.status);
                }
                if ended.has_waited {
                    jobs = running.len().max(1);
                    let of_it = idle.get(&ended.step.place);
                    if running.is_empty() && of_it.is_none_or(Vec::is_empty) {
                        closed.insert(ended.step.place);
                    }
                }
                if let Some(session) = ended.session {
                    idle.entry(ended.step.place).or_default().push(session);
                }
                out.records.push(ended.record);
                out.findings.extend(ended.findings);
            }
        }
    }
    drop(running);
    door.watched(watch).await;
    out.records.sort_by_key(|record| record.seq);
    Ok(out)
}
