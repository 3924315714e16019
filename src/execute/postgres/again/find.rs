//! Looks for archived rows in their table: by its key, or by all that they hold.

use std::collections::HashMap;

use bytes::Bytes;

use super::super::came::Fields;
use super::super::lot::ExportError;
use crate::engines::EngineError;
use crate::engines::parquet::{Checksum, Column, copy_line};
use crate::engines::postgres::{Fault, Identifier, Session, first as first_of};

/// Pieces of this size are handed to the server.
const PIECE: usize = 64 << 10;

/// A table without a key is read as a whole, up to this size.
pub(super) const MOST_READ_BYTES: i64 = 1 << 30;

/// The columns, and of which type a key may be compared: the server's own, or an enum. Of a domain
/// that is the type below it, whose values nobody's expression looks at.
const COLUMNS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN b.oid < 16384::pg_catalog.oid OR b.typtype = 'e' THEN pg_catalog.format_type(b.oid, -1) END
    FROM pg_catalog.pg_attribute a
        CROSS JOIN LATERAL (WITH RECURSIVE base (oid, below) AS (
                SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
                UNION ALL SELECT t.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.below
            ) SELECT t.oid, t.typtype FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE base.below = 0) AS b
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped";

/// The columns of each key of a table, the primary one first.
const KEYS: &str = "SELECT ARRAY(SELECT a.attname::text
            FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k (n)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n]
            WHERE a.attnotnull ORDER BY k.n), i.indnkeyatts::int4
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid";

/// What rows are looked for, and how.
pub(super) struct Look<'a> {
    pub(super) session: &'a Session,
    /// Quoted and qualified.
    pub(super) table: String,
    pub(super) columns: &'a [Column],
    /// Places of the key among the columns, and as which type each is compared; none where the
    /// table is read as a whole.
    pub(super) key: Option<Vec<(usize, String)>>,
    /// Whether the table has all columns as they were.
    pub(super) same: bool,
}

