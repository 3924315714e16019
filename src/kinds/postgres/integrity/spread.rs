//! Tables of which a part is on another server: what is here is checked here, and each table over there by itself, so
//! that one that cannot be reached keeps nothing else from being checked.

use std::collections::HashMap;

use super::facts::{HIDDEN, Relation};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::STILL_THERE;
use crate::engines::postgres::{RelationName, Session};
use crate::plan::{Param, Query};

/// What a table is made of, where some of it is on other servers.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    /// Tables with rows on this server, itself included where it has any.
    pub(super) here: Vec<RelationName>,
    /// Foreign tables.
    pub(super) away: Vec<RelationName>,
    /// Whether the role may read each of `here` by its own name: whoever reads the whole needs no more than a right on
    /// that.
    pub(super) readable: bool,
}

const SPREAD: &str = "WITH RECURSIVE above (oid) AS (
        SELECT i.inhparent FROM pg_catalog.pg_inherits i
            JOIN pg_catalog.pg_class f ON f.oid = i.inhrelid AND f.relkind = 'f'
        UNION SELECT i.inhparent FROM above a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.oid),
    tree (top, oid) AS (
        SELECT a.oid, a.oid FROM above a
        UNION SELECT t.top, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
    SELECT t.top, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'f' AS elsewhere, ({hidden}) IS NULL AS readable
    FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'f') ORDER BY top, schema, name";

/// The tables below which there are foreign ones.
pub(super) async fn read(db: &Session) -> Result<HashMap<u32, Spread>, EngineError> {
    let sql = SPREAD.replace("{hidden}", &HIDDEN.replace("{c}", "c"));
    let mut all: HashMap<u32, Spread> = HashMap::new();
    for row in db.query("reading foreign tables", &sql, &[]).await? {
        let one = all.entry(row.named("top")?).or_insert_with(|| Spread {
            readable: true,
            ..Spread::default()
        });
        let name = row.relation("schema", "name")?;
        if row.named("elsewhere")? {
            one.away.push(name);
        } else {
            one.here.push(name);
            one.readable &= row.named::<bool>("readable")?;
        }
    }
    Ok(all)
}

/// Whether the table, and all of these, still go by their names.
pub(super) fn all_there(table: &Relation, parts: &[RelationName]) -> Query {
    let names: Vec<String> = parts.iter().map(ToString::to_string).collect();
    Query::new(
        format!(
            "SELECT ({STILL_THERE}) AND NOT EXISTS (SELECT FROM pg_catalog.jsonb_array_elements_text($4::text::pg_catalog.jsonb) p (name)
                WHERE pg_catalog.to_regclass(p.name) IS NULL)"
        ),
        [
            Param::Oid(table.oid),
            Param::Text(table.name.schema.raw().to_owned()),
            Param::Text(table.name.relation.raw().to_owned()),
            Param::Text(serde_json::json!(names).to_string()),
        ],
    )
}
