//! Claims on occurrences, pauses, and requests to stop.
//!
//! Leases go by the clock of the history: those of instances on several
//! machines may differ.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::row::Found;
use super::{Builder, Sql, SqlStore, Statement, Value, clean};
use crate::history::{
    CLOCKS_DIFFER, Calendar, Claim, Ended, HistoryError, Occurrence, OccurrenceFilter,
    OccurrenceStatus, Pause,
};

/// What is known under another definition is known anew.
static KNOW: Sql = Sql::new(
    "INSERT INTO maint.schedules AS known (name, definition, known_since) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE
       SET definition = excluded.definition,
           known_since = CASE WHEN known.definition = excluded.definition THEN known.known_since
                              ELSE excluded.known_since END
    RETURNING known_since",
);

static KNOWN: Sql = Sql::new("SELECT name, known_since FROM maint.schedules");

/// A row that is locked by somebody who just claims it is waited for.
static CLAIM: Sql = Sql::new(
    "INSERT INTO maint.occurrences AS known
           (schedule, scheduled_for, status, catch_up, claimed_by, lease_until, claims,
            recorded_at, runs)
    VALUES ($2, $3, 'running', $5, $4, {lease_end}, 1, {now}, '[]')
    ON CONFLICT (schedule, scheduled_for) DO UPDATE
       SET claimed_by = excluded.claimed_by, lease_until = {lease_end},
           claims = known.claims + 1, status = 'running',
           recorded_at = CASE WHEN excluded.recorded_at < known.recorded_at
                              THEN excluded.recorded_at ELSE known.recorded_at END
     WHERE known.status = 'running' AND known.lease_until <= {now}
        OR known.recorded_at > $6
           AND (known.status = 'missed' OR known.status = 'skipped' AND known.claimed_by IS NULL)
    RETURNING *",
);

static RENEW: Sql = Sql::new(
    "UPDATE maint.occurrences SET lease_until = {lease_end}
    WHERE schedule = $2 AND scheduled_for = $3 AND claimed_by = $4 AND status = 'running'",
);

static FINISH: Sql = Sql::new(
    "UPDATE maint.occurrences
    SET status = $4, succeeded = $5, reason = $6, runs = $7, lease_until = NULL,
        finished_at = {now}
    WHERE schedule = $1 AND scheduled_for = $2 AND claimed_by = $3 AND status = 'running'",
);

static RELEASE: Sql = Sql::new(
    "DELETE FROM maint.occurrences
    WHERE schedule = $1 AND scheduled_for = $2 AND claimed_by = $3 AND status = 'running'",
);

/// What a clock that was ahead has recorded before is recorded anew.
static RECORD: Sql = Sql::new(
    "INSERT INTO maint.occurrences AS known
           (schedule, scheduled_for, status, catch_up, claims, recorded_at, finished_at, reason, runs)
    VALUES ($1, $2, $3, $4, 0, $5, $5, $6, '[]')
    ON CONFLICT (schedule, scheduled_for) DO UPDATE
       SET status = excluded.status, recorded_at = excluded.recorded_at,
           finished_at = excluded.finished_at, reason = excluded.reason
     WHERE known.recorded_at > $7 AND known.claimed_by IS NULL
       AND known.status IN ('missed', 'skipped')",
);

/// Looked up in the key, schedule by schedule.
static NEWEST: Sql = Sql::new(
    "SELECT newest.* FROM {each}($1) AS wanted
      JOIN maint.occurrences AS newest
        ON newest.schedule = wanted.value
       AND newest.scheduled_for = (SELECT scheduled_for FROM maint.occurrences
             WHERE schedule = wanted.value AND scheduled_for <= $2
               AND (recorded_at <= $3 OR status <> 'missed'
                    AND (status <> 'skipped' OR claimed_by IS NOT NULL))
             ORDER BY scheduled_for DESC LIMIT 1)",
);

static ORPHANED: Sql = Sql::new(
    "SELECT * FROM maint.occurrences WHERE status = 'running' AND lease_until <= {now}
    ORDER BY scheduled_for, schedule",
);

