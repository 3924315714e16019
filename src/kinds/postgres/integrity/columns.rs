//! Integer columns, and what has to change with one of them for it to hold larger numbers.

use std::collections::HashMap;

use crate::engines::EngineError;
use crate::engines::postgres::catalog::held;
use crate::engines::postgres::{Identifier, RelationName, Session};

/// A column of an integer type.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The table's oid, and the number of the column in it.
    pub(super) place: (u32, i16),
    pub(super) table: RelationName,
    pub(super) name: Identifier,
    pub(super) kind: String,
    /// Its type is somebody's own name for an integer type, with rules of its own.
    pub(super) domain: bool,
    pub(super) around: Around,
}

/// What there is around a column whose type is to change.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// Widens it: where it is declared, if it is inherited.
    own: Vec<String>,
    /// Widen the columns that refer to it, and those that refer to them.
    referring: Vec<String>,
    /// Defaults that would cut what they get to the old type.
    defaults: Vec<String>,
    /// What keeps these types from being changed.
    in_the_way: Vec<String>,
    /// Columns whose type cannot be changed at all, or not by a statement that is known.
    fixed: Vec<String>,
}

/// SQL: all columns that have a type together with those asked for (the same column of tables that inherit from each other,
/// and columns that refer to it), and what is to be said of each: what it is (`own`, `referring`, `default`, `way`,
/// `fixed`) and its text.
const AROUND: &str = "WITH RECURSIVE asked AS (
        SELECT a.n, a.rel, a.att FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int2[])) WITH ORDINALITY a (rel, att, n)),
    keys AS (
        SELECT DISTINCT k.conrelid AS rel, e.own AS att, k.confrelid AS of_rel, e.theirs AS of_att FROM pg_catalog.pg_constraint k
            CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) e (own, theirs)
        WHERE k.contype = 'f'),
    family AS (
        SELECT i.inhrelid AS rel, c.attnum AS att, i.inhparent AS of_rel, p.attnum AS of_att FROM pg_catalog.pg_inherits i
            JOIN pg_catalog.pg_attribute p ON p.attrelid = i.inhparent AND p.attnum > 0 AND NOT p.attisdropped AND p.atttypid IN (20, 21, 23)
            JOIN pg_catalog.pg_attribute c ON c.attrelid = i.inhrelid AND c.attname = p.attname AND NOT c.attisdropped),
    edges AS (
        SELECT of_rel, of_att, rel, att, true AS far FROM keys
        UNION ALL SELECT of_rel, of_att, rel, att, false FROM family
        UNION ALL SELECT rel, att, of_rel, of_att, false FROM family),
    reached AS (
        SELECT a.n, a.rel, a.att, false AS far FROM asked a
        UNION SELECT r.n, e.rel, e.att, r.far OR e.far FROM reached r JOIN edges e ON e.of_rel = r.rel AND e.of_att = r.att),
    columns AS (
        SELECT r.n, r.rel, r.att, pg_catalog.bool_and(r.far) AS far FROM reached r GROUP BY r.n, r.rel, r.att),
    narrow AS (
        SELECT c.n, c.rel, c.att, c.far, a.attname, a.attinhcount, a.atttypid, y.typtype,
            pg_catalog.format('%s.%I', c.rel::pg_catalog.regclass, a.attname) AS name
        FROM columns c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.rel AND a.attnum = c.att
            JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
        WHERE coalesce(nullif(y.typbasetype, 0), y.oid) IN (21, 23))
    SELECT w.n, CASE WHEN w.far THEN 'referring' ELSE 'own' END,
        pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I TYPE bigint', w.rel::pg_catalog.regclass, w.attname) AS text
    FROM narrow w WHERE w.attinhcount = 0 AND w.typtype <> 'd'
    UNION SELECT w.n, 'default', pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT pg_catalog.nextval(%L::pg_catalog.regclass)', w.rel::pg_catalog.regclass, w.attname,
            d.refobjid::pg_catalog.regclass)
        FROM narrow w JOIN pg_catalog.pg_attrdef f ON f.adrelid = w.rel AND f.adnum = w.att
            JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid = 0
            JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
        WHERE CASE WHEN {held} THEN false
            ELSE pg_catalog.pg_get_expr(f.adbin, f.adrelid) ~ '^\\(nextval\\(.+\\)\\)::(integer|smallint)$' END
    UNION SELECT w.n, 'way', CASE
            WHEN v.oid IS NOT NULL AND v.ev_class <> w.rel THEN v.ev_class::pg_catalog.regclass::text
            WHEN ga.attnum IS NOT NULL THEN pg_catalog.format('the generated column %s.%I', w.rel::pg_catalog.regclass, ga.attname)
            WHEN f.oid IS NOT NULL THEN pg_catalog.format('the generated column %s.%I', f.adrelid::pg_catalog.regclass, fa.attname)
            ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END
        FROM narrow w JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND d.refobjid = w.rel AND d.refobjsubid = w.att
            LEFT JOIN pg_catalog.pg_rewrite v ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND v.oid = d.objid
            LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND f.oid = d.objid
            LEFT JOIN pg_catalog.pg_attribute fa ON fa.attrelid = f.adrelid AND fa.attnum = f.adnum
            -- A generated column is its default from 15 on, and was itself before.
            LEFT JOIN pg_catalog.pg_attribute ga ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND d.objid = w.rel AND ga.attrelid = d.objid AND ga.attnum = d.objsubid AND ga.attgenerated <> ''
        WHERE v.oid IS NOT NULL OR ga.attnum IS NOT NULL OR f.oid IS NOT NULL AND (f.adrelid, f.adnum) <> (w.rel, w.att)
            OR d.classid IN ('pg_catalog.pg_trigger'::pg_catalog.regclass, 'pg_catalog.pg_policy'::pg_catalog.regclass,
                'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_publication_rel'::pg_catalog.regclass)
    UNION SELECT w.n, 'fixed', w.name || ', which is part of the partition key'
        FROM narrow w JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = w.rel AND w.att = ANY (p.partattrs::pg_catalog.int2[])
    UNION SELECT w.n, 'fixed', w.name || ', which is of the domain ' || pg_catalog.format_type(w.atttypid, NULL)
        FROM narrow w WHERE w.typtype = 'd' AND w.far AND w.attinhcount = 0
    ORDER BY 1, 2, 3";

