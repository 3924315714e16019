//! Where archived rows are to go: what stands there, and whether they fit.

use super::super::returning::files;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{UNLOGGED, by_people};
use crate::engines::postgres::{Identifier, RelationName, Session, each, first};
use crate::plan::Manifest;

/// A partition as destination, of which table, and with which bounds.
#[derive(Clone, Debug)]
pub struct PartOf {
    /// The table, quoted and qualified.
    pub table: String,
    /// `FOR VALUES …`.
    pub bounds: String,
}

/// What stands there before rows come back.
#[derive(Debug, Default)]
pub struct Site {
    /// The table's id; none where it has to be made.
    pub oid: Option<u32>,
    /// Whether the schema has to be made.
    pub no_schema: bool,
    /// The columns to be made, with their types.
    pub columns: Vec<(String, String)>,
    /// How it is partitioned, where it is: `RANGE (at)`.
    pub(super) key: Option<String>,
    /// Where it is a partition itself: of which table.
    pub part_of: Option<PartOf>,
    /// Whether a crash of the server empties it, or a partition of it.
    pub unlogged: bool,
    /// Columns that the table computes itself.
    pub computed: Vec<String>,
    /// Columns that are of another type than the archived rows have there: name, type, and that of the rows.
    pub retyped: Vec<(String, String, String)>,
    /// Triggers that see each row before it is stored, and rules.
    pub changing: Vec<String>,
    /// Tables and their triggers, quoted, with the word that enables each again.
    pub(super) triggers: Vec<(String, String, &'static str)>,
    /// Rules, quoted, with the same.
    pub(super) rules: Vec<(String, &'static str)>,
}

pub(super) const TABLE: &str = "SELECT c.oid, c.relkind::text, CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname::text = $1 AND c.relname::text = $2";

const PART_OF: &str = "SELECT i.inhparent::pg_catalog.regclass::text, pg_catalog.pg_get_expr(c.relpartbound, c.oid)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid WHERE c.oid = pg_catalog.to_regclass($1) AND c.relispartition";

const SCHEMA: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname::text = $1)";

const COLUMNS: &str =
    "SELECT a.attname::text, a.attgenerated <> '', pg_catalog.format_type(a.atttypid, a.atttypmod),
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS wanted
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";

const TRIGGERS: &str = concat!(
    "SELECT c.oid::pg_catalog.regclass::text AS table_name, pg_catalog.quote_ident(t.tgname) AS trigger_name,
        t.tgenabled::text AS enabled, t.tgtype & 3 = 3 AS before_each_row
    FROM (SELECT $1::oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1)) AS tree (oid)
        JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid
    WHERE ",
    by_people!("t"),
    " AND t.tgtype & 4 <> 0 AND t.tgenabled <> 'D' ORDER BY table_name, trigger_name"
);

/// Constraints that the server asks by triggers, and would not ask where these are switched off.
const ASLEEP: &str = "SELECT DISTINCT pg_catalog.quote_ident(con.conname) || ' of ' || con.conrelid::pg_catalog.regclass::text
    FROM (SELECT $1::oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1)) AS tree (oid)
        JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.oid JOIN pg_catalog.pg_constraint con ON con.oid = t.tgconstraint
    WHERE t.tgisinternal AND t.tgtype & 4 <> 0 AND t.tgenabled NOT IN ('O', 'A') AND con.conrelid = t.tgrelid ORDER BY 1";

const RULES: &str = "SELECT r.rulename::text, pg_catalog.quote_ident(r.rulename), r.ev_enabled::text FROM pg_catalog.pg_rewrite r
    WHERE r.ev_class = $1 AND r.ev_type = '3' AND r.ev_enabled <> 'D' ORDER BY 1";

