//! What a PostgreSQL target lacks (versions, rights, extensions) and what that costs, and what was
//! left unfinished there.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::lanes;
use super::{dial, open};
use crate::config::{Target, Task};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::may_vacuum;
use crate::engines::postgres::seats::Seats;
use crate::engines::postgres::{Identifier, Session, claim, copies, disk, trust};
use crate::execute::postgres;
use crate::pipeline::PipelineError;
use crate::pipeline::checkup::{Level, Line};
use crate::report::text::{counted, human_duration_ms};
use crate::values::with_causes;

const EXTENSIONS: &str = "SELECT x.name, e.extversion IS NOT NULL, a.name IS NOT NULL
    FROM (VALUES ('pgstattuple'), ('amcheck'), ('pg_stat_statements')) AS x(name)
        LEFT JOIN pg_catalog.pg_extension e ON e.extname = x.name
        LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = x.name";

const TABLES: &str = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";

const OWNERSHIP: &str =
    "SELECT count(*) FILTER (WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')), count(*),
        count(*) FILTER (WHERE {may_maintain})
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";

/// Kinds whose every step needs the right to maintain a table.
const MAINTAINING: [&str; 5] = ["analyze", "refresh", "reindex", "repack", "vacuum"];

/// Tables whose statistics the role may not see.
const BLIND: &str =
    "SELECT pg_catalog.count(*) FILTER (WHERE NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')),
        pg_catalog.count(*) FILTER (WHERE pg_catalog.row_security_active(c.oid))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";

/// Indexes that were left half built, or by half dropped.
const INVALID: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relpersistence <> 't' AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'relation' AND l.relation = i.indrelid AND l.granted AND l.mode = 'ShareUpdateExclusiveLock'
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
    ORDER BY 1 LIMIT 5";

/// Partitions that are detached by half, and their tables.
const DETACHING: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.format('%I.%I', m.nspname, p.relname)
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
        JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace
    WHERE i.inhdetachpending AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'relation' AND l.relation IN (i.inhrelid, i.inhparent) AND l.granted
            AND l.mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
    ORDER BY 1 LIMIT 5";

/// Whether the role that logged in sees what others do.
const SEES_SESSIONS: &str =
    "SELECT pg_catalog.pg_has_role(session_user, 'pg_read_all_stats', 'USAGE')";

/// Transactions that are older than five minutes.
const LONG: &str = "SELECT a.pid, coalesce(a.usename, '')::text AS role, coalesce(a.application_name, '') AS application,
        extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::int8 AS age_s,
        coalesce(a.state, '') AS state
    FROM pg_catalog.pg_stat_activity a
    WHERE a.xact_start < pg_catalog.clock_timestamp() - interval '5 minutes'
        AND a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
    ORDER BY a.xact_start LIMIT 5";

/// Looks at the server, the role and the way there; what was found until something failed is in
/// `lines`.
pub(in crate::pipeline) async fn examine(
    target: &Target,
    tasks: &[&Task],
    last: Option<&Value>,
    lines: &mut Vec<Line>,
) -> Result<(), PipelineError> {
    let dial = dial(target)?;
    let session = open(&dial, "maint doctor", last).await?;
    if target.scope.has_server() {
        examine_server(&session, lines);
        sees_sessions(&session, lines).await?;
        replicas(target, &session, lines).await?;
        let asks = |task: &&Task| task.throttle.free_disk_query.is_some();
        if !tasks.iter().any(asks) {
            sees_disk(&session, lines).await?;
        }
    }
    if target.scope.has_database() {
        examine_database(&session, target, tasks, lines).await?;
    }
    let seats = Seats::of(&session).await?;
    for task in tasks {
        // Fewer steps at once will do; without one there is nothing.
        let of = |jobs: u32| {
            let seats = seats.as_ref()?;
            seats.too_few(lanes::needed(jobs, &task.throttle))
        };
        let few = match (of(1), of(task.limits.jobs)) {
            (Some(few), _) => Some((Level::Problem, few, "")),
            (None, Some(few)) => Some((
                Level::Note,
                few,
                "; until then it has fewer steps at work at once",
            )),
            (None, None) => None,
        };
        if let Some((level, few, then)) = few {
            lines.push((level, format!("{}: {few}{then}", task.name)));
        }
        let Some(holder) = claim::holder(&session, &task.name).await? else {
            continue;
        };
        lines.push(match holder.stranger {
            None => (
                Level::Note,
                format!("{}: at work just now: {}", task.name, holder.who),
            ),
            Some(why) => (
                Level::Problem,
                format!(
                    "{}: its lock is held by {}, which is no run of maint's as far as can be told: {}; the task does not run until that ends; {}",
                    task.name,
                    holder.who,
                    why,
                    holder.end.unwrap_or_default()
                ),
            ),
        });
    }
    for row in session
        .query("looking for old transactions", LONG, &[])
        .await?
    {
        let text = |column: &str| row.named::<String>(column);
        let pid: i32 = row.named("pid")?;
        let age_s: i64 = row.named("age_s")?;
        let (who, application, state) = (text("role")?, text("application")?, text("state")?);
        lines.push((Level::Note, format!(
            "a transaction is open for {} (pid {pid}, role {who}, {}{state}): it holds back VACUUM and concurrent builds",
            human_duration_ms(age_s.saturating_mul(1000)),
            if application.is_empty() { String::new() } else { format!("{application}, ") },
        )));
    }
    Ok(())
}

