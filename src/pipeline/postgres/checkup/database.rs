//! The tables of a database: whose they are, what the role may and sees there, what was left half done,
//! which extensions there are.

use std::collections::BTreeSet;

use crate::config::{Target, Task};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::may_vacuum;
use crate::engines::postgres::{Identifier, Session, trust};
use crate::pipeline::checkup::{Level, Line};
use crate::report::text::counted;

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

pub(super) async fn examine_database(
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
