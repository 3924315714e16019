//! What our own sessions are waiting for and how far they have come.

use super::{Row, Session, each};
use crate::engines::EngineError;
use crate::values::unreadable;

/// Somebody in the way of one of our sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocker {
    /// Our session.
    pub waiter_pid: i32,
    /// The session in the way; 0 for a prepared transaction.
    pub pid: i32,
    /// Its role.
    pub user: String,
    /// Its `application_name`, or what it is where it has none; of a prepared
    /// transaction also its name, as a literal.
    pub application: String,
    /// Its state; [`HIDDEN`] where the server does not show it to our role.
    pub state: String,
    /// Age of its current or last query, in milliseconds.
    pub query_age_ms: i64,
    /// Age of its transaction, in milliseconds.
    pub transaction_age_ms: i64,
}

/// What the state is called of a session of which the server shows a role without
/// `pg_read_all_stats` no more than its pid, its role and its `application_name`.
pub const HIDDEN: &str = "hidden from this role";

/// How far one of our sessions has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Our session.
    pub pid: i32,
    /// What the server calls the present phase.
    pub phase: String,
    /// Blocks or rows done in this phase.
    pub done: i64,
    /// Of how many; 0 where the server does not say.
    pub total: i64,
}

const BLOCKER: &str = "b.pid, coalesce(a.usename::text, p.owner::text, '') AS user_name,
        coalesce(nullif(a.application_name, ''), a.backend_type, '{PREPARED} ' || pg_catalog.quote_literal(p.gid),
            CASE WHEN a.pid IS NULL THEN '{PREPARED}' WHEN a.usesysid IS NULL THEN 'autovacuum worker'
                ELSE 'unnamed application' END) AS application,
        coalesce(a.state, CASE WHEN a.pid IS NOT NULL AND a.backend_type IS NULL THEN '{HIDDEN}' ELSE '' END) AS state,
        coalesce((extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(a.query_start, p.prepared)) * 1000)::int8, 0) AS query_age_ms,
        coalesce((extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000)::int8, 0) AS transaction_age_ms";

/// What a prepared transaction is called in [`Blocker::application`].
const PREPARED: &str = "prepared transaction";

/// The columns of a [`Blocker`] but for `waiter_pid`.
pub(super) fn blocker_of() -> String {
    BLOCKER
        .replace("{PREPARED}", PREPARED)
        .replace("{HIDDEN}", HIDDEN)
}

/// Its name as a literal, where `application` is that of a prepared transaction.
pub fn prepared(application: &str) -> Option<&str> {
    application.strip_prefix(PREPARED)?.strip_prefix(' ')
}

/// Who is asked for, joined with what is known of sessions and of the prepared
/// transaction that holds one of these locks. Those have no session: which
/// locks are one's is told by the lock on its own number that is among them.
pub(super) fn who(from: &str, held: &str) -> String {
    format!(
        "{from} LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
            LEFT JOIN LATERAL (SELECT x.gid, x.owner, x.prepared FROM pg_catalog.pg_locks h
                JOIN pg_catalog.pg_locks own ON own.virtualtransaction = h.virtualtransaction
                    AND own.pid IS NULL AND own.granted AND own.locktype = 'transactionid'
                JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = own.transactionid
                WHERE b.pid = 0 AND h.pid IS NULL AND h.granted AND {held}
                ORDER BY x.prepared LIMIT 1) p ON true"
    )
}

/// Who blocks these sessions of ours. `pg_blocking_pids` stops the lock
/// manager for an instant, so it is asked only about those that do wait.
pub async fn blockers(db: &Session, pids: &[i32]) -> Result<Vec<Blocker>, EngineError> {
    let blocker_of = blocker_of();
    let from = who(
        "pg_catalog.pg_stat_activity w
            CROSS JOIN LATERAL (SELECT DISTINCT pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid))) AS b(pid)",
        "EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = w.pid AND NOT l.granted AND l.locktype = h.locktype
            AND (l.database, l.relation, l.page, l.tuple, l.transactionid) IS NOT DISTINCT FROM
                (h.database, h.relation, h.page, h.tuple, h.transactionid))",
    );
    let sql = format!(
        "SELECT w.pid AS waiter_pid, {blocker_of} FROM {from} WHERE w.pid = ANY ($1) AND w.wait_event_type = 'Lock'"
    );
    let rows = db
        .query("looking who is in the way", &sql, &[&pids])
        .await?;
    each(&rows, blocker)
}

