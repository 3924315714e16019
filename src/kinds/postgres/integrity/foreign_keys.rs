//! Orphans: rows whose foreign key refers to nothing. Counted whether or not
//! the server believes the constraint: rows may have been loaded with
//! triggers off.

use super::super::common::Selection;
use super::Scope;
use super::facts::{HIDDEN, Relation};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, enforced, size_of};
use crate::engines::postgres::compared::cast;
use crate::engines::postgres::{Identifier, Session, each};
use crate::plan::{Check, Finding, Query, Severity};

/// A foreign key, as declared on the topmost table where those are partitioned.
#[derive(Clone, Debug)]
pub(super) struct ForeignKey {
    pub(super) oid: u32,
    pub(super) name: Identifier,
    pub(super) table: Relation,
    pub(super) referenced: Relation,
    match_full: bool,
    pub(super) validated: bool,
    /// Whether its last column is a period that has to be covered (18 on).
    period: bool,
    columns: Vec<Identifier>,
    referenced_columns: Vec<Identifier>,
    /// `=` or `OPERATOR(public.=)`, one for each column: referenced = referring.
    operators: Vec<String>,
    /// `::schema.type` where the operator takes another type than the column has, else empty.
    casts: Vec<String>,
    referenced_casts: Vec<String>,
    /// ` COLLATE …` where the two columns differ in it, else empty.
    collations: Vec<String>,
}

const FOREIGN_KEYS: &str = "SELECT k.conname::text AS constraint_name, k.convalidated AS validated, k.confmatchtype = 'f' AS match_full, {period} AS period,
        f.oid, fn.nspname::text AS schema, f.relname::text AS name, f.relkind = 'p' AS partitioned, f.relpersistence = 'u' AS unlogged,
        {size_f} AS bytes, {hidden_f} AS hidden, pg_catalog.pg_has_role(f.relowner, 'USAGE') AS owned,
        p.oid AS referenced_oid, pn.nspname::text AS referenced_schema, p.relname::text AS referenced_name, p.relkind = 'p' AS referenced_partitioned, p.relpersistence = 'u' AS referenced_unlogged,
        {size_p} AS referenced_bytes, {hidden_p} AS referenced_hidden, pg_catalog.pg_has_role(p.relowner, 'USAGE') AS referenced_owned,
        u.columns, u.referenced AS referenced_columns, u.operators, u.casts, u.referenced_casts, u.collations, k.oid AS constraint_oid
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class f ON f.oid = k.conrelid
    JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
    JOIN pg_catalog.pg_class p ON p.oid = k.confrelid
    JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
    CROSS JOIN LATERAL (SELECT
            pg_catalog.array_agg(fa.attname::text ORDER BY e.place) AS columns,
            pg_catalog.array_agg(pa.attname::text ORDER BY e.place) AS referenced,
            pg_catalog.array_agg(CASE opn.nspname WHEN 'pg_catalog' THEN o.oprname::text
                ELSE pg_catalog.format('OPERATOR(%I.%s)', opn.nspname, o.oprname) END ORDER BY e.place) AS operators,
            pg_catalog.array_agg({cast_f} ORDER BY e.place) AS casts,
            pg_catalog.array_agg({cast_p} ORDER BY e.place) AS referenced_casts,
            pg_catalog.array_agg(CASE WHEN pa.attcollation NOT IN (0, fa.attcollation)
                THEN (SELECT pg_catalog.format(' COLLATE %I.%I', cn.nspname, co.collname)
                      FROM pg_catalog.pg_collation co JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
                      WHERE co.oid = pa.attcollation)
                ELSE '' END ORDER BY e.place) AS collations
        FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conpfeqop))
            WITH ORDINALITY e (fnum, pnum, op, place)
        JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = e.fnum
        JOIN pg_catalog.pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = e.pnum
        JOIN pg_catalog.pg_operator o ON o.oid = e.op
        JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace) u
    WHERE k.contype = 'f' AND k.conparentid = 0 AND {enforced} AND {not_system}
    ORDER BY schema, name, constraint_name";