/// Looks at where the rows are to go, and whether they fit.
///
/// # Errors
/// When they do not.
pub async fn look(
    session: &Session,
    into: &RelationName,
    manifests: &[Manifest],
) -> Result<Site, EngineError> {
    let doing = "looking at the table";
    let mut site = Site {
        columns: union(manifests),
        ..Site::default()
    };
    let (schema, table) = (into.schema.raw(), into.relation.raw());
    if schema.starts_with("pg_") || schema == "information_schema" {
        return Err(files(format!(
            "nothing was restored: the schema {schema} is the server's own, and {into} would be lost or refused there; name a table in another schema"
        )));
    }
    let found = session.query(doing, TABLE, &[&schema, &table]).await?;
    let Some(row) = found.first() else {
        let answer = session.query(doing, SCHEMA, &[&schema]).await?;
        site.no_schema = !matches!(answer.first().map(|row| row.get(0)), Some(Ok(true)));
        for (name, pg_type) in &site.columns {
            is_type(session, name, pg_type).await?;
        }
        in_one_zone(into, manifests, &site.columns)?;
        site.retyped = retyped(manifests, &site.columns);
        return Ok(site);
    };
    let kind: String = row.get(1)?;
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(files(format!("{into} is no table")));
    }
    let oid: u32 = row.get(0)?;
    site.oid = Some(oid);
    site.key = row.get(2)?;
    site.part_of = part_of(session, into).await;
    let unlogged = session.query(doing, UNLOGGED, &[&into.to_string()]).await?;
    site.unlogged = first(&unlogged, 0)?.unwrap_or(false);
    let mut there: Vec<(String, String)> = Vec::new();
    let mut wanted: Vec<String> = Vec::new();
    for row in session.query(doing, COLUMNS, &[&oid]).await? {
        let name: String = row.get(0)?;
        if row.get(1)? {
            site.computed.push(name.clone());
        }
        if row.named("wanted")? {
            wanted.push(name.clone());
        }
        there.push((name, row.get(2)?));
    }
    in_one_zone(into, manifests, &there)?;
    let lacks = |name: &String| there.iter().all(|(one, _)| one != name);
    if let Some((name, pg_type)) = site.columns.iter().find(|(name, _)| lacks(name)) {
        return Err(files(format!(
            "{into} has no column {name}, which the archived rows have; ALTER TABLE {into} ADD COLUMN {} {pg_type}, or restore into a new table",
            Identifier::new(&**name)
        )));
    }
    let archived = |name: &String| site.columns.iter().any(|(one, _)| one == name);
    if let Some(name) = wanted.iter().find(|name| !archived(name)) {
        let quoted = Identifier::new(&**name);
        return Err(files(format!(
            "nothing was restored: column {name} of {into} has to have a value, has no default, and the archived rows have no such column; ALTER TABLE {into} ALTER COLUMN {quoted} SET DEFAULT …, or DROP NOT NULL, or restore into a new table"
        )));
    }
    let given = |(name, _): &(String, String)| !site.computed.contains(name);
    if !site.columns.iter().any(given) {
        return Err(files(format!(
            "nothing was restored: {into} computes every column itself that the archived rows have, so nothing of them could be put there; restore into a new table"
        )));
    }
    site.retyped = retyped(manifests, &there);
    site.retyped
        .retain(|(name, ..)| !site.computed.contains(name));
    let asleep = session.query(doing, ASLEEP, &[&oid]).await?;
    let asleep: Vec<String> = each(&asleep, |row| row.get(0))?;
    if !asleep.is_empty() {
        return Err(files(format!(
            "nothing was restored: triggers of these constraints are switched off, so rows would come back that break them: {}. Switch them on (ALTER TABLE {into} ENABLE TRIGGER ALL), or restore into a table of its own (`--into`)",
            asleep.join(", ")
        )));
    }
    for row in session.query(doing, TRIGGERS, &[&oid]).await? {
        let (table, name): (String, String) =
            (row.named("table_name")?, row.named("trigger_name")?);
        let enabled: String = row.named("enabled")?;
        if row.named("before_each_row")? && enabled != "R" {
            site.changing.push(format!("trigger {name} of {table}"));
        }
        site.triggers.push((table, name, again(&enabled)));
    }
    for row in session.query(doing, RULES, &[&oid]).await? {
        let name: String = row.get(0)?;
        site.changing.push(format!("rule {name} of {into}"));
        site.rules
            .push((row.get(1)?, again(&row.get::<String>(2)?)));
    }
    Ok(site)
}

