//! Baselines, past steps, memories and time series.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Sql, SqlStore};
use crate::history::{Baseline, HistoryError, LATEST_RUNS, LATEST_STEPS, Learned, Measured};
use crate::plan::Past;

static BASELINES: Sql = Sql::new("SELECT * FROM maint.baselines WHERE target = $1");

/// `CROSS JOIN` keeps SQLite from beginning with the steps.
pub(super) static PAST_STEPS: Sql = Sql::new(
    "SELECT r.task, s.action, s.object, s.status, s.cut_off, s.kept_by, s.duration_ms,
           coalesce(s.planned_bytes, s.bytes_before) AS bytes, s.rows, s.predicted_ms
      FROM (SELECT id, task, started_at FROM maint.runs WHERE target = $1 AND kind = $2
             ORDER BY started_at DESC LIMIT $3) AS r
     CROSS JOIN maint.steps AS s
     WHERE s.run_id = r.id
     ORDER BY r.started_at DESC, s.seq LIMIT $4",
);

static MEMORIES: Sql =
    Sql::new("SELECT key, value FROM maint.memories WHERE target = $1 AND kind = $2");

static REMEMBERED: Sql =
    Sql::new("SELECT DISTINCT target FROM maint.memories WHERE kind = $1 ORDER BY target");

static MEASUREMENTS: Sql = Sql::new(
    "SELECT metric, object, measured_at, value FROM maint.measurements
     WHERE target = $1 AND metric = $2 AND measured_at >= $3 ORDER BY object, measured_at",
);

#[async_trait]
impl Learned for SqlStore {
    async fn baselines(&self, target: &str) -> Result<HashMap<String, Baseline>, HistoryError> {
        let known = BASELINES.with([target.into()]);
        let known: Vec<Baseline> = self.fetch("read baselines", known).await?;
        let known = known.into_iter();
        Ok(known.map(|one| (one.object.clone(), one)).collect())
    }

    async fn past_steps(&self, target: &str, kind: &str) -> Result<Vec<Past>, HistoryError> {
        let values = [
            target.into(),
            kind.into(),
            LATEST_RUNS.into(),
            LATEST_STEPS.into(),
        ];
        self.fetch("read how long steps took", PAST_STEPS.with(values))
            .await
    }

    async fn memories(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<HashMap<String, serde_json::Value>, HistoryError> {
        let memories = MEMORIES.with([target.into(), kind.into()]);
        let memories = self.fetch_by("read memories", memories, |row| {
            Ok((row.cell("key")?, row.document("value")?))
        });
        // Every value was checked to be JSON on its way in.
        let known = memories.await?.into_iter();
        Ok(known
            .filter_map(|(key, value)| Some((key, serde_json::from_str(&value).ok()?)))
            .collect())
    }

    async fn remembered(&self, kind: &str) -> Result<Vec<String>, HistoryError> {
        let named = REMEMBERED.with([kind.into()]);
        self.fetch_by("read which targets are remembered", named, |row| {
            row.cell("target")
        })
        .await
    }

    async fn measurements(
        &self,
        target: &str,
        metric: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Measured>, HistoryError> {
        let values = [target.into(), metric.into(), since.into()];
        self.fetch("read measurements", MEASUREMENTS.with(values))
            .await
    }
}