/// A session of somebody else that waits for one of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiter {
    /// Our session.
    pub our_pid: i32,
    /// The session that waits.
    pub pid: i32,
    /// Its role.
    pub user: String,
    /// Its `application_name`.
    pub application: String,
    /// Its state.
    pub state: String,
    /// Age of its query, in milliseconds.
    pub query_age_ms: i64,
    /// Age of its transaction, in milliseconds.
    pub transaction_age_ms: i64,
    /// How long it has waited, in milliseconds.
    pub waited_ms: i64,
    /// What it waits for, where that is a relation of this database.
    pub relation: Option<String>,
}

/// `pg_blocking_pids` stops the lock manager for an instant, so it is asked
/// only about those that have waited long enough. Whoever queues behind a lock
/// that we wait for is blocked by us as well. Autovacuum steps back by itself.
///
/// All that decides is readable by everybody: the locks, since when they are waited for,
/// and the role of a session, which autovacuum has none of. A role without `pg_read_all_stats`
/// is not shown what kind of process a session of another is, nor what it does.
///
/// Another run of maint's is not let through: it gives up by itself after its `lock_timeout`,
/// and steps back for whoever queues behind it. If two runs stepped back for each other,
/// neither would get anything done.
const WAITERS: &str = "WITH late AS MATERIALIZED (
        SELECT l.pid, l.relation, l.database, l.waitstart FROM pg_catalog.pg_locks l
        WHERE NOT l.granted AND l.pid <> ALL ($1)
            AND l.waitstart < pg_catalog.clock_timestamp() - $2::int8 * interval '1 millisecond')
    SELECT b.pid AS our_pid, a.pid, coalesce(a.usename::text, '') AS user_name,
        coalesce(nullif(a.application_name, ''), 'unnamed application') AS application, coalesce(a.state, '') AS state,
        coalesce((extract(epoch FROM pg_catalog.clock_timestamp() - a.query_start) * 1000)::int8, 0) AS query_age_ms,
        coalesce((extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start) * 1000)::int8, 0) AS transaction_age_ms,
        (extract(epoch FROM pg_catalog.clock_timestamp() - late.waitstart) * 1000)::int8 AS waited_ms,
        CASE WHEN late.database = (SELECT oid FROM pg_catalog.pg_database
            WHERE datname = pg_catalog.current_database()) THEN late.relation::regclass::text END AS relation
    FROM late JOIN pg_catalog.pg_stat_activity a ON a.pid = late.pid
            AND coalesce(a.backend_type = 'client backend', a.usesysid IS NOT NULL)
            AND a.application_name !~ '^maint [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
        CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(late.pid)) AS b(pid)
    WHERE b.pid = ANY ($1)";

/// Sessions that have waited for one of ours for `longer_than_ms` milliseconds.
pub async fn waiters(
    db: &Session,
    pids: &[i32],
    longer_than_ms: i64,
) -> Result<Vec<Waiter>, EngineError> {
    let doing = "looking who waits for us";
    let rows = db.query(doing, WAITERS, &[&pids, &longer_than_ms]).await?;
    rows.iter()
        .map(|row| {
            Ok(Waiter {
                our_pid: row.named("our_pid")?,
                pid: row.named("pid")?,
                user: shown(row, "user_name")?,
                application: shown(row, "application")?,
                state: row.named("state")?,
                query_age_ms: row.named("query_age_ms")?,
                transaction_age_ms: row.named("transaction_age_ms")?,
                waited_ms: row.named("waited_ms")?,
                relation: row
                    .named::<Option<String>>("relation")?
                    .map(|name| unreadable::escaped(&name).into_owned()),
            })
        })
        .collect()
}

