//! Runs that are looked for.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rows::success;
use super::{Builder, Call, Sql, SqlStore, Statement};
use crate::history::words::{candidate, id_range};
use crate::history::{HistoryError, RunFilter, RunRecord, RunSummary, Runs};

pub(super) static RUN: Sql = Sql::new("SELECT * FROM maint.runs WHERE id = $1");
static STEPS: Sql = Sql::new("SELECT * FROM maint.steps WHERE run_id = $1 ORDER BY seq");
static FINDINGS: Sql = Sql::new("SELECT * FROM maint.findings WHERE run_id = $1 ORDER BY seq");

static LATEST: Sql =
    Sql::new("SELECT * FROM maint.runs ORDER BY started_at DESC, id DESC LIMIT $1");

static FIRST: Sql = Sql::new("SELECT started_at FROM maint.runs ORDER BY started_at LIMIT 1");

static BY_RANGE: Sql =
    Sql::new("SELECT * FROM maint.runs WHERE id BETWEEN $1 AND $2 ORDER BY id DESC LIMIT 10");

static OCCURRENCE: Sql = Sql::new(
    "SELECT * FROM maint.runs
     WHERE task = $1 AND target = $2 AND scheduled_for = $3 AND status <> 'skipped'
       AND ($4{postgres:::text} IS NULL OR schedule IS NULL OR schedule = $4)
       AND NOT (status = 'failed' AND NOT EXISTS (SELECT 1 FROM maint.steps WHERE run_id = runs.id))
     ORDER BY started_at DESC, id DESC LIMIT 1",
);

static LAST_RUN: Sql = Sql::new(
    "SELECT * FROM maint.runs
     WHERE task = $1 AND target = $2 AND status <> 'skipped'
     ORDER BY started_at DESC, id DESC LIMIT 1",
);

static LAST_RUN_ID: Sql = Sql::new(
    "SELECT id FROM maint.runs
     WHERE task = $1 AND target = $2 AND status <> 'skipped'
     ORDER BY started_at DESC, id DESC LIMIT 1",
);

static LAST_WHOLE_RUN: Sql = Sql::new(
    "SELECT * FROM maint.runs
     WHERE task = $1 AND target = $2 AND status <> 'skipped' AND part IS NULL
     ORDER BY started_at DESC, id DESC LIMIT 1",
);

static SUCCESSES: Sql = Sql::new(
    "SELECT task, target, max(finished_at) AS finished_at FROM maint.runs
     WHERE status IN ('succeeded', 'incomplete') AND finished_at IS NOT NULL
     GROUP BY task, target ORDER BY task, target",
);

/// Counts are made for the runs of the page only.
const SUMMARIES: (&str, &str) = (
    "WITH page AS (SELECT * FROM maint.runs WHERE TRUE",
    ")
    SELECT page.*,
           (SELECT id FROM maint.runs WHERE id < page.id ORDER BY id DESC LIMIT 1) AS id_before,
           (SELECT id FROM maint.runs WHERE id > page.id ORDER BY id LIMIT 1) AS id_after,
           (SELECT count(*) FROM maint.steps WHERE run_id = page.id) AS steps,
           (SELECT count(*) FROM maint.steps WHERE run_id = page.id AND status = 'succeeded') AS succeeded,
           (SELECT count(*) FROM maint.steps WHERE run_id = page.id AND status = 'failed') AS failed,
           (SELECT count(*) FROM maint.findings WHERE run_id = page.id AND severity = 'info') AS infos,
           (SELECT count(*) FROM maint.findings WHERE run_id = page.id AND severity = 'warning') AS warnings,
           (SELECT count(*) FROM maint.findings WHERE run_id = page.id AND severity = 'critical') AS criticals
      FROM page ORDER BY started_at DESC, id DESC",
);

