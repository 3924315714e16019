//! What kinds remember, and the time series they measure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::rows::time;
use super::{PostgresStore, rows_of, statement};
use crate::history::{HistoryError, Measured};
use crate::plan::{Measurement, Memory};

const MEMORIES: &str =
    "SELECT key, value::text AS value FROM maint.memories WHERE target = $1 AND kind = $2";

const REMEMBER: &str = "INSERT INTO maint.memories (target, kind, key, value, remembered_at)
    VALUES ($1, $2, $3, $4::text::json, $5)
    ON CONFLICT (target, kind, key) DO UPDATE SET value = excluded.value, remembered_at = excluded.remembered_at";

const MEASURE: &str = "INSERT INTO maint.measurements (target, metric, object, measured_at, value)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (target, metric, object, measured_at) DO UPDATE SET value = excluded.value";

const MEASUREMENTS: &str = "SELECT metric, object, measured_at, value FROM maint.measurements
    WHERE target = $1 AND metric = $2 AND measured_at >= $3 ORDER BY object, measured_at";

impl PostgresStore {
    pub(super) async fn read_memories(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<HashMap<String, Value>, HistoryError> {
        let query = rows_of::<(String, String)>(MEMORIES)
            .bind(target)
            .bind(kind);
        let rows = self.fetch("read memories", query).await?;
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
        let query = rows_of(MEASUREMENTS)
            .bind(target)
            .bind(metric)
            .bind(time(since));
        self.fetch("read measurements", query).await
    }
}

pub(super) async fn put_memories(
    connection: &mut PgConnection,
    target: &str,
    kind: &str,
    at: DateTime<Utc>,
    memories: &[Memory],
) -> Result<(), sqlx::Error> {
    for memory in memories {
        statement(REMEMBER)
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
    connection: &mut PgConnection,
    target: &str,
    at: DateTime<Utc>,
    measurements: &[Measurement],
) -> Result<(), sqlx::Error> {
    for one in measurements.iter().filter(|one| one.value.is_finite()) {
        statement(MEASURE)
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
