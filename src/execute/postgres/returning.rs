//! Rows on their way back into a table. They wait beside it as text, are
//! stored from there, and are compared with what is in the table once all of
//! its triggers have run: what is called back is back.

mod refused;

pub(super) use refused::lost_labels;

use bytes::Bytes;

use crate::engines::EngineError;
use crate::engines::parquet::Column;
use crate::engines::postgres::{Identifier, RelationName, Session};

/// Where rows wait, where they have come to, and what they add up to.
const TABLES: [&str; 2] = [
    "CREATE TEMPORARY TABLE maint_places (part pg_catalog.int4, leaf pg_catalog.oid, place pg_catalog.tid) ON COMMIT DROP",
    "CREATE TEMPORARY TABLE maint_sums (part pg_catalog.int4, given pg_catalog.bool, rows pg_catalog.int8, one pg_catalog.numeric, two pg_catalog.numeric) ON COMMIT DROP",
];

const SUMS: &str = "pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(r.whole, 0)::pg_catalog.numeric),
    pg_catalog.sum(pg_catalog.hashtextextended(r.whole, 1)::pg_catalog.numeric)";

/// Of each column: its type there, by its name in the catalog, since as people
/// write it `character` is one character long; the same as it is shown; and the
/// type that it was archived with, where the server itself gets from the one
/// to the other. Then whatever the table rounds is seen on the way back. Where it does
/// not, nothing but the text tells: `00123` and 123, a time without a zone and one with it.
const WAYS: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, t.typname) AS stored, pg_catalog.format_type(a.atttypid, a.atttypmod) AS shown,
        CASE WHEN x.oid = a.atttypid OR EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.castsource = a.atttypid
                AND k.casttarget = x.oid AND k.castmethod <> 'i' AND k.oid < 16384::pg_catalog.oid)
            -- With its lengths: `0` and `0.00` are the same number, and not the same text.
            THEN pg_catalog.format('%I.%I', xn.nspname, x.typname) || CASE WHEN x.typname::text !~ 'interval'
                THEN coalesce(pg_catalog.substring(w.type, '\\([0-9]+(?:,-?[0-9]+)?\\)'), '') ELSE '' END END AS compared,
        t.typtype = 'e' AS labels, b.oid >= 16384::pg_catalog.oid AS own
    FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) WITH ORDINALITY AS w (name, type, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::pg_catalog.oid AND a.attname::text = w.name AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        -- What casts are made for: the type below all domains, and of an array its elements.
        CROSS JOIN LATERAL (WITH RECURSIVE below(oid, next) AS (
                SELECT t.oid, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
                UNION ALL SELECT u.oid, CASE WHEN u.typtype = 'd' THEN u.typbasetype ELSE u.typelem END
                FROM below JOIN pg_catalog.pg_type u ON u.oid = below.next
            ) SELECT pg_catalog.max(below.oid) AS oid FROM below WHERE below.next = 0) AS b
        LEFT JOIN pg_catalog.pg_type x ON x.oid = pg_catalog.to_regtype(w.type)::pg_catalog.oid
        LEFT JOIN pg_catalog.pg_namespace xn ON xn.oid = x.typnamespace
    ORDER BY w.place";

const COMPARED: &str = "SELECT s.part, coalesce(pg_catalog.sum(s.rows) FILTER (WHERE s.given), 0)::pg_catalog.int8 AS given,
        coalesce(pg_catalog.sum(s.rows) FILTER (WHERE NOT s.given), 0)::pg_catalog.int8 AS there,
        pg_catalog.sum(s.one) FILTER (WHERE s.given) IS NOT DISTINCT FROM pg_catalog.sum(s.one) FILTER (WHERE NOT s.given)
            AND pg_catalog.sum(s.two) FILTER (WHERE s.given) IS NOT DISTINCT FROM pg_catalog.sum(s.two) FILTER (WHERE NOT s.given) AS same
    FROM pg_temp.maint_sums s GROUP BY s.part ORDER BY s.part";

/// Rows that come back into one table, in the transaction that is open.
pub(super) struct Returning<'a> {
    session: &'a Session,
    into: &'a RelationName,
    oid: u32,
    /// Columns in the order in which they were met; of the last, rows may wait.
    parts: Vec<Vec<Way>>,
}

