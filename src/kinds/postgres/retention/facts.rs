//! What is known of the tables that rules name, and of their partitions.

use std::collections::{HashMap, HashSet};

use crate::engines::EngineError;
use crate::engines::postgres::catalog::size_of;
use crate::engines::postgres::{RelationName, Session, each};
use crate::kinds::postgres::leaving::DROPS_WATCHED;
use crate::values::{TableName, unreadable};

/// A table that a rule names.
#[derive(Clone, Debug)]
pub(in crate::kinds::postgres) struct Table {
    pub(in crate::kinds::postgres) oid: u32,
    pub(in crate::kinds::postgres) name: RelationName,
    /// `r`, `p`, `v`, … as the catalog has it.
    pub(super) kind: String,
    pub(in crate::kinds::postgres) owned: bool,
    /// Who owns it.
    pub(super) owner: u32,
    /// Whether event triggers see tables be dropped, and may refuse it.
    pub(super) watched: bool,
    /// Whether some may read only a part of it: by row-level security, or some of its columns.
    pub(in crate::kinds::postgres) confined: bool,
    /// Whether row-level security may hide rows from the role.
    pub(in crate::kinds::postgres) filtered: bool,
    pub(super) columns: HashMap<String, Column>,
    /// The tables that hold its rows: its partitions, or itself and what inherits from it.
    pub(in crate::kinds::postgres) members: Vec<Member>,
    /// The only column of its range partition key.
    pub(super) partitioned_by: Option<String>,
    /// Whether it has a partition for all other rows.
    pub(in crate::kinds::postgres) has_default: bool,
}

impl Table {
    /// The table and all that hold its rows.
    pub(in crate::kinds::postgres) fn relations(&self) -> Vec<u32> {
        let members = self.members.iter().map(|m| m.oid);
        std::iter::once(self.oid).chain(members).collect()
    }
}

const OIDS: &str = "SELECT want.place, c.oid
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY
            AS want (schema, relation, place)
        JOIN pg_catalog.pg_namespace n ON n.nspname::text = want.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = want.relation";

/// The parents that rules for orphans name, by name; only those that are there.
pub(in crate::kinds::postgres) async fn parents(
    db: &Session,
    rules: impl Iterator<Item = &super::rule::Rule>,
) -> Result<HashMap<TableName, u32>, EngineError> {
    let parents = rules.filter_map(|rule| rule.orphaned.as_ref());
    let names: Vec<&TableName> = parents.map(|o| &*o.parent).collect();
    oids(db, &names).await
}

/// The ids of relations, by name; only of those that are there.
pub(in crate::kinds::postgres) async fn oids(
    db: &Session,
    names: &[&TableName],
) -> Result<HashMap<TableName, u32>, EngineError> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let schemas: Vec<&str> = names.iter().map(|n| n.schema.as_str()).collect();
    let tables: Vec<&str> = names.iter().map(|n| n.table.as_str()).collect();
    let doing = "looking for other tables";
    let rows = db.query(doing, OIDS, &[&schemas, &tables]).await?;
    let mut found = HashMap::new();
    for row in &rows {
        let place: i64 = row.get(0)?;
        let place = usize::try_from(place - 1).ok();
        if let Some(name) = place.and_then(|place| names.get(place)) {
            found.insert((*name).clone(), row.get(1)?);
        }
    }
    Ok(found)
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// By which the server knows it, whatever it is called.
    pub(super) number: i16,
    /// Name of its type below all domains: `timestamptz`.
    pub(super) base_type: String,
    /// Its type as a person writes it.
    pub(super) shown_type: String,
}