/// All foreign keys that the server enforces.
pub(super) async fn read(db: &Session) -> Result<Vec<ForeignKey>, EngineError> {
    let newer = db.server.major() >= 18;
    let sql = FOREIGN_KEYS
        .replace("{period}", if newer { "k.conperiod" } else { "false" })
        .replace("{enforced}", &enforced(&db.server, "k"))
        .replace("{cast_f}", &cast("o.oprright", "fa.atttypid"))
        .replace("{cast_p}", &cast("o.oprleft", "pa.atttypid"))
        .replace("{size_f}", &size_of("f"))
        .replace("{size_p}", &size_of("p"))
        .replace("{hidden_f}", &HIDDEN.replace("{c}", "f"))
        .replace("{hidden_p}", &HIDDEN.replace("{c}", "p"))
        .replace(
            "{not_system}",
            &NOT_SYSTEM_SCHEMA.replace("n.nspname", "fn.nspname"),
        );
    let rows = db.query("reading foreign keys", &sql, &[]).await?;
    let names = |raw: Vec<String>| raw.into_iter().map(Identifier::new).collect();
    each(&rows, |row| {
        Ok(ForeignKey {
            oid: row.named("constraint_oid")?,
            name: Identifier::new(row.named::<String>("constraint_name")?),
            validated: row.named("validated")?,
            match_full: row.named("match_full")?,
            period: row.named("period")?,
            table: Relation::of(row, "")?,
            referenced: Relation::of(row, "referenced_")?,
            columns: names(row.named("columns")?),
            referenced_columns: names(row.named("referenced_columns")?),
            operators: row.named("operators")?,
            casts: row.named("casts")?,
            referenced_casts: row.named("referenced_casts")?,
            collations: row.named("collations")?,
        })
    })
}

impl ForeignKey {
    /// How it is called in records: `public.orders.orders_user_id_fkey`.
    pub(super) fn object(&self) -> String {
        format!("{}.{}", self.table.name, self.name)
    }

    pub(super) fn covered(&self, selection: &Selection<'_>) -> bool {
        selection.covers(&self.table.name)
    }

    pub(super) fn scope(&self) -> Scope {
        Scope {
            readable: self.table.hidden.or(self.referenced.hidden).is_none(),
            unlogged: self.table.unlogged || self.referenced.unlogged,
        }
    }

    /// Which rows of `f` are orphans: all columns given, and nothing there.
    fn orphan(&self) -> String {
        let given: Vec<String> = self
            .columns
            .iter()
            .map(|c| format!("f.{c} IS NOT NULL"))
            .collect();
        let referring = self.columns.iter().zip(&self.casts);
        let referred = self.referenced_columns.iter().zip(&self.referenced_casts);
        let signs = self.operators.iter().zip(&self.collations);
        let mut equal: Vec<String> = referring
            .zip(referred)
            .zip(signs)
            .map(
                |(((column, cast), (referenced, its_cast)), (operator, collation))| {
                    format!("p.{referenced}{its_cast} {operator} f.{column}{cast}{collation}")
                },
            )
            .collect();
        let from = self.referenced.from();
        if self.period
            && let (Some(column), Some(referenced)) =
                (self.columns.last(), self.referenced_columns.last())
        {
            // The periods of all rows with that key have to cover this one's;
            // those that do not even touch it need not be read.
            equal.pop();
            equal.push(format!("p.{referenced} OPERATOR(pg_catalog.&&) f.{column}"));
            return format!(
                "{} AND (f.{column} OPERATOR(pg_catalog.<@) (SELECT pg_catalog.range_agg(p.{referenced}) FROM {from} p WHERE {})) IS NOT TRUE",
                given.join(" AND "),
                equal.join(" AND ")
            );
        }
        format!(
            "{} AND NOT EXISTS (SELECT 1 FROM {from} p WHERE {})",
            given.join(" AND "),
            equal.join(" AND ")
        )
    }

    /// Which rows of `f` are neither wholly given nor wholly NULL.
    fn half_given(&self) -> Option<String> {
        let columns: Vec<String> = self.columns.iter().map(|c| format!("f.{c}")).collect();
        (self.match_full && columns.len() > 1).then(|| {
            format!(
                "pg_catalog.num_nulls({0}) NOT IN (0, {1})",
                columns.join(", "),
                columns.len()
            )
        })
    }

    /// Counts the orphans.
    pub(super) fn check(&self) -> Check {
        let from = self.table.from();
        let mut count = format!("(SELECT count(*) FROM {from} f WHERE {})", self.orphan());
        if let Some(half) = self.half_given() {
            // Two counts: an OR would turn the anti-join into a lookup for each row.
            count.push_str(&format!(" + (SELECT count(*) FROM {from} f WHERE {half})"));
        }
        Check::new().counting(
            Query::new(format!("SELECT {count}"), []),
            vec![self.finding()],
        )
    }

    fn finding(&self) -> Finding {
        let (object, table, referenced) = (self.object(), &self.table.name, &self.referenced.name);
        let mut wrong = self.orphan();
        if let Some(half) = self.half_given() {
            wrong = format!("({wrong}) OR {half}");
        }
        let (severity, why) = if self.validated {
            (
                Severity::Critical,
                "although the constraint counts as valid: loaded with triggers off, or found through a damaged index",
            )
        } else {
            (Severity::Warning, "and the constraint was never validated")
        };
        Finding {
            code: "foreign_key.orphans".to_owned(),
            severity,
            message: format!(
                "{{rows}} of {table} {{violate}} {}: no row of {referenced} is what is referred to, {why}",
                self.name
            ),
            object,
            suggestion: Some(format!(
                "SELECT f.* FROM {} f WHERE {wrong}",
                self.table.from()
            )),
        }
    }
}
