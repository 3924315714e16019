//! What `REPACK (CONCURRENTLY)` holds while it is at work: a slot, and by it the log.

use super::watch::{Blocker, blocker, blocker_of, who};
use super::{Session, each};
use crate::engines::EngineError;

/// How many bytes of the log are kept for these sessions of ours, by the slots of their workers.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn keeps_log(db: &Session, pids: &[i32]) -> Result<Vec<(i32, i64)>, EngineError> {
    let doing = "asking how much of the log is kept for us";
    let sql = "SELECT a.leader_pid, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::int8
        FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
        WHERE s.plugin = 'pgrepack' AND s.restart_lsn IS NOT NULL AND a.leader_pid = ANY ($1::int4[])";
    let rows = db.query(doing, sql, &[&pids]).await?;
    each(&rows, |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Who has the slots now that are there for it: where the server does not show whose worker it is, the worker.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn holders(db: &Session) -> Result<Vec<Blocker>, EngineError> {
    let doing = "looking who has the slots for REPACK";
    let blocker_of = blocker_of();
    let from = who(
        "(SELECT coalesce(w.leader_pid, s.active_pid) FROM pg_catalog.pg_replication_slots s
            LEFT JOIN pg_catalog.pg_stat_activity w ON w.pid = s.active_pid
            WHERE s.plugin = 'pgrepack' AND s.active_pid IS NOT NULL) AS b(pid)",
        "false",
    );
    let sql = format!(
        "SELECT pg_catalog.pg_backend_pid() AS waiter_pid, {blocker_of} FROM {from} ORDER BY b.pid"
    );
    let rows = db.query(doing, &sql, &[]).await?;
    each(&rows, blocker)
}
