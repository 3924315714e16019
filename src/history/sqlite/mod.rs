//! The history in one SQLite file, shared by any number of maint processes
//! on the same machine.

mod interrupt;
mod memory;
mod occurrences;
mod open;
mod outbox;
mod read;
mod retention;
mod rows;
mod summary;
mod write;

use std::collections::HashMap;
use std::path::PathBuf;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Sqlite, SqlitePool, Transaction};
use uuid::Uuid;

use super::{
    Alert, Baseline, Claim, Ended, Entry, HistoryError, Letter, Measured, Notice, Occurrence,
    OccurrenceFilter, Pause, RunFilter, RunRecord, RunSummary, Store, Summaries,
};
use crate::plan::Past;

pub(super) struct SqliteStore {
    /// Named in errors; `:memory:` where there is no file.
    path: PathBuf,
    /// One connection: SQLite lets one write at a time anyhow, and waiting
    /// for our own pool is cheaper and fairer than waiting for its lock.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    fn failed(&self, operation: &'static str) -> impl Fn(sqlx::Error) -> HistoryError + '_ {
        move |error| HistoryError::from_sqlite(&self.path, operation, error)
    }

    /// A transaction that takes the write lock at once: taken later, after a
    /// read, another writer in between would fail it instead of delaying it.
    async fn write(
        &self,
        operation: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, HistoryError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(self.failed(operation))
    }

    /// A transaction that sees one moment, whatever others write meanwhile.
    async fn read(
        &self,
        operation: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, HistoryError> {
        self.readers.begin().await.map_err(self.failed(operation))
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn record(&self, entries: &[Entry]) -> Result<(), HistoryError> {
        self.put_entries(entries).await
    }

    async fn interrupt_running(
        &self,
        task: &str,
        target: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let running = self.running_of_task(task, target).await?;
        self.interrupt(running, at).await
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
        self.interrupt(dead, at).await
    }

    async fn run(&self, id_prefix: &str) -> Result<RunRecord, HistoryError> {
        self.find_run(id_prefix).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, HistoryError> {
        self.list_runs(filter).await
    }

    async fn occurrence(
        &self,
        task: &str,
        target: &str,
        scheduled_for: DateTime<Utc>,
    ) -> Result<Option<RunRecord>, HistoryError> {
        self.find_occurrence(task, target, scheduled_for).await
    }

    async fn last_run(&self, task: &str, target: &str) -> Result<Option<RunRecord>, HistoryError> {
        self.find_last_run(task, target).await
    }

    async fn baselines(&self, target: &str) -> Result<HashMap<String, Baseline>, HistoryError> {
        self.read_baselines(target).await
    }

    async fn past_steps(&self, target: &str, kind: &str) -> Result<Vec<Past>, HistoryError> {
        self.read_past_steps(target, kind).await
    }

    async fn memories(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<HashMap<String, Value>, HistoryError> {
        self.read_memories(target, kind).await
    }

    async fn measurements(
        &self,
        target: &str,
        metric: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Measured>, HistoryError> {
        self.read_measurements(target, metric, since).await
    }

    async fn pending_notices(&self) -> Result<Vec<Notice>, HistoryError> {
        self.read_pending_notices().await
    }

    async fn post(&self, handled: &[Uuid], letters: &[Letter]) -> Result<bool, HistoryError> {
        self.post_letters(handled, letters).await
    }

    async fn claim_letter(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Letter>, HistoryError> {
        self.take_letter(now, until).await
    }

    async fn letter_sent(&self, id: Uuid, at: DateTime<Utc>) -> Result<(), HistoryError> {
        self.finish_letter(id, at).await
    }

    async fn letter_later(
        &self,
        id: Uuid,
        next: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        self.retry_letter(id, next, why).await
    }

    async fn letter_given_up(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        self.abandon_letter(id, at, why).await
    }

    async fn letters_since(
        &self,
        channel: &str,
        since: DateTime<Utc>,
    ) -> Result<u32, HistoryError> {
        self.count_letters(channel, since).await
    }

    async fn alerts(&self) -> Result<Vec<Alert>, HistoryError> {
        self.read_alerts().await
    }

    async fn put_alert(&self, alert: &Alert) -> Result<(), HistoryError> {
        self.write_alert(alert).await
    }

    async fn clear_alert(&self, task: &str, target: &str) -> Result<bool, HistoryError> {
        self.remove_alert(task, target).await
    }

    fn summaries(&self) -> &dyn Summaries {
        self
    }

    async fn know_schedules(
        &self,
        schedules: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, HistoryError> {
        self.put_schedules(schedules, now).await
    }

    async fn claim_occurrence(&self, claim: &Claim) -> Result<Option<Occurrence>, HistoryError> {
        self.take_occurrence(claim).await
    }

    async fn renew_occurrence(&self, claim: &Claim) -> Result<bool, HistoryError> {
        self.extend_lease(claim).await
    }

    async fn finish_occurrence(&self, claim: &Claim, ended: &Ended) -> Result<bool, HistoryError> {
        self.end_occurrence(claim, ended).await
    }

    async fn release_occurrence(&self, claim: &Claim) -> Result<(), HistoryError> {
        self.drop_claim(claim).await
    }

    async fn record_occurrences(
        &self,
        occurrences: &[Occurrence],
    ) -> Result<Vec<Occurrence>, HistoryError> {
        self.put_occurrences(occurrences).await
    }

    async fn occurrences(
        &self,
        filter: &OccurrenceFilter,
    ) -> Result<Vec<Occurrence>, HistoryError> {
        self.list_occurrences(filter).await
    }

    async fn newest_occurrences(
        &self,
        schedules: &[String],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, Occurrence>, HistoryError> {
        self.find_newest(schedules, until, now).await
    }

    async fn orphaned_occurrences(&self) -> Result<Vec<Occurrence>, HistoryError> {
        self.find_orphaned().await
    }

    async fn pause_schedule(&self, pause: &Pause) -> Result<(), HistoryError> {
        self.put_pause(pause).await
    }

    async fn resume_schedule(&self, schedule: &str) -> Result<bool, HistoryError> {
        self.remove_pause(schedule).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>, HistoryError> {
        self.read_pauses().await
    }

    async fn ask_to_cancel(
        &self,
        run: Uuid,
        by: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, HistoryError> {
        self.put_cancel(run, by, at).await
    }

    async fn cancel_asked(&self, run: Uuid) -> Result<Option<String>, HistoryError> {
        self.read_cancel(run).await
    }

    async fn last_successes(&self) -> Result<Vec<(String, String, DateTime<Utc>)>, HistoryError> {
        self.read_successes().await
    }

    async fn forget(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, HistoryError> {
        self.remove_old(before, limit).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The large tables that a query reads from front to back, as SQLite plans it
/// before it knows anything of the sizes.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
async fn scans(sql: &str) -> Vec<String> {
    const LARGE: &[&str] = &["runs", "steps", "findings", "measurements", "m", "last"];
    let store = SqliteStore::memory().await.unwrap();
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let lines: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
        .fetch_all(&store.readers)
        .await
        .unwrap();
    let large = |line: &String| match line.strip_prefix("SCAN ") {
        Some(rest) => LARGE.contains(&rest.split(' ').next().unwrap_or_default()),
        None => false,
    };
    lines.into_iter().map(|line| line.3).filter(large).collect()
}