/// Whose rights are lent to whose code.
async fn trust(
    session: &Session,
    trust_owners: &[String],
    say: &mut impl FnMut(Level, String),
) -> Result<(), EngineError> {
    if session.server.superuser {
        say(
            Level::Problem,
            format!(
                "{} is a superuser: whatever hangs on a table would run as one, so that tables of others with code are left alone; docs/security.md says what to grant instead",
                session.server.role
            ),
        );
    }
    for code in trust::at_login(session, trust_owners).await? {
        say(
            Level::Problem,
            format!(
                "{}: {}",
                trust::ran_at_login(&code, &session.server),
                trust::without_at_login(&code)
            ),
        );
    }
    let rows = session.query("listing tables", TABLES, &[]).await?;
    let tables = rows.iter().map(|row| row.get(0));
    let tables = tables.collect::<Result<Vec<u32>, _>>()?;
    let standing = trust::read(session, &tables, trust_owners).await?;
    let codes = standing.all_code();
    if let Some(first) = codes.first() {
        let mut tables: Vec<String> = codes.iter().map(|c| c.table.to_string()).collect();
        tables.dedup();
        let owners: BTreeSet<&str> = codes.iter().map(|c| c.owner.as_str()).collect();
        let owners: Vec<&str> = owners.into_iter().collect();
        say(
            Level::Note,
            format!(
                "{} with code that would run with our rights and is not trusted, of {}; first: {}; left alone by what would run it, unless `trust_owners` names its owners",
                counted(tables.len(), "table"),
                owners.join(", "),
                first.text()
            ),
        );
    }
    Ok(())
}

/// What is the same in every database of the server.
fn examine_server(session: &Session, lines: &mut Vec<Line>) {
    let server = &session.server;
    let mut say = |level, text: String| lines.push((level, text));
    say(
        Level::Ok,
        format!(
            "PostgreSQL {}, database {}, role {}",
            server.version, server.database, server.role
        ),
    );
    if server.in_recovery {
        say(
            Level::Problem,
            "a standby: only tasks of the kinds integrity and snapshot can run here; for all others point the url at the primary".to_owned(),
        );
    }
    if (140_000..140_004).contains(&server.version_num) {
        say(Level::Problem, "concurrent index builds of 14.0 to 14.3 corrupt indexes: reindex refuses; upgrade to 14.4 or newer".to_owned());
    }
    match server.clock_differs() {
        Some(why) => say(Level::Problem, why),
        None => say(
            Level::Ok,
            "the clocks of this machine and the server agree".to_owned(),
        ),
    }
}

async fn examine_database(
    session: &Session,
    target: &Target,
    tasks: &[&Task],
    lines: &mut Vec<Line>,
) -> Result<(), EngineError> {
    let mut say = |level, text: String| lines.push((level, text));
    trust(session, &target.trust_owners, &mut say).await?;
    let ownership = OWNERSHIP.replace("{may_maintain}", &may_vacuum(&session.server));
    let owned = session.query("counting tables", &ownership, &[]).await?;
    if let Some(row) = owned.first() {
        let number = |n: usize| row.get::<i64>(n);
        let (mine, all) = (number(0)?, number(1)?);
        let level = if mine < all { Level::Note } else { Level::Ok };
        say(
            level,
            format!(
                "the role owns {mine} of {all} tables{}",
                if mine < all {
                    "; the others need a grant (17 and newer: pg_maintain)"
                } else {
                    ""
                }
            ),
        );
        // Whether something is due today says nothing of tomorrow.
        let kept_out = tasks
            .iter()
            .filter(|task| MAINTAINING.contains(&task.kind.as_str()));
        let kept_out: Vec<&str> = kept_out.map(|task| task.name.as_str()).collect();
        if all > 0 && number(2)? == 0 && !kept_out.is_empty() {
            let role = Identifier::new(&*session.server.role);
            let help = match session.server.major() >= 17 {
                true => format!("GRANT pg_maintain TO {role}"),
                false => format!("give {role} the role that owns them"),
            };
            say(
                Level::Problem,
                format!(
                    "{}: the role may maintain none of {}, whatever is due: {help}",
                    kept_out.join(", "),
                    counted(usize::try_from(all).unwrap_or(0), "table")
                ),
            );
        }
    }
    let blind = session.query("counting tables", BLIND, &[]).await?;
    if let Some(row) = blind.first() {
        let role = Identifier::new(&*session.server.role);
        let helps = [
            format!(
                "GRANT SELECT on them, or GRANT pg_read_all_data TO {role} (pg_maintain does not include that)"
            ),
            format!(
                "row-level security is in force for it there, which hides them: ALTER ROLE {role} BYPASSRLS, or `method: exact`"
            ),
        ];
        for (n, help) in helps.into_iter().enumerate() {
            let unseen: i64 = row.get(n)?;
            if unseen > 0 {
                let tables = counted(usize::try_from(unseen).unwrap_or(0), "table");
                say(
                    Level::Problem,
                    format!(
                        "the role sees no statistics of {tables}: bloat of their indexes is not known; {help}"
                    ),
                );
            }
        }
    }
    unfinished(session, &mut say).await?;
    for row in session
        .query("looking for extensions", EXTENSIONS, &[])
        .await?
    {
        let name: String = row.get(0)?;
        let installed: bool = row.get(1)?;
        let available: bool = row.get(2)?;
        let costs = match name.as_str() {
            "pgstattuple" => "`method: exact` of reindex falls back to estimates",
            "amcheck" => "corruption of tables and indexes cannot be looked for",
            _ => "slow statements cannot be told",
        };
        match (installed, available) {
            (true, _) => say(Level::Ok, format!("{name} is installed")),
            (false, true) => say(
                Level::Note,
                format!("{name} is not installed: {costs}; CREATE EXTENSION {name}"),
            ),
            (false, false) => say(
                Level::Note,
                format!("{name} is not available on this server: {costs}"),
            ),
        }
    }
    Ok(())
}

