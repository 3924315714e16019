//! The part of the history that runs write to, entry by entry, while they go on.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Baseline, Entry, HistoryError, Notice, RunRecord, StepRecord};
use crate::plan::{Finding, Measurement, Memory};

/// Writes what runs have to say, entry by entry.
#[async_trait]
pub trait Records: Send + Sync {
    /// Writes entries in this order, all or nothing, in one transaction: what
    /// has gathered costs one commit. The methods below write one each.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where a step or finding is of a run that is unknown.
    async fn record(&self, entries: &[Entry]) -> Result<(), HistoryError>;

    /// Records a run that begins, without its steps. A run already known is
    /// left as it is.
    async fn open_run(&self, run: &RunRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Opened(Box::new(run.clone()))]).await
    }

    /// Records a step that begins, before its first statement.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where the run is unknown.
    async fn open_step(&self, run: Uuid, step: &StepRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Step {
            run,
            step: Box::new(step.clone()),
        }])
        .await
    }

    /// Records how a step ended; inserts it where it was never opened.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where the run is unknown.
    async fn close_step(&self, run: Uuid, step: &StepRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Step {
            run,
            step: Box::new(step.clone()),
        }])
        .await
    }

    /// Adds findings to a run, in this order. One that is already there is
    /// not added twice.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where the run is unknown.
    async fn add_findings(&self, run: Uuid, findings: &[Finding]) -> Result<(), HistoryError> {
        self.record(&[Entry::Findings {
            run,
            findings: findings.to_vec(),
        }])
        .await
    }

    /// Records how a run ended, with the steps and findings it carries, all
    /// or nothing. Whatever could not be recorded earlier is made up for:
    /// this call alone is a complete record.
    async fn close_run(&self, run: &RunRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Closed(Box::new(run.clone()))]).await
    }

    /// Remembers a baseline. One just rebuilt always replaces what is known,
    /// one merely observed only if it has fewer bytes per tuple. A tuple
    /// count that is no count (negative, not finite) is not remembered.
    async fn learn(&self, target: &str, baseline: &Baseline) -> Result<(), HistoryError> {
        self.record(&[Entry::Baseline {
            target: target.to_owned(),
            baseline: baseline.clone(),
        }])
        .await
    }

    /// Remembers, in place of what was known under the same keys.
    async fn remember(
        &self,
        target: &str,
        kind: &str,
        at: DateTime<Utc>,
        memories: &[Memory],
    ) -> Result<(), HistoryError> {
        self.record(&[Entry::Memories {
            target: target.to_owned(),
            kind: kind.to_owned(),
            at,
            memories: memories.to_vec(),
        }])
        .await
    }

    /// Adds to the time series. Values that are no numbers are left out.
    async fn add_measurements(
        &self,
        target: &str,
        at: DateTime<Utc>,
        measurements: &[Measurement],
    ) -> Result<(), HistoryError> {
        self.record(&[Entry::Measurements {
            target: target.to_owned(),
            at,
            measurements: measurements.to_vec(),
        }])
        .await
    }

    /// Keeps what happened until somebody is told.
    async fn add_notices(&self, notices: &[Notice]) -> Result<(), HistoryError> {
        self.record(&[Entry::Notices(notices.to_vec())]).await
    }
}
