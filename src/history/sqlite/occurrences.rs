//! Claims on occurrences, pauses, and requests to stop.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::SqliteStore;
use super::rows::time;
use crate::history::rows::{Cells, success};
use crate::history::{
    Claim, Ended, HistoryError, Occurrence, OccurrenceFilter, OccurrenceStatus, Pause, clean,
};

/// What is known under another definition is known anew.
const KNOW: &str = "INSERT INTO schedules (name, definition, known_since) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE
       SET definition = excluded.definition,
           known_since = CASE WHEN definition = excluded.definition THEN known_since
                              ELSE excluded.known_since END
    RETURNING known_since";

const CLAIM: &str = "
    INSERT INTO occurrences (schedule, scheduled_for, status, catch_up, claimed_by, lease_until,
                             claims, recorded_at, runs)
    VALUES (?1, ?2, 'running', ?3, ?4, ?6, 1, ?5, '[]')
    ON CONFLICT (schedule, scheduled_for) DO UPDATE
       SET claimed_by = excluded.claimed_by, lease_until = excluded.lease_until,
           claims = claims + 1, status = 'running', recorded_at = min(recorded_at, ?5)
     WHERE status = 'running' AND lease_until <= ?5
        OR status = 'missed' AND recorded_at > ?7
    RETURNING *";

const RENEW: &str = "UPDATE occurrences SET lease_until = ?4
    WHERE schedule = ?1 AND scheduled_for = ?2 AND claimed_by = ?3 AND status = 'running'";

const FINISH: &str = "UPDATE occurrences
    SET status = ?4, finished_at = ?5, succeeded = ?6, reason = ?7, runs = ?8, lease_until = NULL
    WHERE schedule = ?1 AND scheduled_for = ?2 AND claimed_by = ?3 AND status = 'running'";

const RELEASE_NEW: &str = "DELETE FROM occurrences
    WHERE schedule = ?1 AND scheduled_for = ?2 AND claimed_by = ?3 AND status = 'running'";

const RECORD: &str = "
    INSERT INTO occurrences (schedule, scheduled_for, status, catch_up, claims, recorded_at,
                             finished_at, reason, runs)
    VALUES (?1, ?2, ?3, ?4, 0, ?5, ?5, ?6, '[]') ON CONFLICT DO NOTHING";

const NEWEST: &str = "SELECT * FROM occurrences WHERE schedule = ?1 AND scheduled_for <= ?2
    AND (status <> 'missed' OR recorded_at <= ?3) ORDER BY scheduled_for DESC LIMIT 1";

const ORPHANED: &str = "SELECT * FROM occurrences
    WHERE status = 'running' AND lease_until <= ?1 ORDER BY scheduled_for, schedule";

const PAUSE: &str = "INSERT INTO pauses (schedule, since, until, paused_by)
    VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (schedule) DO UPDATE SET until = excluded.until, paused_by = excluded.paused_by";

const RESUME: &str = "DELETE FROM pauses WHERE schedule = ?1";

const PAUSES: &str = "SELECT * FROM pauses ORDER BY schedule";

const CANCEL: &str = "INSERT INTO cancellations (run_id, asked_by, asked_at)
    SELECT id, ?2, ?3 FROM runs WHERE id = ?1 AND status = 'running' ON CONFLICT DO NOTHING";

const RUNNING: &str = "SELECT EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND status = 'running')";

const CANCELLED: &str = "SELECT asked_by FROM cancellations WHERE run_id = ?1";

const SUCCESSES: &str = "SELECT task, target, max(finished_at) AS finished_at FROM runs
    WHERE status IN ('succeeded', 'incomplete') AND finished_at IS NOT NULL
    GROUP BY task, target ORDER BY task, target";

