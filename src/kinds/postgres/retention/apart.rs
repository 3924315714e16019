//! Rows that nobody sees, though they are there, may come back, or are on their way: what is only out of
//! sight must not count as gone.

use std::collections::{BTreeMap, HashMap};

use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::meaning::words;
use crate::engines::postgres::reach::below;
use crate::engines::postgres::{RelationName, Session};
use crate::kinds::postgres::leaving::one_line;
use crate::kinds::postgres::partitions::RETIRED;
use crate::values::unreadable;

/// What a table lacks.
struct Part {
    /// A partition, quoted and qualified; or a subscription, quoted.
    name: String,
    from: Of,
}

/// Which table lacks it.
enum Of {
    /// The one it is being detached from.
    Detaching(u32),
    /// The one of this owner that the mark names.
    Marked(u32, String),
    /// The one that a subscription has not copied to the end.
    Copied(u32),
}

/// Partitions whose detachment was begun and not finished; those that were detached to be dropped
/// after a while, with their marks; and subscriptions that are still copying a table.
const PARTS: &str = "SELECT i.inhrelid::pg_catalog.regclass::text AS name, i.inhparent AS parent, NULL::oid AS schema_oid, NULL::text AS mark
        FROM pg_catalog.pg_inherits i WHERE i.inhdetachpending
    UNION ALL SELECT pg_catalog.quote_ident(s.subname), r.srrelid, NULL, ''
        FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid WHERE r.srsubstate <> 'r'
    UNION ALL SELECT c.oid::pg_catalog.regclass::text, NULL, c.relowner, d.description
        FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0 AND pg_catalog.starts_with(d.description, $1::text)
    ORDER BY schema_oid NULLS FIRST, name";

/// Of these relations, those that show what others hold.
const SHOWING: &str = "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1::oid[]) AND c.relkind IN ('v', 'm')";

/// Tables that are read by whoever asks what the words say, or asks a relation of these ids: also through
/// views and functions; and what is below them. A name that is there by accident adds a table, which only
/// counts where something of it is apart.
const REACHED: &str = "WITH RECURSIVE met (class, oid) AS (
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, c.oid FROM pg_catalog.pg_class c
            WHERE c.oid = ANY ($2::oid[]) OR ($3::bool AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm')
                AND pg_catalog.lower(c.relname::text) = ANY ($1::text[]))
        UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid FROM pg_catalog.pg_proc p
            WHERE p.oid >= 16384 AND pg_catalog.lower(p.proname::text) = ANY ($1::text[])
        UNION SELECT d.class, d.oid FROM met m CROSS JOIN LATERAL (
            SELECT m.class, i.inhrelid FROM pg_catalog.pg_inherits i
                WHERE m.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.inhparent = m.oid
            UNION ALL {below}
        ) AS d (class, oid) WHERE d.oid >= 16384
    )
    SELECT c.oid, c.relowner AS owner, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'm' AS materialized FROM met m
        JOIN pg_catalog.pg_class c ON m.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = m.oid AND c.relkind IN ('r', 'p', 'm')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    ORDER BY schema, name";

/// The question for the tables that are read, with words `$1`, relations `$2`, and whether the words may
/// name relations `$3`.
pub(super) fn reached_sql() -> String {
    REACHED.replace("{below}", &below("m", "'r', 'p', 'v', 'm'"))
}

/// Why rows cannot all be seen by whom rules look at: what their conditions say, which is the same for
/// all of them, and the parents of orphans, by id.
#[derive(Default)]
pub(super) struct Apart {
    pub(super) by_texts: Option<String>,
    pub(super) by_parent: HashMap<u32, String>,
}

