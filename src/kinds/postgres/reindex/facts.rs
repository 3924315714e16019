//! What is read about indexes, with a number of queries that does not depend
//! on how many there are.

use std::collections::HashMap;

use crate::engines::EngineError;
use crate::engines::postgres::catalog::{may_reindex, size_of};
use crate::engines::postgres::{RelationName, Session, each};
use crate::kinds::postgres::half_built;
use crate::kinds::postgres::rights::Forbidden;

/// One index with storage of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexFacts {
    pub(super) oid: u32,
    pub(in crate::kinds::postgres) table_oid: u32,
    pub(super) index: Option<RelationName>,
    pub(super) table: Option<RelationName>,
    pub(super) access_method: String,
    pub(in super::super) bytes: i64,
    /// Entries in the index; -1 where they were never counted.
    pub(super) tuples: f64,
    /// Rows in the table; -1 where they were never counted.
    pub(super) table_rows: f64,
    /// Rows changed since the statistics were taken.
    pub(super) changed: i64,
    pub(super) unique: bool,
    pub(super) exclusion: bool,
    pub(super) valid: bool,
    /// A valid index that is defined as this invalid one is.
    pub(super) twin: Option<String>,
    pub(super) partial: bool,
    pub(super) has_expressions: bool,
    pub(super) toast: bool,
    /// Of a materialized view.
    pub(super) materialized: bool,
    /// Changes have been counted since the table's rows were. After a crash
    /// or a reset nobody knows how many there were meanwhile.
    pub(super) counted: bool,
    pub(super) system: bool,
    /// In percent; the access method's default where none is set.
    pub(super) fillfactor: f64,
    /// Whether a build stores equal keys once.
    pub(super) deduplicates: bool,
    pub(super) table_age: i64,
    pub(super) may: bool,
    pub(super) owner: String,
    /// Whether the role may not read the table's rows, and whether row-level security is in force
    /// for it there: either hides the statistics of the columns.
    pub(super) unread: bool,
    pub(super) filtered: bool,
    pub(super) columns: Vec<ColumnFacts>,
    /// What it was made as, of which table: its definition without its name.
    pub(in super::super) made_as: String,
    /// The size a rebuild would give it, in bytes, as measured by pgstattuple.
    pub(super) measured_ideal_bytes: Option<f64>,
}

impl IndexFacts {
    /// Name for people and SQL.
    pub(in super::super) fn name(&self) -> String {
        self.index
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// What is to be said where the role may not work on it.
    pub(super) fn forbidden(&self) -> Option<Forbidden> {
        let table = self.table.as_ref()?;
        Some(Forbidden::part(self.name(), table, &self.owner))
    }

    /// Name of the table for people and SQL.
    pub(super) fn table_name(&self) -> String {
        self.table
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

/// One key column of an index.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnFacts {
    /// Bytes, or -1 for values of varying length.
    pub(super) length: i16,
    /// `c`, `s`, `i` or `d`: 1, 2, 4 or 8 bytes.
    pub(super) alignment: char,
    pub(super) statistics: Option<ColumnStatistics>,
    /// An ANALYZE would gather none: `SET STATISTICS 0`, or no rows.
    pub(super) never_gathered: bool,
}

/// What ANALYZE found out about one column.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnStatistics {
    pub(super) null_share: f64,
    pub(super) average_width: f64,
    /// Distinct values; negative for a share of the rows.
    pub(super) distinct: f64,
    /// Shares of the most common values.
    pub(super) common: Vec<f32>,
}

/// A half-built or half-dropped index that a failed concurrent rebuild left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leftover {
    pub(super) oid: u32,
    pub(super) table_oid: u32,
    pub(super) index: RelationName,
    pub(super) table: RelationName,
    pub(super) base: RelationName,
    pub(super) bytes: i64,
    /// Who might still be at work on it.
    pub(super) busy: Option<String>,
    pub(super) may: bool,
    pub(super) owner: String,
}

