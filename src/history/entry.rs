//! What a run writes into its history.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Baseline, Notice, RunRecord, StepRecord};
use crate::plan::{Finding, Measurement, Memory};
use crate::values::wall_clock;

/// One write of a run. Each may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A run begins. A run already known is left as it is.
    Opened(Box<RunRecord>),
    /// How a step stands; it is inserted where it was never opened.
    Step {
        /// The run it belongs to.
        run: Uuid,
        /// The step.
        step: Box<StepRecord>,
    },
    /// What was noticed. What is already there is not added twice.
    Findings {
        /// The run that noticed it.
        run: Uuid,
        /// What was noticed, in this order.
        findings: Vec<Finding>,
    },
    /// How a run ended, with the steps and findings it carries: alone a
    /// complete record, also of a run that was never opened, or that was
    /// taken for dead.
    Closed(Box<RunRecord>),
    /// The best size of an object. One just rebuilt replaces what is known,
    /// one merely observed only if it has fewer bytes per tuple.
    Baseline {
        /// The target that holds the object.
        target: String,
        /// The size.
        baseline: Baseline,
    },
    /// What a kind wants to know again, in place of what was known under the same keys.
    Memories {
        /// The target.
        target: String,
        /// The kind.
        kind: String,
        /// Since when it is known.
        at: DateTime<Utc>,
        /// What.
        memories: Vec<Memory>,
    },
    /// Numbers for the time series.
    Measurements {
        /// The target.
        target: String,
        /// When they were measured.
        at: DateTime<Utc>,
        /// The numbers; values that are no numbers are left out.
        measurements: Vec<Measurement>,
    },
    /// What is worth telling.
    Notices(Vec<Notice>),
}

impl Entry {
    /// What is remembered of a target goes to another, and is forgotten there: to be written in one
    /// transaction. What the other knows by itself stays as it is.
    pub fn moved(
        kind: &str,
        (of, memories): (&str, HashMap<String, Value>),
        (target, own): (&str, &HashMap<String, Value>),
    ) -> [Entry; 2] {
        let there = memories.into_iter().filter(|(_, value)| !value.is_null());
        let there: Vec<Memory> = there.map(|(key, value)| Memory { key, value }).collect();
        let forgotten = there.iter().map(|memory| Memory {
            key: memory.key.clone(),
            value: Value::Null,
        });
        let forgotten = forgotten.collect();
        let is_own = |key: &str| own.get(key).is_some_and(|value| !value.is_null());
        let taken = there.into_iter().filter(|memory| !is_own(&memory.key));
        let at = wall_clock();
        let entry = |target: &str, memories: Vec<Memory>| Entry::Memories {
            target: target.to_owned(),
            kind: kind.to_owned(),
            at,
            memories,
        };
        [entry(target, taken.collect()), entry(of, forgotten)]
    }

    /// What writing it is called in errors: "cannot close a run in the history …".
    pub fn operation(&self) -> &'static str {
        match self {
            Entry::Opened(_) => "open a run",
            Entry::Step { .. } => "record a step",
            Entry::Findings { .. } => "add findings",
            Entry::Closed(_) => "close a run",
            Entry::Baseline { .. } => "remember a baseline",
            Entry::Memories { .. } => "remember",
            Entry::Measurements { .. } => "keep measurements",
            Entry::Notices(_) => "keep notices",
        }
    }
}
