//! What a role lacks to take rows from where they are, and to bring them where they are to go.

use std::collections::BTreeSet;

use super::facts::Member;
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::plan::{Finding, Severity};
use crate::values::TableName;

/// One finding for all tables whose rows the role may not read and delete, or cannot reach; none
/// where there are no such tables.
pub(in crate::kinds::postgres) fn forbidden(role: &str, members: &[&Member]) -> Option<Finding> {
    let first = members.first()?;
    let role = Identifier::new(role);
    let names = |members: &mut dyn Iterator<Item = &&Member>| {
        let names: Vec<String> = members.map(|m| m.name.to_string()).collect();
        names.join(", ")
    };
    let (all, rows) = (
        names(&mut members.iter()),
        names(&mut members.iter().filter(|m| m.lacks.rows)),
    );
    let closed = members.iter().filter(|m| m.lacks.schema);
    let closed: BTreeSet<String> = closed.map(|m| m.name.schema.to_string()).collect();
    let closed: Vec<String> = closed.into_iter().collect();
    let (mut why, mut grants) = (Vec::new(), Vec::new());
    if !closed.is_empty() {
        let closed = closed.join(", ");
        why.push(format!("may not use the schema {closed}"));
        grants.push(format!("GRANT USAGE ON SCHEMA {closed} TO {role}"));
    }
    if !rows.is_empty() {
        why.push(format!("may not read and delete rows of {rows}"));
        grants.push(format!("GRANT SELECT, DELETE ON {rows} TO {role}"));
    }
    Some(Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: first.name.to_string(),
        message: format!("role {role} {}; {all} was left alone", why.join(" and ")),
        suggestion: Some(grants.join("; ")),
    })
}

/// What a role needs at a table that rows come into, or that is to be made: the first column says what
/// of it is missing. A lock that keeps others from hanging code on it is asked for where its owner is
/// not trusted (`$4`); from 17 on MAINTAIN does for that.
const INTO: &str = "SELECT n.oid IS NOT NULL AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
        c.oid IS NULL AND NOT CASE WHEN n.oid IS NULL
            THEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
            ELSE pg_catalog.has_schema_privilege(n.oid, 'CREATE') END,
        n.oid IS NULL,
        c.oid IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
            AND NOT a.attisdropped AND a.attname = ANY ($3::text[]) AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT')),
        c.oid IS NOT NULL AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT'),
        c.oid IS NOT NULL AND $4::bool AND NOT pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE{maintain}'),
        c.oid IS NOT NULL AND pg_catalog.row_security_active(c.oid) AS filtered
    FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname::text = $1
        LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = $2";

/// What the role lacks at the table that rows are to come into, with the columns that they have.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(in crate::kinds::postgres) async fn into(
    db: &Session,
    table: &TableName,
    columns: &[&str],
    locked: bool,
) -> Result<Option<Finding>, EngineError> {
    let newer = db.server.major() >= 17;
    let sql = INTO.replace("{maintain}", if newer { ", MAINTAIN" } else { "" });
    let doing = "looking which rights the destination needs";
    let rows = db
        .query(
            doing,
            &sql,
            &[&table.schema, &table.table, &columns, &locked],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let lacks = |n: usize| row.get::<Option<bool>>(n).map(|lacks| lacks == Some(true));
    let name = RelationName::new(&*table.schema, &*table.table);
    let role = Identifier::new(&db.server.role);
    let (mut rights, mut grants) = (Vec::new(), Vec::new());
    for (n, right) in [(3, "INSERT"), (4, "SELECT")] {
        if lacks(n)? {
            rights.push(right);
        }
    }
    if lacks(5)? {
        rights.push(if newer { "MAINTAIN" } else { "UPDATE" });
    }
    if lacks(0)? {
        grants.push(format!("USAGE ON SCHEMA {}", name.schema));
    }
    if lacks(1)? {
        grants.push(match lacks(2)? {
            true => format!(
                "CREATE ON DATABASE {}",
                Identifier::new(&*db.server.database)
            ),
            false => format!("CREATE ON SCHEMA {}", name.schema),
        });
    }
    if !rights.is_empty() {
        grants.push(format!("{} ON {name}", rights.join(", ")));
    }
    let filtered: bool = row.named("filtered")?;
    if grants.is_empty() && !filtered {
        return Ok(None);
    }
    let lock = match rights.last() {
        Some(&("MAINTAIN" | "UPDATE")) => {
            "; its owner is not trusted, so it is locked while rows come in (`trust_owners` makes that needless)"
        }
        _ => "",
    };
    let mut statements: Vec<String> = grants
        .iter()
        .map(|grant| format!("GRANT {grant} TO {role}"))
        .collect();
    let mut why = Vec::new();
    if !grants.is_empty() {
        why.push(format!("lacks {}{lock}", grants.join(" and ")));
    }
    if filtered {
        why.push("is subject to row-level security there, so that nobody could prove that all of them have come: for a role with BYPASSRLS, or the owner of the table without FORCE ROW LEVEL SECURITY, it is not in force".to_owned());
        statements.push(format!("ALTER ROLE {role} BYPASSRLS"));
    }
    Ok(Some(Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "rows cannot come into {name}: role {role} {}; nothing was archived",
            why.join(", and ")
        ),
        suggestion: Some(statements.join("; ")),
    }))
}
