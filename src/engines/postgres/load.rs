//! How much a server has to do just now.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Row, Session, each};
use crate::engines::EngineError;

/// Sessions of clients that are at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Those that run a statement, ours not counted.
    pub active: i64,
    /// Those of which the role may not see what they do.
    pub unseen: i64,
}

/// Counts the sessions at work, without those called `ours`.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn sessions(db: &Session, ours: &str) -> Result<Sessions, EngineError> {
    let sql = "SELECT pg_catalog.count(*) FILTER (WHERE a.state IN ('active', 'fastpath function call')),
            pg_catalog.count(*) FILTER (WHERE a.query = '<insufficient privilege>')
        FROM pg_catalog.pg_stat_activity a
        WHERE coalesce(a.backend_type, 'client backend') = 'client backend' AND a.application_name <> $1::text";
    let doing = "counting active sessions";
    let rows = db.query(doing, sql, &[&ours]).await?;
    let Some(row) = rows.first() else {
        return Ok(Sessions {
            active: 0,
            unseen: 0,
        });
    };
    Ok(Sessions {
        active: row.get(0)?,
        unseen: row.get(1)?,
    })
}

/// Bytes of log written since the cluster was made.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn log_bytes(db: &Session) -> Result<i64, EngineError> {
    let sql = "SELECT pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_insert_lsn() END, '0/0')::int8";
    let doing = "reading the log's end";
    let rows = db.query(doing, sql, &[]).await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

/// SQL for the end of the log that others can have from here; a standby hands
/// on what it has replayed.
pub const LOG_END: &str = "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END";

/// Bytes of log that are safely on the disk here: what a standby can have.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn flushed_bytes(db: &Session) -> Result<i64, EngineError> {
    let sql = format!("SELECT pg_catalog.pg_wal_lsn_diff({LOG_END}, '0/0')::int8");
    let doing = "reading the log's end";
    let rows = db.query(doing, &sql, &[]).await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

/// How far a standby is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Bytes of log it has replayed, of those since the cluster was made.
    pub replayed: i64,
    /// Seconds it is behind as far as it can tell itself: by the last commit
    /// that it has replayed, which may have been long ago and the last there was.
    pub seconds: f64,
}

/// How far those are that receive the log from here, of `flushed` bytes.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn senders(db: &Session, flushed: i64) -> Result<Vec<Position>, EngineError> {
    let sql = "SELECT p.replayed, CASE WHEN p.replayed < $1::int8 THEN coalesce(extract(epoch FROM r.replay_lag), 0) ELSE 0 END::float8
        FROM pg_catalog.pg_stat_replication r
        CROSS JOIN LATERAL (SELECT pg_catalog.pg_wal_lsn_diff(r.replay_lsn, '0/0')::int8 AS replayed) p
        WHERE r.state = 'streaming' AND r.replay_lsn IS NOT NULL";
    let doing = "reading the lag of standbys";
    let rows = db.query(doing, sql, &[&flushed]).await?;
    each(&rows, position)
}

/// How far this standby is, of `flushed` bytes; `None` for a server that is no
/// standby. One that has replayed all that it received, and is connected, waits
/// for nothing but the network.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn standby(standby: &Session, flushed: i64) -> Result<Option<Position>, EngineError> {
    let sql = "SELECT p.replayed, CASE WHEN p.replayed >= $1::int8 THEN 0
            WHEN p.replayed >= pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_receive_lsn(), '0/0')::int8
                AND EXISTS (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver w WHERE w.pid IS NOT NULL) THEN 0
            ELSE coalesce(extract(epoch FROM pg_catalog.clock_timestamp()
                - coalesce(pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.pg_postmaster_start_time())), 0) END::float8
        FROM (SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0')::int8 AS replayed) p
        WHERE pg_catalog.pg_is_in_recovery()";
    let doing = "reading how far the standby is";
    let rows = standby.query(doing, sql, &[&flushed]).await?;
    let row = rows.first().map(position);
    row.transpose()
}

fn position(row: &Row) -> Result<Position, EngineError> {
    Ok(Position {
        replayed: row.get::<Option<i64>>(0)?.unwrap_or(0),
        seconds: row.get::<Option<f64>>(1)?.unwrap_or(0.0),
    })
}

/// When the primary had written how much: with that the lag of a standby is
/// known in time, whoever commits or does not.
#[derive(Debug, Default)]
pub struct Marks(VecDeque<(Instant, i64)>);

/// Marks that are kept; at one a second more than any sensible limit.
const MOST_MARKS: usize = 3_600;

impl Marks {
    /// Notes how much is written now.
    pub fn note(&mut self, at: Instant, bytes: i64) {
        if self.0.back().is_none_or(|(_, last)| *last < bytes) {
            self.0.push_back((at, bytes));
        }
        while self.0.len() > MOST_MARKS {
            self.0.pop_front();
        }
    }

    /// Seconds between now and when that was written which the standby has not
    /// replayed yet. Where that was before the first mark, what the standby
    /// says itself counts as well.
    pub fn lag(&self, of: Position, now: Instant) -> f64 {
        let missing = self.0.iter().position(|(_, bytes)| *bytes > of.replayed);
        let Some((n, (at, _))) = missing.and_then(|n| Some((n, self.0.get(n)?))) else {
            return 0.0;
        };
        let known = now.duration_since(*at).as_secs_f64();
        if n == 0 { known.max(of.seconds) } else { known }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(replayed: i64, seconds: f64) -> Position {
        Position { replayed, seconds }
    }

    #[test]
    fn lag_is_the_age_of_what_was_not_replayed() {
        let begin = Instant::now();
        let second = |n| begin + Duration::from_secs(n);
        let mut marks = Marks::default();
        for n in 0..10 {
            marks.note(second(n), 1_000 + 100 * i64::try_from(n).unwrap_or(0));
        }
        for (replayed, by_commit, lag) in [
            // All of it; whatever the last commit says.
            (1_900, 500.0, 0.0),
            // All but what came a moment ago: one long transaction commits nothing.
            (1_868, 38.0, 0.0),
            (1_800, 38.0, 0.0),
            (1_550, 38.0, 3.0),
            // From before we looked: it may be as late as it says.
            (500, 60.0, 60.0),
            (500, 0.0, 9.0),
        ] {
            assert_eq!(
                marks.lag(at(replayed, by_commit), second(9)),
                lag,
                "{replayed}"
            );
        }
        // A quiet primary leaves no marks behind.
        marks.note(second(100), 1_900);
        assert_eq!(marks.lag(at(1_900, 99.0), second(100)), 0.0);
    }
}
