//! What the history knows of targets from earlier runs: the part that decisions are made from.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Baseline, HistoryError};
use crate::plan::{Measurement, Past};

/// What was learned of targets from the runs on them.
#[async_trait]
pub trait Learned: Send + Sync {
    /// What is known of the objects of a target, by object.
    async fn baselines(&self, target: &str) -> Result<HashMap<String, Baseline>, HistoryError>;

    /// The steps of the latest runs of this kind on this target, newest
    /// first: of no more than [`LATEST_RUNS`](super::LATEST_RUNS) runs, and
    /// no more than [`LATEST_STEPS`](super::LATEST_STEPS).
    async fn past_steps(&self, target: &str, kind: &str) -> Result<Vec<Past>, HistoryError>;

    /// What a kind asked to remember about a target, by key.
    async fn memories(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<HashMap<String, Value>, HistoryError>;

    /// The targets that a kind asked to remember something about, by name, whether or not the
    /// configuration still has them.
    async fn remembered(&self, kind: &str) -> Result<Vec<String>, HistoryError>;

    /// One metric of a target since then, by object, oldest first.
    async fn measurements(
        &self,
        target: &str,
        metric: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Measured>, HistoryError>;
}

/// A number of a time series with its time.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Measured {
    /// When it was measured.
    pub at: DateTime<Utc>,
    /// What was measured.
    pub measurement: Measurement,
}
