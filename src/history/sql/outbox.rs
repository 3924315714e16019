//! Notices, letters and alerts.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Sql, SqlStore, Value, clean};
use crate::history::{Alert, CLOCKS_DIFFER, HistoryError, Letter, Notice, Outbox};

/// In the words of the index of what is pending.
static PENDING: Sql = Sql::new(
    "SELECT * FROM maint.notices WHERE {sqlite: handled = 0}{postgres: NOT handled} ORDER BY at, id",
);

static HANDLE: Sql =
    Sql::new("UPDATE maint.notices SET handled = TRUE WHERE id = $1 AND NOT handled");

static POST: Sql = Sql::new(
    "INSERT INTO maint.letters (id, created_at, channel, body, state, attempts, next_attempt_at, last_error)
    VALUES ($1, $2, $3, $4, 'waiting', 0, $5, $6) ON CONFLICT (id) DO NOTHING",
);

/// One that somebody else is just claiming is passed over.
static CLAIM: Sql = Sql::new(
    "UPDATE maint.letters SET attempts = attempts + 1, next_attempt_at = $2
    WHERE id = (SELECT id FROM maint.letters WHERE state = 'waiting' AND next_attempt_at <= $1
        ORDER BY next_attempt_at LIMIT 1 {postgres: FOR UPDATE SKIP LOCKED})
    RETURNING *",
);

static FINISH: Sql = Sql::new(
    "UPDATE maint.letters SET state = 'sent', finished_at = $2, last_error = NULL WHERE id = $1",
);

static RETRY: Sql =
    Sql::new("UPDATE maint.letters SET next_attempt_at = $2, last_error = $3 WHERE id = $1");

static GIVE_UP: Sql = Sql::new(
    "UPDATE maint.letters SET state = 'given_up', finished_at = $2, last_error = $3 WHERE id = $1",
);

static POSTED_SINCE: Sql =
    Sql::new("SELECT count(*) AS n FROM maint.letters WHERE channel = $1 AND created_at >= $2");

/// The first tries may meet a server that is busy for a moment.
static STUCK: Sql = Sql::new(
    "SELECT * FROM maint.letters l
    WHERE (l.state = 'waiting' AND l.last_error IS NOT NULL AND (l.attempts > 2 OR l.created_at < $2))
        OR (l.state = 'given_up' AND l.finished_at >= $1 AND NOT EXISTS (SELECT 1 FROM maint.letters s
            WHERE s.channel = l.channel AND s.state = 'sent' AND s.finished_at > l.finished_at))
    ORDER BY l.created_at, l.id LIMIT 500",
);

static ALERTS: Sql = Sql::new("SELECT * FROM maint.alerts ORDER BY since, task, target");

static PUT_ALERT: Sql = Sql::new(
    "INSERT INTO maint.alerts (task, target, since, escalated_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (task, target) DO UPDATE SET escalated_at = excluded.escalated_at",
);

static CLEAR_ALERT: Sql = Sql::new("DELETE FROM maint.alerts WHERE task = $1 AND target = $2");

/// What was set by a clock that was ahead, in the words of the indexes where there are some.
static LATE: Sql = Sql::new(
    "SELECT (SELECT count(*) FROM maint.notices
             WHERE {sqlite: handled = 0}{postgres: NOT handled} AND at > $1)
          + (SELECT count(*) FROM maint.letters WHERE created_at > $1)
          + (SELECT count(*) FROM maint.letters WHERE state = 'waiting' AND next_attempt_at > $2)
          + (SELECT count(*) FROM maint.alerts WHERE since > $1 OR escalated_at > $1) AS n",
);

/// Each sets to `$1` what is later than `$2`.
static SET_BACK: [Sql; 5] = [
    Sql::new(
        "UPDATE maint.notices SET at = $1
          WHERE {sqlite: handled = 0}{postgres: NOT handled} AND at > $2",
    ),
    Sql::new("UPDATE maint.letters SET created_at = $1 WHERE created_at > $2"),
    Sql::new(
        "UPDATE maint.letters SET next_attempt_at = $1
          WHERE state = 'waiting' AND next_attempt_at > $2",
    ),
    Sql::new("UPDATE maint.alerts SET since = $1 WHERE since > $2"),
    Sql::new("UPDATE maint.alerts SET escalated_at = $1 WHERE escalated_at > $2"),
];

