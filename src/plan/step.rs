//! What the steps of every engine have in common; what is done in one is its body, in the words of
//! its engine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::expected::{Basis, Estimate, Waited};
use super::finding::Finding;
use super::postgres;
use crate::values::Filled;

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

/// One unit of work on one object. What every engine's steps have is here,
/// the rest is in the `body`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step<B = postgres::Body> {
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
    /// Steps that must have succeeded before. Where one did not, this step is
    /// skipped with that reason; needs that are not in the plan are met.
    pub needs: Vec<Need>,
    /// Where it is done.
    pub place: Place,
    /// Whether the size afterwards is the smallest this object can have, and
    /// so becomes its baseline.
    pub learn: bool,
    /// What the object was made as, where that is learned with its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_as: Option<String>,
    /// Whether its rows are the entries that the measure counts less of afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sheds: bool,
    /// What it is expected to cost and win.
    pub estimate: Estimate,
    /// How long it is predicted to take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<i64>,
    /// What that rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_from: Option<Basis>,
    /// Comes before what earlier runs have left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
    /// How long it has waited for its turn.
    #[serde(default, skip_serializing_if = "Waited::is_none")]
    pub waited: Waited,
    /// Whether what it did is kept when it is cut off, and gone on from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps: bool,
    /// Further lines for who reads the plan: how it will walk, what it sets off.
    pub details: Vec<String>,
    /// What may keep some of the rows that are counted where they are, though the step tries all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_stay: Vec<String>,
    /// What is so until the step has succeeded: each run tells it that does not get so far.
    #[serde(skip)]
    pub until_done: Vec<Finding>,
    /// Kept in the history when the step has succeeded, and found nothing.
    pub remember: Option<Memory>,
    /// What is done, in the engine's own words.
    #[serde(flatten)]
    pub body: B,
}

impl<B: Body> Step<B> {
    /// A step that does nothing yet.
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
            needs: Vec::new(),
            place: Place::Primary,
            learn: false,
            made_as: None,
            sheds: false,
            estimate: Estimate::default(),
            predicted_ms: None,
            predicted_from: None,
            urgent: false,
            waited: Waited::default(),
            keeps: false,
            details: Vec::new(),
            may_stay: Vec::new(),
            until_done: Vec::new(),
            remember: None,
            body: B::default(),
        }
    }

    /// Why the step is in the plan.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Where the step is carried out.
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
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

    /// The size that it leaves is the smallest that an object made so can have.
    pub fn learning(mut self, made_as: &str) -> Self {
        self.learn = true;
        self.made_as = Some(made_as.to_owned());
        self
    }

    /// Its rows are the entries that the measure counts less of afterwards.
    pub fn shedding(mut self) -> Self {
        self.sheds = true;
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

    /// What the step is expected to cost and win, in bytes.
    pub fn expecting(mut self, bytes: i64, bytes_after: Option<i64>) -> Self {
        self.estimate.bytes = Some(bytes);
        self.estimate.bytes_after = bytes_after;
        self
    }

    /// How many rows it is expected to touch.
    pub fn expecting_rows(mut self, rows: Option<i64>) -> Self {
        self.estimate.rows = rows;
        self
    }

    /// Comes before what earlier runs have left.
    pub fn urgently(mut self, urgent: bool) -> Self {
        self.urgent = urgent;
        self
    }

    /// What is done, as one text: shown to people, and recorded.
    pub fn statement_text(&self) -> String {
        self.body.text()
    }
}

impl<B: Body> Step<B> {
    /// As it is printed, whatever the engine: with what it runs as text, as the configuration writes it.
    pub(super) fn shown(self, filled: &Filled) -> Step<serde_json::Value> {
        let statement = self.body.text();
        let mut body = serde_json::to_value(self.body).unwrap_or_default();
        if let Some(body) = body.as_object_mut() {
            body.insert("statement".to_owned(), statement.into());
        }
        filled.hide_in(&mut body);
        Step {
            seq: self.seq,
            object: self.object,
            action: self.action,
            reason: self.reason,
            lane: self.lane,
            needs: self.needs,
            place: self.place,
            learn: self.learn,
            made_as: self.made_as,
            sheds: self.sheds,
            estimate: self.estimate,
            predicted_ms: self.predicted_ms,
            predicted_from: self.predicted_from,
            urgent: self.urgent,
            waited: self.waited,
            keeps: self.keeps,
            details: self.details,
            may_stay: self.may_stay,
            until_done: self.until_done,
            remember: self.remember,
            body,
        }
    }
}
