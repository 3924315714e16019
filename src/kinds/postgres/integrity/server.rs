//! What the server has noticed by itself: checksum failures, and sort orders
//! that changed under the indexes that rely on them.

use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName, Session, each};
use crate::plan::{Finding, Scope, Severity};

/// More statements than this are nothing to paste; then the whole database is
/// named instead.
const MOST_STATEMENTS: usize = 5;

const CHECKSUMS: &str =
    "SELECT coalesce(d.datname::text, 'objects shared by all databases'), d.checksum_failures,
        pg_catalog.to_char(d.checksum_last_failure, 'YYYY-MM-DD HH24:MI:SS')
    FROM pg_catalog.pg_stat_database d
    WHERE d.checksum_failures > 0 AND ($1::bool OR d.datname = pg_catalog.current_database() OR d.datid = 0)
    ORDER BY 1";

/// Pages whose checksum was wrong when they were read, on one server.
pub(super) async fn checksum_failures(
    db: &Session,
    whereabouts: &str,
    scope: Scope,
) -> Result<Vec<Finding>, EngineError> {
    // Those of many databases are told once, with their server.
    if !scope.has_server() {
        return Ok(Vec::new());
    }
    let all = scope == Scope::Server;
    let found = db
        .query("reading checksum failures", CHECKSUMS, &[&all])
        .await?;
    each(&found, |row| {
        let (object, failures): (String, i64) = (row.get(0)?, row.get(1)?);
        let last = row
            .get::<Option<String>>(2)?
            .map(|at| format!(", the last on {at} UTC"))
            .unwrap_or_default();
        Ok(Finding {
            code: "checksum.failures".to_owned(),
            severity: Severity::Critical,
            message: format!(
                "{object}: {failures} reads of a page with a wrong checksum{last}{whereabouts}. The storage gives back something else than was written; the server's log names the files. The count stays until the statistics are reset"
            ),
            object,
            suggestion: None,
        })
    })
}

/// A sort order that the library defines otherwise than when it was recorded.
#[derive(Clone, Debug)]
pub(super) struct ChangedCollation {
    /// `DATABASE app` or `COLLATION public.german`.
    what: String,
    recorded: String,
    actual: String,
    /// How many indexes rely on it, and the largest of them.
    indexes: i64,
    largest: Vec<String>,
}

const COLLATIONS: &str = "WITH used AS (
        SELECT DISTINCT u.coll, x.indexrelid FROM pg_catalog.pg_index x, pg_catalog.unnest(x.indcollation) u(coll)
        JOIN pg_catalog.pg_collation co ON co.oid = u.coll WHERE u.coll NOT IN (950, 951)),
    relying AS (
        SELECT u.coll, count(*) AS indexes,
            (pg_catalog.array_agg(pg_catalog.format('%I.%I', n.nspname, i.relname) ORDER BY i.relpages DESC, i.relname))[1:6] AS largest
        FROM used u JOIN pg_catalog.pg_class i ON i.oid = u.indexrelid AND i.relkind = 'i'
        JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast')
        GROUP BY u.coll)
    SELECT cn.nspname::text AS schema, co.collname::text AS name, co.collversion AS recorded, pg_catalog.pg_collation_actual_version(co.oid) AS actual, r.indexes, r.largest
    FROM relying r JOIN pg_catalog.pg_collation co ON co.oid = r.coll
    JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
    WHERE co.collversion IS NOT NULL AND co.collversion <> pg_catalog.pg_collation_actual_version(co.oid)
    {database} ORDER BY schema NULLS FIRST, name";

/// From 15 on the database's own sort order has a recorded version, too.
const DATABASE: &str = "UNION ALL
    SELECT NULL, d.datname::text, d.datcollversion, pg_catalog.pg_database_collation_actual_version(d.oid),
        coalesce(r.indexes, 0), coalesce(r.largest, ARRAY[]::text[])
    FROM pg_catalog.pg_database d LEFT JOIN relying r ON r.coll = 100
    WHERE d.datname = pg_catalog.current_database() AND d.datcollversion IS NOT NULL
        AND d.datcollversion <> pg_catalog.pg_database_collation_actual_version(d.oid)";

/// Sort orders whose version changed, where an index relies on them.
pub(super) async fn changed_collations(db: &Session) -> Result<Vec<ChangedCollation>, EngineError> {
    let database = if db.server.major() >= 15 {
        DATABASE
    } else {
        ""
    };
    let sql = COLLATIONS.replace("{database}", database);
    let found = db
        .query("reading versions of collations", &sql, &[])
        .await?;
    each(&found, |row| {
        let (schema, name): (Option<String>, String) = (row.named("schema")?, row.named("name")?);
        Ok(ChangedCollation {
            what: match schema {
                Some(schema) => format!("COLLATION {}", RelationName::new(schema, name)),
                None => format!("DATABASE {}", Identifier::new(name)),
            },
            recorded: row.named("recorded")?,
            actual: row.named("actual")?,
            indexes: row.named("indexes")?,
            largest: row.named("largest")?,
        })
    })
}

impl ChangedCollation {
    pub(super) fn finding(&self, database: &str) -> Finding {
        let Self {
            what,
            recorded,
            actual,
            indexes,
            largest,
        } = self;
        let refresh = if what.starts_with("DATABASE") {
            format!("ALTER {what} REFRESH COLLATION VERSION")
        } else {
            format!("ALTER {what} REFRESH VERSION")
        };
        let mut statements: Vec<String> = if largest.len() > MOST_STATEMENTS {
            vec![format!(
                "REINDEX DATABASE CONCURRENTLY {}",
                Identifier::new(database)
            )]
        } else {
            largest
                .iter()
                .map(|index| format!("REINDEX INDEX CONCURRENTLY {index}"))
                .collect()
        };
        statements.push(refresh);
        let relying = match (*indexes, largest.first()) {
            (0, _) | (_, None) => "no index of yours relies on it".to_owned(),
            (1, Some(first)) => format!(
                "{first} relies on it and may miss rows or hold keys twice until it is rebuilt"
            ),
            (n, Some(first)) => format!(
                "{n} indexes rely on it, {first} first of all, and may miss rows or hold keys twice until they are rebuilt"
            ),
        };
        Finding {
            code: "collation.version".to_owned(),
            severity: if *indexes > 0 {
                Severity::Warning
            } else {
                Severity::Info
            },
            object: what.clone(),
            message: format!(
                "the sort order of {what} is that of version {actual} now, and was {recorded} when it was recorded: {relying}"
            ),
            suggestion: Some(statements.join("; ")),
        }
    }
}
