//! How a task is planned and carried out, whatever its engine.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{Known, PipelineError, Request, Surroundings};
use crate::config::{Target, Task};
use crate::execute::{Counts, Held};
use crate::history::RunRecord;
use crate::plan::{Plan, SavedPlan};

/// How a task is planned and carried out, whatever its engine.
#[async_trait]
pub trait Way: Send + Sync {
    /// What the task would do now.
    ///
    /// # Errors
    /// When the target cannot be reached or asked.
    async fn plan(
        &self,
        task: &Task,
        target: &Target,
        known: Known,
    ) -> Result<Plan<Value>, PipelineError>;

    /// The same as a document to be reviewed, and carried out later.
    ///
    /// # Errors
    /// When the target cannot be reached or asked.
    async fn saved(
        &self,
        task: &Task,
        target: &Target,
        known: Known,
    ) -> Result<SavedPlan, PipelineError>;

    /// The same, and how many rows each step would change.
    ///
    /// # Errors
    /// When the target cannot be reached or asked.
    async fn dry_run(
        &self,
        task: &Task,
        target: &Target,
        known: Known,
    ) -> Result<(Plan<Value>, Counts), PipelineError>;

    /// Everything between the beginning and the end of a run's record.
    ///
    /// # Errors
    /// When the run has failed before, or beside, its steps.
    async fn work(
        &self,
        request: &Request<'_>,
        around: &Surroundings,
        record: &mut RunRecord,
    ) -> Result<(), PipelineError>;

    /// What would hold a run of the task up before its first step.
    ///
    /// # Errors
    /// When the target's address makes no sense.
    async fn held(&self, task: &Task, target: &Target) -> Result<Vec<Held>, PipelineError>;

    /// Whether the server of the target takes a new connection within `patience`.
    async fn answers(&self, target: &Target, patience: Duration) -> Answer;
}

/// What a server does with a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It takes it, or says why it does not.
    Up,
    /// It is up, and has none free.
    Full,
    /// It is up, and has no such database any more.
    Gone,
    /// It says nothing, or is not there.
    Silent,
}
