//! Plans, as `--output json` prints them.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::execute::Counts;
use crate::plan::{Basis, Estimate, Finding, Forecast, Need, Plan, Skip};

/// What `maint plan` and `maint run --dry-run` would do.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Plans<'a> {
    /// One for each task and target.
    pub(in crate::cli) plans: &'a [PlanOfTask],
}

/// What a task would do now on a target.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlanOfTask {
    /// The task.
    pub(in crate::cli) task: String,
    /// Its kind.
    pub(in crate::cli) kind: String,
    /// The target.
    pub(in crate::cli) target: String,
    /// The plan.
    pub(in crate::cli) plan: Shown,
    /// Of a dry run: the rows or documents that all steps would take, where each was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) rows: Option<i64>,
    /// Of a dry run: the same, step by step, where it was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) counts: Option<Vec<Counted>>,
}

impl PlanOfTask {
    /// With what a dry run has counted, by the number of the step.
    pub(in crate::cli) fn counted(mut self, counts: &Counts) -> Self {
        // Of a part nobody may take it for all.
        self.rows = counts.untold.is_empty().then(|| counts.rows.values().sum());
        let each = counts
            .rows
            .iter()
            .map(|(&seq, &rows)| Counted { seq, rows });
        self.counts = Some(each.collect());
        self
    }
}

/// How many rows or documents a step would take.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Counted {
    /// The step.
    seq: u32,
    /// So many.
    rows: i64,
}

/// A plan, as it is shown.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::cli) enum Shown {
    /// What people and their scripts need of it.
    Plain(PlanForPeople),
    /// With `--full`: all that maint itself needs, which is no contract.
    Full(Value),
}

impl Shown {
    /// All of it with `full`.
    pub(in crate::cli) fn of(plan: &Plan<Value>, full: bool) -> Shown {
        match full {
            true => Shown::Full(serde_json::json!(plan)),
            false => Shown::Plain(PlanForPeople::of(plan)),
        }
    }
}

/// A plan with what people and their scripts need of it.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct PlanForPeople {
    /// How many objects were looked at.
    considered: usize,
    /// The work, in order.
    steps: Vec<StepForPeople>,
    /// What is decided only once the steps have run.
    pending: Vec<Skip>,
    /// What asked for work and is left alone.
    skipped: Vec<Skip>,
    /// What the task asks for and cannot be done.
    refused: Vec<Skip>,
    /// What the steps are predicted to take, and which will not fit.
    forecast: Option<Forecast>,
    /// What was noticed.
    findings: Vec<Finding>,
}

/// A step of a plan.
#[derive(Serialize, JsonSchema)]
struct StepForPeople {
    /// Its number.
    seq: u32,
    /// What it works on.
    object: String,
    /// What it does.
    action: String,
    /// Why.
    reason: String,
    /// The statement, or what stands for it.
    statement: Option<Value>,
    /// How large what it works on is.
    estimate: Estimate,
    /// How long it is predicted to take, in milliseconds.
    predicted_ms: Option<i64>,
    /// What the prediction rests on.
    predicted_from: Option<Basis>,
    /// What else there is to say, line by line.
    details: Vec<String>,
    /// What may keep some of the rows that it means where they are.
    may_stay: Vec<String>,
    /// What has to succeed before it.
    needs: Vec<Need>,
}

impl PlanForPeople {
    fn of(plan: &Plan<Value>) -> PlanForPeople {
        let steps = plan.steps.iter().map(|step| StepForPeople {
            seq: step.seq,
            object: step.object.clone(),
            action: step.action.clone(),
            reason: step.reason.clone(),
            statement: step.body.get("statement").cloned(),
            estimate: step.estimate,
            predicted_ms: step.predicted_ms,
            predicted_from: step.predicted_from,
            details: step.details.clone(),
            may_stay: step.may_stay.clone(),
            needs: step.needs.clone(),
        });
        PlanForPeople {
            considered: plan.considered,
            steps: steps.collect(),
            pending: plan.pending.clone(),
            skipped: plan.skipped.clone(),
            refused: plan.refused.clone(),
            forecast: plan.forecast.clone(),
            findings: plan.findings.clone(),
        }
    }
}