/// How one column comes back.
#[derive(Clone, Debug)]
struct Way {
    /// As it is.
    raw: String,
    /// Quoted.
    name: String,
    /// Its type in the archive.
    archived: String,
    /// Its type there, for a cast.
    stored: String,
    /// The same, as people write it.
    shown: String,
    /// The type in which both sides are compared; none where their texts are.
    compared: Option<String>,
    labels: bool,
    /// Whether a cast to its type there could be somebody's own. Then the type's own
    /// input function reads the text: JSON is turned into rows by nothing else.
    own: bool,
}

impl Way {
    /// The waiting value as one of this type, where it is that of the column or the server's own.
    fn read(&self, to: &str) -> String {
        match self.own && to == self.stored {
            true => format!("r.{}", self.name),
            false => format!("s.{}::{to}", self.name),
        }
    }

    /// The rows that wait, `s`, with what of these columns the types themselves have read, `r`.
    fn waiting(ways: &[&Way]) -> String {
        let own: Vec<&&Way> = ways.iter().filter(|way| way.own).collect();
        let waiting = "pg_temp.maint_back AS s".to_owned();
        if own.is_empty() {
            return waiting;
        }
        // Functions take a hundred arguments.
        let objects: Vec<String> = own
            .chunks(AT_ONCE)
            .map(|ways| {
                let pairs: Vec<String> = ways
                    .iter()
                    .map(|way| format!("{}, s.{}", literal(&way.raw), way.name))
                    .collect();
                format!("pg_catalog.jsonb_build_object({})", pairs.join(", "))
            })
            .collect();
        let typed: Vec<String> = own
            .iter()
            .map(|way| format!("{} {}", way.name, way.stored))
            .collect();
        format!(
            "{waiting} CROSS JOIN LATERAL pg_catalog.jsonb_to_record({}) AS r ({})",
            objects.join(" OPERATOR(pg_catalog.||) "),
            typed.join(", ")
        )
    }
}

/// So many columns are put into one JSON object.
const AT_ONCE: usize = 40;