/// What somebody has begun and not ended: it costs every day, and nobody is told. Whoever builds
/// or detaches just now holds the lock of that.
async fn unfinished(
    session: &Session,
    say: &mut impl FnMut(Level, String),
) -> Result<(), EngineError> {
    let doing = "looking for what was left half done";
    let invalid = session.query(doing, INVALID, &[]).await?;
    let detaching = session.query(doing, DETACHING, &[]).await?;
    for row in &invalid {
        let index: String = row.get(0)?;
        say(
            Level::Problem,
            format!(
                "the index {index} is invalid: no query uses it, and every write keeps it; `reindex` removes what a rebuild has left, else: REINDEX INDEX CONCURRENTLY {index}, or DROP INDEX CONCURRENTLY {index}"
            ),
        );
    }
    for row in &detaching {
        let (partition, parent): (String, String) = (row.get(0)?, row.get(1)?);
        say(
            Level::Problem,
            format!(
                "the partition {partition} is detached by half: its table does not show its rows, and no other partition can be detached concurrently; ALTER TABLE {parent} DETACH PARTITION {partition} FINALIZE"
            ),
        );
    }
    Ok(())
}

/// What the role cannot see of the sessions of others.
async fn sees_sessions(session: &Session, lines: &mut Vec<Line>) -> Result<(), EngineError> {
    let doing = "asking whose sessions may be seen";
    let seen = session.query(doing, SEES_SESSIONS, &[]).await?;
    let seen = seen.first().map_or(Ok(true), |row| row.get(0))?;
    if !seen {
        let role = Identifier::new(&*session.server.session_role);
        lines.push((
            Level::Note,
            format!(
                "the role does not see what sessions of other roles do: old transactions are not known (`limits.max_transaction_age`), nor how many are active (`throttle.max_active_sessions` fails the step); GRANT pg_read_all_stats TO {role}"
            ),
        ));
    }
    Ok(())
}

/// Whether what the configuration calls replicas are some: limits of their lag rest on that.
async fn replicas(
    target: &Target,
    primary: &Session,
    lines: &mut Vec<Line>,
) -> Result<(), EngineError> {
    for dial in postgres::replicas(target)? {
        let name = dial.describe();
        let replica = match Session::open(&dial, "maint doctor").await {
            Ok(replica) => replica,
            Err(error) => {
                let why = with_causes(&error);
                let text = format!("the replica {name} could not be looked at: {why}");
                lines.push((Level::Problem, text));
                continue;
            }
        };
        let is_one = copies::began_as_one(primary, &replica).await?;
        lines.push(match (is_one, replica.server.in_recovery) {
            (false, _) => (
                Level::Problem,
                format!(
                    "the replica {name} is a copy of another server: limits of its lag say nothing, and nothing is checked there; put `replicas` right"
                ),
            ),
            (true, false) => (
                Level::Problem,
                format!(
                    "the replica {name} is no standby, but takes writes: limits of its lag say nothing; after a failover put `url` and `replicas` right"
                ),
            ),
            (true, true) => (Level::Ok, format!("the replica {name} is a standby of it")),
        });
    }
    Ok(())
}

/// Whether it is known how much is free on the disk of the server.
async fn sees_disk(session: &Session, lines: &mut Vec<Line>) -> Result<(), EngineError> {
    if let Err(why) = disk::free(session).await? {
        lines.push((
            Level::Note,
            format!(
                "how much is free on the disk of the server is not known: {why}. Rebuilds begin without looking, and `throttle.min_free_disk` fails the step, unless `throttle.free_disk_query` answers it"
            ),
        ));
    }
    Ok(())
}