/// A table that holds rows.
#[derive(Clone, Debug)]
pub(in crate::kinds::postgres) struct Member {
    pub(in crate::kinds::postgres) oid: u32,
    pub(in crate::kinds::postgres) name: RelationName,
    pub(in crate::kinds::postgres) kind: String,
    /// Whether the role may read and delete its rows, and reach it by its name.
    pub(in crate::kinds::postgres) may: bool,
    /// Of these, what it lacks.
    pub(super) lacks: Lacks,
    /// Whether its rows can be read by ranges of blocks.
    pub(in crate::kinds::postgres) heap: bool,
    pub(in crate::kinds::postgres) bytes: i64,
    /// -1 where nobody counted.
    pub(in crate::kinds::postgres) rows: f64,
    pub(super) pages: f64,
    /// Bounds of a direct partition of the table, as the server writes them.
    pub(in crate::kinds::postgres) bounds: Option<String>,
    /// Whether somebody began to detach it, or what it is below, and did not finish: its rows are
    /// not seen through the table any more.
    pub(in crate::kinds::postgres) pending: bool,
    /// Which that is, and what it is a partition of.
    pub(super) half_out: Option<(RelationName, RelationName)>,
    /// The comment on it.
    pub(super) comment: Option<String>,
    /// Whether it was a partition of the table, and has been detached.
    pub(in crate::kinds::postgres) detached: bool,
    pub(super) indexes: Vec<Index>,
    pub(super) statistics: HashMap<String, Statistics>,
}

impl Member {
    /// Whether it has a name that no statement can hold: it is left alone, and told, when the plan is done.
    pub(super) fn is_unnamed(&self) -> bool {
        unreadable::is_in(self.name.schema.raw()) || unreadable::is_in(self.name.relation.raw())
    }
}

/// What a role lacks to work on the rows of a table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lacks {
    /// USAGE of its schema.
    pub(super) schema: bool,
    /// SELECT or DELETE.
    pub(super) rows: bool,
}

/// A B-tree index that an ordered walk may use.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) primary: bool,
    /// The leading columns, up to the first that the order cannot rely on:
    /// an expression, another collation, another direction.
    pub(super) columns: Vec<IndexColumn>,
}

/// A column of an index.
#[derive(Clone, Debug)]
pub(super) struct IndexColumn {
    pub(super) name: String,
    /// Its type, as a cast needs it.
    pub(super) type_name: String,
    pub(super) not_null: bool,
}

/// What ANALYZE found in a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statistics {
    /// How well the order on disk follows the values, from -1 to 1.
    pub(super) correlation: f64,
}

const TABLES: &str = "SELECT w.n::int8 AS place, c.oid, c.relkind::text AS kind,
        pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned,
        pg_catalog.row_security_active(c.oid) AS filtered,
        (SELECT a.attname::text FROM pg_catalog.pg_partitioned_table p
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
            WHERE p.partrelid = c.oid AND p.partstrat = 'r' AND p.partnatts = 1
                -- Bounds say how old rows are only where they are in the order of their type.
                AND EXISTS (SELECT FROM pg_catalog.pg_opclass o WHERE o.oid = p.partclass[0] AND o.opcdefault)) AS partitioned_by,
        EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partdefid <> 0) AS has_default,
        c.relowner AS owner,
        c.relrowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL) AS confined,
        {watched} AS watched
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS w(schema, name, n)
        JOIN pg_catalog.pg_namespace n ON n.nspname::text = w.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = w.name
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";

const COLUMNS: &str = "SELECT a.attrelid AS table_oid, a.attname::text AS name,
        (WITH RECURSIVE base(oid, below) AS (
            SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
            UNION ALL SELECT t.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.below
        ) SELECT t.typname::text FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE b.below = 0) AS base_type,
        pg_catalog.format_type(a.atttypid, a.atttypmod) AS shown_type, a.attnum AS number
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped";