/// A name as text of SQL.
fn literal(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

impl<'a> Returning<'a> {
    pub(super) async fn open(
        session: &'a Session,
        into: &'a RelationName,
        oid: u32,
    ) -> Result<Returning<'a>, EngineError> {
        for sql in TABLES {
            session.execute("making room for rows", sql).await?;
        }
        Ok(Returning {
            session,
            into,
            oid,
            parts: Vec::new(),
        })
    }

    /// Makes room for rows of these columns.
    pub(super) async fn begin(&mut self, columns: &[Column]) -> Result<(), EngineError> {
        let ways = self.ways(columns).await?;
        let same = |before: &Vec<Way>| {
            let of = |way: &Way| (way.name.clone(), way.archived.clone());
            before.iter().map(of).eq(ways.iter().map(of))
        };
        let doing = "making room for rows";
        if self.parts.last().is_some_and(same) {
            let empty = "TRUNCATE pg_temp.maint_back";
            return self.session.execute(doing, empty).await.map(drop);
        }
        if !self.parts.is_empty() {
            let away = "DROP TABLE pg_temp.maint_back";
            self.session.execute(doing, away).await?;
        }
        let names: Vec<String> = ways
            .iter()
            .map(|way| format!("{} pg_catalog.text", way.name))
            .collect();
        let sql = format!(
            "CREATE TEMPORARY TABLE maint_back ({}) ON COMMIT DROP",
            names.join(", ")
        );
        self.session.execute(doing, &sql).await?;
        self.parts.push(ways);
        Ok(())
    }

    async fn ways(&self, columns: &[Column]) -> Result<Vec<Way>, EngineError> {
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let types: Vec<&str> = columns.iter().map(|c| c.pg_type.as_str()).collect();
        let doing = "looking how the columns are stored";
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&self.oid, &names, &types];
        let rows = self.session.query(doing, WAYS, &params).await?;
        let mut ways = Vec::new();
        for (column, row) in columns.iter().zip(&rows) {
            ways.push(Way {
                raw: column.name.clone(),
                name: Identifier::new(&*column.name).to_string(),
                archived: column.pg_type.clone(),
                stored: row.named("stored")?,
                shown: row.named("shown")?,
                compared: row.named("compared")?,
                labels: row.named("labels")?,
                own: row.named("own")?,
            });
        }
        if ways.len() != columns.len() {
            let into = self.into;
            return Err(files(format!("the columns of {into} have changed")));
        }
        Ok(ways)
    }

    /// Has rows wait that come as lines of COPY; how many came.
    pub(super) async fn copy(
        &self,
        next: impl FnMut() -> Option<Bytes> + Send,
    ) -> Result<u64, EngineError> {
        let sql = "COPY pg_temp.maint_back FROM STDIN";
        self.session.copy_in("restoring rows", sql, next).await
    }

    /// Stores the rows that wait; `from` is where they come from.
    pub(super) async fn store(&self, from: &str) -> Result<(), EngineError> {
        let (Some(ways), session) = (self.parts.last(), self.session) else {
            return Ok(());
        };
        let part = self.parts.len();
        let names: Vec<&str> = ways.iter().map(|way| way.name.as_str()).collect();
        let values: Vec<String> = ways.iter().map(|way| way.read(&way.stored)).collect();
        let waiting = Way::waiting(&ways.iter().collect::<Vec<_>>());
        let sql = format!(
            "WITH stored AS (INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {waiting} RETURNING tableoid AS leaf, ctid AS place)
            INSERT INTO pg_temp.maint_places SELECT {part}, leaf, place FROM stored",
            self.into,
            names.join(", "),
            values.join(", ")
        );
        let doing = "restoring rows";
        session.execute(doing, "SAVEPOINT store").await?;
        if let Err(error) = session.execute_with(doing, &sql, &[]).await {
            return Err(self.refused(error, ways, from).await);
        }
        session.execute(doing, "RELEASE SAVEPOINT store").await?;
        let compared = |way: &Way| match &way.compared {
            Some(to) => way.read(to),
            None => format!("s.{}", way.name),
        };
        let values: Vec<String> = ways.iter().map(compared).collect();
        let sql = format!(
            "INSERT INTO pg_temp.maint_sums SELECT {part}, true, {SUMS}
            FROM (SELECT ROW({})::pg_catalog.text COLLATE pg_catalog.\"C\" AS whole FROM {waiting}) AS r",
            values.join(", ")
        );
        let adding = "adding up what came";
        session.execute_with(adding, &sql, &[]).await?;
        Ok(())
    }

    /// Compares what has come with what is there.
    ///
    /// # Errors
    /// Where it is not the same.
    pub(super) async fn prove(&self) -> Result<(), EngineError> {
        let session = self.session;
        let doing = "comparing what is there";
        let places = "SELECT DISTINCT p.part, p.leaf, p.leaf::pg_catalog.regclass::text FROM pg_temp.maint_places p ORDER BY 1, 2";
        for row in session.query(doing, places, &[]).await? {
            let (part, leaf, table): (i32, u32, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let ways = usize::try_from(part - 1)
                .ok()
                .and_then(|n| self.parts.get(n));
            // Within a row a value is written as its type does, by no cast, which could be somebody's own.
            let compared = |way: &Way| match &way.compared {
                Some(to) => format!("t.{}::{to}", way.name),
                None => format!("t.{}", way.name),
            };
            let values: Vec<String> = ways.into_iter().flatten().map(compared).collect();
            let sql = format!(
                "INSERT INTO pg_temp.maint_sums SELECT {part}, false, {SUMS}
                FROM (SELECT ROW({})::pg_catalog.text COLLATE pg_catalog.\"C\" AS whole
                    FROM ONLY {table} AS t JOIN pg_temp.maint_places p ON p.place = t.ctid
                    WHERE p.part = {part} AND p.leaf = {leaf}::pg_catalog.oid) AS r",
                values.join(", ")
            );
            session.execute_with(doing, &sql, &[]).await?;
        }
        for row in session.query(doing, COMPARED, &[]).await? {
            let (part, given, there): (i32, i64, i64) =
                (row.named("part")?, row.named("given")?, row.named("there")?);
            if given == there && row.named("same")? {
                continue;
            }
            let ways = usize::try_from(part - 1)
                .ok()
                .and_then(|n| self.parts.get(n));
            return Err(self.differs(given, there, ways.map_or(&[], Vec::as_slice)));
        }
        Ok(())
    }
}

pub(super) fn files(message: String) -> EngineError {
    EngineError::Files { message }
}
