//! A plan: steps in their order, what is left alone and why, and what was seen on the way. Pure
//! data, so that it can be read before it runs.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::Body;
use super::expected::{Forecast, Skip};
use super::{Finding, Memory, Step, postgres};
use crate::values::Filled;

/// A size seen on the way: the raw material of baselines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// The object, quoted where SQL would need it.
    pub object: String,
    /// Its size in bytes.
    pub bytes: i64,
    /// The entries it holds.
    pub tuples: f64,
    /// What it was made as: another object of its name says nothing about its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_as: Option<String>,
}

/// One number of a time series: what trends, thresholds and reports are made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// What was measured, dotted, with its unit where it is not a plain
    /// count: `database.bytes`, `statement.mean_ms`.
    pub metric: String,
    /// The object, quoted where SQL would need it; empty for the whole target.
    pub object: String,
    /// The number.
    pub value: f64,
}

/// What a task would do now, in order. Pure data: it prints, it is saved,
/// and it is exactly what runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan<B = postgres::Body> {
    /// How many objects were looked at.
    pub considered: usize,
    /// The work, most urgent first.
    pub steps: Vec<Step<B>>,
    /// Whether the order of the steps is part of the work, so that what an
    /// earlier run has left does not come first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed_order: bool,
    /// What the steps are predicted to take, and which will not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// Objects whose turn is decided only after the steps have run, because
    /// the steps produce the evidence. The facts are then read once more.
    pub pending: Vec<Skip>,
    /// Objects left alone although they asked for work.
    pub skipped: Vec<Skip>,
    /// What the task asks for, and cannot be done: a table that does not
    /// exist, a rule that makes no sense there, no privilege for anything. A
    /// run that leaves such work undone has not succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Skip>,
    /// What was noticed.
    pub findings: Vec<Finding>,
    /// Sizes worth remembering.
    pub observations: Vec<Observation>,
    /// Numbers for the time series, kept when the plan is carried out.
    pub measurements: Vec<Measurement>,
    /// What the kind wants to know next time, kept when the plan is carried out.
    pub memories: Vec<Memory>,
}

impl<B> Default for Plan<B> {
    fn default() -> Self {
        Plan {
            considered: 0,
            steps: Vec::new(),
            fixed_order: false,
            forecast: None,
            pending: Vec::new(),
            skipped: Vec::new(),
            refused: Vec::new(),
            findings: Vec::new(),
            observations: Vec::new(),
            measurements: Vec::new(),
            memories: Vec::new(),
        }
    }
}

impl<B> Plan<B> {
    /// Numbers the steps from `first`, in order.
    pub fn numbered(mut self, first: u32) -> Self {
        for (seq, step) in (first..).zip(&mut self.steps) {
            step.seq = seq;
        }
        self
    }

    /// Notes that `object` is left alone.
    pub fn skip(&mut self, object: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Skip {
            object: object.into(),
            reason: reason.into(),
        });
    }

    /// Notes that what the task asks for cannot be done.
    pub fn refuse(&mut self, object: impl Into<String>, reason: impl Into<String>) {
        self.refused.push(Skip {
            object: object.into(),
            reason: reason.into(),
        });
    }

    /// Notes work that is due and cannot be done, and what a person should know about it: the
    /// run has not succeeded.
    pub fn undone(&mut self, finding: Finding) {
        self.refuse(finding.object.clone(), finding.message.clone());
        self.findings.push(finding);
    }

    /// Says everything that is meant for people as the configuration writes it, whatever variables
    /// hold.
    pub fn as_written(mut self, filled: &Filled) -> Self {
        for step in &mut self.steps {
            filled.hide(&mut step.reason);
            let lines = step.details.iter_mut().chain(&mut step.may_stay);
            lines.for_each(|line| filled.hide(line));
        }
        let skips = self.pending.iter_mut().chain(&mut self.skipped);
        for skip in skips.chain(&mut self.refused) {
            filled.hide(&mut skip.reason);
        }
        for finding in &mut self.findings {
            finding.hide(filled);
        }
        self
    }

    /// The plan as it is printed, whatever the engine, what it runs as the configuration writes it.
    pub fn shown(self, filled: &Filled) -> Plan<Value>
    where
        B: Body,
    {
        Plan {
            considered: self.considered,
            steps: self
                .steps
                .into_iter()
                .map(|step| step.shown(filled))
                .collect(),
            fixed_order: self.fixed_order,
            forecast: self.forecast,
            pending: self.pending,
            skipped: self.skipped,
            refused: self.refused,
            findings: self.findings,
            observations: self.observations,
            measurements: self.measurements,
            memories: self.memories,
        }
    }
}

/// The best size an object has been seen at: what bloat is measured against
/// where no formula knows better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Which object, by its quoted, qualified name.
    pub object: String,
    /// Its size in bytes.
    pub bytes: i64,
    /// The entries (index tuples) it held.
    pub tuples: f64,
    /// When this was seen.
    pub learned_at: DateTime<Utc>,
    /// Whether maint had just rebuilt it, so that the size is known to be minimal.
    pub rebuilt: bool,
    /// What it was made as; what earlier versions learned does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_as: Option<String>,
}