/// Reads what is around these columns.
pub(super) async fn read_around<'a>(
    db: &Session,
    columns: impl Iterator<Item = &'a mut Column>,
) -> Result<(), EngineError> {
    let columns: Vec<&mut Column> = columns.collect();
    if columns.is_empty() {
        return Ok(());
    }
    let (rels, atts): (Vec<u32>, Vec<i16>) = columns.iter().map(|c| c.place).unzip();
    let sql = AROUND.replace("{held}", &held("w.rel"));
    let doing = "reading what changes with a column";
    let mut found: HashMap<i64, Around> = HashMap::new();
    for row in db.query(doing, &sql, &[&rels, &atts]).await? {
        let around = found.entry(row.get(0)?).or_default();
        let (what, text): (String, String) = (row.get(1)?, row.get(2)?);
        match what.as_str() {
            "own" => around.own.push(text),
            "referring" => around.referring.push(text),
            "default" => around.defaults.push(text),
            "fixed" => around.fixed.push(text),
            _ => around.in_the_way.push(text),
        }
    }
    for (n, column) in (1..).zip(columns) {
        column.around = found.remove(&n).unwrap_or_default();
    }
    Ok(())
}

impl Column {
    pub(super) fn object(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// Makes it as wide as it gets; none where it is, or where that would
    /// throw away the rules of its type.
    pub(super) fn widened(&self) -> Option<String> {
        let around = &self.around;
        let can = self.kind != "bigint" && !self.domain && around.fixed.is_empty();
        (can && !around.own.is_empty()).then(|| {
            let all = around.own.iter().chain(&around.referring);
            let all: Vec<&str> = all.chain(&around.defaults).map(String::as_str).collect();
            all.join("; ")
        })
    }

    /// What has to go before its type can be changed.
    pub(super) fn in_the_way(&self) -> String {
        let Around {
            in_the_way, fixed, ..
        } = &self.around;
        if self.kind == "bigint" || self.domain {
            return String::new();
        }
        if !fixed.is_empty() {
            return format!(
                ". No statement makes it wider: that takes another table, or another type, for {}",
                fixed.join(", ")
            );
        }
        match in_the_way.is_empty() || self.widened().is_none() {
            true => String::new(),
            false => format!(
                ". The server changes its type only while nothing else uses it: drop {} before, and make them again after",
                in_the_way.join(", ")
            ),
        }
    }
}
