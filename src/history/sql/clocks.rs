//! The clock of the history, and times in it that are yet to come.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::row::{FromRow, Row};
use super::{Sql, SqlStore};
use crate::history::{Ahead, CLOCKS_DIFFER, Clocks, HistoryError, TimeAhead};

/// What ran so long before its time is a concern of that time.
const SOON: TimeDelta = TimeDelta::days(1);

static CLOCK: Sql = Sql::new("SELECT {now} AS at");

/// Leases are compared with the clock that they were written by.
static AHEAD: Sql = Sql::new(
    "SELECT 'known' AS what, name AS schedule, known_since AS at, known_since AS other
      FROM maint.schedules WHERE known_since > $2
    UNION ALL
    SELECT 'paused', schedule, since, until FROM maint.pauses WHERE since > $2
    UNION ALL
    SELECT 'claimed', schedule, lease_until, scheduled_for FROM maint.occurrences
     WHERE status = 'running' AND lease_until > {lease_end}
    UNION ALL
    SELECT 'ran', schedule, max(scheduled_for), max(scheduled_for) FROM maint.occurrences
     WHERE scheduled_for > $2 AND scheduled_for <= $3 AND status IN ('ran', 'caught_up')
     GROUP BY schedule",
);

/// Only where nobody else has been faster.
static KNOWN: Sql =
    Sql::new("UPDATE maint.schedules SET known_since = $1 WHERE name = $2 AND known_since >= $3");

static PAUSED: Sql =
    Sql::new("UPDATE maint.pauses SET since = $1, until = $4 WHERE schedule = $2 AND since >= $3");

static CLAIMED: Sql = Sql::new(
    "UPDATE maint.occurrences SET lease_until = {lease_end}
     WHERE schedule = $2 AND scheduled_for = $4 AND status = 'running' AND lease_until >= $3",
);

impl FromRow for TimeAhead {
    fn read(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(TimeAhead {
            what: row.word("what", Ahead::from_word)?,
            schedule: row.cell("schedule")?,
            at: row.time("at")?,
            other: row.maybe_time("other")?,
        })
    }
}

fn milliseconds(length: Duration) -> f64 {
    length.as_secs_f64() * 1000.0
}

#[async_trait]
impl Clocks for SqlStore {
    async fn clock(&self) -> Result<Option<DateTime<Utc>>, HistoryError> {
        if matches!(self, SqlStore::Sqlite(_)) {
            return Ok(None);
        }
        let said = self.fetch_by("ask for the time", CLOCK.with([]), |row| row.time("at"));
        Ok(said.await?.pop())
    }

    async fn times_ahead(
        &self,
        now: DateTime<Utc>,
        lease: Duration,
    ) -> Result<Vec<TimeAhead>, HistoryError> {
        // One renewed just now ends a lease from now, and messages are on their way for a while.
        let longest = milliseconds(lease.saturating_mul(2)) + 60_000.0;
        let latest = now.checked_add_signed(CLOCKS_DIFFER).unwrap_or(now);
        let soon = now.checked_add_signed(SOON).unwrap_or(now);
        let values = [longest.into(), latest.into(), soon.into()];
        let ahead = self.fetch("look for times that are yet to come", AHEAD.with(values));
        let mut ahead: Vec<TimeAhead> = ahead.await?;
        ahead.sort_by(|a, b| (&a.schedule, a.what).cmp(&(&b.schedule, b.what)));
        Ok(ahead)
    }

    async fn set_back(
        &self,
        ahead: &[TimeAhead],
        now: DateTime<Utc>,
        lease: Duration,
    ) -> Result<(), HistoryError> {
        let mut writing = self.write("set times back").await?;
        for one in ahead {
            let (schedule, at) = ((&one.schedule).into(), one.at.into());
            let statement = match one.what {
                Ahead::Known => KNOWN.with([now.into(), schedule, at]),
                Ahead::Paused => {
                    let until = one.other.map(|until| until - (one.at - now));
                    PAUSED.with([now.into(), schedule, at, until.into()])
                }
                Ahead::Claimed => {
                    let lease = milliseconds(lease).into();
                    CLAIMED.with([lease, schedule, at, one.other.into()])
                }
                // Its work was done; when its time comes it counts as done.
                Ahead::Ran => continue,
            };
            writing.execute(statement).await?;
        }
        writing.commit().await
    }
}
