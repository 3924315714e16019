//! Claims on occurrences, pauses, and requests to stop.
//!
//! Leases go by the clock of this server: those of the instances may differ.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::rows::time;
use super::{PostgresStore, clean, rows_of, scalar, statement};
use crate::history::{
    Claim, Ended, HistoryError, Occurrence, OccurrenceFilter, OccurrenceStatus, Pause,
};

/// What is known under another definition is known anew. In the order of
/// names, so that two instances cannot wait for each other.
const KNOW: &str = "INSERT INTO maint.schedules AS known (name, definition, known_since)
    SELECT name, definition, $3
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
           AS given (name, definition)
     ORDER BY name
    ON CONFLICT (name) DO UPDATE
       SET definition = excluded.definition,
           known_since = CASE WHEN known.definition = excluded.definition THEN known.known_since
                              ELSE excluded.known_since END
    RETURNING name, known_since";

/// A row that is locked by somebody who just claims it is waited for.
const CLAIM: &str = "
    INSERT INTO maint.occurrences AS known
           (schedule, scheduled_for, status, catch_up, claimed_by, lease_until, claims,
            recorded_at, runs)
    SELECT $1, $2, 'running', $3, $4,
           pg_catalog.clock_timestamp() + $5 * interval '1 millisecond', 1,
           pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp()), '[]'
    ON CONFLICT (schedule, scheduled_for) DO UPDATE
       SET claimed_by = excluded.claimed_by,
           lease_until = pg_catalog.clock_timestamp() + $5 * interval '1 millisecond',
           claims = known.claims + 1, status = 'running',
           recorded_at = least(known.recorded_at, excluded.recorded_at)
     WHERE known.status = 'running' AND known.lease_until <= pg_catalog.clock_timestamp()
        OR known.status = 'missed' AND known.recorded_at > $6
    RETURNING schedule, scheduled_for, status, catch_up, claimed_by, lease_until, claims,
              recorded_at, finished_at, succeeded, reason, runs::text AS runs";

const RENEW: &str = "UPDATE maint.occurrences
    SET lease_until = pg_catalog.clock_timestamp() + $4 * interval '1 millisecond'
    WHERE schedule = $1 AND scheduled_for = $2 AND claimed_by = $3 AND status = 'running'";

const FINISH: &str = "UPDATE maint.occurrences
    SET status = $4, succeeded = $5, reason = $6, runs = $7::text::json, lease_until = NULL,
        finished_at = pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp())
    WHERE schedule = $1 AND scheduled_for = $2 AND claimed_by = $3 AND status = 'running'";

const RELEASE_NEW: &str = "DELETE FROM maint.occurrences
    WHERE schedule = $1 AND scheduled_for = $2 AND claimed_by = $3 AND status = 'running'";

const RECORD: &str = "
    INSERT INTO maint.occurrences (schedule, scheduled_for, status, catch_up, claims, recorded_at,
                                   finished_at, reason, runs)
    VALUES ($1, $2, $3, $4, 0, $5, $5, $6, '[]') ON CONFLICT DO NOTHING";

const COLUMNS: &str = "SELECT schedule, scheduled_for, status, catch_up, claimed_by, lease_until,
    claims, recorded_at, finished_at, succeeded, reason, runs::text AS runs
    FROM maint.occurrences WHERE TRUE";

const NEWEST: &str = "SELECT newest.* FROM pg_catalog.unnest($1::text[]) AS wanted (name),
    LATERAL (SELECT schedule, scheduled_for, status, catch_up, claimed_by, lease_until,
                    claims, recorded_at, finished_at, succeeded, reason, runs::text AS runs
               FROM maint.occurrences
              WHERE schedule = wanted.name AND scheduled_for <= $2
                AND (status <> 'missed' OR recorded_at <= $3)
              ORDER BY scheduled_for DESC LIMIT 1) AS newest";

const ORPHANED: &str = "SELECT schedule, scheduled_for, status, catch_up, claimed_by, lease_until,
    claims, recorded_at, finished_at, succeeded, reason, runs::text AS runs
    FROM maint.occurrences
    WHERE status = 'running' AND lease_until <= pg_catalog.clock_timestamp()
    ORDER BY scheduled_for, schedule";

const PAUSE: &str = "INSERT INTO maint.pauses (schedule, since, until, paused_by)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (schedule) DO UPDATE SET until = excluded.until, paused_by = excluded.paused_by";

const RESUME: &str = "DELETE FROM maint.pauses WHERE schedule = $1";

const PAUSES: &str = "SELECT * FROM maint.pauses ORDER BY schedule";

const CANCEL: &str = "INSERT INTO maint.cancellations (run_id, asked_by, asked_at)
    SELECT id, $2, $3 FROM maint.runs WHERE id = $1 AND status = 'running'
    ON CONFLICT DO NOTHING";

const RUNNING: &str =
    "SELECT EXISTS (SELECT 1 FROM maint.runs WHERE id = $1 AND status = 'running')";

const CANCELLED: &str = "SELECT asked_by FROM maint.cancellations WHERE run_id = $1";

const SUCCESSES: &str = "SELECT task, target, max(finished_at) FROM maint.runs
    WHERE status IN ('succeeded', 'incomplete') AND finished_at IS NOT NULL
    GROUP BY task, target ORDER BY task, target";

