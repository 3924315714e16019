//! The history in PostgreSQL, shared by any number of instances.
//!
//! Everything is in the schema `maint`, every name is written with it, and
//! every call is one transaction of its own with unnamed statements only:
//! so a pooler in transaction mode may stand in between.

mod import;
mod interrupt;
mod memory;
mod migrate;
mod occurrences;
mod open;
mod outbox;
mod owners;
mod read;
mod retention;
mod rows;
mod summary;
mod write;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{FromRow, PgPool, Postgres, Transaction};
use uuid::Uuid;

use owners::For;

use super::{
    Alert, Baseline, Claim, Ended, Entry, HistoryError, Letter, Measured, Notice, Occurrence,
    OccurrenceFilter, Pause, RunFilter, RunRecord, RunSummary, Store, Summaries,
};
use crate::plan::Past;

/// Longest time for one call, with everything that it waits for. The driver
/// would wait for ever for a server that vanished without a word.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What every transaction begins with: pinned before a name is looked up, since
/// the owner of the database chooses where it would be looked for; and only for
/// the transaction, since the session behind a pooler is somebody else's next.
macro_rules! pinned {
    ($begin:literal) => {
        concat!(
            $begin,
            "; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off; \
             SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; \
             SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1; \
             SET LOCAL bytea_output = 'hex'; SET LOCAL standard_conforming_strings = on; \
             SET LOCAL transform_null_equals = off; SET LOCAL default_tablespace = ''; \
             SET LOCAL default_table_access_method = heap; \
             SET LOCAL idle_in_transaction_session_timeout = '60s'"
        )
    };
}
use pinned;

/// Whatever the server is told to do must end before [`CALL_TIMEOUT`] does.
const BEGIN_WRITE: &str = pinned!(
    "BEGIN READ WRITE; SET LOCAL statement_timeout = '30s'; \
     SET LOCAL lock_timeout = '20s'; SET LOCAL synchronous_commit = on"
);
const BEGIN_READ: &str =
    pinned!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '30s'");

pub(super) struct PostgresStore {
    /// `host:port/database`, named in errors.
    place: String,
    pool: PgPool,
    known: owners::Known,
}

/// A statement that is never prepared by name: the session behind a pooler
/// is somebody else's next time.
fn statement(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// The same for a query that answers rows.
fn rows_of<T>(sql: &'static str) -> QueryAs<'static, Postgres, T, PgArguments>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

/// The same for a query that answers one column.
fn scalar<T>(sql: &'static str) -> QueryScalar<'static, Postgres, T, PgArguments>
where
    (T,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}

/// The one gate for free text. PostgreSQL cannot keep a NUL.
fn clean(text: &str) -> String {
    super::clean(text).replace('\0', "\u{fffd}")
}

impl PostgresStore {
    fn failed(&self, operation: &'static str) -> impl Fn(sqlx::Error) -> HistoryError + '_ {
        move |error| HistoryError::from_postgres(&self.place, operation, error)
    }

    async fn write(
        &self,
        operation: &'static str,
    ) -> Result<Transaction<'static, Postgres>, HistoryError> {
        self.begin(operation, BEGIN_WRITE, For::Writing).await
    }

    /// A transaction in a history that is known to be ours.
    async fn begin(
        &self,
        operation: &'static str,
        begin: &'static str,
        what_for: For,
    ) -> Result<Transaction<'static, Postgres>, HistoryError> {
        let begun = self.pool.begin_with(begin).await;
        let mut begun = begun.map_err(self.failed(operation))?;
        self.known
            .refuse_strangers(&mut begun, &self.place, operation, what_for)
            .await?;
        Ok(begun)
    }

    /// A transaction that sees one moment, whatever others write meanwhile.
    async fn read(
        &self,
        operation: &'static str,
    ) -> Result<Transaction<'static, Postgres>, HistoryError> {
        self.begin(operation, BEGIN_READ, For::Reading).await
    }

    /// One statement in a transaction of its own.
    async fn execute(
        &self,
        operation: &'static str,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, HistoryError> {
        let mut writing = self.write(operation).await?;
        let done = statement
            .execute(&mut *writing)
            .await
            .map_err(self.failed(operation))?;
        writing.commit().await.map_err(self.failed(operation))?;
        Ok(done.rows_affected())
    }

    /// One query in a transaction of its own.
    async fn fetch<T>(
        &self,
        operation: &'static str,
        query: QueryAs<'_, Postgres, T, PgArguments>,
    ) -> Result<Vec<T>, HistoryError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut reading = self.read(operation).await?;
        let found = query
            .fetch_all(&mut *reading)
            .await
            .map_err(self.failed(operation))?;
        reading.commit().await.map_err(self.failed(operation))?;
        Ok(found)
    }
}