/// Of which table it is a partition, if it is one.
pub(super) async fn part_of(session: &Session, into: &RelationName) -> Option<PartOf> {
    let (doing, into) = ("looking for bounds", into.to_string());
    let rows = session.query(doing, PART_OF, &[&into]).await.ok()?;
    let row = rows.first()?;
    Some(PartOf {
        table: row.get(0).ok()?,
        bounds: row.get(1).ok()?,
    })
}

/// The words that give a trigger or rule the state back that it has.
pub(super) fn again(enabled: &str) -> &'static str {
    match enabled {
        "A" => "ENABLE ALWAYS",
        "R" => "ENABLE REPLICA",
        _ => "ENABLE",
    }
}

/// All columns that any of the manifests has; of several types, the latest.
fn union(manifests: &[Manifest]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for column in manifests.iter().flat_map(|m| &m.columns) {
        match all.iter_mut().find(|(name, _)| *name == column.name) {
            Some((_, pg_type)) => pg_type.clone_from(&column.pg_type),
            None => all.push((column.name.clone(), column.pg_type.clone())),
        }
    }
    all
}

/// Columns that are of another type there than when rows were archived: name, what it is, what it was.
fn retyped(manifests: &[Manifest], there: &[(String, String)]) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for column in manifests.iter().flat_map(|m| &m.columns) {
        let is = there.iter().find(|(name, _)| *name == column.name);
        if let Some((name, is)) = is.filter(|(_, is)| *is != column.pg_type) {
            let one = (name.clone(), is.clone(), column.pg_type.clone());
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all
}

/// Whether values of this type name a moment, whatever the time zone; none where they are no times.
pub(super) fn knows_its_zone(pg_type: &str) -> Option<bool> {
    if pg_type.contains("with time zone") {
        return Some(true);
    }
    (pg_type.contains("without time zone") || pg_type == "date").then_some(false)
}

/// Refuses times of a clock on the wall where moments are wanted, and the other way round: the zone they
/// were meant in, or are to be told in, is known to people only.
fn in_one_zone(
    into: &RelationName,
    manifests: &[Manifest],
    there: &[(String, String)],
) -> Result<(), EngineError> {
    for column in manifests.iter().flat_map(|m| &m.columns) {
        let Some((_, wanted)) = there.iter().find(|(name, _)| *name == column.name) else {
            continue;
        };
        let zones = (knows_its_zone(&column.pg_type), knows_its_zone(wanted));
        // A column of days loses more than the zone, which is seen when what came back is compared.
        if let (Some(was), Some(is)) = zones
            && was != is
            && wanted != "date"
        {
            return Err(files(format!(
                "column {} of {into} is {wanted}, and was {} when rows were archived: nobody knows the time zone they are to be read in; restore them into a new table, those from before and after the change apart (`maint archive list` has their ids), and convert them there",
                column.name, column.pg_type
            )));
        }
    }
    Ok(())
}

/// Whether the server reads a text as the name of a type, and nothing else.
async fn is_type(session: &Session, column: &str, pg_type: &str) -> Result<(), EngineError> {
    let sql = "SELECT pg_catalog.to_regtype($1) IS NOT NULL";
    let answer = session.query("looking for a type", sql, &[&pg_type]).await;
    match answer {
        Ok(rows) if matches!(rows.first().map(|r| r.get(0)), Some(Ok(true))) => Ok(()),
        Err(error) if error.sqlstate().is_none() => Err(error),
        _ => Err(files(format!(
            "column {column} is of type `{pg_type}`, which this server does not know; make the type first, or the table with another"
        ))),
    }
}
