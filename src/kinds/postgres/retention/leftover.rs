//! What an earlier run took out of its table in order to drop it, and is still there.

use std::collections::HashMap;

use super::facts::Table;
use super::mark::{self, Astray, comment, read_mark, unknown};
use super::outside::Outside;
use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session};
use crate::kinds::postgres::leaving::one_line;
use crate::plan::{Finding, Moment, Plan, Severity};
use crate::values::{TableName, unreadable};

/// A table that was detached in order to be dropped, and is still there.
#[derive(Clone, Debug)]
pub(in crate::kinds::postgres) struct Leftover {
    pub(in crate::kinds::postgres) oid: u32,
    pub(super) name: RelationName,
    /// The table it was a partition of.
    pub(super) root: String,
    pub(super) bytes: i64,
    owner: u32,
    /// What its mark calls it, where that is not its name any more.
    pub(in crate::kinds::postgres) former: Option<String>,
    /// The comment that was there before the mark.
    before: Option<String>,
    /// The table that it is part of by now, as somebody wanted it.
    pub(in crate::kinds::postgres) part_of: Option<String>,
    /// The whole comment.
    comment: String,
    /// Whether a table of its owner is called what the mark says.
    named: bool,
}

impl Leftover {
    /// Whether it can have been a partition of this table. Anybody can write
    /// a comment: who does not belong to the owner of the table was none.
    pub(in crate::kinds::postgres) fn is_of(&self, table: &Table) -> bool {
        self.named && self.root == one_line(&table.name) && self.owner == table.owner
    }

    /// Whether the history knows that maint was about to mark it.
    pub(super) fn is_known(&self, at: &Moment) -> bool {
        mark::is_known_as(self.oid, self.former.as_deref(), &self.name, at)
    }
}

const LEFTOVERS: &str = "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, d.description AS comment, c.relpages::int8 * 8192 AS bytes, c.relowner AS owner,
        (SELECT pg_catalog.min(i.inhparent::pg_catalog.regclass::text) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS parent,
        EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.relowner = c.relowner AND r.relkind = 'p'
            AND pg_catalog.starts_with(d.description || E'\n', $1::text || CASE WHEN r.oid::pg_catalog.regclass::text ~ E'[\\n\\r]'
                THEN pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(r.oid::pg_catalog.regclass::text, E'\\\\', E'\\\\\\\\'), E'\\n', E'\\\\n'), E'\\r', E'\\\\r')
                ELSE r.oid::pg_catalog.regclass::text END || E'\n')) AS named
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0 AND c.relkind = 'r'
        AND pg_catalog.starts_with(d.description, $1::text)
        AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
        -- Rows that are hidden would not be judged.
        AND NOT pg_catalog.row_security_active(c.oid)";

/// Tables with this mark.
pub(in crate::kinds::postgres) async fn leftovers(
    db: &Session,
    mark: &str,
) -> Result<Vec<Leftover>, EngineError> {
    let doing = "reading which partitions wait to be dropped";
    let rows = db.query(doing, LEFTOVERS, &[&mark]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let name = row.relation("schema", "name")?;
        let comment: String = row.named("comment")?;
        let Some((root, itself, before)) = read_mark(mark, &comment) else {
            continue;
        };
        let former = itself.filter(|itself| *itself != one_line(&name));
        found.push(Leftover {
            oid: row.named("oid")?,
            root: root.to_owned(),
            former: former.map(str::to_owned),
            name,
            bytes: row.named("bytes")?,
            owner: row.named("owner")?,
            before: before
                .filter(|text| !unreadable::is_in(text))
                .map(str::to_owned),
            part_of: row
                .named::<Option<String>>("parent")?
                .map(|name| unreadable::escaped(&name).into_owned()),
            comment: comment.clone(),
            named: row.named("named")?,
        });
    }
    Ok(found)
}

/// Follows a table that is called something else than when this was detached from it.
pub(in crate::kinds::postgres) fn follow(
    leftover: &Leftover,
    mark: &str,
    tables: &HashMap<TableName, Table>,
    at: &Moment,
    plan: &mut Plan,
) -> bool {
    let astray = Astray {
        oid: leftover.oid,
        name: &leftover.name,
        former: leftover.former.as_deref(),
        comment: &leftover.comment,
        mark,
        root: &leftover.root,
        named: leftover.named,
        kind: "TABLE",
    };
    let tables = tables.values().map(|table| (table.oid, &table.name));
    leftover.part_of.is_none() && astray.follow(tables, at, plan)
}

/// Tells of what was detached from one of the tables and has another name, or is in another schema,
/// by now: somebody has something else in mind with it. Whether that is so.
pub(in crate::kinds::postgres) fn renamed(
    leftover: &Leftover,
    tables: &HashMap<TableName, Table>,
    at: &Moment,
    plan: &mut Plan,
) -> bool {
    let Some(former) = &leftover.former else {
        return false;
    };
    let Some(table) = tables.values().find(|table| leftover.is_of(table)) else {
        return true;
    };
    if !leftover.is_known(at) {
        unknown(&leftover.name, &leftover.root, plan);
        return true;
    }
    let bounds = mark::bounds_as(leftover.oid, Some(former), &leftover.name, at);
    let outside = Outside {
        name: &leftover.name,
        root: &table.name.to_string(),
        bounds: bounds.as_deref(),
        kind: "TABLE",
        beside_default: table.has_default,
    };
    plan.undone(outside.kept(&mark::has_another_name(former)));
    true
}

/// Takes the mark from what was detached from one of the tables and is part of another one by
/// now. What is part of its table again is among that one's members.
pub(in crate::kinds::postgres) fn disown(
    leftover: &Leftover,
    tables: &HashMap<TableName, Table>,
    at: &Moment,
    plan: &mut Plan,
) {
    let Some(of) = &leftover.part_of else { return };
    let mut members = tables.values().flat_map(|table| &table.members);
    let ours = tables.values().any(|table| leftover.is_of(table));
    if ours && leftover.is_known(at) && !members.any(|m| m.oid == leftover.oid) {
        let restored = comment(&leftover.name, leftover.before.as_deref());
        plan.steps
            .push(mark::disown(leftover.oid, &leftover.name, of, restored));
    }
}

/// Whether a table that an earlier run detached can be dropped; otherwise it
/// is told what is in the way.
pub(in crate::kinds::postgres) fn is_free(
    leftover: &Leftover,
    tables: &HashMap<TableName, Table>,
    dependents: &[String],
    at: &Moment,
    plan: &mut Plan,
) -> bool {
    let ours = tables.values().any(|table| leftover.is_of(table));
    if dependents.is_empty() || !ours || !leftover.is_known(at) {
        return true;
    }
    plan.undone(depended_on(&leftover.name, &leftover.root, dependents));
    false
}

/// Tells what keeps from being dropped what was detached already.
pub(in crate::kinds::postgres) fn depended_on(
    name: &RelationName,
    root: &str,
    dependents: &[String],
) -> Finding {
    Finding {
        code: "partitions.depended_on".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "{name} was detached from {root} and is to be dropped, and cannot be: {} depends on it; drop that, or attach it again",
            dependents.join(", ")
        ),
        suggestion: None,
    }
}
