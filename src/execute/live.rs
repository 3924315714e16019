//! What is at work in this process, for whoever watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::{Event, Observer};

/// The runs at work in this process. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<BTreeMap<u64, RunAtWork>>>);

/// A run at work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunAtWork {
    /// Name of the task.
    pub task: String,
    /// Name of the target.
    pub target: String,
    /// Steps planned so far.
    pub planned: usize,
    /// Steps that have ended.
    pub ended: usize,
    /// Steps at work.
    pub steps: BTreeMap<u32, StepAtWork>,
}

/// A step at work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StepAtWork {
    /// What is done.
    pub action: String,
    /// To what.
    pub object: String,
    /// What the server calls the present phase; empty where it does not say.
    pub phase: String,
    /// Blocks or rows done.
    pub done: i64,
    /// Of how many; 0 where the server does not say.
    pub total: i64,
    /// Why it cannot go on just now; empty where it can.
    pub waiting: String,
}

impl Live {
    /// Who follows one run. The run is forgotten when nobody holds this any more.
    pub fn observer(&self, task: &str, target: &str) -> Arc<dyn Observer> {
        let mut runs = self.lock();
        let number = runs.last_key_value().map_or(0, |(last, _)| last + 1);
        let run = RunAtWork {
            task: task.to_owned(),
            target: target.to_owned(),
            ..RunAtWork::default()
        };
        runs.insert(number, run);
        Arc::new(Follower {
            live: self.clone(),
            number,
        })
    }

    /// What is at work now, longest first.
    pub fn now(&self) -> Vec<RunAtWork> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, RunAtWork>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Follower {
    live: Live,
    number: u64,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.live.lock().remove(&self.number);
    }
}

impl Observer for Follower {
    fn on(&self, event: Event<'_>) {
        let mut runs = self.live.lock();
        let Some(run) = runs.get_mut(&self.number) else {
            return;
        };
        match event {
            Event::Planned(steps) => run.planned += steps,
            Event::Started(step) => {
                let at_work = StepAtWork {
                    action: step.action.clone(),
                    object: step.object.clone(),
                    ..StepAtWork::default()
                };
                run.steps.insert(step.seq, at_work);
            }
            Event::Progress {
                seq,
                phase,
                done,
                total,
            } => {
                if let Some(step) = run.steps.get_mut(&seq) {
                    phase.clone_into(&mut step.phase);
                    (step.done, step.total) = (done, total);
                    step.waiting.clear();
                }
            }
            Event::Blocked { seq, who, .. } => {
                if let Some(step) = run.steps.get_mut(&seq) {
                    who.clone_into(&mut step.waiting);
                }
            }
            Event::Waiting(step, why) => {
                let at_work = run.steps.entry(step.seq).or_insert_with(|| StepAtWork {
                    action: step.action.clone(),
                    object: step.object.clone(),
                    ..StepAtWork::default()
                });
                why.clone_into(&mut at_work.waiting);
            }
            Event::Finished(step) => {
                run.steps.remove(&step.seq);
                run.ended += 1;
            }
        }
    }
}