impl Leftover {
    /// Why it cannot be dropped by this run, and its index not be rebuilt; none where it can.
    pub(super) fn stays(&self) -> Option<&'static str> {
        match (self.may, &self.busy) {
            (false, _) => {
                Some("what an earlier rebuild of it left has to be dropped by its owner first")
            }
            (true, Some(_)) => Some(
                "what an earlier rebuild of it left cannot be dropped while somebody works on its table",
            ),
            (true, None) => None,
        }
    }
}

/// SQL for what an index holds, in one unit whenever it is asked. Where a
/// build counts entries, or ranges of pages, and VACUUM and ANALYZE count rows,
/// that is the rows of the table; of a partial index nobody then knows, and its
/// size alone is compared.
pub(super) const ENTRIES: &str =
    "CASE WHEN am.amname IN ('btree', 'hash', 'gist', 'spgist', 'bloom') THEN x.reltuples
            WHEN i.indpred IS NULL OR c.reltuples < 0 THEN c.reltuples ELSE 1000 END::float8";

/// Whether that is what the server itself says of indexes of this access method.
pub(super) fn counts_entries(access_method: &str) -> bool {
    matches!(
        access_method,
        "btree" | "hash" | "gist" | "spgist" | "bloom"
    )
}

/// SQL: what an index is made as, as a number. A concurrent rebuild makes another index, with the same;
/// where in a statement its expressions once stood is not repeated. `pg_get_indexdef` would wait for the table.
const DEFINITION: &str = "pg_catalog.hashtextextended(pg_catalog.concat_ws('/', am.amname, i.indisunique, i.indnkeyatts,
            i.indkey, i.indclass, i.indcollation, i.indoption, x.reloptions,
            pg_catalog.regexp_replace(pg_catalog.concat_ws('/', i.indexprs, i.indpred), ' :location -?[0-9]+', '', 'g'),
            (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', a.atttypid, a.atttypmod), ' ' ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid)), 0)";

const INDEXES: &str =
    "SELECT i.indexrelid AS oid, i.indrelid AS table_oid, n.nspname::text AS schema, x.relname::text AS name,
        tn.nspname::text AS table_schema, c.relname::text AS table_name, am.amname::text AS access_method,
        {size} AS bytes, {entries} AS tuples, c.reltuples::float8 AS table_rows,
        coalesce(pg_catalog.pg_stat_get_mod_since_analyze(c.oid), 0) AS changed,
        i.indisunique AS is_unique, i.indisexclusion AS exclusion,
        i.indisvalid AND i.indisready AND i.indislive AS valid, i.indpred IS NOT NULL AS partial,
        -- Those of which statistics can be gathered: of no rows, or with SET STATISTICS 0, there are none.
        i.indexprs IS NOT NULL AND NOT (i.indpred IS NOT NULL AND x.reltuples < 1)
            AND EXISTS (SELECT FROM pg_catalog.pg_attribute e WHERE e.attrelid = x.oid AND e.attnum BETWEEN 1 AND i.indnkeyatts
                AND i.indkey[e.attnum - 1] = 0 AND coalesce(e.attstattarget, -1) <> 0) AS has_expressions,
        c.relkind = 't' AS toast,
        tn.nspname IN ('pg_catalog', 'information_schema') OR c.relisshared OR c.oid < 16384 AS system,
        coalesce((SELECT o.option_value FROM pg_catalog.pg_options_to_table(x.reloptions) o
                  WHERE o.option_name = 'fillfactor'),
                 CASE am.amname WHEN 'hash' THEN '75' ELSE '90' END)::float8 AS fillfactor,
        am.amname = 'btree' AND NOT i.indisunique AND i.indnatts = i.indnkeyatts
            AND coalesce((SELECT o.option_value FROM pg_catalog.pg_options_to_table(x.reloptions) o
                          WHERE o.option_name = 'deduplicate_items'), 'on')::bool
            AND NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indclass::oid[]) AS k(opclass)
                    JOIN pg_catalog.pg_opclass oc ON oc.oid = k.opclass
                    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_amproc p
                        WHERE p.amprocfamily = oc.opcfamily AND p.amproclefttype = oc.opcintype
                            AND p.amprocrighttype = oc.opcintype AND p.amprocnum = 4))
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_collation l
                    WHERE l.oid = ANY (i.indcollation::oid[]) AND NOT l.collisdeterministic) AS deduplicates,
        pg_catalog.age(c.relfrozenxid)::int8 AS table_age, {may} AS may, c.relkind = 'm' AS materialized,
        greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid),
            pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) IS NOT NULL
            OR coalesce(pg_catalog.pg_stat_get_live_tuples(c.oid), 0) >= c.reltuples AS counted,
        pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
        NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') AS unread,
        pg_catalog.row_security_active(c.oid) AS filtered,
        pg_catalog.concat_ws('/', $4::oid, c.oid, {definition}) AS made_as, {twin} AS twin
    FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
        JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_namespace tn ON tn.oid = c.relnamespace
        JOIN pg_catalog.pg_am am ON am.oid = x.relam
    WHERE x.relkind = 'i' AND x.relpersistence <> 't'
        AND ($1 OR tn.nspname <> 'pg_toast')
        AND ($2 OR tn.nspname NOT IN ('pg_catalog', 'information_schema') AND c.oid >= 16384)
    ORDER BY bytes DESC, oid LIMIT $3";