// Bounds have no columns: written down without their table, they wait for nobody who holds it.
const MEMBERS: &str = "WITH RECURSIVE member(root, oid, parent, half, half_of) AS (
        SELECT c.oid, c.oid, NULL::oid, NULL::oid, NULL::oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)
        UNION SELECT m.root, i.inhrelid, i.inhparent,
            CASE WHEN m.half IS NULL AND i.inhdetachpending THEN i.inhrelid ELSE m.half END,
            CASE WHEN m.half IS NULL AND i.inhdetachpending THEN i.inhparent ELSE m.half_of END
            FROM member m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid
    ), named AS NOT MATERIALIZED (SELECT c.oid, n.nspname::text, c.relname::text
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace)
    SELECT m.root, c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
        coalesce(am.amname = 'heap', false) AS heap, {size} AS bytes, c.reltuples::float8 AS estimated_rows, c.relpages::float8 AS pages,
        CASE WHEN m.parent = m.root AND c.relispartition THEN pg_catalog.pg_get_expr(c.relpartbound, 0) END AS bounds,
        pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'DELETE') AS may_rows,
        pg_catalog.obj_description(c.oid, 'pg_class') AS comment, h.nspname AS half_schema, h.relname AS half_name, o.nspname AS half_of_schema, o.relname AS half_of_name,
        pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS may_schema
    FROM member m JOIN pg_catalog.pg_class c ON c.oid = m.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN named h ON h.oid = m.half LEFT JOIN named o ON o.oid = m.half_of
        LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
    WHERE c.relkind <> 'p' ORDER BY n.nspname, c.relname";

/// One row for each column of each usable index, in order. A NOT NULL that has
/// not been validated, which there is from 18 on, does not keep out the nulls
/// that were there before it.
const INDEXES: &str = "SELECT i.indrelid AS table_oid, x.relname::text AS name, i.indisprimary AS is_primary, a.attname::text AS column_name,
        pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name, coalesce(a.attnotnull, false) AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint u
            WHERE u.conrelid = a.attrelid AND u.contype = 'n' AND u.conkey = ARRAY[a.attnum] AND NOT u.convalidated) AS not_null,
        coalesce(o.opcdefault AND i.indcollation[k.n] = a.attcollation, false) AS as_compared, i.indoption[k.n]::int4 AS direction
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_am am ON am.oid = x.relam AND am.amname = 'btree'
        CROSS JOIN LATERAL pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(n)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n] AND a.attnum > 0
        LEFT JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[k.n]
    WHERE i.indrelid = ANY ($1) AND i.indisvalid AND i.indisready AND i.indpred IS NULL
    ORDER BY i.indrelid, i.indexrelid, k.n";

const STATISTICS: &str = "SELECT c.oid, s.attname::text, s.correlation::float8
    FROM pg_catalog.pg_stats s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
    WHERE c.oid = ANY ($1) AND NOT s.inherited AND s.correlation IS NOT NULL";

/// Reads what is known of these tables; those that do not exist are missing.
pub(in crate::kinds::postgres) async fn tables(
    db: &Session,
    names: &[TableName],
) -> Result<HashMap<TableName, Table>, EngineError> {
    let schemas: Vec<&str> = names.iter().map(|n| n.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|n| n.table.as_str()).collect();
    let doing = "reading the tables of the rules";
    let mut found: HashMap<TableName, Table> = HashMap::new();
    let mut roots: HashMap<u32, TableName> = HashMap::new();
    let sql = TABLES.replace("{watched}", DROPS_WATCHED);
    for row in db.query(doing, &sql, &[&schemas, &relations]).await? {
        let n = usize::try_from(row.named::<i64>("place")? - 1).unwrap_or(usize::MAX);
        let Some(name) = names.get(n) else { continue };
        let oid: u32 = row.named("oid")?;
        roots.insert(oid, name.clone());
        found.insert(
            name.clone(),
            Table {
                oid,
                name: RelationName::new(&*name.schema, &*name.table),
                kind: row.named("kind")?,
                owned: row.named("owned")?,
                filtered: row.named("filtered")?,
                columns: HashMap::new(),
                members: Vec::new(),
                partitioned_by: row.named("partitioned_by")?,
                has_default: row.named("has_default")?,
                owner: row.named("owner")?,
                confined: row.named("confined")?,
                watched: row.named("watched")?,
            },
        );
    }
    let oids: Vec<u32> = roots.keys().copied().collect();
    for row in db.query("reading columns", COLUMNS, &[&oids]).await? {
        if let Some(table) = roots
            .get(&row.named("table_oid")?)
            .and_then(|name| found.get_mut(name))
        {
            table.columns.insert(
                row.named("name")?,
                Column {
                    base_type: row
                        .named::<Option<String>>("base_type")?
                        .unwrap_or_default(),
                    shown_type: row.named("shown_type")?,
                    number: row.named("number")?,
                },
            );
        }
    }
    let members = read_members(db, &oids).await?;
    for (root, member) in members {
        if let Some(table) = roots.get(&root).and_then(|name| found.get_mut(name)) {
            table.members.push(member);
        }
    }
    Ok(found)
}

