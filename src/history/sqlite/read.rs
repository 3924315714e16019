use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::rows::time;
use crate::history::words::{as_spelled, candidate};
use crate::history::{
    Baseline, HistoryError, LATEST_RUNS, LATEST_STEPS, RunFilter, RunRecord, RunSummary,
};
use crate::plan::{Finding, Past};

const RUN: &str = "SELECT * FROM runs WHERE id = ?1";
const STEPS: &str = "SELECT * FROM steps WHERE run_id = ?1 ORDER BY seq";
const FINDINGS: &str = "SELECT * FROM findings WHERE run_id = ?1 ORDER BY seq";

const LAST: &str = "SELECT id FROM runs ORDER BY started_at DESC, id DESC LIMIT 1";

const LATEST: &str = "SELECT * FROM runs ORDER BY started_at DESC, id DESC LIMIT 3";

/// `g` comes after every character of an id, so this is a range of the key.
const BY_PREFIX: &str = "
    SELECT * FROM runs WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id DESC LIMIT 10";

const OCCURRENCE: &str = "
    SELECT id FROM runs
     WHERE task = ?1 AND target = ?2 AND scheduled_for = ?3 AND status <> 'skipped'
       AND NOT (status = 'failed' AND NOT EXISTS (SELECT 1 FROM steps WHERE run_id = runs.id))
     ORDER BY started_at DESC, id DESC LIMIT 1";

const LAST_RUN: &str = "
    SELECT id FROM runs
     WHERE task = ?1 AND target = ?2 AND status <> 'skipped'
     ORDER BY started_at DESC, id DESC LIMIT 1";

const PAST_STEPS: &str = "
    SELECT r.task, s.action, s.object, s.status, s.cut_off, s.duration_ms,
           coalesce(s.planned_bytes, s.bytes_before) AS bytes, s.rows,
           s.predicted_ms
      FROM (SELECT id, task, started_at FROM runs WHERE target = ?1 AND kind = ?2
             ORDER BY started_at DESC LIMIT ?3) r
     CROSS JOIN steps s ON s.run_id = r.id
     ORDER BY r.started_at DESC, s.seq LIMIT ?4";

/// Counts are made for the runs of the page only.
const SUMMARIES: (&str, &str) = (
    "WITH page AS (SELECT * FROM runs WHERE TRUE",
    ")
    SELECT page.*,
           (SELECT max(id) FROM runs WHERE id < page.id) AS id_before,
           (SELECT min(id) FROM runs WHERE id > page.id) AS id_after,
           (SELECT count(*) FROM steps WHERE run_id = page.id) AS steps,
           (SELECT count(*) FROM steps WHERE run_id = page.id AND status = 'succeeded') AS succeeded,
           (SELECT count(*) FROM steps WHERE run_id = page.id AND status = 'failed') AS failed,
           (SELECT count(*) FROM findings WHERE run_id = page.id AND severity = 'info') AS infos,
           (SELECT count(*) FROM findings WHERE run_id = page.id AND severity = 'warning') AS warnings,
           (SELECT count(*) FROM findings WHERE run_id = page.id AND severity = 'critical') AS criticals
      FROM page ORDER BY started_at DESC, id DESC",
);

const BASELINES: &str = "SELECT * FROM baselines WHERE target = ?1";