/// Who holds a lock on this relation that maintenance cannot share. For
/// statements that give up at once, and so are never seen waiting. Who only
/// writes rows is in the way of concurrent builds alone: `writers`.
pub async fn lock_holders(
    db: &Session,
    relation: u32,
    waiter_pid: i32,
    writers: bool,
) -> Result<Vec<Blocker>, EngineError> {
    let blocker_of = blocker_of();
    let mode = |l: &str| {
        format!(
            "{l}.locktype = 'relation' AND {l}.relation = $1::oid AND {l}.granted
                AND ({l}.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
                    OR $3::bool AND {l}.mode = 'RowExclusiveLock')"
        )
    };
    let from = who(
        &format!(
            "(SELECT DISTINCT coalesce(l.pid, 0) FROM pg_catalog.pg_locks l WHERE {}) AS b(pid)",
            mode("l")
        ),
        &mode("h"),
    );
    let sql =
        format!("SELECT $2::int4 AS waiter_pid, {blocker_of} FROM {from} WHERE b.pid <> $2::int4");
    let doing = "looking who holds the table";
    let rows = db
        .query(doing, &sql, &[&relation, &waiter_pid, &writers])
        .await?;
    each(&rows, blocker)
}

/// The oldest transaction that a concurrent build would wait for, where it is
/// older than `longer_than_ms` milliseconds: one with a snapshot in this
/// database, or with a lock on `relation`, prepared ones included. With
/// `everywhere` it is also one that has written anything in any database: who
/// follows the log begins only when all of those have ended. Vacuums and other
/// concurrent builds are not waited for. Of sessions that the role may not see,
/// nothing is known.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn old_transaction(
    db: &Session,
    relation: u32,
    everywhere: bool,
    longer_than_ms: i64,
) -> Result<Option<Blocker>, EngineError> {
    let doing = "looking for old transactions";
    let any = db.query(doing, ANY_OLD, &[&longer_than_ms]).await?;
    if super::first::<bool>(&any, 0)? == Some(false) {
        return Ok(None);
    }
    let blocker_of = blocker_of();
    let from = who(
        "(SELECT o.pid FROM (
                SELECT t.pid, t.xact_start AS began FROM pg_catalog.pg_stat_activity t
                WHERE t.pid <> pg_catalog.pg_backend_pid()
                    AND (t.datname = pg_catalog.current_database() AND (t.backend_xmin IS NOT NULL OR EXISTS (SELECT FROM pg_catalog.pg_locks l
                            WHERE l.pid = t.pid AND l.locktype = 'relation' AND l.relation = $1::oid AND l.granted))
                        OR $3::bool AND t.backend_xid IS NOT NULL)
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = t.pid)
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index c
                        WHERE c.pid = t.pid AND c.command LIKE '%CONCURRENTLY')
                UNION ALL SELECT 0, x.prepared FROM pg_catalog.pg_prepared_xacts x
                WHERE $3::bool OR x.database = pg_catalog.current_database() AND EXISTS (SELECT FROM pg_catalog.pg_locks i
                        JOIN pg_catalog.pg_locks l ON l.virtualtransaction = i.virtualtransaction AND l.pid IS NULL
                            AND l.locktype = 'relation' AND l.relation = $1::oid AND l.granted
                    WHERE i.pid IS NULL AND i.locktype = 'transactionid' AND i.transactionid = x.transaction)) o
            WHERE o.began < pg_catalog.clock_timestamp() - $2::int8 * interval '1 millisecond'
            ORDER BY o.began LIMIT 1) AS b(pid)",
        "($3::bool OR h.locktype = 'relation' AND h.relation = $1::oid)",
    );
    let sql = format!("SELECT pg_catalog.pg_backend_pid() AS waiter_pid, {blocker_of} FROM {from}");
    let rows = db
        .query(doing, &sql, &[&relation, &longer_than_ms, &everywhere])
        .await?;
    rows.first().map(blocker).transpose()
}

/// Whether anybody has had a transaction open for longer than `$1` milliseconds. Asked first:
/// planning the question who takes longer than rebuilding a small index.
const ANY_OLD: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(NULL::int4) t
        WHERE t.pid <> pg_catalog.pg_backend_pid() AND t.xact_start < pg_catalog.clock_timestamp() - $1::int8 * interval '1 millisecond')
    OR EXISTS (SELECT FROM pg_catalog.pg_prepared_xact() x
        WHERE x.prepared < pg_catalog.clock_timestamp() - $1::int8 * interval '1 millisecond')";

/// A role is shared by all databases, whatever their encoding.
fn shown(row: &Row, column: &str) -> Result<String, EngineError> {
    let text: String = row.named(column)?;
    Ok(unreadable::escaped(&text).into_owned())
}

