//! The columns of a table, and how each can be kept.

use std::collections::HashMap;

use super::super::retention::facts::Table;
use crate::engines::EngineError;
use crate::engines::parquet::{Column, Form, Kept, kept_as};
use crate::engines::postgres::catalog::{FOREIGN_PART, UNLOGGED, by_people, no_table};
use crate::engines::postgres::{Identifier, RelationName, Session, each, first};
use crate::values::{TableName, unreadable};

/// A column, and how it can be kept in a file.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) pg_type: String,
    /// `None` where it cannot be kept exactly.
    pub(super) kept: Option<Kept>,
    /// Whether the server computes it from the others.
    pub(super) generated: bool,
    /// Whether it is, or holds, a moment, which the server writes as text by `TimeZone`.
    pub(super) moment: bool,
}

impl Found {
    /// The column of a file.
    pub(super) fn kept(&self) -> Option<Column> {
        let Kept { form, list } = self.kept?;
        Some(Column {
            name: self.name.clone(),
            pg_type: self.pg_type.clone(),
            form,
            list,
        })
    }

    /// Whether what is read of it goes by `TimeZone`: a range of moments, or a row that has one. A moment
    /// itself comes as a number; in an array it does only on its way into files.
    pub(super) fn goes_by_zone(&self, sent: bool) -> bool {
        let column = if sent { self.sent() } else { self.kept() };
        self.moment && column.is_some_and(|column| column.form == Form::Text)
    }

    /// The column on its way to another server, which reads arrays as text.
    pub(super) fn sent(&self) -> Option<Column> {
        let mut column = self.kept()?;
        if std::mem::take(&mut column.list) {
            column.form = Form::Text;
        }
        Some(column)
    }
}

const COLUMNS: &str = "SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attgenerated <> '' AS generated,
        b.typname::text AS base, b.typtype::text AS class, b.typmod AS modifier, e.typname::text AS element, e.typtype::text AS element_class,
        (WITH RECURSIVE inside(oid) AS (SELECT a.atttypid UNION SELECT below.oid
                FROM inside i JOIN pg_catalog.pg_type t ON t.oid = i.oid CROSS JOIN LATERAL (
                    SELECT t.typbasetype UNION ALL SELECT t.typelem
                    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
                    UNION ALL SELECT m.atttypid FROM pg_catalog.pg_attribute m
                        WHERE m.attrelid = t.typrelid AND m.attnum > 0 AND NOT m.attisdropped) AS below(oid)
                WHERE below.oid <> 0)
            SELECT pg_catalog.bool_or(i.oid = 'pg_catalog.timestamptz'::pg_catalog.regtype) FROM inside i) AS moment
    FROM pg_catalog.pg_attribute a
        CROSS JOIN LATERAL (WITH RECURSIVE base(oid, below, typmod) AS (
                SELECT t.oid, t.typbasetype, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END
                FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
                UNION ALL SELECT t.oid, t.typbasetype, CASE WHEN t.typtype = 'd' AND b.typmod < 0 THEN t.typtypmod ELSE b.typmod END
                FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.below
            ) SELECT t.oid, t.typname, t.typtype, base.typmod, t.typelem
              FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE base.below = 0) AS b
        LEFT JOIN pg_catalog.pg_type e ON e.oid = b.typelem AND e.typarray = b.oid
    WHERE a.attrelid = (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname::text = $1 AND c.relname::text = $2 AND c.relkind IN ('r', 'p', 'f'))
        AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// Reads the columns of a table; none where there is no such table.
pub(super) async fn of(db: &Session, table: &TableName) -> Result<Vec<Found>, EngineError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&table.schema, &table.table];
    let rows = db.query("reading columns", COLUMNS, &params).await?;
    each(&rows, |row| {
        let (base, class): (String, String) = (row.named("base")?, row.named("class")?);
        let (element, of): (Option<String>, Option<String>) =
            (row.named("element")?, row.named("element_class")?);
        let element = element.as_deref().zip(of.as_deref());
        Ok(Found {
            name: row.named("name")?,
            pg_type: row.named("type")?,
            generated: row.named("generated")?,
            moment: row.named("moment")?,
            kept: kept_as(&base, &class, element, row.named("modifier")?),
        })
    })
}

const OBSTRUCTED: &str = concat!(
    "SELECT c.relkind::text, EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid)
            OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND ",
    by_people!("t"),
    "
                AND t.tgtype & 4 <> 0 AND t.tgtype & 66 <> 0)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname::text = $1 AND c.relname::text = $2"
);

/// Why a table cannot take rows and keep them: the end of a sentence about it. It is none, a part
/// of it is elsewhere, or a rule, or a trigger before the insert, may keep rows out of it.
pub(super) async fn obstructed(
    db: &Session,
    table: &TableName,
) -> Result<Option<String>, EngineError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&table.schema, &table.table];
    let rows = db.query("reading triggers", OBSTRUCTED, &params).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    if let Some(what) = no_table(&row.get::<String>(0)?) {
        return Ok(Some(format!("is {what}; a destination is a table")));
    }
    let name = RelationName::new(&*table.schema, &*table.table).to_string();
    let doing = "looking for foreign partitions";
    if let Some(part) = db.query(doing, FOREIGN_PART, &[&name]).await?.first() {
        let foreign = RelationName::new(part.get::<String>(0)?, part.get::<String>(1)?);
        return Ok(Some(format!(
            "has a partition that is a foreign table, {foreign}: what is written there is no part of our transaction, and not proved when the rows go; name a table without one"
        )));
    }
    let hindered: bool = row.get(1)?;
    Ok(hindered.then(|| "has rules or triggers that may keep rows out of it".to_owned()))
}

