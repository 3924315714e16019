//! One at a time: a session advisory lock per task on its target, and what
//! sessions of a dead process leave on the server.

use super::Session;
use crate::engines::EngineError;

/// First half of the lock's key: `mnt1` in ASCII.
const LOCK_CLASS: i32 = 0x6d6e_7431;

/// Takes the lock of a task, unless somebody holds it: then tells who, since when.
pub async fn claim(db: &Session, task: &str) -> Result<Option<String>, EngineError> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))";
    let doing = "claiming the task";
    let rows = db.query(doing, sql, &[&LOCK_CLASS, &task]).await?;
    if let Some(row) = rows.first()
        && db.column::<bool>(doing, row, 0)?
    {
        return Ok(None);
    }
    let sql = "SELECT pg_catalog.format('pid %s, role %s, %s%s', a.pid, a.usename,
            coalesce(nullif(a.application_name, ''), 'unnamed application'),
            coalesce(', since ' || pg_catalog.to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS') || ' UTC', ''))
        FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.classid = $1::int4::oid AND l.objsubid = 2 AND l.granted
            AND l.objid::int8 = (pg_catalog.hashtext($2)::int8 & 4294967295)
            AND a.datname = pg_catalog.current_database()";
    let doing = "asking who holds the task";
    let rows = db.query(doing, sql, &[&LOCK_CLASS, &task]).await?;
    match rows.first() {
        Some(row) => db.column(doing, row, 0).map(Some),
        None => Ok(Some("a session that has just ended".to_owned())),
    }
}

/// Ends sessions that a killed process left at work. They are known by their
/// `application_name`, which carries the id of a run that is proved dead, and
/// by the role that logged in, as ours did. Returns how many there were.
pub async fn end_orphans(db: &Session, application_name: &str) -> Result<usize, EngineError> {
    let doing = "ending sessions of an interrupted run";
    // Where the role is set to another one by `ALTER ROLE … SET role`, only the
    // one that logged in may see and end its sessions.
    db.execute(doing, "BEGIN; SET LOCAL ROLE NONE").await?;
    let ended = as_who_logged_in(db, doing, application_name).await;
    let over = db.execute(doing, "ROLLBACK").await;
    let ended = ended?;
    over?;
    Ok(ended)
}

async fn as_who_logged_in(
    db: &Session,
    doing: &str,
    application_name: &str,
) -> Result<usize, EngineError> {
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
        WHERE application_name = $1 AND pid <> pg_catalog.pg_backend_pid()
            AND usename = session_user AND datname = pg_catalog.current_database()";
    let ended = db.query(doing, sql, &[&application_name]).await?.len();
    if ended > 0 {
        // They drop their locks within moments; leftovers can be judged only after that.
        // What is known of sessions stays as it is in a transaction, unless asked for anew.
        let gone = "SELECT count(*) FROM pg_catalog.pg_stat_activity
            WHERE application_name = $1 AND pid <> pg_catalog.pg_backend_pid() AND usename = session_user";
        for _ in 0..50 {
            let anew = "SELECT pg_catalog.pg_stat_clear_snapshot()";
            db.execute(doing, anew).await?;
            let rows = db.query(doing, gone, &[&application_name]).await?;
            if let Some(row) = rows.first()
                && db.column::<i64>(doing, row, 0)? == 0
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    Ok(ended)
}