static PAUSE: Sql = Sql::new(
    "INSERT INTO maint.pauses (schedule, since, until, paused_by) VALUES ($1, $2, $3, $4)
    ON CONFLICT (schedule) DO UPDATE SET until = excluded.until, paused_by = excluded.paused_by",
);

static RESUME: Sql = Sql::new("DELETE FROM maint.pauses WHERE schedule = $1");

static PAUSES: Sql = Sql::new("SELECT * FROM maint.pauses ORDER BY schedule");

static CANCEL: Sql = Sql::new(
    "INSERT INTO maint.cancellations (run_id, asked_by, asked_at)
    SELECT id, $2, $3 FROM maint.runs WHERE id = $1 AND status = 'running'
    ON CONFLICT (run_id) DO NOTHING",
);

static RUNNING: Sql = Sql::new("SELECT id FROM maint.runs WHERE id = $1 AND status = 'running'");

static CANCELLED: Sql = Sql::new("SELECT asked_by FROM maint.cancellations WHERE run_id = $1");

/// The lease of a claim in milliseconds, and whose it is.
fn leased(claim: &Claim) -> [Value; 4] {
    let [schedule, scheduled_for, owner] = owned(claim);
    let lease = claim.lease.as_secs_f64() * 1000.0;
    [lease.into(), schedule, scheduled_for, owner]
}

fn owned(claim: &Claim) -> [Value; 3] {
    [
        (&claim.schedule).into(),
        claim.scheduled_for.into(),
        (&claim.owner).into(),
    ]
}

