use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Condition, Query, Retire, Statement, Sweep, Walk, Work};

/// A step that must have succeeded before, if it is in the plan at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Need {
    /// Its action.
    pub action: String,
    /// Its object.
    pub object: String,
}

/// Where a step is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the target itself.
    #[default]
    Primary,
    /// On its n-th replica, from 0. Only for what reads.
    Replica(usize),
}

/// Something a kind wants to know again next time, kept in the history by
/// target, kind and key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Under which name, unique within the kind and target.
    pub key: String,
    /// What.
    pub value: serde_json::Value,
}

/// What a step is expected to cost and win.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Size of the object now, in bytes.
    pub bytes: Option<i64>,
    /// Expected size afterwards, in bytes.
    pub bytes_after: Option<i64>,
}

/// One unit of work on one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Place in the plan, from 1.
    pub seq: u32,
    /// What is worked on, quoted where SQL would need it.
    pub object: String,
    /// What is done: `reindex`, `vacuum`, `analyze`, `drop_leftover`.
    pub action: String,
    /// Why, with the numbers that decided it.
    pub reason: String,
    /// Two steps in one lane never run at once; the table's id for most kinds.
    pub lane: String,
    /// The relation whose locks the step needs: where it cannot have them,
    /// this tells whom to name.
    pub relation: Option<u32>,
    /// What is done.
    pub work: Work,
    /// Steps that must have succeeded before. Where one did not, this step is
    /// skipped with that reason; needs that are not in the plan are met.
    pub needs: Vec<Need>,
    /// Where it is done.
    pub place: Place,
    /// Asked right before the step starts.
    pub only_if: Option<Condition>,
    /// Answers with one row (bytes bigint, tuples double precision), asked
    /// before and after.
    pub measure: Option<Query>,
    /// Whether the size afterwards is the smallest this object can have, and
    /// so becomes its baseline.
    pub learn: bool,
    /// How to clear away what an aborted attempt left.
    pub on_abort: Option<Sweep>,
    /// Whether the step's own locks must yield to a vacuum that prevents
    /// transaction id wraparound on the same table.
    pub yields_to_wraparound_vacuum: bool,
    /// What it is expected to cost and win.
    pub estimate: Estimate,
    /// Further lines for who reads the plan: how it will walk, what it sets off.
    pub details: Vec<String>,
    /// Answers with one row, one bigint: exactly how many rows the step would
    /// change now. Asked by a dry run only.
    pub count: Option<Query>,
    /// Kept in the history when the step has succeeded, and found nothing.
    pub remember: Option<Memory>,
}

impl Step {
    /// A step without statements yet.
    pub fn new(
        action: impl Into<String>,
        object: impl Into<String>,
        lane: impl Into<String>,
    ) -> Self {
        Step {
            seq: 0,
            object: object.into(),
            action: action.into(),
            reason: String::new(),
            lane: lane.into(),
            relation: None,
            work: Work::Each(Vec::new()),
            needs: Vec::new(),
            place: Place::Primary,
            only_if: None,
            measure: None,
            learn: false,
            on_abort: None,
            yields_to_wraparound_vacuum: false,
            estimate: Estimate::default(),
            details: Vec::new(),
            count: None,
            remember: None,
        }
    }

    /// Why the step is in the plan.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The relation whose locks the step needs.
    pub fn locking(mut self, relation: u32) -> Self {
        self.relation = Some(relation);
        self
    }

    /// Adds a statement.
    pub fn run(mut self, statement: Statement) -> Self {
        match &mut self.work {
            Work::Each(statements) | Work::Together(statements) => statements.push(statement),
            Work::Check(check) => check.when_clean.push(statement),
            Work::Walk(_) | Work::Settle(_) | Work::Retire(_) => {
                self.work = Work::Each(vec![statement])
            }
        }
        self
    }

    /// Carries these statements out in one transaction.
    pub fn together(mut self, statements: Vec<Statement>) -> Self {
        self.work = Work::Together(statements);
        self
    }

    /// Carries out a check.
    pub fn checking(mut self, check: Check) -> Self {
        self.work = Work::Check(check);
        self
    }

    /// Where the step is carried out.
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// Deletes rows batch by batch.
    pub fn walking(mut self, walk: Walk) -> Self {
        self.work = Work::Walk(Box::new(walk));
        self
    }

    /// Exports a whole partition, and drops it.
    pub fn retiring(mut self, retire: Retire) -> Self {
        self.work = Work::Retire(Box::new(retire));
        self
    }

    /// Waits for the step with this action and object, and is skipped unless it succeeds.
    pub fn after(mut self, action: impl Into<String>, object: impl Into<String>) -> Self {
        self.needs.push(Need {
            action: action.into(),
            object: object.into(),
        });
        self
    }

    /// Remembers `value` under `key` once the step has succeeded.
    pub fn remembering(mut self, key: impl Into<String>, value: serde_json::Value) -> Self {
        self.remember = Some(Memory {
            key: key.into(),
            value,
        });
        self
    }

    /// Skips the step, recording `otherwise`, unless `query` answers `true`.
    pub fn only_if(mut self, query: Query, otherwise: impl Into<String>) -> Self {
        self.only_if = Some(Condition {
            query,
            otherwise: otherwise.into(),
        });
        self
    }

    /// Counts the rows it would change, for a dry run.
    pub fn counted_by(mut self, query: Query) -> Self {
        self.count = Some(query);
        self
    }

    /// Measures the object before and after.
    pub fn measured_by(mut self, query: Query) -> Self {
        self.measure = Some(query);
        self
    }

    /// What the step is expected to cost and win, in bytes.
    pub fn expecting(mut self, bytes: i64, bytes_after: Option<i64>) -> Self {
        self.estimate = Estimate {
            bytes: Some(bytes),
            bytes_after,
        };
        self
    }

    /// All statements as one text, as shown and recorded.
    pub fn statement_text(&self) -> String {
        self.work.text()
    }
}
