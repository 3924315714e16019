//! What writing a row once more would set off: triggers, rules, and columns that the server computes anew. The plan asks
//! it, and so does each batch, under its lock.

use crate::engines::postgres::RelationName;
use crate::engines::postgres::catalog::by_people;
use crate::plan::{Param, Query};

/// SQL: what an UPDATE of the table `c` sets off, with `pg_trigger.tgenabled`: `trigger audit/O`.
pub(super) const HOOKS: &str = concat!(
    "SELECT 'trigger ' || g.tgname::text || '/' || g.tgenabled::text FROM pg_catalog.pg_trigger g
            WHERE g.tgrelid = c.oid AND ",
    by_people!("g"),
    " AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0
            UNION ALL SELECT 'rule ' || r.rulename::text || '/A' FROM pg_catalog.pg_rewrite r
            WHERE r.ev_class = c.oid AND r.ev_type = '2' AND r.ev_enabled <> 'D'"
);

/// SQL: whether a trigger before an update of `c` has the server compute every generated column anew.
pub(super) const COMPUTES_ALL: &str =
    "EXISTS (SELECT FROM pg_catalog.pg_trigger b WHERE b.tgrelid = c.oid AND b.tgtype & 19 = 19)";

/// SQL: whether one of the columns `g.columns` is made from the column `a`. Until 14 it is the column that depends
/// on what its expression names, since then the expression.
pub(super) const RECOMPUTES: &str = "EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
            AND (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid AND d.objsubid = ANY (g.columns)
                OR d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND EXISTS (SELECT FROM pg_catalog.pg_attrdef e
                    WHERE e.oid = d.objid AND e.adrelid = a.attrelid AND e.adnum = ANY (g.columns))))";

/// SQL: the numbers of the stored generated columns of the table with this oid that are computed by what somebody may
/// have replaced since.
pub(super) fn replaceable(oid: &str) -> String {
    format!(
        "SELECT s.attnum FROM pg_catalog.pg_attribute s
                JOIN pg_catalog.pg_attrdef e ON e.adrelid = s.attrelid AND e.adnum = s.attnum
            WHERE s.attrelid = {oid} AND s.attgenerated = 's' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
                WHERE (d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = e.oid
                        OR d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = s.attrelid AND d.objsubid = s.attnum)
                    AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass,
                        'pg_catalog.pg_ts_config'::pg_catalog.regclass, 'pg_catalog.pg_ts_dict'::pg_catalog.regclass,
                        'pg_catalog.pg_collation'::pg_catalog.regclass))"
    )
}

/// Whether what has this `tgenabled` fires where rows move: `quiet` where the role may keep the ordinary ones from it.
pub(super) fn fires(when: char, quiet: bool) -> bool {
    states(quiet).contains(&when)
}

fn states(quiet: bool) -> [char; 2] {
    match quiet {
        true => ['A', 'R'],
        false => ['A', 'O'],
    }
}

/// What keeps rows of the table `$1` from being moved by now, as the plan would say it: nothing where rows may.
const NOW: &str = "SELECT CASE WHEN pg_catalog.to_regclass($2::text)::pg_catalog.oid IS DISTINCT FROM c.oid THEN 'another table has its name by now'
            WHEN hook.what IS NOT NULL THEN hook.what || ' would fire'
            WHEN made.columns IS NOT NULL THEN 'the server would compute ' || made.columns || ' anew, by functions as they are today, and may store other values than there are'
        END AS why
    FROM pg_catalog.pg_class c
        LEFT JOIN LATERAL (SELECT pg_catalog.left(h.hook, -2) AS what FROM ({hooks}) AS h (hook)
            WHERE pg_catalog.right(h.hook, 1) = ANY ($3::text[]) ORDER BY 1 LIMIT 1) hook ON true
        CROSS JOIN LATERAL (SELECT ARRAY({replaceable}) AS columns) g
        LEFT JOIN LATERAL (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(s.attname), ', ' ORDER BY s.attnum) AS columns
            FROM pg_catalog.pg_attribute s WHERE s.attrelid = c.oid AND s.attnum = ANY (g.columns)
                AND ({computes_all} OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attname::text = (pg_catalog.parse_ident($4::text))[1] AND {recomputes}))) made ON true
    WHERE c.oid = $1::pg_catalog.oid";

/// The question why no row of the table can be moved by now; the answer is null where one can. `column` is the one that
/// is written, quoted.
pub(super) fn now(oid: u32, name: &RelationName, column: &str, quiet: bool) -> Query {
    let sql = NOW
        .replace("{hooks}", HOOKS)
        .replace("{replaceable}", &replaceable("c.oid"))
        .replace("{computes_all}", COMPUTES_ALL)
        .replace("{recomputes}", RECOMPUTES);
    let [first, second] = states(quiet);
    Query::new(
        sql,
        [
            Param::Oid(oid),
            Param::Text(name.to_string()),
            Param::Text(format!("{{{first},{second}}}")),
            Param::Text(column.to_owned()),
        ],
    )
}
