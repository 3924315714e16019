use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::PostgresStore;
use super::rows::time;
use super::{rows_of, scalar};
use crate::history::words::{candidate, id_range};
use crate::history::{
    Baseline, HistoryError, LATEST_RUNS, LATEST_STEPS, RunFilter, RunRecord, RunSummary,
};
use crate::plan::{Finding, Past};

const RUN: &str = "SELECT * FROM maint.runs WHERE id = $1";
const STEPS: &str =
    "SELECT run_id, seq, object, action, status, reason, statement, rows, bytes_before,
    bytes_after, started_at, duration_ms, attempts, error, lock_waits::text AS lock_waits,
    throttled::text AS throttled, predicted_ms, cut_off, planned_bytes
    FROM maint.steps WHERE run_id = $1 ORDER BY seq";
const FINDINGS: &str = "SELECT * FROM maint.findings WHERE run_id = $1 ORDER BY seq";

const LAST: &str = "SELECT id FROM maint.runs ORDER BY started_at DESC, id DESC LIMIT 1";

const LATEST: &str = "SELECT * FROM maint.runs ORDER BY started_at DESC, id DESC LIMIT 3";

const BY_RANGE: &str = "
    SELECT * FROM maint.runs WHERE id BETWEEN $1 AND $2 ORDER BY id DESC LIMIT 10";

const OCCURRENCE: &str = "
    SELECT id FROM maint.runs
     WHERE task = $1 AND target = $2 AND scheduled_for = $3 AND status <> 'skipped'
       AND NOT (status = 'failed' AND NOT EXISTS (SELECT 1 FROM maint.steps WHERE run_id = runs.id))
     ORDER BY started_at DESC, id DESC LIMIT 1";

const LAST_RUN: &str = "
    SELECT id FROM maint.runs
     WHERE task = $1 AND target = $2 AND status <> 'skipped'
     ORDER BY started_at DESC, id DESC LIMIT 1";

/// Counts are made for the runs of the page only.
const SUMMARIES: (&str, &str) = (
    "WITH page AS (SELECT * FROM maint.runs WHERE TRUE",
    ")
    SELECT page.*,
           (SELECT id::text FROM maint.runs WHERE id < page.id ORDER BY id DESC LIMIT 1) AS id_before,
           (SELECT id::text FROM maint.runs WHERE id > page.id ORDER BY id LIMIT 1) AS id_after,
           (SELECT count(*) FROM maint.steps WHERE run_id = page.id) AS steps,
           (SELECT count(*) FROM maint.steps WHERE run_id = page.id AND status = 'succeeded') AS succeeded,
           (SELECT count(*) FROM maint.steps WHERE run_id = page.id AND status = 'failed') AS failed,
           (SELECT count(*) FROM maint.findings WHERE run_id = page.id AND severity = 'info') AS infos,
           (SELECT count(*) FROM maint.findings WHERE run_id = page.id AND severity = 'warning') AS warnings,
           (SELECT count(*) FROM maint.findings WHERE run_id = page.id AND severity = 'critical') AS criticals
      FROM page ORDER BY started_at DESC, id DESC",
);

const PAST_STEPS: &str = "
    SELECT r.task, s.action, s.object, s.status, s.cut_off, s.duration_ms,
           coalesce(s.planned_bytes, s.bytes_before) AS bytes, s.rows,
           s.predicted_ms
      FROM (SELECT id, task, started_at FROM maint.runs WHERE target = $1 AND kind = $2
             ORDER BY started_at DESC LIMIT $3) r
      JOIN maint.steps s ON s.run_id = r.id
     ORDER BY r.started_at DESC, s.seq LIMIT $4";

const BASELINES: &str = "SELECT * FROM maint.baselines WHERE target = $1";