pub(super) fn blocker(row: &Row) -> Result<Blocker, EngineError> {
    Ok(Blocker {
        waiter_pid: row.named("waiter_pid")?,
        pid: row.named("pid")?,
        user: shown(row, "user_name")?,
        application: shown(row, "application")?,
        state: row.named("state")?,
        query_age_ms: row.named("query_age_ms")?,
        transaction_age_ms: row.named("transaction_age_ms")?,
    })
}

const PROGRESS: &str =
    "SELECT pid, phase, CASE WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END::int8 AS done,
        CASE WHEN blocks_total > 0 THEN blocks_total ELSE tuples_total END::int8 AS total
    FROM pg_catalog.pg_stat_progress_create_index WHERE pid = ANY ($1)
    UNION ALL SELECT pid, phase, heap_blks_scanned::int8, heap_blks_total::int8
    FROM pg_catalog.pg_stat_progress_vacuum WHERE pid = ANY ($1)
    UNION ALL SELECT pid, phase, sample_blks_scanned::int8, sample_blks_total::int8
    FROM pg_catalog.pg_stat_progress_analyze WHERE pid = ANY ($1)";

/// The same of what the server has since 19.
const PROGRESS_OF_REPACK: &str =
    " UNION ALL SELECT pid, phase, heap_blks_scanned::int8, heap_blks_total::int8
    FROM pg_catalog.pg_stat_progress_repack WHERE pid = ANY ($1)";

/// How far these sessions of ours have come.
pub async fn progress(db: &Session, pids: &[i32]) -> Result<Vec<Progress>, EngineError> {
    let doing = "asking for the progress";
    let mut all = Vec::new();
    let mut sql = PROGRESS.to_owned();
    if db.server.major() >= 19 {
        sql.push_str(PROGRESS_OF_REPACK);
    }
    for row in db.query(doing, &sql, &[&pids]).await? {
        // Everything but the pid is null where the role may not see the session.
        let Some(phase) = row.named::<Option<String>>("phase")? else {
            continue;
        };
        let number = |column: &str| row.named::<Option<i64>>(column);
        all.push(Progress {
            pid: row.named("pid")?,
            phase,
            done: number("done")?.unwrap_or(0),
            total: number("total")?.unwrap_or(0),
        });
    }
    Ok(all)
}

/// How many transactions old the oldest transaction id is that a view of the data taken now would
/// hold back.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn would_hold_back(db: &Session) -> Result<i64, EngineError> {
    let doing = "asking which transaction ids a build would hold back";
    let sql = "SELECT pg_catalog.age(pg_catalog.xid(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())))::int8";
    let rows = db.query(doing, sql, &[]).await?;
    Ok(super::first(&rows, 0)?.unwrap_or(0))
}

/// How many transactions old what these sessions of ours hold back is.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn holds_back(db: &Session, pids: &[i32]) -> Result<Vec<(i32, i64)>, EngineError> {
    let doing = "asking which transaction ids we hold back";
    let sql =
        "SELECT a.pid, pg_catalog.age(a.backend_xmin)::int8 FROM pg_catalog.pg_stat_activity a
        WHERE a.pid = ANY ($1) AND a.backend_xmin IS NOT NULL";
    let rows = db.query(doing, sql, &[&pids]).await?;
    each(&rows, |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Where the role is not shown what others do, an autovacuum worker is known by having no role.
/// Only one that prevents wraparound waits for this lock on a table; the others leave it out.
const WRAPAROUND_WAITERS: &str = "SELECT DISTINCT b.pid FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_stat_activity v ON v.pid = l.pid AND CASE WHEN v.backend_type IS NULL
            THEN v.usesysid IS NULL AND v.datid IS NOT NULL
                AND l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock'
            ELSE v.backend_type = 'autovacuum worker' AND v.query LIKE '%(to prevent wraparound)' END
        CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(v.pid)) AS b(pid)
    WHERE NOT l.granted AND b.pid = ANY ($1)";

/// Which of our sessions hold up a vacuum that prevents transaction id wraparound.
pub async fn holding_up_wraparound(db: &Session, pids: &[i32]) -> Result<Vec<i32>, EngineError> {
    let doing = "looking for vacuums that wait for us";
    let rows = db.query(doing, WRAPAROUND_WAITERS, &[&pids]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}