/// Whether a crash of the server would empty a table, or a partition of it.
pub(super) async fn unlogged(db: &Session, table: &TableName) -> Result<bool, EngineError> {
    let name = RelationName::new(&*table.schema, &*table.table).to_string();
    let doing = "looking how lasting the destination is";
    let rows = db.query(doing, UNLOGGED, &[&name]).await?;
    Ok(first(&rows, 0)?.unwrap_or(false))
}

const OWN: &str = "SELECT m.oid, a.attname::text FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS m (oid)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute r WHERE r.attrelid = $2 AND r.attname = a.attname
        AND r.attnum > 0 AND NOT r.attisdropped)
    ORDER BY m.oid, a.attnum";

/// Columns that only a member has: whoever names the table does not see them.
pub(super) async fn own(
    db: &Session,
    table: &Table,
) -> Result<HashMap<u32, Vec<String>>, EngineError> {
    let members: Vec<u32> = table.members.iter().map(|m| m.oid).collect();
    let mut own: HashMap<u32, Vec<String>> = HashMap::new();
    let doing = "reading columns of members";
    for row in db.query(doing, OWN, &[&members, &table.oid]).await? {
        own.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(own)
}

/// Whether one table is above the other, or both are the same: rows that
/// move there would be rows of the table still, or again.
const RELATED: &str = "WITH RECURSIVE oids AS (
        SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace),
    below (oid, of) AS (
        SELECT o.oid, o.oid FROM oids o WHERE (o.schema, o.name) IN (($1::text, $2::text), ($3::text, $4::text))
        UNION SELECT i.inhrelid, b.of FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid)
    SELECT EXISTS (SELECT FROM below b JOIN oids s ON (s.schema, s.name) = ($1::text, $2::text)
        JOIN oids d ON (d.schema, d.name) = ($3::text, $4::text)
        WHERE (b.of = s.oid AND b.oid = d.oid) OR (b.of = d.oid AND b.oid = s.oid))";

pub(super) async fn related(
    db: &Session,
    table: &TableName,
    into: &TableName,
) -> Result<bool, EngineError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&table.schema, &table.table, &into.schema, &into.table];
    let rows = db.query("reading inheritance", RELATED, &params).await?;
    Ok(first(&rows, 0)?.unwrap_or(false))
}

/// Whether the schema of a table is there.
pub(super) async fn has_schema(db: &Session, table: &TableName) -> Result<bool, EngineError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname::text = $1)";
    let rows = db.query("reading schemas", sql, &[&table.schema]).await?;
    Ok(first(&rows, 0)?.unwrap_or(false))
}

/// Since 18 NOT NULL may hold for rows from now on only (`NOT VALID`), and LIKE makes it hold for all.
const NULLS_FROM_BEFORE: &str = "SELECT DISTINCT a.attname::text FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
    WHERE k.conrelid = $1 AND k.contype = 'n' AND NOT k.convalidated ORDER BY 1";

/// The columns of a table that may be null in rows that it has, and in no new one.
pub(super) async fn with_nulls_from_before(
    db: &Session,
    table: u32,
) -> Result<Vec<Identifier>, EngineError> {
    let doing = "reading which columns may be null in rows from before";
    let rows = db.query(doing, NULLS_FROM_BEFORE, &[&table]).await?;
    each(&rows, |row| Ok(Identifier::new(row.get::<String>(0)?)))
}

const LARGE_OBJECTS: &str = concat!(
    "SELECT pg_catalog.concat('the trigger ', pg_catalog.quote_ident(t.tgname), ' of ', t.tgrelid::pg_catalog.regclass, ' removes large objects with its rows')
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = ANY ($1) AND ",
    by_people!("t"),
    r" AND t.tgenabled <> 'D' AND t.tgtype & 8 <> 0 AND (p.prosrc = 'lo_manage' OR p.prosrc ~* '\mlo_unlink\M')
    UNION ALL SELECT pg_catalog.concat('the rule ', pg_catalog.quote_ident(w.rulename), ' of ', w.ev_class::pg_catalog.regclass, ' removes large objects with its rows')
    FROM pg_catalog.pg_rewrite w WHERE w.ev_class = ANY ($1) AND w.ev_type = '4' AND w.ev_enabled <> 'D'
        AND pg_catalog.strpos(w.ev_action::pg_catalog.text,
            pg_catalog.concat(':funcid ', 'pg_catalog.lo_unlink(pg_catalog.oid)'::pg_catalog.regprocedure::pg_catalog.oid, ' ')) > 0
    UNION ALL SELECT pg_catalog.concat('the column ', pg_catalog.quote_ident(a.attname), ' is of type ', a.atttypid::pg_catalog.regtype)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
    WHERE $2::bool AND a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
        AND y.typname = 'lo' AND y.typbasetype = 'pg_catalog.oid'::pg_catalog.regtype
    ORDER BY 1 DESC LIMIT 1"
);

/// Why the contents of large objects that these relations point at would be lost when their rows are
/// archived: a trigger or a rule removes them with the rows; or, where the archive is `elsewhere` than in this
/// database, nothing here points at them any more, and `vacuumlo` removes them.
pub(super) async fn large_objects(
    db: &Session,
    relations: &[u32],
    elsewhere: bool,
) -> Result<Option<String>, EngineError> {
    let doing = "looking for large objects";
    let rows = db
        .query(doing, LARGE_OBJECTS, &[&relations, &elsewhere])
        .await?;
    let why: Option<String> = first(&rows, 0)?;
    Ok(why.map(|why| {
        format!(
            "{}: a row holds only the number of such an object, so its content would be lost; keep it in the row first (bytea, by lo_get)",
            unreadable::escaped(&why)
        )
    }))
}
