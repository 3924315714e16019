//! What the role would have to be allowed so that rows come back, by what the catalog says: asked before the first
//! row is sent, by the restore and by whoever only wants to know.

use super::super::returning::files;
use super::site::Site;
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName, Session, each};

/// Rows wait in a temporary table, are inserted, and are read again; tables and schemas that are not there are made.
const RIGHTS: &str = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database()::text, 'TEMPORARY') AS temporary,
        pg_catalog.has_database_privilege(pg_catalog.current_database()::text, 'CREATE') AS makes_schemas,
        pg_catalog.quote_ident(pg_catalog.current_database()::text) AS database,
        n.oid IS NULL OR pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS enters,
        n.oid IS NULL OR pg_catalog.has_schema_privilege(n.oid, 'CREATE') AS makes_tables,
        c.oid IS NULL OR pg_catalog.has_table_privilege(c.oid, 'SELECT') AS selects,
        c.oid IS NULL OR pg_catalog.has_table_privilege(c.oid, 'INSERT')
            OR (SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT')) FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attname::text = ANY ($3::text[]) AND a.attnum > 0) IS TRUE AS inserts,
        c.oid IS NULL OR pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owns
    FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname::text = $1
        LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = $2";

/// Fails where the role may not do what it takes.
///
/// # Errors
/// What it may not, and the statement that lets it.
pub async fn allowed(
    session: &Session,
    into: &RelationName,
    site: &Site,
    disable_triggers: bool,
) -> Result<(), EngineError> {
    let (schema, table) = (into.schema.raw(), into.relation.raw());
    let names = site.columns.iter().map(|(name, _)| name);
    let given: Vec<&String> = names.filter(|name| !site.computed.contains(name)).collect();
    let doing = "looking what the role may do";
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&schema, &table, &given];
    let rows = session.query(doing, RIGHTS, &params).await?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let role = Identifier::new(&*session.server.role);
    let database: String = row.named("database")?;
    let there = site.oid.is_some();
    let schema = &into.schema;
    let mut lacks = Vec::new();
    let mut need = |has: bool, what: String, grant: String| {
        if !has {
            lacks.push(format!("{what} ({grant})"));
        }
    };
    need(
        row.named("temporary")?,
        format!("make temporary tables in the database {database}, in which rows wait"),
        format!("GRANT TEMPORARY ON DATABASE {database} TO {role}"),
    );
    need(
        !site.no_schema || row.named("makes_schemas")?,
        format!("make the schema {schema}"),
        format!("GRANT CREATE ON DATABASE {database} TO {role}"),
    );
    need(
        row.named("enters")?,
        format!("use the schema {schema}"),
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
    );
    need(
        there || row.named("makes_tables")?,
        format!("make a table in the schema {schema}"),
        format!("GRANT CREATE ON SCHEMA {schema} TO {role}"),
    );
    need(
        row.named("selects")?,
        format!("read {into}, where rows are compared once they are there"),
        format!("GRANT SELECT ON {into} TO {role}"),
    );
    need(
        row.named("inserts")?,
        format!("insert into {into}"),
        format!("GRANT INSERT ON {into} TO {role}"),
    );
    let disabled = disable_triggers && !(site.triggers.is_empty() && site.rules.is_empty());
    need(
        !disabled || row.named("owns")?,
        format!("switch off triggers and rules of {into}, which only its owner can"),
        "without `--disable-triggers`, or as the owner".to_owned(),
    );
    if !lacks.is_empty() {
        return Err(files(format!(
            "nothing was restored: {role} may not {}",
            lacks.join("; nor ")
        )));
    }
    match guards(session, into).await?.first() {
        Some(guard) if guard.own && guard.refuses => Err(files(format!(
            "nothing was restored: {}",
            guarded(into, &role)
        ))),
        _ => Ok(()),
    }
}

/// What row-level security says to the role of a table that rows are to come back into, or of a partition in which
/// they are compared.
struct Guard {
    /// The table, quoted and qualified.
    name: String,
    /// Whether it is the table itself.
    own: bool,
    /// Whether its policies let no row in, or show none.
    refuses: bool,
    /// Whether they let all in, and show all of them.
    agrees: bool,
}

/// The table itself comes first. Rows are put into it by its own policies for INSERT and SELECT, and are read again in
/// its partitions, by theirs. Policies without an expression let nothing pass.
const GUARDS: &str = "SELECT t.oid::pg_catalog.regclass::text AS name, t.own,
        NOT e.some_shown OR NOT e.some_taken AND t.own AS refuses, e.all_shown AND (e.all_taken OR NOT t.own) AS agrees
    FROM (SELECT pg_catalog.to_regclass($1::text)::pg_catalog.oid AS oid, true AS own
        UNION ALL SELECT l.relid::pg_catalog.oid, false FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1::text)) l
            WHERE l.isleaf AND l.level > 0) AS t
        CROSS JOIN LATERAL (SELECT
            pg_catalog.bool_or(p.permissive AND p.shows <> 'false') IS TRUE AND pg_catalog.bool_or(NOT p.permissive AND p.shows = 'false') IS NOT TRUE AS some_shown,
            pg_catalog.bool_or(p.permissive AND p.takes <> 'false') IS TRUE AND pg_catalog.bool_or(NOT p.permissive AND p.takes = 'false') IS NOT TRUE AS some_taken,
            pg_catalog.bool_or(p.permissive AND p.shows = 'true') IS TRUE AND pg_catalog.bool_and(p.permissive OR p.shows = 'true') IS NOT FALSE AS all_shown,
            pg_catalog.bool_or(p.permissive AND p.takes = 'true') IS TRUE AND pg_catalog.bool_and(p.permissive OR p.takes = 'true') IS NOT FALSE AS all_taken
            FROM (SELECT o.polpermissive AS permissive,
                    CASE WHEN o.polcmd IN ('r', '*') THEN pg_catalog.pg_get_expr(o.polqual, o.polrelid) END AS shows,
                    CASE WHEN o.polcmd IN ('a', '*') THEN coalesce(pg_catalog.pg_get_expr(o.polwithcheck, o.polrelid),
                        pg_catalog.pg_get_expr(o.polqual, o.polrelid)) END AS takes
                FROM pg_catalog.pg_policy o WHERE o.polrelid = t.oid AND EXISTS (SELECT FROM pg_catalog.unnest(o.polroles) AS r (oid)
                    WHERE CASE WHEN r.oid = 0::pg_catalog.oid THEN true ELSE pg_catalog.pg_has_role(r.oid, 'USAGE') END)) AS p) AS e
    WHERE pg_catalog.row_security_active(t.oid) ORDER BY t.own DESC, name";