/// Which of them is told from longer ahead.
const TRIED: usize = 2;

const SETTLE: &str = "settle a letter";

#[async_trait]
impl Outbox for SqlStore {
    async fn pending_notices(&self) -> Result<Vec<Notice>, HistoryError> {
        self.fetch("read notices", PENDING.with([])).await
    }

    async fn post(&self, handled: &[Uuid], letters: &[Letter]) -> Result<bool, HistoryError> {
        let mut writing = self.write("post letters").await?;
        for id in handled {
            if writing.execute(HANDLE.with([(*id).into()])).await? == 0 {
                return Ok(false);
            }
        }
        for letter in letters {
            let statement = POST.with([
                letter.id.into(),
                letter.created_at.into(),
                (&letter.channel).into(),
                Value::Json(letter.body.to_string()),
                letter.next_attempt_at.into(),
                (&letter.last_error).into(),
            ]);
            writing.execute(statement).await?;
        }
        writing.commit().await?;
        Ok(true)
    }

    async fn claim_letter(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Letter>, HistoryError> {
        let claimed = CLAIM.with([now.into(), until.into()]);
        self.change("claim a letter", claimed).await
    }

    async fn letter_sent(&self, id: Uuid, at: DateTime<Utc>) -> Result<(), HistoryError> {
        let statement = FINISH.with([id.into(), at.into()]);
        self.execute(SETTLE, statement).await.map(drop)
    }

    async fn letter_later(
        &self,
        id: Uuid,
        next: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        let statement = RETRY.with([id.into(), next.into(), clean(why).into()]);
        self.execute(SETTLE, statement).await.map(drop)
    }

    async fn letter_given_up(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError> {
        let statement = GIVE_UP.with([id.into(), at.into(), clean(why).into()]);
        self.execute(SETTLE, statement).await.map(drop)
    }

    async fn set_outbox_back(
        &self,
        now: DateTime<Utc>,
        longest: TimeDelta,
    ) -> Result<u64, HistoryError> {
        let late = now.checked_add_signed(CLOCKS_DIFFER).unwrap_or(now);
        let later = late.checked_add_signed(longest).unwrap_or(late);
        let found = LATE.with([late.into(), later.into()]);
        let found = self.fetch_by("look for late letters", found, |row| row.count("n"));
        if found.await?.pop().unwrap_or_default() == 0 {
            return Ok(0);
        }
        let mut writing = self.write("set letters back").await?;
        let mut changed = 0;
        for (n, sql) in SET_BACK.iter().enumerate() {
            let than = if n == TRIED { later } else { late };
            let statement = sql.with([now.into(), than.into()]);
            changed += writing.execute(statement).await?;
        }
        writing.commit().await?;
        Ok(changed)
    }

    async fn letters_since(
        &self,
        channel: &str,
        since: DateTime<Utc>,
    ) -> Result<u32, HistoryError> {
        let statement = POSTED_SINCE.with([channel.into(), since.into()]);
        let counted = self.fetch_by("count letters", statement, |row| row.count("n"));
        Ok(counted.await?.pop().unwrap_or_default())
    }

    async fn stuck_letters(
        &self,
        since: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Vec<Letter>, HistoryError> {
        let statement = STUCK.with([since.into(), before.into()]);
        self.fetch("read letters", statement).await
    }

    async fn alerts(&self) -> Result<Vec<Alert>, HistoryError> {
        self.fetch("read alerts", ALERTS.with([])).await
    }

    async fn put_alert(&self, alert: &Alert) -> Result<(), HistoryError> {
        let statement = PUT_ALERT.with([
            (&alert.task).into(),
            (&alert.target).into(),
            alert.since.into(),
            alert.escalated_at.into(),
        ]);
        self.execute("keep an alert", statement).await.map(drop)
    }

    async fn clear_alert(&self, task: &str, target: &str) -> Result<bool, HistoryError> {
        let statement = CLEAR_ALERT.with([task.into(), target.into()]);
        Ok(self.execute("clear an alert", statement).await? > 0)
    }
}