impl SqliteStore {
    pub(super) async fn put_schedules(
        &self,
        schedules: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, HistoryError> {
        const OPERATION: &str = "remember schedules";
        let mut writing = self.write(OPERATION).await?;
        let mut known = HashMap::with_capacity(schedules.len());
        for (name, definition) in schedules {
            let since = sqlx::query(KNOW)
                .bind(name)
                .bind(definition)
                .bind(time(now))
                .fetch_one(&mut *writing)
                .await
                .and_then(|row| row.time("known_since"))
                .map_err(self.failed(OPERATION))?;
            known.insert(name.clone(), since);
        }
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(known)
    }

    pub(super) async fn take_occurrence(
        &self,
        claim: &Claim,
    ) -> Result<Option<Occurrence>, HistoryError> {
        let now = Utc::now();
        sqlx::query_as(CLAIM)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(claim.catch_up)
            .bind(&claim.owner)
            .bind(time(now))
            .bind(time(now + claim.lease))
            .bind(time(claim.now))
            .fetch_optional(&self.writer)
            .await
            .map_err(self.failed("claim an occurrence"))
    }

    pub(super) async fn extend_lease(&self, claim: &Claim) -> Result<bool, HistoryError> {
        sqlx::query(RENEW)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(&claim.owner)
            .bind(time(Utc::now() + claim.lease))
            .execute(&self.writer)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(self.failed("renew a claim"))
    }

    pub(super) async fn end_occurrence(
        &self,
        claim: &Claim,
        ended: &Ended,
    ) -> Result<bool, HistoryError> {
        sqlx::query(FINISH)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(&claim.owner)
            .bind(ended.status.as_str())
            .bind(time(Utc::now()))
            .bind(ended.succeeded)
            .bind(ended.reason.as_deref().map(clean))
            .bind(serde_json::json!(ended.runs).to_string())
            .execute(&self.writer)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(self.failed("finish an occurrence"))
    }

    pub(super) async fn drop_claim(&self, claim: &Claim) -> Result<(), HistoryError> {
        sqlx::query(RELEASE_NEW)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(&claim.owner)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(self.failed("give a claim back"))
    }

    pub(super) async fn put_occurrences(
        &self,
        occurrences: &[Occurrence],
    ) -> Result<Vec<Occurrence>, HistoryError> {
        const OPERATION: &str = "record occurrences";
        let mut writing = self.write(OPERATION).await?;
        let mut new = Vec::new();
        for one in occurrences {
            let done = sqlx::query(RECORD)
                .bind(&one.schedule)
                .bind(time(one.scheduled_for))
                .bind(one.status.as_str())
                .bind(one.catch_up)
                .bind(time(one.recorded_at))
                .bind(one.reason.as_deref().map(clean))
                .execute(&mut *writing)
                .await
                .map_err(self.failed(OPERATION))?;
            if done.rows_affected() > 0 {
                new.push(one.clone());
            }
        }
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(new)
    }

    pub(super) async fn list_occurrences(
        &self,
        filter: &OccurrenceFilter,
    ) -> Result<Vec<Occurrence>, HistoryError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM occurrences WHERE TRUE");
        if let Some(schedule) = &filter.schedule {
            query.push(" AND schedule = ").push_bind(schedule.clone());
        }
        if filter.statuses == [OccurrenceStatus::Running] {
            // As a literal it finds the small index of just these.
            query.push(" AND status = 'running'");
        } else if !filter.statuses.is_empty() {
            query.push(" AND status IN (");
            let mut words = query.separated(", ");
            for status in &filter.statuses {
                words.push_bind(status.as_str());
            }
            query.push(")");
        }
        if let Some(since) = filter.since {
            query.push(" AND scheduled_for >= ").push_bind(time(since));
        }
        query.push(" ORDER BY scheduled_for DESC, schedule");
        if let Some(limit) = filter.limit {
            query.push(" LIMIT ").push_bind(i64::from(limit));
        }
        query
            .build_query_as()
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("list occurrences"))
    }

    pub(super) async fn find_newest(
        &self,
        schedules: &[String],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, Occurrence>, HistoryError> {
        const OPERATION: &str = "look up occurrences";
        let mut reading = self.read(OPERATION).await?;
        let mut found = HashMap::new();
        for schedule in schedules {
            let newest: Option<Occurrence> = sqlx::query_as(NEWEST)
                .bind(schedule)
                .bind(time(until))
                .bind(time(now))
                .fetch_optional(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?;
            found.extend(newest.map(|one| (schedule.clone(), one)));
        }
        Ok(found)
    }

    pub(super) async fn find_orphaned(&self) -> Result<Vec<Occurrence>, HistoryError> {
        sqlx::query_as(ORPHANED)
            .bind(time(Utc::now()))
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("look for orphaned claims"))
    }

    pub(super) async fn put_pause(&self, pause: &Pause) -> Result<(), HistoryError> {
        sqlx::query(PAUSE)
            .bind(&pause.schedule)
            .bind(time(pause.since))
            .bind(pause.until.map(time))
            .bind(&pause.by)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(self.failed("pause a schedule"))
    }

    pub(super) async fn remove_pause(&self, schedule: &str) -> Result<bool, HistoryError> {
        sqlx::query(RESUME)
            .bind(schedule)
            .execute(&self.writer)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(self.failed("resume a schedule"))
    }

    pub(super) async fn read_pauses(&self) -> Result<Vec<Pause>, HistoryError> {
        sqlx::query_as(PAUSES)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read pauses"))
    }

    pub(super) async fn put_cancel(
        &self,
        run: Uuid,
        by: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, HistoryError> {
        const OPERATION: &str = "ask a run to stop";
        let mut writing = self.write(OPERATION).await?;
        sqlx::query(CANCEL)
            .bind(run.to_string())
            .bind(by)
            .bind(time(at))
            .execute(&mut *writing)
            .await
            .map_err(self.failed(OPERATION))?;
        let running = sqlx::query_scalar(RUNNING)
            .bind(run.to_string())
            .fetch_one(&mut *writing)
            .await
            .map_err(self.failed(OPERATION))?;
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(running)
    }

    pub(super) async fn read_cancel(&self, run: Uuid) -> Result<Option<String>, HistoryError> {
        sqlx::query_scalar(CANCELLED)
            .bind(run.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(self.failed("look for a request to stop"))
    }

    pub(super) async fn read_successes(
        &self,
    ) -> Result<Vec<(String, String, DateTime<Utc>)>, HistoryError> {
        sqlx::query(SUCCESSES)
            .fetch_all(&self.readers)
            .await
            .and_then(|rows| rows.iter().map(success).collect())
            .map_err(self.failed("look up successes"))
    }
}