/// Reads what is known of these tables and their partitions, each with the table it is below.
pub(in crate::kinds::postgres) async fn read_members(
    db: &Session,
    roots: &[u32],
) -> Result<Vec<(u32, Member)>, EngineError> {
    let sql = MEMBERS.replace("{size}", &size_of("c"));
    let rows = db.query("reading partitions", &sql, &[&roots]).await?;
    let mut members: Vec<(u32, Member)> = each(&rows, |row| {
        let half: [Option<String>; 4] = [
            row.named("half_schema")?,
            row.named("half_name")?,
            row.named("half_of_schema")?,
            row.named("half_of_name")?,
        ];
        let lacks = Lacks {
            schema: !row.named::<bool>("may_schema")?,
            rows: !row.named::<bool>("may_rows")?,
        };
        let half_out = match half {
            [Some(schema), Some(name), Some(of_schema), Some(of)] => Some((
                RelationName::new(schema, name),
                RelationName::new(of_schema, of),
            )),
            _ => None,
        };
        let member = Member {
            oid: row.named("oid")?,
            name: row.relation("schema", "name")?,
            kind: row.named("kind")?,
            heap: row.named("heap")?,
            bytes: row.named("bytes")?,
            rows: row.named("estimated_rows")?,
            pages: row.named("pages")?,
            bounds: row.named("bounds")?,
            detached: false,
            pending: half_out.is_some(),
            half_out,
            may: !(lacks.schema || lacks.rows),
            lacks,
            comment: row.named("comment")?,
            indexes: Vec::new(),
            statistics: HashMap::new(),
        };
        Ok((row.named("root")?, member))
    })?;
    // Who inherits by two ways holds its rows once.
    let mut met = HashSet::new();
    members.retain(|(root, member)| met.insert((*root, member.oid)));
    let oids: Vec<u32> = members.iter().map(|(_, m)| m.oid).collect();
    let mut indexes = read_indexes(db, &oids).await?;
    let doing = "reading statistics";
    let mut statistics: HashMap<u32, HashMap<String, Statistics>> = HashMap::new();
    for row in db.query(doing, STATISTICS, &[&oids]).await? {
        statistics.entry(row.get(0)?).or_default().insert(
            row.get(1)?,
            Statistics {
                correlation: row.get(2)?,
            },
        );
    }
    for (_, member) in &mut members {
        member.indexes = indexes.remove(&member.oid).unwrap_or_default();
        member.statistics = statistics.remove(&member.oid).unwrap_or_default();
    }
    Ok(members)
}

async fn read_indexes(
    db: &Session,
    tables: &[u32],
) -> Result<HashMap<u32, Vec<Index>>, EngineError> {
    let mut all: HashMap<u32, Vec<Index>> = HashMap::new();
    // Which index the last row was of, and whether its order still holds.
    let mut last: Option<(u32, String)> = None;
    let mut direction: Option<i32> = None;
    for row in db.query("reading indexes", INDEXES, &[&tables]).await? {
        let (table, name): (u32, String) = (row.named("table_oid")?, row.named("name")?);
        let indexes = all.entry(table).or_default();
        let same = (table, name.clone());
        if last.as_ref() != Some(&same) {
            indexes.push(Index {
                name,
                primary: row.named("is_primary")?,
                columns: Vec::new(),
            });
            direction = Some(row.named("direction")?);
            last = Some(same);
        }
        let column: Option<String> = row.named("column_name")?;
        let as_compared: bool = row.named("as_compared")?;
        match (column, indexes.last_mut()) {
            (Some(column), Some(index))
                if as_compared && direction == Some(row.named::<i32>("direction")?) =>
            {
                index.columns.push(IndexColumn {
                    name: column,
                    type_name: row.named("type_name")?,
                    not_null: row.named("not_null")?,
                });
            }
            _ => direction = None,
        }
    }
    Ok(all)
}