// 16384 is the first id that is not the server's own: the TOAST tables of system catalogs are
// below it, and no catalog of their own tells them apart.
/// The heap column behind each key column, or the index's own where it is an expression.
const COLUMNS: &str = "SELECT a.attrelid AS index_oid, a.attlen AS length, a.attalign::text AS alignment, s.null_frac::float8 AS nulls,
        s.avg_width::float8 AS width, s.n_distinct::float8 AS distinct_values, s.most_common_freqs AS common,
        -- Of these ANALYZE gathers nothing: told not to, or of no row.
        coalesce(CASE WHEN h.attnum IS NULL THEN a.attstattarget ELSE h.attstattarget END, -1) = 0
            OR h.attnum IS NULL AND i.indpred IS NOT NULL AND x.reltuples BETWEEN 0 AND 0.5 AS never_gathered
    FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid
        JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        LEFT JOIN pg_catalog.pg_attribute h ON h.attrelid = i.indrelid
            AND h.attnum = i.indkey[a.attnum - 1] AND i.indkey[a.attnum - 1] <> 0
        LEFT JOIN pg_catalog.pg_namespace n
            ON n.oid = CASE WHEN h.attnum IS NULL THEN x.relnamespace ELSE c.relnamespace END
        LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND NOT s.inherited
            AND s.tablename = CASE WHEN h.attnum IS NULL THEN x.relname ELSE c.relname END
            AND s.attname = coalesce(h.attname, a.attname)
    WHERE i.indexrelid = ANY ($1)
    ORDER BY a.attrelid, a.attnum";

/// What indexes to read.
pub(super) struct Scope {
    pub(super) toast: bool,
    pub(super) system: bool,
    /// Only so many, the largest ones; all where not given.
    pub(super) largest: Option<i64>,
}

