//! The time that all databases of a task have together: some of it is kept for work that was
//! chosen beforehand.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::plan::{Need, Step, identity};

/// By target, the chosen steps that have not begun, and how many milliseconds each is predicted to
/// take.
type Kept = HashMap<String, HashMap<Need, i64>>;

/// The time of a task for all of its databases.
#[derive(Debug)]
pub struct Shared {
    deadline: Instant,
    whole: Duration,
    at_once: u32,
    kept: Mutex<Kept>,
    /// Whether any step was begun in it.
    begun: Arc<AtomicBool>,
}

impl Shared {
    /// Time until `deadline`, of which there was `whole` and in which `at_once` steps are at work
    /// at the same time.
    pub fn new(deadline: Instant, whole: Duration, at_once: u32, kept: Kept) -> Shared {
        Shared {
            deadline,
            whole,
            at_once: at_once.max(1),
            kept: Mutex::new(kept),
            begun: Arc::default(),
        }
    }

    /// When it is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How much of it there was.
    pub fn whole(&self) -> Duration {
        self.whole
    }

    /// Nothing more is kept for the target: its run has ended, or there is none.
    pub fn release(&self, target: &str) {
        self.kept().remove(target);
    }

    /// What the run on a target has of it.
    pub fn part(self: &Arc<Self>, target: &str) -> Part {
        let mine = self.kept().get(target).cloned().unwrap_or_default();
        Part {
            shared: Arc::clone(self),
            target: target.to_owned(),
            mine,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one run has of the time of all.
#[derive(Debug)]
pub struct Part {
    shared: Arc<Shared>,
    target: String,
    /// Its steps that were chosen.
    mine: HashMap<Need, i64>,
}

impl Part {
    pub(super) fn begun(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.begun)
    }

    /// Whether time is kept for the step.
    pub(super) fn is_chosen<B>(&self, step: &Step<B>) -> bool {
        self.mine.contains_key(&identity(step))
    }

    /// What is left for this step of so much time: all of it where it was chosen, else what is not
    /// kept for others.
    pub(super) fn left<B>(&self, step: &Step<B>, left: Duration) -> Duration {
        if self.is_chosen(step) {
            return left;
        }
        let kept = self.shared.kept();
        let kept: i64 = kept.values().flat_map(HashMap::values).sum();
        let kept = u64::try_from(kept).unwrap_or(0) / u64::from(self.shared.at_once);
        left.saturating_sub(Duration::from_millis(kept))
    }

    /// A step begins, or never will: nothing is kept for it any more.
    pub(super) fn over<B>(&self, step: &Step<B>) {
        if let Some(steps) = self.shared.kept().get_mut(&self.target) {
            steps.remove(&identity(step));
        }
    }
}
