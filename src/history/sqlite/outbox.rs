//! Notices, letters and alerts.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::SqliteStore;
use super::rows::time;
use crate::history::{Alert, HistoryError, Letter, Notice, clean};

const ADD_NOTICE: &str = "INSERT INTO notices (id, at, event, task, target, schedule, run_id, text)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";

const PENDING: &str = "SELECT * FROM notices WHERE handled = 0 ORDER BY at, id";

const HANDLE: &str = "UPDATE notices SET handled = 1 WHERE id = ?1 AND handled = 0";

const POST: &str = "INSERT INTO letters
    (id, created_at, channel, body, state, attempts, next_attempt_at)
    VALUES (?1, ?2, ?3, ?4, 'waiting', 0, ?5) ON CONFLICT DO NOTHING";

const CLAIM: &str = "UPDATE letters SET attempts = attempts + 1, next_attempt_at = ?2
    WHERE id = (SELECT id FROM letters WHERE state = 'waiting' AND next_attempt_at <= ?1
        ORDER BY next_attempt_at LIMIT 1)
    RETURNING *";

const FINISH: &str =
    "UPDATE letters SET state = 'sent', finished_at = ?2, last_error = NULL WHERE id = ?1";

const RETRY: &str = "UPDATE letters SET next_attempt_at = ?2, last_error = ?3 WHERE id = ?1";

const GIVE_UP: &str =
    "UPDATE letters SET state = 'given_up', finished_at = ?2, last_error = ?3 WHERE id = ?1";

const POSTED_SINCE: &str = "SELECT count(*) FROM letters WHERE channel = ?1 AND created_at >= ?2";

const ALERTS: &str = "SELECT * FROM alerts ORDER BY since, task, target";

const PUT_ALERT: &str = "INSERT INTO alerts (task, target, since, escalated_at)
    VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET escalated_at = excluded.escalated_at";

const CLEAR_ALERT: &str = "DELETE FROM alerts WHERE task = ?1 AND target = ?2";

impl SqliteStore {
    pub(super) async fn read_pending_notices(&self) -> Result<Vec<Notice>, HistoryError> {
        sqlx::query_as(PENDING)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read notices"))
    }

    pub(super) async fn post_letters(
        &self,
        handled: &[Uuid],
        letters: &[Letter],
    ) -> Result<bool, HistoryError> {
        const OPERATION: &str = "post letters";
        let mut writing = self.write(OPERATION).await?;
        for id in handled {
            let done = sqlx::query(HANDLE)
                .bind(id.to_string())
                .execute(&mut *writing)
                .await
                .map_err(self.failed(OPERATION))?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
        }
        for letter in letters {
            sqlx::query(POST)
                .bind(letter.id.to_string())
                .bind(time(letter.created_at))
                .bind(&letter.channel)
                .bind(letter.body.to_string())
                .bind(time(letter.next_attempt_at))
                .execute(&mut *writing)
                .await
                .map_err(self.failed(OPERATION))?;
        }
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(true)
    }

    pub(super) async fn take_letter(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Letter>, HistoryError> {
        sqlx::query_as(CLAIM)
            .bind(time(now))
            .bind(time(until))
            .fetch_optional(&self.writer)
            .await
            .map_err(self.failed("claim a letter"))
    }

    pub(super) async fn finish_letter(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
    ) -> Result<(), HistoryError> {
        self.settle(FINISH, id, at, None).await
    }

    pub(super) async fn retry_letter(
        &self,
        id: Uuid,
        next: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        self.settle(RETRY, id, next, Some(why)).await
    }

    pub(super) async fn abandon_letter(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        self.settle(GIVE_UP, id, at, Some(why)).await
    }

    async fn settle(
        &self,
        sql: &'static str,
        id: Uuid,
        at: DateTime<Utc>,
        why: Option<&str>,
    ) -> Result<(), HistoryError> {
        let query = sqlx::query(sql).bind(id.to_string()).bind(time(at));
        let query = match why {
            Some(why) => query.bind(clean(why)),
            None => query,
        };
        query
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(self.failed("settle a letter"))
    }

    pub(super) async fn count_letters(
        &self,
        channel: &str,
        since: DateTime<Utc>,
    ) -> Result<u32, HistoryError> {
        sqlx::query_scalar(POSTED_SINCE)
            .bind(channel)
            .bind(time(since))
            .fetch_one(&self.readers)
            .await
            .map_err(self.failed("count letters"))
    }

    pub(super) async fn read_alerts(&self) -> Result<Vec<Alert>, HistoryError> {
        sqlx::query_as(ALERTS)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read alerts"))
    }

    pub(super) async fn write_alert(&self, alert: &Alert) -> Result<(), HistoryError> {
        sqlx::query(PUT_ALERT)
            .bind(&alert.task)
            .bind(&alert.target)
            .bind(time(alert.since))
            .bind(alert.escalated_at.map(time))
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(self.failed("keep an alert"))
    }

    pub(super) async fn remove_alert(
        &self,
        task: &str,
        target: &str,
    ) -> Result<bool, HistoryError> {
        sqlx::query(CLEAR_ALERT)
            .bind(task)
            .bind(target)
            .execute(&self.writer)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(self.failed("clear an alert"))
    }
}

pub(super) async fn put_notices(
    connection: &mut SqliteConnection,
    notices: &[Notice],
) -> Result<(), sqlx::Error> {
    for notice in notices {
        sqlx::query(ADD_NOTICE)
            .bind(notice.id.to_string())
            .bind(time(notice.at))
            .bind(&notice.event)
            .bind(&notice.task)
            .bind(&notice.target)
            .bind(&notice.schedule)
            .bind(notice.run.map(|run| run.to_string()))
            .bind(clean(&notice.text))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