/// Reads the indexes in scope, the largest first, without their columns.
pub(super) async fn indexes(db: &Session, scope: &Scope) -> Result<Vec<IndexFacts>, EngineError> {
    let sql = INDEXES
        .replace("{size}", &size_of("x"))
        .replace("{entries}", ENTRIES)
        .replace("{definition}", DEFINITION)
        .replace("{twin}", &half_built::twin("i", "x"))
        .replace("{may}", &may_reindex(&db.server));
    let doing = "reading which indexes there are";
    let rows = db
        .query(
            doing,
            &sql,
            &[
                &scope.toast,
                &scope.system,
                &scope.largest,
                &db.server.database_oid,
            ],
        )
        .await?;
    each(&rows, |row| {
        Ok(IndexFacts {
            oid: row.named("oid")?,
            table_oid: row.named("table_oid")?,
            index: Some(row.relation("schema", "name")?),
            table: Some(row.relation("table_schema", "table_name")?),
            access_method: row.named("access_method")?,
            bytes: row.named("bytes")?,
            tuples: row.named("tuples")?,
            table_rows: row.named("table_rows")?,
            changed: row.named("changed")?,
            unique: row.named("is_unique")?,
            exclusion: row.named("exclusion")?,
            valid: row.named("valid")?,
            partial: row.named("partial")?,
            has_expressions: row.named("has_expressions")?,
            toast: row.named("toast")?,
            system: row.named("system")?,
            fillfactor: row.named("fillfactor")?,
            deduplicates: row.named("deduplicates")?,
            table_age: row.named("table_age")?,
            may: row.named("may")?,
            materialized: row.named("materialized")?,
            counted: row.named("counted")?,
            owner: row.named("owner")?,
            unread: row.named::<Option<bool>>("unread")?.unwrap_or(true),
            filtered: row.named("filtered")?,
            made_as: row.named("made_as")?,
            twin: row.named("twin")?,
            columns: Vec::new(),
            measured_ideal_bytes: None,
        })
    })
}

/// The methods of indexes that the server has.
pub(super) async fn access_methods(db: &Session) -> Result<Vec<String>, EngineError> {
    let sql = "SELECT a.amname::text FROM pg_catalog.pg_am a WHERE a.amtype = 'i' ORDER BY a.oid";
    let rows = db.query("reading the access methods", sql, &[]).await?;
    each(&rows, |row| row.get(0))
}

/// Reads widths, distinct and common values of the key columns of these indexes.
pub(super) async fn add_columns(
    db: &Session,
    indexes: &mut [&mut IndexFacts],
) -> Result<(), EngineError> {
    let oids: Vec<u32> = indexes.iter().map(|i| i.oid).collect();
    let doing = "reading the statistics of indexed columns";
    let rows = db.query(doing, COLUMNS, &[&oids]).await?;
    let mut columns: HashMap<u32, Vec<ColumnFacts>> = HashMap::new();
    for row in &rows {
        let statistics = match row.named::<Option<f64>>("nulls")? {
            Some(null_share) => Some(ColumnStatistics {
                null_share,
                average_width: row.named::<Option<f64>>("width")?.unwrap_or(0.0),
                distinct: row.named::<Option<f64>>("distinct_values")?.unwrap_or(0.0),
                common: row.named::<Option<Vec<f32>>>("common")?.unwrap_or_default(),
            }),
            None => None,
        };
        columns
            .entry(row.named("index_oid")?)
            .or_default()
            .push(ColumnFacts {
                length: row.named("length")?,
                alignment: row
                    .named::<String>("alignment")?
                    .chars()
                    .next()
                    .unwrap_or('i'),
                statistics,
                never_gathered: row.named("never_gathered")?,
            });
    }
    for index in indexes {
        index.columns = columns.remove(&index.oid).unwrap_or_default();
    }
    Ok(())
}

/// Reads what failed concurrent rebuilds left behind.
pub(super) async fn leftovers(db: &Session) -> Result<Vec<Leftover>, EngineError> {
    let sql = half_built::sql(half_built::MAY_DROP);
    let doing = "looking for leftovers of failed rebuilds";
    let rows = db.query(doing, &sql, &[]).await?;
    each(&rows, |row| {
        Ok(Leftover {
            oid: row.named("oid")?,
            table_oid: row.named("indrelid")?,
            index: row.relation("leftover_schema", "leftover_name")?,
            table: row.relation("table_schema", "table_name")?,
            base: row.relation("leftover_schema", "base_name")?,
            bytes: row.named("bytes")?,
            busy: row.named("busy")?,
            may: row.named("may")?,
            owner: row.named("owner")?,
        })
    })
}
