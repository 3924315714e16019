//! Partitions whose rows nobody sees, though they are there or may come back: what is only out of
//! sight must not count as gone.

use std::collections::{BTreeMap, HashMap};

use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::meaning::words;
use crate::engines::postgres::{RelationName, Session};
use crate::kinds::postgres::common::one_line;
use crate::kinds::postgres::partitions::RETIRED;
use crate::values::unreadable;

/// A partition that is apart from its table.
struct Part {
    /// Quoted and qualified.
    name: String,
    /// The table it is being detached from; else the mark says which it was, of this owner.
    from: Result<u32, (u32, String)>,
}

/// Partitions whose detachment was begun and not finished; and those that were detached to be dropped
/// after a while, with their marks.
const PARTS: &str = "SELECT i.inhrelid::pg_catalog.regclass::text, i.inhparent, NULL::oid, NULL::text
        FROM pg_catalog.pg_inherits i WHERE i.inhdetachpending
    UNION ALL SELECT c.oid::pg_catalog.regclass::text, NULL, c.relowner, d.description
        FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0 AND pg_catalog.starts_with(d.description, $1::text)
    ORDER BY 3 NULLS FIRST, 1";

/// Tables that are read by whoever asks what the words say, or asks a relation of these ids: also through
/// views and functions, by the server's own record where there is one, and by names in bodies that are
/// text; and what is below them. A name that is there by accident adds a table, which only counts where
/// something of it is apart.
const REACHED: &str = "WITH RECURSIVE met (class, oid) AS (
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, c.oid FROM pg_catalog.pg_class c
            WHERE c.oid = ANY ($2::oid[]) OR ($3::bool AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm')
                AND pg_catalog.lower(c.relname::text) = ANY ($1::text[]))
        UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid FROM pg_catalog.pg_proc p
            WHERE p.oid >= 16384 AND pg_catalog.lower(p.proname::text) = ANY ($1::text[])
        UNION SELECT d.class, d.oid FROM met m CROSS JOIN LATERAL (
            SELECT m.class, i.inhrelid FROM pg_catalog.pg_inherits i
                WHERE m.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.inhparent = m.oid
            UNION ALL SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_rewrite w
                JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
                WHERE m.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.ev_class = m.oid
            UNION ALL SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
                WHERE m.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.classid = m.class AND d.objid = m.oid
            UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, c.oid FROM pg_catalog.pg_proc p
                JOIN pg_catalog.pg_class c ON c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm')
                    AND pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower(c.relname::text)) > 0
                WHERE m.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = m.oid
            UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, q.oid FROM pg_catalog.pg_proc p
                JOIN pg_catalog.pg_proc q ON q.oid >= 16384 AND pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower(q.proname::text)) > 0
                WHERE m.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = m.oid
        ) AS d (class, oid) WHERE d.oid >= 16384
    )
    SELECT c.oid, c.relowner, n.nspname::text, c.relname::text FROM met m
        JOIN pg_catalog.pg_class c ON m.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = m.oid AND c.relkind IN ('r', 'p')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    ORDER BY 3, 4";

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
        let doing = "looking for partitions that are on their way out";
        let mut parts = Vec::new();
        for row in db.query(doing, PARTS, &[&RETIRED]).await? {
            let mark = (row.get::<Option<u32>>(2)?, row.get::<Option<String>>(3)?);
            let from = match (row.get::<Option<u32>>(1)?, mark) {
                (Some(parent), _) => Ok(parent),
                (None, (owner, mark)) => Err((owner.unwrap_or(0), mark.unwrap_or_default())),
            };
            parts.push(Part {
                name: unreadable::escaped(&row.get::<String>(0)?).into_owned(),
                from,
            });
        }
        if parts.is_empty() {
            return Ok(found);
        }
        let said: Vec<String> = rule.texts().flat_map(words).collect();
        if rule.looks_elsewhere() && !rule.looks_at_its_rows_only() {
            // The name of a table before a column's reads no table.
            let reads = said.iter().any(|word| word == "select" || word == "table");
            found.by_texts = reached(db, &parts, &said, reads, &[]).await?;
        }
        for parent in parents.keys() {
            if let Some(why) = reached(db, &parts, &[], false, &[*parent]).await? {
                found.by_parent.insert(*parent, why);
            }
        }
        Ok(found)
    }
}

/// Why not all rows are seen of what the words say, which may name relations, or of these relations.
async fn reached(
    db: &Session,
    parts: &[Part],
    said: &[String],
    names_relations: bool,
    relations: &[u32],
) -> Result<Option<String>, EngineError> {
    let doing = "looking which tables a condition reads";
    for row in db
        .query(doing, REACHED, &[&said, &relations, &names_relations])
        .await?
    {
        let (oid, owner): (u32, u32) = (row.get(0)?, row.get(1)?);
        let of = RelationName::new(row.get::<String>(2)?, row.get::<String>(3)?);
        let begins = format!("{RETIRED}{} since ", one_line(&of));
        let part = parts.iter().find(|part| match &part.from {
            Ok(parent) => *parent == oid,
            Err((by, mark)) => *by == owner && mark.starts_with(&begins),
        });
        if let Some(Part { name, from }) = part {
            let of = unreadable::escaped(&of.to_string()).into_owned();
            return Ok(Some(match from {
                Ok(_) => format!(
                    "the detachment of {name} from {of} was begun and not finished: its rows are there and nobody sees them, and what is only hidden must not count as gone: ALTER TABLE {of} DETACH PARTITION {name} FINALIZE, and attach it again if its rows are wanted"
                ),
                Err(_) => format!(
                    "{name} was detached from {of} and is kept for a while before it is dropped: rows that point at its rows, or are kept because of them, would have lost them if it were attached again. The rule is followed once it is dropped, or attached again"
                ),
            }));
        }
    }
    Ok(None)
}
