//! Tables of one name in many schemas, as of tenants that have one each.

use std::collections::{BTreeSet, HashMap};

use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::{Finding, Severity};
use crate::values::{NamedTable, SchemaPattern};

/// The schema of maint's own history: `*` does not mean it.
const OWN: &str = "maint";

/// Where tables have these names. What is the server's, and what is temporary, is nobody's tenant.
const THERE: &str = "SELECT n.nspname::text AS schema, c.relname::text AS table
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname::text = ANY ($1::text[]) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        AND NOT pg_catalog.starts_with(n.nspname::text, 'pg_') AND n.nspname <> 'information_schema'
    ORDER BY 1, 2";

/// The schemas that have a table of each of these names, with one question however many they are.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn where_there(
    db: &Session,
    tables: &BTreeSet<&str>,
) -> Result<HashMap<String, Vec<String>>, EngineError> {
    let mut there: HashMap<String, Vec<String>> = HashMap::new();
    if tables.is_empty() {
        return Ok(there);
    }
    let tables: Vec<&str> = tables.iter().copied().collect();
    let doing = "looking in which schemas tables of these names are";
    for row in db.query(doing, THERE, &[&tables]).await? {
        let schemas = there.entry(row.named("table")?).or_default();
        schemas.push(row.named("schema")?);
    }
    Ok(there)
}

/// Whether `schemas` means a schema.
pub(super) fn is_meant(patterns: &[SchemaPattern], schema: &str) -> bool {
    let by_name = || patterns.iter().any(|pattern| pattern.to_string() == OWN);
    SchemaPattern::choose(patterns, schema) && (schema != OWN || by_name())
}

/// Whether a table is the one that is named: in the schema that is said, or where schemas are chosen, in each of those.
pub(super) fn is_named(
    named: &NamedTable,
    patterns: &[SchemaPattern],
    (schema, table): (&str, &str),
) -> bool {
    named.table == table
        && match patterns {
            [] => named.schema == schema,
            _ => is_meant(patterns, schema),
        }
}

/// That no schema that is meant has such a table; none where no schema is meant, which is told
/// by itself.
pub(super) fn nowhere(
    patterns: &[SchemaPattern],
    schemas: &[String],
    table: &str,
) -> Option<Finding> {
    schemas.iter().find(|schema| is_meant(patterns, schema))?;
    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    Some(Finding {
        code: "include.nothing".to_owned(),
        severity: Severity::Warning,
        object: table.to_owned(),
        message: format!(
            "no schema that `schemas` means ({}) has a table {table}: nothing is done for it; correct the spelling (upper and lower case count), or take it out",
            patterns.join(", ")
        ),
        suggestion: None,
    })
}