impl SqliteStore {
    pub(super) async fn find_run(&self, given: &str) -> Result<RunRecord, HistoryError> {
        const OPERATION: &str = "look up a run";
        let mut reading = self.read(OPERATION).await?;
        if given == "last" {
            let last: Option<String> = sqlx::query_scalar(LAST)
                .fetch_optional(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?;
            let Some(id) = last else {
                return Err(HistoryError::NoRuns);
            };
            return self
                .load(&mut reading, &id)
                .await?
                .ok_or(HistoryError::NoRuns);
        }
        let found: Vec<RunRecord> = match as_spelled(given) {
            Some(prefix) => sqlx::query_as(BY_PREFIX)
                .bind(prefix)
                .fetch_all(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?,
            None => Vec::new(),
        };
        if let [only] = found.as_slice()
            && let Some(run) = self.load(&mut reading, &only.id.to_string()).await?
        {
            return Ok(run);
        }
        let given = given.to_owned();
        if found.is_empty() {
            let latest: Vec<RunRecord> = sqlx::query_as(LATEST)
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
        query
            .build_query_as()
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("list runs"))
    }

    pub(super) async fn find_occurrence(
        &self,
        task: &str,
        target: &str,
        scheduled_for: DateTime<Utc>,
    ) -> Result<Option<RunRecord>, HistoryError> {
        const OPERATION: &str = "look up an occurrence";
        let mut reading = self.read(OPERATION).await?;
        let id: Option<String> = sqlx::query_scalar(OCCURRENCE)
            .bind(task)
            .bind(target)
            .bind(time(scheduled_for))
            .fetch_optional(&mut *reading)
            .await
            .map_err(self.failed(OPERATION))?;
        match id {
            Some(id) => self.load(&mut reading, &id).await,
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
        let id: Option<String> = sqlx::query_scalar(LAST_RUN)
            .bind(task)
            .bind(target)
            .fetch_optional(&mut *reading)
            .await
            .map_err(self.failed(OPERATION))?;
        match id {
            Some(id) => self.load(&mut reading, &id).await,
            None => Ok(None),
        }
    }

    pub(super) async fn read_baselines(
        &self,
        target: &str,
    ) -> Result<HashMap<String, Baseline>, HistoryError> {
        let known: Vec<Baseline> = sqlx::query_as(BASELINES)
            .bind(target)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read baselines"))?;
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
        sqlx::query_as(PAST_STEPS)
            .bind(target)
            .bind(kind)
            .bind(LATEST_RUNS)
            .bind(LATEST_STEPS)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read how long steps took"))
    }

    /// One run with steps and findings, within the caller's transaction.
    pub(super) async fn load(
        &self,
        connection: &mut SqliteConnection,
        id: &str,
    ) -> Result<Option<RunRecord>, HistoryError> {
        let loaded = async {
            let run: Option<RunRecord> = sqlx::query_as(RUN)
                .bind(id)
                .fetch_optional(&mut *connection)
                .await?;
            let Some(mut run) = run else { return Ok(None) };
            run.steps = sqlx::query_as(STEPS)
                .bind(id)
                .fetch_all(&mut *connection)
                .await?;
            run.findings = sqlx::query_as::<_, Finding>(FINDINGS)
                .bind(id)
                .fetch_all(&mut *connection)
                .await?;
            Ok(Some(run))
        };
        loaded.await.map_err(self.failed("read a run"))
    }
}

/// Built from what the filter names: a fixed `? IS NULL OR …` for each field
/// would keep SQLite from using any index.
fn summaries(filter: &RunFilter) -> QueryBuilder<Sqlite> {
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
        query.push(", ").push_bind(id.to_string()).push(")");
    }
    query.push(" ORDER BY started_at DESC, id DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }
    query.push(SUMMARIES.1);
    query
}

#[cfg(test)]
mod tests {
    use super::super::scans;
    use super::*;

    #[tokio::test]
    async fn looking_something_up_does_not_read_the_whole_history() {
        for sql in [
            RUN, STEPS, FINDINGS, BY_PREFIX, OCCURRENCE, LAST_RUN, PAST_STEPS,
        ] {
            assert_eq!(scans(sql).await, [""; 0], "{sql}");
        }
        let of_task = RunFilter {
            task: Some("reindex".into()),
            target: Some("app".into()),
            limit: Some(50),
            ..RunFilter::default()
        };
        let list = summaries(&of_task);
        assert_eq!(scans(list.sql().as_str()).await, [""; 0]);
        // Newest first is the order of an index, so it is left early.
        let all = summaries(&RunFilter::default());
        for sql in [LAST, LATEST, all.sql().as_str()] {
            let found = scans(sql).await;
            assert!(
                matches!(&found[..], [only] if only.contains("USING") && only.contains("INDEX")),
                "{sql}: {found:?}"
            );
        }
    }
}
