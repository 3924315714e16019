//! One at a time: a session advisory lock per task on its target, and what
//! sessions of a dead process leave on the server.

use uuid::Uuid;

use super::Session;
use crate::engines::EngineError;

/// First half of the lock's key: `mnt1` in ASCII.
const LOCK_CLASS: i32 = 0x6d6e_7431;

/// The same for the lock of a partition that leaves its table: `mnt2`.
const PARTITION_CLASS: i32 = 0x6d6e_7432;

/// Who holds the lock of a task, or of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process, role, application, and since when.
    pub who: String,
    /// The run that it calls itself, where it is taken for one.
    pub run: Option<Uuid>,
    /// The statement that ends it, and nobody else.
    pub end: Option<String>,
    /// Why it is taken for no run of maint's, where it is.
    pub stranger: Option<String>,
}

/// Takes the lock of a task, unless somebody holds it: then tells who, since when.
pub async fn claim(db: &Session, task: &str) -> Result<Option<Holder>, EngineError> {
    take(db, "claiming the task", LOCK_CLASS, task).await
}

/// Takes the lock of a partition that leaves its table, for this session:
/// whatever task or target they are of, one run at a time works on it.
pub async fn claim_partition(db: &Session, oid: u32) -> Result<Option<Holder>, EngineError> {
    let doing = "claiming the partition";
    take(db, doing, PARTITION_CLASS, &oid.to_string()).await
}

/// Gives the lock of a partition back.
pub async fn release_partition(db: &Session, oid: u32) -> Result<(), EngineError> {
    let sql = "SELECT pg_catalog.pg_advisory_unlock($1::int4, pg_catalog.hashtext($2::text))";
    let doing = "releasing the partition";
    db.query(doing, sql, &[&PARTITION_CLASS, &oid.to_string()])
        .await
        .map(drop)
}

async fn take(
    db: &Session,
    doing: &str,
    class: i32,
    key: &str,
) -> Result<Option<Holder>, EngineError> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock($1::int4, pg_catalog.hashtext($2::text))";
    let rows = db.query(doing, sql, &[&class, &key]).await?;
    if let Some(row) = rows.first()
        && row.get::<bool>(0)?
    {
        return Ok(None);
    }
    let just_gone = Holder {
        who: "a session that has just ended".to_owned(),
        run: None,
        end: None,
        stranger: None,
    };
    Ok(Some(held(db, class, key).await?.unwrap_or(just_gone)))
}

/// Everybody in the database may take the lock. So who holds it is judged by
/// what cannot be chosen, the role that logged in, and only then by the name
/// that runs of maint give themselves. A transaction that was prepared holds
/// its locks without a session. Whose `backend_start` is hidden from the role
/// is known by the lock itself, which the statement looks for again.
const HOLDERS: &str = "SELECT l.pid, a.usename::text AS role, coalesce(a.application_name, '') AS application,
        pg_catalog.to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS') AS since,
        coalesce(pg_catalog.pg_has_role(a.usesysid, session_user, 'MEMBER'), false) AS member,
        coalesce(a.application_name, '') ~ '^maint [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' AS named,
        p.gid AS prepared, p.owner::text AS prepared_by, pg_catalog.to_char(p.prepared, 'YYYY-MM-DD HH24:MI:SS') AS prepared_since,
        CASE WHEN p.gid IS NOT NULL THEN pg_catalog.format('ROLLBACK PREPARED %L', p.gid)
            WHEN l.pid IS NOT NULL THEN pg_catalog.format('SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_locks l ON l.pid = a.pid WHERE a.pid = %s%s AND l.locktype = ''advisory'' AND l.classid = %s AND l.objid = %s AND l.objsubid = 2 AND l.granted',
                l.pid, CASE WHEN a.backend_start IS NULL THEN '' ELSE pg_catalog.format(' AND a.backend_start = %L', a.backend_start) END, l.classid, l.objid) END AS ending
    FROM pg_catalog.pg_locks l
        LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
            AND x.virtualtransaction = l.virtualtransaction
        LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
    WHERE l.locktype = 'advisory' AND l.classid = $1::int4::oid AND l.objsubid = 2 AND l.granted
        AND l.objid::int8 = (pg_catalog.hashtext($2)::int8 & 4294967295)
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
    ORDER BY a.backend_start, l.pid";

/// Who holds the lock of a task, if anybody does: a stranger before a run.
pub async fn holder(db: &Session, task: &str) -> Result<Option<Holder>, EngineError> {
    held(db, LOCK_CLASS, task).await
}

async fn held(db: &Session, class: i32, key: &str) -> Result<Option<Holder>, EngineError> {
    let doing = "asking who holds the lock";
    let mut first = None;
    for row in db.query(doing, HOLDERS, &[&class, &key]).await? {
        let text = |column: &str| row.named::<Option<String>>(column);
        let (member, named) = (row.named("member")?, row.named("named")?);
        let pid: Option<i32> = row.named("pid")?;
        let role = text("role")?.unwrap_or_else(|| "of nobody".to_owned());
        let application = text("application")?.filter(|name| !name.is_empty());
        let id = application
            .as_deref()
            .and_then(|name| name.strip_prefix("maint "));
        let run = id.and_then(|id| Uuid::parse_str(id).ok());
        let who = match (pid, text("prepared")?) {
            (Some(pid), _) => {
                format!(
                    "pid {pid}, role {role}, {}{}",
                    application.as_deref().unwrap_or("unnamed application"),
                    text("since")?.map_or_else(
                        || ", since when this role may not see".to_owned(),
                        |since| format!(", since {since} UTC")
                    ),
                )
            }
            (None, Some(prepared)) => format!(
                "prepared transaction {prepared}, role {}, since {} UTC",
                text("prepared_by")?.unwrap_or_default(),
                text("prepared_since")?.unwrap_or_default()
            ),
            (None, None) => "a prepared transaction that is not listed".to_owned(),
        };
        let why = match (pid.is_some(), member, named) {
            (true, true, true) => None,
            (true, _, false) => {
                Some("it does not call itself a run of maint's, as every run does".to_owned())
            }
            (true, false, true) => Some(format!(
                "it calls itself a run of maint's, as anybody may, but {role} is not the role that maint connects as here, nor a member of it; where that is a maint of yours, give the two tasks different names"
            )),
            (false, ..) => Some("a run of maint's prepares no transaction".to_owned()),
        };
        let found = Holder {
            who,
            run: run.filter(|_| why.is_none()),
            end: text("ending")?,
            stranger: why,
        };
        if found.stranger.is_some() {
            return Ok(Some(found));
        }
        first.get_or_insert(found);
    }
    Ok(first)
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
                && row.get::<i64>(0)? == 0
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    Ok(ended)
}