#[async_trait]
impl Runs for SqlStore {
    async fn run(&self, id_prefix: &str) -> Result<RunRecord, HistoryError> {
        let mut reading = self.read("look up a run").await?;
        if id_prefix == "last" {
            return match reading.fetch_one(LATEST.with([1_u32.into()])).await? {
                Some(last) => reading.complete(last).await,
                None => Err(HistoryError::NoRuns),
            };
        }
        let mut found: Vec<RunRecord> = match id_range(id_prefix) {
            Some((low, high)) => {
                reading
                    .fetch(BY_RANGE.with([low.into(), high.into()]))
                    .await?
            }
            None => Vec::new(),
        };
        if found.len() == 1
            && let Some(only) = found.pop()
        {
            return reading.complete(only).await;
        }
        let given = id_prefix.to_owned();
        if found.is_empty() {
            let latest: Vec<RunRecord> = reading.fetch(LATEST.with([3_u32.into()])).await?;
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

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, HistoryError> {
        self.fetch("list runs", summaries(filter)).await
    }

    async fn first_run_at(&self) -> Result<Option<DateTime<Utc>>, HistoryError> {
        let first = self.fetch_by("look up the first run", FIRST.with([]), |row| {
            row.time("started_at")
        });
        Ok(first.await?.pop())
    }

    async fn occurrence(
        &self,
        task: &str,
        target: &str,
        scheduled_for: DateTime<Utc>,
        schedule: Option<&str>,
    ) -> Result<Option<RunRecord>, HistoryError> {
        let schedule = schedule.map(str::to_owned).into();
        let newest = OCCURRENCE.with([task.into(), target.into(), scheduled_for.into(), schedule]);
        self.find("look up an occurrence", newest).await
    }

    async fn last_run(&self, task: &str, target: &str) -> Result<Option<RunRecord>, HistoryError> {
        let last = LAST_RUN.with([task.into(), target.into()]);
        self.find("look up the last run", last).await
    }

    async fn last_run_id(&self, task: &str, target: &str) -> Result<Option<Uuid>, HistoryError> {
        let last = LAST_RUN_ID.with([task.into(), target.into()]);
        let last = self.fetch_by("look up the last run", last, |row| row.id("id"));
        Ok(last.await?.pop())
    }

    async fn last_whole_run(
        &self,
        task: &str,
        target: &str,
    ) -> Result<Option<RunRecord>, HistoryError> {
        let last = LAST_WHOLE_RUN.with([task.into(), target.into()]);
        self.find("look up the last run", last).await
    }

    async fn last_successes(&self) -> Result<Vec<(String, String, DateTime<Utc>)>, HistoryError> {
        self.fetch_by("look up successes", SUCCESSES.with([]), success)
            .await
    }
}

impl SqlStore {
    async fn find(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Option<RunRecord>, HistoryError> {
        let mut reading = self.read(operation).await?;
        match reading.fetch_one(statement).await? {
            Some(run) => reading.complete(run).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Call<'_> {
    /// The run with its steps and findings.
    pub(super) async fn complete(&mut self, mut run: RunRecord) -> Result<RunRecord, HistoryError> {
        run.steps = self.fetch(STEPS.with([run.id.into()])).await?;
        run.findings = self.fetch(FINDINGS.with([run.id.into()])).await?;
        Ok(run)
    }
}

/// Built from what the filter names: a fixed `$1 IS NULL OR …` for each field
/// would keep the planner from using any index.
fn summaries(filter: &RunFilter) -> Statement {
    let mut query = Builder::new(SUMMARIES.0);
    if let Some(task) = &filter.task {
        query.push(" AND task = ").bind(task);
    }
    if let Some(target) = &filter.target {
        query.push(" AND target = ").bind(target);
    }
    if !filter.statuses.is_empty() {
        let words = filter.statuses.iter().map(|status| status.as_str());
        query.push(" AND status IN ").bind_all(words);
    }
    if let Some(since) = filter.since {
        query.push(" AND started_at >= ").bind(since);
    }
    if let Some(until) = filter.until {
        query.push(" AND started_at < ").bind(until);
    }
    if let Some((at, id)) = filter.after {
        query.push(" AND (started_at, id) < (").bind(at);
        query.push(", ").bind(id).push(")");
    }
    query.push(" ORDER BY started_at DESC, id DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").bind(limit);
    }
    query.push(SUMMARIES.1);
    query.end()
}

#[cfg(test)]
mod tests {
    use super::super::plans::scans;
    use super::super::{Dialect, learned::PAST_STEPS};
    use super::*;

    #[tokio::test]
    async fn looking_something_up_does_not_read_the_whole_history() {
        for sql in [
            &RUN,
            &STEPS,
            &FINDINGS,
            &BY_RANGE,
            &OCCURRENCE,
            &LAST_RUN,
            &LAST_RUN_ID,
            &LAST_WHOLE_RUN,
            &PAST_STEPS,
        ] {
            let sql = sql.spelled(Dialect::Sqlite);
            assert_eq!(scans(sql).await, [""; 0], "{sql}");
        }
        let of_task = RunFilter {
            task: Some("reindex".into()),
            target: Some("app".into()),
            limit: Some(50),
            ..RunFilter::default()
        };
        let list = summaries(&of_task).text(Dialect::Sqlite);
        assert_eq!(scans(list.as_str()).await, [""; 0]);
        // Newest first is the order of an index, so it is left early.
        let all = summaries(&RunFilter::default()).text(Dialect::Sqlite);
        for sql in [LATEST.spelled(Dialect::Sqlite), all.as_str()] {
            let found = scans(sql).await;
            assert!(
                matches!(&found[..], [only] if only.contains("USING") && only.contains("INDEX")),
                "{sql}: {found:?}"
            );
        }
    }
}
