//! Notices, letters and alerts.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::rows::time;
use super::{PostgresStore, clean, rows_of, statement};
use crate::history::{Alert, HistoryError, Letter, Notice};

const ADD_NOTICE: &str =
    "INSERT INTO maint.notices (id, at, event, task, target, schedule, run_id, text)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";

const PENDING: &str = "SELECT * FROM maint.notices WHERE NOT handled ORDER BY at, id";

const HANDLE: &str = "UPDATE maint.notices SET handled = true WHERE id = $1 AND NOT handled";

const POST: &str = "INSERT INTO maint.letters
    (id, created_at, channel, body, state, attempts, next_attempt_at)
    VALUES ($1, $2, $3, $4::text::json, 'waiting', 0, $5) ON CONFLICT DO NOTHING";

const CLAIM: &str = "UPDATE maint.letters SET attempts = attempts + 1, next_attempt_at = $2
    WHERE id = (SELECT id FROM maint.letters WHERE state = 'waiting' AND next_attempt_at <= $1
        ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, created_at, channel, body::text AS body, attempts, next_attempt_at, last_error";

const FINISH: &str =
    "UPDATE maint.letters SET state = 'sent', finished_at = $2, last_error = NULL WHERE id = $1";

const RETRY: &str = "UPDATE maint.letters SET next_attempt_at = $2, last_error = $3 WHERE id = $1";

const GIVE_UP: &str =
    "UPDATE maint.letters SET state = 'given_up', finished_at = $2, last_error = $3 WHERE id = $1";

const POSTED_SINCE: &str =
    "SELECT count(*) FROM maint.letters WHERE channel = $1 AND created_at >= $2";

const ALERTS: &str = "SELECT * FROM maint.alerts ORDER BY since, task, target";

const PUT_ALERT: &str = "INSERT INTO maint.alerts (task, target, since, escalated_at)
    VALUES ($1, $2, $3, $4) ON CONFLICT (task, target) DO UPDATE SET escalated_at = excluded.escalated_at";

const CLEAR_ALERT: &str = "DELETE FROM maint.alerts WHERE task = $1 AND target = $2";

impl PostgresStore {
    pub(super) async fn read_pending_notices(&self) -> Result<Vec<Notice>, HistoryError> {
        self.fetch("read notices", rows_of(PENDING)).await
    }

    pub(super) async fn post_letters(
        &self,
        handled: &[Uuid],
        letters: &[Letter],
    ) -> Result<bool, HistoryError> {
        const OPERATION: &str = "post letters";
        let mut writing = self.write(OPERATION).await?;
        for id in handled {
            let done = statement(HANDLE)
                .bind(id)
                .execute(&mut *writing)
                .await
                .map_err(self.failed(OPERATION))?;
            if done.rows_affected() == 0 {
                writing.rollback().await.map_err(self.failed(OPERATION))?;
                return Ok(false);
            }
        }
        for letter in letters {
            statement(POST)
                .bind(letter.id)
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
        const OPERATION: &str = "claim a letter";
        let mut writing = self.write(OPERATION).await?;
        let letter = rows_of(CLAIM)
            .bind(time(now))
            .bind(time(until))
            .fetch_optional(&mut *writing)
            .await
            .map_err(self.failed(OPERATION))?;
        writing.commit().await.map_err(self.failed(OPERATION))?;
        Ok(letter)
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
        let query = statement(sql).bind(id).bind(time(at));
        let query = match why {
            Some(why) => query.bind(clean(why)),
            None => query,
        };
        self.execute("settle a letter", query).await.map(drop)
    }

    pub(super) async fn count_letters(
        &self,
        channel: &str,
        since: DateTime<Utc>,
    ) -> Result<u32, HistoryError> {
        let query = rows_of::<(i64,)>(POSTED_SINCE)
            .bind(channel)
            .bind(time(since));
        let counted = self.fetch("count letters", query).await?;
        Ok(counted
            .first()
            .map_or(0, |(count,)| u32::try_from(*count).unwrap_or(u32::MAX)))
    }

    pub(super) async fn read_alerts(&self) -> Result<Vec<Alert>, HistoryError> {
        self.fetch("read alerts", rows_of(ALERTS)).await
    }

    pub(super) async fn write_alert(&self, alert: &Alert) -> Result<(), HistoryError> {
        let query = statement(PUT_ALERT)
            .bind(&alert.task)
            .bind(&alert.target)
            .bind(time(alert.since))
            .bind(alert.escalated_at.map(time));
        self.execute("keep an alert", query).await.map(drop)
    }

    pub(super) async fn remove_alert(
        &self,
        task: &str,
        target: &str,
    ) -> Result<bool, HistoryError> {
        let query = statement(CLEAR_ALERT).bind(task).bind(target);
        let removed = self.execute("clear an alert", query).await?;
        Ok(removed > 0)
    }
}

pub(super) async fn put_notices(
    connection: &mut PgConnection,
    notices: &[Notice],
) -> Result<(), sqlx::Error> {
    for notice in notices {
        statement(ADD_NOTICE)
            .bind(notice.id)
            .bind(time(notice.at))
            .bind(&notice.event)
            .bind(&notice.task)
            .bind(&notice.target)
            .bind(&notice.schedule)
            .bind(notice.run)
            .bind(clean(&notice.text))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