impl PostgresStore {
    pub(super) async fn find_run(&self, given: &str) -> Result<RunRecord, HistoryError> {
        const OPERATION: &str = "look up a run";
        let mut reading = self.read(OPERATION).await?;
        if given == "last" {
            let last: Option<Uuid> = scalar(LAST)
                .fetch_optional(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?;
            let Some(id) = last else {
                return Err(HistoryError::NoRuns);
            };
            return self
                .load(&mut reading, id)
                .await?
                .ok_or(HistoryError::NoRuns);
        }
        let found: Vec<RunRecord> = match id_range(given) {
            Some((low, high)) => rows_of(BY_RANGE)
                .bind(low)
                .bind(high)
                .fetch_all(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?,
            None => Vec::new(),
        };
        if let [only] = found.as_slice()
            && let Some(run) = self.load(&mut reading, only.id).await?
        {
            return Ok(run);
        }
        let given = given.to_owned();
        if found.is_empty() {
            let latest: Vec<RunRecord> = rows_of(LATEST)
                .fetch_all(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?;
            return Err(HistoryError::UnknownRun {
                given,
                latest: latest.into_iter().map(candidate).collect(),
            });
        }
        Err(HistoryError::AmbiguousRun {
            given,
            candidates: found.into_iter().map(candidate).collect(),
        })
    }

    pub(super) async fn list_runs(
        &self,
        filter: &RunFilter,
    ) -> Result<Vec<RunSummary>, HistoryError> {
        let mut query = summaries(filter);
        let query = query.build_query_as().persistent(false);
        self.fetch("list runs", query).await
    }

    pub(super) async fn find_occurrence(
        &self,
        task: &str,
        target: &str,
        scheduled_for: DateTime<Utc>,
    ) -> Result<Option<RunRecord>, HistoryError> {
        const OPERATION: &str = "look up an occurrence";
        let mut reading = self.read(OPERATION).await?;
        let id: Option<Uuid> = scalar(OCCURRENCE)
            .bind(task)
            .bind(target)
            .bind(time(scheduled_for))
            .fetch_optional(&mut *reading)
            .await
            .map_err(self.failed(OPERATION))?;
        match id {
            Some(id) => self.load(&mut reading, id).await,
            None => Ok(None),
        }
    }

    pub(super) async fn find_last_run(
        &self,
        task: &str,
        target: &str,
    ) -> Result<Option<RunRecord>, HistoryError> {
        const OPERATION: &str = "look up the last run";
        let mut reading = self.read(OPERATION).await?;
        let id: Option<Uuid> = scalar(LAST_RUN)
            .bind(task)
            .bind(target)
            .fetch_optional(&mut *reading)
            .await
            .map_err(self.failed(OPERATION))?;
        match id {
            Some(id) => self.load(&mut reading, id).await,
            None => Ok(None),
        }
    }

    pub(super) async fn read_baselines(
        &self,
        target: &str,
    ) -> Result<HashMap<String, Baseline>, HistoryError> {
        let query = rows_of::<Baseline>(BASELINES).bind(target);
        let known = self.fetch("read baselines", query).await?;
        Ok(known
            .into_iter()
            .map(|one| (one.object.clone(), one))
            .collect())
    }

    pub(super) async fn read_past_steps(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<Vec<Past>, HistoryError> {
        let query = rows_of::<Past>(PAST_STEPS)
            .bind(target)
            .bind(kind)
            .bind(i64::from(LATEST_RUNS))
            .bind(i64::from(LATEST_STEPS));
        self.fetch("read how long steps took", query).await
    }

    /// One run with steps and findings, within the caller's transaction.
    pub(super) async fn load(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
    ) -> Result<Option<RunRecord>, HistoryError> {
        let loaded = async {
            let run: Option<RunRecord> = rows_of(RUN)
                .bind(id)
                .fetch_optional(&mut *connection)
                .await?;
            let Some(mut run) = run else { return Ok(None) };
            run.steps = rows_of(STEPS).bind(id).fetch_all(&mut *connection).await?;
            run.findings = rows_of::<Finding>(FINDINGS)
                .bind(id)
                .fetch_all(&mut *connection)
                .await?;
            Ok(Some(run))
        };
        loaded.await.map_err(self.failed("read a run"))
    }
}

/// Built from what the filter names: a fixed `$1 IS NULL OR …` for each field
/// would keep the planner from using any index.
fn summaries(filter: &RunFilter) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(SUMMARIES.0);
    if let Some(task) = &filter.task {
        query.push(" AND task = ").push_bind(task.clone());
    }
    if let Some(target) = &filter.target {
        query.push(" AND target = ").push_bind(target.clone());
    }
    if !filter.statuses.is_empty() {
        query.push(" AND status IN (");
        let mut words = query.separated(", ");
        for status in &filter.statuses {
            words.push_bind(status.as_str());
        }
        query.push(")");
    }
    if let Some(since) = filter.since {
        query.push(" AND started_at >= ").push_bind(time(since));
    }
    if let Some(until) = filter.until {
        query.push(" AND started_at < ").push_bind(time(until));
    }
    if let Some((at, id)) = filter.after {
        query.push(" AND (started_at, id) < (").push_bind(time(at));
        query.push(", ").push_bind(id).push(")");
    }
    query.push(" ORDER BY started_at DESC, id DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }
    query.push(SUMMARIES.1);
    query
}