async fn guards(session: &Session, into: &RelationName) -> Result<Vec<Guard>, EngineError> {
    let doing = "looking for row-level security";
    let rows = session.query(doing, GUARDS, &[&into.to_string()]).await?;
    each(&rows, |row| {
        Ok(Guard {
            name: row.named("name")?,
            own: row.named("own")?,
            refuses: row.named("refuses")?,
            agrees: row.named("agrees")?,
        })
    })
}

/// What of the role's rights only the restore itself sees, as sentences without their end: what policies say of each
/// row, and of partitions that only some of the rows come to.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn unforeseen(
    session: &Session,
    into: &RelationName,
) -> Result<Vec<String>, EngineError> {
    let role = Identifier::new(&*session.server.role);
    let mut unseen = Vec::new();
    let guards = guards(session, into).await?;
    let unsure: Vec<&str> = guards
        .iter()
        .filter(|guard| !guard.agrees)
        .map(|guard| guard.name.as_str())
        .collect();
    if !unsure.is_empty() {
        unseen.push(format!(
            "whether the policies of {} let {role} insert all of the rows, and see them afterwards, is seen by the restore itself (row-level security; BYPASSRLS, or to be the owner, spares that)",
            unsure.join(", ")
        ));
    }
    let unread = unread(session, into).await;
    if !unread.is_empty() {
        unseen.push(format!(
            "{}; whether rows come to them is seen by the restore itself",
            may_not_read(into, &role, &unread)
        ));
    }
    Ok(unseen)
}

/// What is said of partitions that the role may not read.
pub(super) fn may_not_read(into: &RelationName, role: &Identifier, unread: &[String]) -> String {
    format!(
        "{role} may not read partitions of {into}, where rows are compared once they are there (GRANT SELECT ON {} TO {role})",
        unread.join(", ")
    )
}

/// Says of rows that are not what they were where policies of partitions may be why.
pub(super) async fn perhaps_hidden(
    error: EngineError,
    session: &Session,
    into: &RelationName,
) -> EngineError {
    let EngineError::Files { message } = &error else {
        return error;
    };
    let guards = guards(session, into).await.unwrap_or_default();
    let parts = guards.iter().filter(|guard| !guard.own && !guard.agrees);
    let parts: Vec<&str> = parts.map(|guard| guard.name.as_str()).collect();
    if parts.is_empty() {
        return error;
    }
    let role = Identifier::new(&*session.server.role);
    files(format!(
        "{message}. Policies of {} may hide rows from {role} (row-level security): restore as its owner or as a role with BYPASSRLS, or give {role} a policy there",
        parts.join(", ")
    ))
}

/// What is said where row-level security keeps rows out, or hides them.
pub(super) fn guarded(into: &RelationName, role: &Identifier) -> String {
    format!(
        "{into} has row-level security, and its policies do not let {role} insert all of the archived rows and see them afterwards; restore as its owner or as a role with BYPASSRLS, give {role} a policy (CREATE POLICY … ON {into} TO {role} USING (…) WITH CHECK (…)), or restore into a table of its own (`--into`)"
    )
}

/// Whether row-level security holds for the role on a table that is there.
pub(super) async fn is_guarded(session: &Session, into: &RelationName) -> bool {
    let sql = "SELECT coalesce(pg_catalog.row_security_active(pg_catalog.to_regclass($1)::pg_catalog.oid), false)";
    let doing = "looking for row-level security";
    let asked = session.query(doing, sql, &[&into.to_string()]).await;
    asked.is_ok_and(|rows| matches!(rows.first().map(|row| row.get(0)), Some(Ok(true))))
}

/// Partitions of the table that the role may not read, quoted.
pub(super) async fn unread(session: &Session, into: &RelationName) -> Vec<String> {
    let sql =
        "SELECT t.relid::text FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS t
        WHERE t.isleaf AND t.level > 0 AND NOT pg_catalog.has_table_privilege(t.relid, 'SELECT') ORDER BY 1";
    let doing = "looking for partitions that may not be read";
    let asked = session.query(doing, sql, &[&into.to_string()]).await;
    asked
        .and_then(|rows| each(&rows, |row| row.get(0)))
        .unwrap_or_default()
}