impl Apart {
    /// Looks for them.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub(super) async fn read(
        db: &Session,
        rule: &Rule,
        parents: &BTreeMap<u32, RelationName>,
    ) -> Result<Apart, EngineError> {
        let mut found = Apart::default();
        if parents.is_empty() && !rule.looks_elsewhere() {
            return Ok(found);
        }
        let doing = "looking for rows that are on their way out, or in";
        let mut parts = Vec::new();
        for row in db.query(doing, PARTS, &[&RETIRED]).await? {
            let table: Option<u32> = row.named("parent")?;
            let mark: Option<String> = row.named("mark")?;
            let from = match (table, mark) {
                (Some(table), None) => Of::Detaching(table),
                (Some(table), Some(_)) => Of::Copied(table),
                (None, mark) => Of::Marked(
                    row.named::<Option<u32>>("schema_oid")?.unwrap_or(0),
                    mark.unwrap_or_default(),
                ),
            };
            parts.push(Part {
                name: unreadable::escaped(&row.named::<String>("name")?).into_owned(),
                from,
            });
        }
        let oids: Vec<u32> = parents.keys().copied().collect();
        let mut showing = Vec::new();
        for row in db
            .query("looking which parents are views", SHOWING, &[&oids])
            .await?
        {
            showing.push(row.get::<u32>(0)?);
        }
        let said: Vec<String> = rule.texts().flat_map(words).collect();
        if !parts.is_empty() && rule.looks_elsewhere() && !rule.looks_at_its_rows_only() {
            // The name of a table before a column's reads no table.
            let reads = said.iter().any(|word| word == "select" || word == "table");
            found.by_texts = reached(db, &parts, &said, reads, None).await?;
        }
        for parent in oids {
            if parts.is_empty() && !showing.contains(&parent) {
                continue;
            }
            if let Some(why) = reached(db, &parts, &[], false, Some(parent)).await? {
                found.by_parent.insert(parent, why);
            }
        }
        Ok(found)
    }
}

/// Why not all rows are seen of what the words say, which may name relations, or of the parent of orphans.
async fn reached(
    db: &Session,
    parts: &[Part],
    said: &[String],
    names_relations: bool,
    parent: Option<u32>,
) -> Result<Option<String>, EngineError> {
    let doing = "looking which tables a condition reads";
    let relations: Vec<u32> = parent.into_iter().collect();
    let sql = reached_sql();
    for row in db
        .query(doing, &sql, &[&said, &relations, &names_relations])
        .await?
    {
        let (oid, owner): (u32, u32) = (row.named("oid")?, row.named("owner")?);
        let of = row.relation("schema", "name")?;
        // A condition may mean to read what was; whoever has no parent there may have one by now.
        if parent.is_some() && row.named::<bool>("materialized")? {
            return Ok(Some(format!(
                "{} is a materialized view: it has the rows of its last refresh, and what points at those that came since must not count as orphaned: name the table that the rows are in",
                unreadable::escaped(&of.to_string())
            )));
        }
        let begins = format!("{RETIRED}{} since ", one_line(&of));
        let part = parts.iter().find(|part| match &part.from {
            Of::Detaching(table) | Of::Copied(table) => *table == oid,
            Of::Marked(by, mark) => *by == owner && mark.starts_with(&begins),
        });
        if let Some(Part { name, from }) = part {
            let of = unreadable::escaped(&of.to_string()).into_owned();
            return Ok(Some(match from {
                Of::Copied(_) => format!(
                    "the subscription {name} has not copied all of {of} yet: rows that are still to come must not count as absent. The rule is followed once it has: SELECT srsubstate FROM pg_subscription_rel WHERE srrelid = '{of}'::regclass"
                ),
                Of::Detaching(_) => format!(
                    "the detachment of {name} from {of} was begun and not finished: its rows are there and nobody sees them, and what is only hidden must not count as gone: ALTER TABLE {of} DETACH PARTITION {name} FINALIZE, and attach it again if its rows are wanted"
                ),
                Of::Marked(..) => format!(
                    "{name} was detached from {of} and is kept for a while before it is dropped: rows that point at its rows, or are kept because of them, would have lost them if it were attached again. The rule is followed once it is dropped, or attached again"
                ),
            }));
        }
    }
    Ok(None)
}
