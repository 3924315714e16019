//! What kinds remember, and the time series they measure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::rows::time;
use crate::history::{HistoryError, Measured};
use crate::plan::{Measurement, Memory};

const MEMORIES: &str = "SELECT key, value FROM memories WHERE target = ?1 AND kind = ?2";

const REMEMBER: &str = "INSERT INTO memories (target, kind, key, value, remembered_at)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET value = excluded.value, remembered_at = excluded.remembered_at";

const MEASURE: &str = "INSERT INTO measurements (target, metric, object, measured_at, value)
    VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET value = excluded.value";

const MEASUREMENTS: &str = "SELECT metric, object, measured_at, value FROM measurements
    WHERE target = ?1 AND metric = ?2 AND measured_at >= ?3 ORDER BY object, measured_at";

impl SqliteStore {
    pub(super) async fn read_memories(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<HashMap<String, Value>, HistoryError> {
        let rows: Vec<(String, String)> = sqlx::query_as(MEMORIES)
            .bind(target)
            .bind(kind)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read memories"))?;
        // Every value was checked to be JSON on its way in.
        Ok(rows
            .into_iter()
            .filter_map(|(key, value)| Some((key, serde_json::from_str(&value).ok()?)))
            .collect())
    }

    pub(super) async fn read_measurements(
        &self,
        target: &str,
        metric: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Measured>, HistoryError> {
        sqlx::query_as(MEASUREMENTS)
            .bind(target)
            .bind(metric)
            .bind(time(since))
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read measurements"))
    }
}

pub(super) async fn put_memories(
    connection: &mut SqliteConnection,
    target: &str,
    kind: &str,
    at: DateTime<Utc>,
    memories: &[Memory],
) -> Result<(), sqlx::Error> {
    for memory in memories {
        sqlx::query(REMEMBER)
            .bind(target)
            .bind(kind)
            .bind(&memory.key)
            .bind(memory.value.to_string())
            .bind(time(at))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn put_measurements(
    connection: &mut SqliteConnection,
    target: &str,
    at: DateTime<Utc>,
    measurements: &[Measurement],
) -> Result<(), sqlx::Error> {
    for one in measurements.iter().filter(|one| one.value.is_finite()) {
        sqlx::query(MEASURE)
            .bind(target)
            .bind(&one.metric)
            .bind(&one.object)
            .bind(time(at))
            .bind(one.value)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