/// Ends a call that would wait for ever.
async fn bounded<T>(
    store: &PostgresStore,
    work: impl Future<Output = Result<T, HistoryError>> + Send,
) -> Result<T, HistoryError> {
    match tokio::time::timeout(CALL_TIMEOUT, work).await {
        Ok(done) => done,
        Err(elapsed) => Err(HistoryError::OutOfReach {
            place: store.place.clone(),
            source: elapsed.into(),
        }),
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn record(&self, entries: &[Entry]) -> Result<(), HistoryError> {
        bounded(self, self.put_entries(entries)).await
    }

    async fn interrupt_running(
        &self,
        task: &str,
        target: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let running = self.running_of_task(task, target).await?;
        bounded(self, self.interrupt(running, at)).await
    }

    async fn interrupt_dead(
        &self,
        host: &str,
        alive: &(dyn Fn(i64) -> bool + Sync),
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let running = self.running_on_host(host).await?;
        let dead = running
            .into_iter()
            .filter(|run| !alive(run.pid))
            .map(|run| run.id)
            .collect();
        bounded(self, self.interrupt(dead, at)).await
    }

    async fn run(&self, id_prefix: &str) -> Result<RunRecord, HistoryError> {
        bounded(self, self.find_run(id_prefix)).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, HistoryError> {
        bounded(self, self.list_runs(filter)).await
    }

    async fn occurrence(
        &self,
        task: &str,
        target: &str,
        scheduled_for: DateTime<Utc>,
    ) -> Result<Option<RunRecord>, HistoryError> {
        bounded(self, self.find_occurrence(task, target, scheduled_for)).await
    }

    async fn last_run(&self, task: &str, target: &str) -> Result<Option<RunRecord>, HistoryError> {
        bounded(self, self.find_last_run(task, target)).await
    }

    async fn baselines(&self, target: &str) -> Result<HashMap<String, Baseline>, HistoryError> {
        bounded(self, self.read_baselines(target)).await
    }

    async fn past_steps(&self, target: &str, kind: &str) -> Result<Vec<Past>, HistoryError> {
        self.read_past_steps(target, kind).await
    }

    async fn memories(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<HashMap<String, Value>, HistoryError> {
        bounded(self, self.read_memories(target, kind)).await
    }

    async fn measurements(
        &self,
        target: &str,
        metric: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Measured>, HistoryError> {
        bounded(self, self.read_measurements(target, metric, since)).await
    }

    async fn pending_notices(&self) -> Result<Vec<Notice>, HistoryError> {
        bounded(self, self.read_pending_notices()).await
    }

    async fn post(&self, handled: &[Uuid], letters: &[Letter]) -> Result<bool, HistoryError> {
        bounded(self, self.post_letters(handled, letters)).await
    }

    async fn claim_letter(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Letter>, HistoryError> {
        bounded(self, self.take_letter(now, until)).await
    }

    async fn letter_sent(&self, id: Uuid, at: DateTime<Utc>) -> Result<(), HistoryError> {
        bounded(self, self.finish_letter(id, at)).await
    }

    async fn letter_later(
        &self,
        id: Uuid,
        next: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        bounded(self, self.retry_letter(id, next, why)).await
    }

    async fn letter_given_up(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        bounded(self, self.abandon_letter(id, at, why)).await
    }

    async fn letters_since(
        &self,
        channel: &str,
        since: DateTime<Utc>,
    ) -> Result<u32, HistoryError> {
        bounded(self, self.count_letters(channel, since)).await
    }

    async fn alerts(&self) -> Result<Vec<Alert>, HistoryError> {
        bounded(self, self.read_alerts()).await
    }

    async fn put_alert(&self, alert: &Alert) -> Result<(), HistoryError> {
        bounded(self, self.write_alert(alert)).await
    }

    async fn clear_alert(&self, task: &str, target: &str) -> Result<bool, HistoryError> {
        bounded(self, self.remove_alert(task, target)).await
    }

    fn summaries(&self) -> &dyn Summaries {
        self
    }

    async fn know_schedules(
        &self,
        schedules: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, HistoryError> {
        bounded(self, self.put_schedules(schedules, now)).await
    }

    async fn claim_occurrence(&self, claim: &Claim) -> Result<Option<Occurrence>, HistoryError> {
        bounded(self, self.take_occurrence(claim)).await
    }

    async fn renew_occurrence(&self, claim: &Claim) -> Result<bool, HistoryError> {
        bounded(self, self.extend_lease(claim)).await
    }

    async fn finish_occurrence(&self, claim: &Claim, ended: &Ended) -> Result<bool, HistoryError> {
        bounded(self, self.end_occurrence(claim, ended)).await
    }

    async fn release_occurrence(&self, claim: &Claim) -> Result<(), HistoryError> {
        bounded(self, self.drop_claim(claim)).await
    }

    async fn record_occurrences(
        &self,
        occurrences: &[Occurrence],
    ) -> Result<Vec<Occurrence>, HistoryError> {
        bounded(self, self.put_occurrences(occurrences)).await
    }

    async fn occurrences(
        &self,
        filter: &OccurrenceFilter,
    ) -> Result<Vec<Occurrence>, HistoryError> {
        bounded(self, self.list_occurrences(filter)).await
    }

    async fn newest_occurrences(
        &self,
        schedules: &[String],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, Occurrence>, HistoryError> {
        bounded(self, self.find_newest(schedules, until, now)).await
    }

    async fn orphaned_occurrences(&self) -> Result<Vec<Occurrence>, HistoryError> {
        bounded(self, self.find_orphaned()).await
    }

    async fn pause_schedule(&self, pause: &Pause) -> Result<(), HistoryError> {
        bounded(self, self.put_pause(pause)).await
    }

    async fn resume_schedule(&self, schedule: &str) -> Result<bool, HistoryError> {
        bounded(self, self.remove_pause(schedule)).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>, HistoryError> {
        bounded(self, self.read_pauses()).await
    }

    async fn ask_to_cancel(
        &self,
        run: Uuid,
        by: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, HistoryError> {
        bounded(self, self.put_cancel(run, by, at)).await
    }

    async fn cancel_asked(&self, run: Uuid) -> Result<Option<String>, HistoryError> {
        bounded(self, self.read_cancel(run)).await
    }

    async fn last_successes(&self) -> Result<Vec<(String, String, DateTime<Utc>)>, HistoryError> {
        bounded(self, self.read_successes()).await
    }

    async fn forget(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, HistoryError> {
        bounded(self, self.remove_old(before, limit)).await
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
