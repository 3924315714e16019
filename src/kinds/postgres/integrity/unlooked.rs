//! Constraints that no check of this kind looks at: they are named, so that nobody takes them for kept.

use super::super::common::Selection;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, enforced};
use crate::engines::postgres::{Identifier, RelationName, Session, each};
use crate::plan::{Finding, Severity};

/// A constraint whose rows are not looked at, as declared on the topmost table.
#[derive(Clone, Debug)]
pub(super) struct Unlooked {
    table: RelationName,
    name: Identifier,
    /// `p`, `u` or `x` for one over several rows, `c` or `f` for one that nobody is held to.
    kind: String,
}

const UNLOOKED: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name, k.conname::text AS constraint_name, k.contype::text AS kind
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.conparentid = 0 AND k.coninhcount = 0 AND c.relkind IN ('r', 'p') AND {not_system}
        AND (k.contype = 'x' OR k.contype IN ('p', 'u') AND {periods} OR k.contype IN ('c', 'f') AND NOT {enforced})
    ORDER BY schema, name, constraint_name";

pub(super) async fn read(db: &Session) -> Result<Vec<Unlooked>, EngineError> {
    let periods = match db.server.major() >= 18 {
        true => "k.conperiod",
        false => "false",
    };
    let sql = UNLOOKED
        .replace("{periods}", periods)
        .replace("{enforced}", &enforced(&db.server, "k"))
        .replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let rows = db.query("reading constraints", &sql, &[]).await?;
    each(&rows, |row| {
        Ok(Unlooked {
            table: row.relation("schema", "name")?,
            name: Identifier::new(row.named::<String>("constraint_name")?),
            kind: row.named("kind")?,
        })
    })
}

/// What is to be said of them.
pub(super) fn told(all: &[Unlooked], selection: &Selection<'_>) -> Vec<Finding> {
    let ours = all.iter().filter(|one| selection.covers(&one.table));
    ours.map(|Unlooked { table, name, kind }| {
        let why = match kind.as_str() {
            "c" => "it is NOT ENFORCED, so that the server lets in rows which break it, and whether there are any was not looked at".to_owned(),
            "f" => format!(
                "it is NOT ENFORCED, so that the server lets in rows which refer to nothing, and whether there are any was not looked at; ALTER TABLE {table} ALTER CONSTRAINT {name} ENFORCED has the server look at all of them"
            ),
            "x" => "whether rows are there in spite of this exclusion constraint was not looked at".to_owned(),
            _ => "whether rows overlap in spite of this key WITHOUT OVERLAPS was not looked at".to_owned(),
        };
        Finding {
            code: "constraint.not_looked_at".to_owned(),
            severity: Severity::Info,
            object: format!("{table}.{name}"),
            message: format!("{name} of {table}: {why}. One of `queries` can ask for such rows"),
            suggestion: None,
        }
    })
    .collect()
}
