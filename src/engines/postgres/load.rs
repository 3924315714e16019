//! How much a server has to do just now.

use super::Session;
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
        active: db.column(doing, row, 0)?,
        unseen: db.column(doing, row, 1)?,
    })
}

/// Bytes of log written since the cluster was made.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn log_bytes(db: &Session) -> Result<i64, EngineError> {
    let sql =
        "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::int8";
    let doing = "reading the log's end";
    let rows = db.query(doing, sql, &[]).await?;
    rows.first().map_or(Ok(0), |row| db.column(doing, row, 0))
}

/// Seconds that the standby is behind which is furthest behind of those that
/// receive the log from here.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn senders_lag(db: &Session) -> Result<f64, EngineError> {
    let sql = "SELECT coalesce(pg_catalog.max(extract(epoch FROM r.replay_lag)), 0)::float8
        FROM pg_catalog.pg_stat_replication r WHERE r.state = 'streaming'";
    let doing = "reading the lag of standbys";
    let rows = db.query(doing, sql, &[]).await?;
    rows.first().map_or(Ok(0.0), |row| db.column(doing, row, 0))
}

/// Seconds that this standby is behind the primary, which has written so many
/// bytes of log. One that has replayed all of it is not behind, however long
/// ago that was; one that no longer receives any is.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn standby_lag(standby: &Session, log_bytes: i64) -> Result<f64, EngineError> {
    let sql = "SELECT CASE WHEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0') >= $1::int8 THEN 0
            ELSE coalesce(extract(epoch FROM pg_catalog.clock_timestamp()
                - coalesce(pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.pg_postmaster_start_time())), 0) END::float8";
    let doing = "reading how far the standby is";
    let rows = standby.query(doing, sql, &[&log_bytes]).await?;
    let lag = rows.first().map(|row| standby.column(doing, row, 0));
    lag.unwrap_or(Ok(0.0))
}