impl<'a> Look<'a> {
    pub(super) async fn new(
        session: &'a Session,
        oid: u32,
        table: String,
        columns: &'a [Column],
    ) -> Result<Look<'a>, EngineError> {
        let doing = "looking for a key of archived rows";
        let mut types: HashMap<String, (String, Option<String>)> = HashMap::new();
        for row in session.query(doing, COLUMNS, &[&oid]).await? {
            types.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
        }
        let is_same =
            |column: &Column| types.get(&column.name).map(|(own, _)| own) == Some(&column.pg_type);
        let mut key = None;
        for row in session.query(doing, KEYS, &[&oid]).await? {
            let (names, wanted): (Vec<String>, i32) = (row.get(0)?, row.get(1)?);
            let of = |name: &String| {
                let place = columns.iter().position(|c| c.name == *name && is_same(c))?;
                Some((place, types.get(name)?.1.clone()?))
            };
            let places: Option<Vec<(usize, String)>> = names.iter().map(of).collect();
            let whole = i32::try_from(names.len()) == Ok(wanted) && wanted > 0;
            key = places.filter(|_| whole);
            if key.is_some() {
                break;
            }
        }
        Ok(Look {
            session,
            table,
            same: columns.iter().all(is_same),
            columns,
            key,
        })
    }

    /// Whether there is any row in the table.
    pub(super) async fn has_rows(&self) -> Result<bool, EngineError> {
        let doing = "looking whether a table has rows";
        let sql = format!("SELECT EXISTS (SELECT FROM {})", self.table);
        let rows = self.session.query(doing, &sql, &[]).await?;
        Ok(first_of(&rows, 0)?.unwrap_or(true))
    }

    /// Finds rows of the archive in the table.
    pub(super) async fn find(&self, rows: Vec<Fields>) -> Result<Found, ExportError> {
        let mut wanted: HashMap<Checksum, i64> = HashMap::new();
        for row in &rows {
            let fields = row.iter().map(Option::as_deref);
            *wanted.entry(self.sum(fields)).or_default() += 1;
        }
        let name = |n: &usize| Identifier::new(&*self.columns[*n].name).to_string();
        let columns: Vec<usize> = match self.same {
            true => (0..self.columns.len()).collect(),
            // Whatever has become of the others: the key tells whether they are there.
            false => self.key.iter().flatten().map(|(n, _)| *n).collect(),
        };
        let what: Vec<String> = columns
            .iter()
            .map(|n| self.columns[*n].selected(&format!("t.{}", name(n))))
            .collect();
        let mut sql = format!("SELECT {} FROM {} AS t", what.join(", "), self.table);
        if let Some(key) = &self.key {
            self.stage(key, &rows).await?;
            let equal: Vec<String> = key
                .iter()
                .map(|(n, _)| format!("t.{} OPERATOR(pg_catalog.=) s.{}", name(n), name(n)))
                .collect();
            sql += &format!(" JOIN pg_temp.maint_again AS s ON {}", equal.join(" AND "));
        }
        let mut found = Found::default();
        let keyed = self.key.is_some();
        let doing = "looking whether archived rows are in their table";
        self.session
            .stream(doing, &sql, &[], |fields| {
                let there = self.same.then(|| self.sum(fields.iter().copied()));
                match there.and_then(|sum| wanted.get_mut(&sum)) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        found.equal += 1;
                    }
                    _ if keyed => found.other += 1,
                    _ => {}
                }
                true
            })
            .await?;
        Ok(found)
    }

    pub(super) fn sum<'f>(&self, fields: impl Iterator<Item = Option<&'f [u8]>>) -> Checksum {
        let mut sum = Checksum::default();
        sum.add(self.columns, fields);
        sum
    }

    /// Puts the keys where the server can compare them: by their own types and collations.
    async fn stage(&self, key: &[(usize, String)], rows: &[Fields]) -> Result<(), ExportError> {
        let columns: Vec<Column> = key.iter().map(|(n, _)| self.columns[*n].clone()).collect();
        let names: Vec<String> = key
            .iter()
            .map(|(n, base)| {
                let name = Identifier::new(&*self.columns[*n].name);
                format!("{name}::{base} AS {name}")
            })
            .collect();
        let doing = "making room for keys of archived rows";
        for sql in [
            "DROP TABLE IF EXISTS pg_temp.maint_again".to_owned(),
            format!(
                "CREATE TEMPORARY TABLE maint_again ON COMMIT DROP AS SELECT {} FROM {} WHERE false",
                names.join(", "),
                self.table
            ),
            // A batch is small beside its table: each row is sought by the key's index.
            "SET LOCAL enable_hashjoin = off".to_owned(),
            "SET LOCAL enable_mergejoin = off".to_owned(),
        ] {
            let made = self.session.execute(doing, &sql).await;
            made.map_err(|error| match Fault::of(&error) {
                Fault::Forbidden => ExportError::Proof(format!(
                    "whether archived rows are in {} again cannot be seen: the role of maint may make no temporary table; GRANT TEMPORARY ON DATABASE {} TO {}",
                    self.table,
                    Identifier::new(&*self.session.server.database),
                    Identifier::new(&*self.session.server.role)
                )),
                _ => error.into(),
            })?;
        }
        let mut failed = None;
        let mut left = rows.iter();
        let next = || {
            let mut piece = String::new();
            while piece.len() < PIECE {
                let Some(row) = left.next() else { break };
                let row: Vec<Option<Vec<u8>>> = key
                    .iter()
                    .map(|(n, _)| row.get(*n).cloned().flatten())
                    .collect();
                if let Err(error) = copy_line(&columns, &row, &mut piece) {
                    failed = Some(error);
                    return None;
                }
            }
            (!piece.is_empty()).then(|| Bytes::from(piece))
        };
        let copy = "COPY pg_temp.maint_again FROM STDIN";
        self.session.copy_in(doing, copy, next).await?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// What was found of rows.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// As they were archived.
    pub(super) equal: i64,
    /// With the same key, and other values.
    pub(super) other: i64,
}
