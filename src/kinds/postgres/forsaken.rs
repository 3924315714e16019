//! What runs have taken out of its table to be dropped or archived, and no task goes on with any more: its rows are in no
//! table, and no run tells of it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::leaving::one_line;
use super::retention::mark;
use super::retention::outside::Outside;
use super::{archive, cleanup, partitions};
use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session};
use crate::plan::{Finding, Kind, Moment};

/// What the comments begin with of what each kind takes out of its table.
pub(super) const MARKS: [(&str, &str); 3] = [
    (cleanup::Cleanup::NAME, mark::MARK),
    (partitions::Partitions::NAME, partitions::RETIRED),
    (archive::Archive::NAME, archive::MARK),
];

const MARKED: &str =
    "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, d.description AS comment,
        c.relkind = 'f' AS is_foreign
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0
        AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
        AND pg_catalog.starts_with(d.description, $1::text)
    ORDER BY 2, 3";

const TABLES: &str = "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name,
        EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partdefid <> 0) AS has_default
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'p'";

/// A table that others may be attached to.
struct Root {
    name: RelationName,
    has_default: bool,
}

/// What no task goes on with. `known` is what the history remembers for each kind: what that does not know maint has not
/// marked, whatever a comment says. `goes_on` says whether some task of that kind does so with what was taken out of the
/// table of this schema and name.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn forsaken(
    db: &Session,
    mut known: HashMap<&str, HashMap<String, Value>>,
    goes_on: impl Fn(&str, &str, &str) -> bool,
) -> Result<Vec<Finding>, EngineError> {
    let doing = "looking for what was taken out of its table";
    let mut found = Vec::new();
    let mut roots: Option<HashMap<u32, Root>> = None;
    for (kind, begins) in MARKS {
        let marked = db.query(doing, MARKED, &[&begins]).await?;
        if marked.is_empty() {
            continue;
        }
        let roots = match &mut roots {
            Some(roots) => roots,
            none => none.insert(tables(db).await?),
        };
        let at = moment(known.remove(kind).unwrap_or_default());
        for row in &marked {
            let (oid, name) = (row.named("oid")?, row.relation("schema", "name")?);
            let comment: String = row.named("comment")?;
            let Some((of, itself, _)) = mark::read_mark(begins, &comment) else {
                continue;
            };
            let former = itself.filter(|itself| *itself != one_line(&name));
            if !mark::is_known_as(oid, former, &name, &at) {
                continue;
            }
            let (of, since) = match of.rsplit_once(" since ") {
                Some((of, since)) if since.parse::<DateTime<Utc>>().is_ok() => (of, Some(since)),
                _ => (of, None),
            };
            // Whatever it is called today.
            let root = mark::was_part_of(oid, &at).and_then(|of| roots.get(&of));
            let root = root.or_else(|| roots.values().find(|root| one_line(&root.name) == of));
            let is_named =
                |root: &Root| goes_on(kind, root.name.schema.raw(), root.name.relation.raw());
            if root.is_some_and(is_named) {
                continue;
            }
            let root_name = root.map_or_else(|| of.to_owned(), |root| root.name.to_string());
            let bounds = mark::bounds_as(oid, former, &name, &at).filter(|_| root.is_some());
            let outside = Outside {
                name: &name,
                root: &root_name,
                bounds: bounds.as_deref(),
                kind: match row.named("is_foreign")? {
                    true => "FOREIGN TABLE",
                    false => "TABLE",
                },
                beside_default: root.is_some_and(|root| root.has_default),
            };
            let when = since.map_or_else(String::new, |since| format!(" (that was {since})"));
            let gone = match root {
                Some(_) => "",
                None => ", and there is no such table any more",
            };
            found.push(outside.kept(&format!(
                "no task of kind {kind} names {root_name} any more{gone}, so no run goes on with it or tells of it{when}"
            )));
        }
    }
    Ok(found)
}

async fn tables(db: &Session) -> Result<HashMap<u32, Root>, EngineError> {
    let doing = "listing partitioned tables";
    let rows = db.query(doing, TABLES, &[]).await?;
    let tables = rows.iter().map(|row| {
        let root = Root {
            name: row.relation("schema", "name")?,
            has_default: row.named("has_default")?,
        };
        Ok((row.named("oid")?, root))
    });
    tables.collect()
}

/// What the history knows, and nothing else.
fn moment(memories: HashMap<String, Value>) -> Moment {
    Moment {
        now: DateTime::<Utc>::UNIX_EPOCH,
        round: 1,
        baselines: HashMap::new(),
        memories,
        former: Default::default(),
        zone: chrono_tz::Tz::UTC,
    }
}