fn lease(claim: &Claim) -> f64 {
    claim.lease.as_secs_f64() * 1000.0
}

impl PostgresStore {
    pub(super) async fn put_schedules(
        &self,
        schedules: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, HistoryError> {
        const OPERATION: &str = "remember schedules";
        let (names, definitions): (Vec<String>, Vec<String>) = schedules.iter().cloned().unzip();
        let mut writing = self.write(OPERATION).await?;
        let known: Vec<(String, DateTime<Utc>)> = rows_of(KNOW)
            .bind(names)
            .bind(definitions)
            .bind(time(now))
            .fetch_all(&mut *writing)
            .await
            .map_err(self.failed(OPERATION))?;
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(known.into_iter().collect())
    }

    pub(super) async fn take_occurrence(
        &self,
        claim: &Claim,
    ) -> Result<Option<Occurrence>, HistoryError> {
        const OPERATION: &str = "claim an occurrence";
        let mut writing = self.write(OPERATION).await?;
        let claimed = rows_of(CLAIM)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(claim.catch_up)
            .bind(&claim.owner)
            .bind(lease(claim))
            .bind(time(claim.now))
            .fetch_optional(&mut *writing)
            .await
            .map_err(self.failed(OPERATION))?;
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(claimed)
    }

    pub(super) async fn extend_lease(&self, claim: &Claim) -> Result<bool, HistoryError> {
        let query = statement(RENEW)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(&claim.owner)
            .bind(lease(claim));
        Ok(self.execute("renew a claim", query).await? > 0)
    }

    pub(super) async fn end_occurrence(
        &self,
        claim: &Claim,
        ended: &Ended,
    ) -> Result<bool, HistoryError> {
        let query = statement(FINISH)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(&claim.owner)
            .bind(ended.status.as_str())
            .bind(ended.succeeded)
            .bind(ended.reason.as_deref().map(clean))
            .bind(serde_json::json!(ended.runs).to_string());
        Ok(self.execute("finish an occurrence", query).await? > 0)
    }

    pub(super) async fn drop_claim(&self, claim: &Claim) -> Result<(), HistoryError> {
        let query = statement(RELEASE_NEW)
            .bind(&claim.schedule)
            .bind(time(claim.scheduled_for))
            .bind(&claim.owner);
        self.execute("give a claim back", query).await.map(drop)
    }

    pub(super) async fn put_occurrences(
        &self,
        occurrences: &[Occurrence],
    ) -> Result<Vec<Occurrence>, HistoryError> {
        const OPERATION: &str = "record occurrences";
        let mut writing = self.write(OPERATION).await?;
        let mut new = Vec::new();
        for one in occurrences {
            let done = statement(RECORD)
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
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
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
        let query = query.build_query_as().persistent(false);
        self.fetch("list occurrences", query).await
    }

    pub(super) async fn find_newest(
        &self,
        schedules: &[String],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, Occurrence>, HistoryError> {
        let query = rows_of::<Occurrence>(NEWEST)
            .bind(schedules)
            .bind(time(until))
            .bind(time(now));
        let found = self.fetch("look up occurrences", query).await?;
        Ok(found
            .into_iter()
            .map(|one| (one.schedule.clone(), one))
            .collect())
    }

    pub(super) async fn find_orphaned(&self) -> Result<Vec<Occurrence>, HistoryError> {
        self.fetch("look for orphaned claims", rows_of(ORPHANED))
            .await
    }

    pub(super) async fn put_pause(&self, pause: &Pause) -> Result<(), HistoryError> {
        let query = statement(PAUSE)
            .bind(&pause.schedule)
            .bind(time(pause.since))
            .bind(pause.until.map(time))
            .bind(&pause.by);
        self.execute("pause a schedule", query).await.map(drop)
    }

    pub(super) async fn remove_pause(&self, schedule: &str) -> Result<bool, HistoryError> {
        let query = statement(RESUME).bind(schedule);
        Ok(self.execute("resume a schedule", query).await? > 0)
    }

    pub(super) async fn read_pauses(&self) -> Result<Vec<Pause>, HistoryError> {
        self.fetch("read pauses", rows_of(PAUSES)).await
    }

    pub(super) async fn put_cancel(
        &self,
        run: Uuid,
        by: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, HistoryError> {
        const OPERATION: &str = "ask a run to stop";
        let mut writing = self.write(OPERATION).await?;
        statement(CANCEL)
            .bind(run)
            .bind(by)
            .bind(time(at))
            .execute(&mut *writing)
            .await
            .map_err(self.failed(OPERATION))?;
        let running = scalar(RUNNING)
            .bind(run)
            .fetch_one(&mut *writing)
            .await
            .map_err(self.failed(OPERATION))?;
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(running)
    }

    pub(super) async fn read_cancel(&self, run: Uuid) -> Result<Option<String>, HistoryError> {
        let query = rows_of::<(String,)>(CANCELLED).bind(run);
        let asked = self.fetch("look for a request to stop", query).await?;
        Ok(asked.into_iter().next().map(|(by,)| by))
    }

    pub(super) async fn read_successes(
        &self,
    ) -> Result<Vec<(String, String, DateTime<Utc>)>, HistoryError> {
        self.fetch("look up successes", rows_of(SUCCESSES)).await
    }
}
