//! What steps are expected to cost and win, and what of it will not fit into a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// What a prediction rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// How long the same took on the same object.
    Itself,
    /// How long the same took on other objects of the target.
    Others,
    /// Nothing: the pessimistic rule for what is not known.
    Nothing,
}

/// How far earlier predictions were off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PastError {
    /// How many predictions that rested on something are compared.
    pub predictions: u32,
    /// The median of their errors, as a share of the time it took.
    pub median: f64,
    /// The median of how many times as long as predicted it took.
    #[serde(default = "just_so")]
    pub factor: f64,
}

fn just_so() -> f64 {
    1.0
}

/// What fewer predictions have come to says nothing of the next one.
const FEW: u32 = 5;
/// From here on it is told how many times as long something took.
const FAR: f64 = 2.0;

impl PastError {
    /// In words, after what is predicted now; nothing where too few are known.
    pub fn said(&self) -> Option<String> {
        let times = |factor: f64| match factor < 10.0 {
            true => format!("{factor:.1}"),
            false => format!("{factor:.0}"),
        };
        if self.predictions < FEW {
            return None;
        }
        let many = self.predictions;
        Some(if self.factor >= FAR {
            let times = times(self.factor);
            format!("earlier ones usually took {times} times as long as predicted (of {many})")
        } else if self.factor <= 1.0 / FAR {
            let times = times(1.0 / self.factor.max(f64::MIN_POSITIVE));
            format!(
                "earlier ones were usually predicted {times} times as long as they took (of {many})"
            )
        } else {
            let off = self.median * 100.0;
            format!("earlier predictions were off by {off:.0} % (median of {many})")
        })
    }
}

/// What the steps of a plan are predicted to take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// All of them, as many at once as the task allows, in milliseconds.
    pub predicted_ms: i64,
    /// How much time a whole run has: the budget or the window, whichever is
    /// shorter. Absent where nothing limits it.
    pub available_ms: Option<i64>,
    /// How many databases of the task have that time together; absent where it is one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_by: Option<usize>,
    /// Steps that will be left for another run, and why.
    pub will_not_fit: Vec<Skip>,
    /// How far earlier predictions were off, once there are some.
    pub error: Option<PastError>,
}

/// How long a step has waited for its turn.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Waited {
    /// In how many runs in a row the task has left it.
    pub runs: u32,
    /// In how many of the latest of those nothing of it was begun.
    pub untouched: u32,
}

impl Waited {
    /// Whether it has not waited at all.
    pub fn is_none(&self) -> bool {
        *self == Waited::default()
    }
}

/// An object that would have been worked on, and why it is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Skip {
    /// The object, quoted where SQL would need it.
    pub object: String,
    /// Why it is left alone.
    pub reason: String,
}