#[async_trait]
impl Calendar for SqlStore {
    async fn know_schedules(
        &self,
        schedules: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, HistoryError> {
        // In the order of names, so that two instances cannot wait for each other.
        let mut schedules: Vec<_> = schedules.iter().collect();
        schedules.sort();
        let mut writing = self.write("remember schedules").await?;
        let mut known = HashMap::with_capacity(schedules.len());
        for (name, definition) in schedules {
            let statement = KNOW.with([name.into(), definition.into(), now.into()]);
            let since = writing.fetch_by(statement, |row| row.time("known_since"));
            known.extend(since.await?.pop().map(|since| (name.clone(), since)));
        }
        writing.commit().await?;
        Ok(known)
    }

    async fn known_schedules(&self) -> Result<HashMap<String, DateTime<Utc>>, HistoryError> {
        let known = self.fetch_by("read known schedules", KNOWN.with([]), |row| {
            Ok((row.cell("name")?, row.time("known_since")?))
        });
        Ok(known.await?.into_iter().collect())
    }

    async fn claim_occurrence(&self, claim: &Claim) -> Result<Option<Occurrence>, HistoryError> {
        let [lease, schedule, scheduled_for, owner] = leased(claim);
        let values = [
            lease,
            schedule,
            scheduled_for,
            owner,
            claim.catch_up.into(),
            claim.now.into(),
        ];
        self.change("claim an occurrence", CLAIM.with(values)).await
    }

    async fn renew_occurrence(&self, claim: &Claim) -> Result<bool, HistoryError> {
        let renewed = self.execute("renew a claim", RENEW.with(leased(claim)));
        Ok(renewed.await? > 0)
    }

    async fn finish_occurrence(&self, claim: &Claim, ended: &Ended) -> Result<bool, HistoryError> {
        let [schedule, scheduled_for, owner] = owned(claim);
        let statement = FINISH.with([
            schedule,
            scheduled_for,
            owner,
            ended.status.as_str().into(),
            ended.succeeded.into(),
            ended.reason.as_deref().map(clean).into(),
            Value::Json(serde_json::json!(ended.runs).to_string()),
        ]);
        Ok(self.execute("finish an occurrence", statement).await? > 0)
    }

    async fn release_occurrence(&self, claim: &Claim) -> Result<(), HistoryError> {
        let released = self.execute("give a claim back", RELEASE.with(owned(claim)));
        released.await.map(drop)
    }

    async fn record_occurrences(
        &self,
        occurrences: &[Occurrence],
    ) -> Result<Vec<Occurrence>, HistoryError> {
        let mut writing = self.write("record occurrences").await?;
        let mut new = Vec::new();
        for one in occurrences {
            let statement = RECORD.with([
                (&one.schedule).into(),
                one.scheduled_for.into(),
                one.status.as_str().into(),
                one.catch_up.into(),
                one.recorded_at.into(),
                one.reason.as_deref().map(clean).into(),
                (one.recorded_at + CLOCKS_DIFFER).into(),
            ]);
            if writing.execute(statement).await? > 0 {
                new.push(one.clone());
            }
        }
        writing.commit().await?;
        Ok(new)
    }

    async fn occurrences(
        &self,
        filter: &OccurrenceFilter,
    ) -> Result<Vec<Occurrence>, HistoryError> {
        self.fetch("list occurrences", listed(filter)).await
    }

    async fn newest_occurrences(
        &self,
        schedules: &[String],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, Occurrence>, HistoryError> {
        let wanted = Value::Json(serde_json::json!(schedules).to_string());
        let newest = NEWEST.with([wanted, until.into(), now.into()]);
        let newest: Vec<Occurrence> = self.fetch("look up occurrences", newest).await?;
        let newest = newest.into_iter();
        Ok(newest.map(|one| (one.schedule.clone(), one)).collect())
    }

    async fn orphaned_occurrences(&self) -> Result<Vec<Occurrence>, HistoryError> {
        self.fetch("look for orphaned claims", ORPHANED.with([]))
            .await
    }

    async fn pause_schedule(&self, pause: &Pause) -> Result<(), HistoryError> {
        let statement = PAUSE.with([
            (&pause.schedule).into(),
            pause.since.into(),
            pause.until.into(),
            (&pause.by).into(),
        ]);
        self.execute("pause a schedule", statement).await.map(drop)
    }

    async fn resume_schedule(&self, schedule: &str) -> Result<bool, HistoryError> {
        let resumed = self.execute("resume a schedule", RESUME.with([schedule.into()]));
        Ok(resumed.await? > 0)
    }

    async fn pauses(&self) -> Result<Vec<Pause>, HistoryError> {
        self.fetch("read pauses", PAUSES.with([])).await
    }

    async fn ask_to_cancel(
        &self,
        run: Uuid,
        by: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, HistoryError> {
        let mut writing = self.write("ask a run to stop").await?;
        let statement = CANCEL.with([run.into(), by.into(), at.into()]);
        writing.execute(statement).await?;
        let running: Option<Found> = writing.fetch_one(RUNNING.with([run.into()])).await?;
        writing.commit().await?;
        Ok(running.is_some())
    }

    async fn cancel_asked(&self, run: Uuid) -> Result<Option<String>, HistoryError> {
        let asked = CANCELLED.with([run.into()]);
        let asked = self.fetch_by("look for a request to stop", asked, |row| {
            row.cell("asked_by")
        });
        Ok(asked.await?.pop())
    }
}

fn listed(filter: &OccurrenceFilter) -> Statement {
    let mut query = Builder::new("SELECT * FROM maint.occurrences WHERE TRUE");
    if let Some(schedule) = &filter.schedule {
        query.push(" AND schedule = ").bind(schedule);
    }
    if filter.statuses == [OccurrenceStatus::Running] {
        // As a literal it finds the small index of just these.
        query.push(" AND status = 'running'");
    } else if !filter.statuses.is_empty() {
        let words = filter.statuses.iter().map(|status| status.as_str());
        query.push(" AND status IN ").bind_all(words);
    }
    if let Some(since) = filter.since {
        query.push(" AND scheduled_for >= ").bind(since);
    }
    if let Some(until) = filter.until {
        query.push(" AND scheduled_for <= ").bind(until);
    }
    query.push(" ORDER BY scheduled_for DESC, schedule");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").bind(limit);
    }
    query.end()
}
