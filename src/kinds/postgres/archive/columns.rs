//! The columns of a table, and how each can be kept.

use crate::engines::EngineError;
use crate::engines::parquet::{Column, Form, Kept, kept_as};
use crate::engines::postgres::Session;
use crate::values::TableName;

/// A column, and how it can be kept in a file.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) pg_type: String,
    /// `None` where it cannot be kept exactly.
    pub(super) kept: Option<Kept>,
    /// Whether the server computes it from the others.
    pub(super) generated: bool,
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

    /// The column on its way to another server, which reads arrays as text.
    pub(super) fn sent(&self) -> Option<Column> {
        let mut column = self.kept()?;
        if std::mem::take(&mut column.list) {
            column.form = Form::Text;
        }
        Some(column)
    }
}

const COLUMNS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attgenerated <> '',
        b.typname::text, b.typtype::text, b.typmod, e.typname::text, e.typtype::text
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
    Ok(rows
        .iter()
        .map(|row| {
            let (base, class): (String, String) = (row.get(3), row.get(4));
            let (element, of): (Option<String>, Option<String>) = (row.get(6), row.get(7));
            let element = element.as_deref().zip(of.as_deref());
            Found {
                name: row.get(0),
                pg_type: row.get(1),
                generated: row.get(2),
                kept: kept_as(&base, &class, element, row.get(5)),
            }
        })
        .collect())
}

const OBSTRUCTED: &str = "SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname::text = $1 AND c.relname::text = $2 AND (c.relkind NOT IN ('r', 'p')
            OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid)
            OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
                AND t.tgtype & 4 <> 0 AND t.tgtype & 66 <> 0)))";

/// Whether a rule, or a trigger before the insert, may keep rows out of a table.
pub(super) async fn obstructed(db: &Session, table: &TableName) -> Result<bool, EngineError> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&table.schema, &table.table];
    let rows = db.query("reading triggers", OBSTRUCTED, &params).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
