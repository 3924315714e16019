//! What the steps of every engine have in common; what is done in one is its body, in the words of
//! its engine.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Waited, postgres};

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
    /// Rows that are expected to be touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
}

/// What a step of one engine is made of: what is done, and what is asked
/// around it. Data, like everything in a plan.
pub trait Body: Clone + std::fmt::Debug + Default + Serialize + Send + Sync + 'static {
    /// What is done, as one text: shown to people, and recorded.
    fn text(&self) -> String;

    /// The same as long as the same would be done, whenever that is: a limit that moves with the
    /// time is written as it is reckoned, so that a plan that was saved can be compared.
    fn at_any_time(&self) -> String {
        self.text()
    }

    /// What else tells the objects that it works on, or relies on, from others of their names: an
    /// id, or an object of ids by what they are of; null where nothing does.
    fn identity(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// What it changes besides its own rows, without numbers, which move with the time.
    fn sets_off(&self) -> Vec<String> {
        Vec::new()
    }

    /// When it has to have ended, whatever time the run has: it blocks others, and may do so only
    /// until then.
    fn until(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// Where it keeps, or reads, what it works on besides the target: another server, a bucket, a
    /// folder; for people. One that says nothing is not waited for.
    fn elsewhere(&self) -> Option<String> {
        None
    }

    /// Whether what it did is kept when it is cut off, and gone on from: then
    /// it may begin however little time is left.
    fn keeps_what_it_did(&self) -> bool {
        false
    }

    /// Whether it takes away what does not come back by itself: rows, documents, relations. That it
    /// begins is then on disk before it does.
    fn destroys(&self) -> bool {
        true
    }
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
    /// As it is printed, whatever the engine: with what it runs as text.
    pub(super) fn shown(self) -> Step<serde_json::Value> {
        let statement = self.body.text();
        let mut body = serde_json::to_value(self.body).unwrap_or_default();
        if let Some(body) = body.as_object_mut() {
            body.insert("statement".to_owned(), statement.into());
        }
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
            remember: self.remember,
            body,
        }
    }
}
