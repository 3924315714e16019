//! What conditions that people wrote read and call, so that a plan can tell later whether it is the same.

use std::collections::BTreeMap;

use super::meaning::words;
use super::{Session, each};
use crate::engines::EngineError;

/// Relations, functions and operators that texts may name, what views among them are made of, and of enums of a
/// table the labels that the texts may mean, each with a number for its definition: another object of
/// the name has another, and so has one that was replaced. A name that is there by accident costs
/// nothing as long as what it stands for stays.
const NAMED: &str = "WITH RECURSIVE named (class, oid) AS (
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, c.oid
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384::oid
            AND pg_catalog.lower(c.relname::text) = ANY ($1::text[])
            AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
        UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE p.oid >= 16384::oid AND pg_catalog.lower(p.proname::text) = ANY ($1::text[])
            AND (pg_catalog.lower(n.nspname::text) = ANY ($1::text[]) OR n.nspname = ANY (pg_catalog.current_schemas(false)))
        UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, o.oprcode
        FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE o.oid >= 16384::oid AND o.oprcode <> 0 AND pg_catalog.lower(n.nspname::text) = ANY ($1::text[])
            AND pg_catalog.strpos($3::text, o.oprname::text) > 0
        UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass::oid, e.enumtypid
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_enum e ON e.enumtypid = a.atttypid
        WHERE a.attrelid = $2::oid AND a.attnum > 0 AND pg_catalog.lower(e.enumlabel::text) = ANY ($1::text[])
        UNION SELECT d.refclassid, d.refobjid
        FROM named v JOIN pg_catalog.pg_rewrite w ON v.class = 'pg_catalog.pg_class'::pg_catalog.regclass::oid AND w.ev_class = v.oid
            JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
                AND d.refclassid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass)
                AND d.refobjid >= 16384::oid)
    SELECT CASE o.class WHEN 'pg_catalog.pg_class'::pg_catalog.regclass::oid THEN o.oid::pg_catalog.regclass::text
            WHEN 'pg_catalog.pg_type'::pg_catalog.regclass::oid THEN o.oid::pg_catalog.regtype::text
            ELSE o.oid::pg_catalog.regprocedure::text END,
        pg_catalog.hashtextextended(pg_catalog.concat_ws('/', o.oid::text,
            (SELECT pg_catalog.string_agg(w.ev_action::text, '/' ORDER BY w.rulename) FROM pg_catalog.pg_rewrite w
                WHERE o.class = 'pg_catalog.pg_class'::pg_catalog.regclass::oid AND w.ev_class = o.oid),
            (SELECT pg_catalog.string_agg(e.oid::text || e.enumlabel::text, '/' ORDER BY e.oid) FROM pg_catalog.pg_enum e
                WHERE o.class = 'pg_catalog.pg_type'::pg_catalog.regclass::oid AND e.enumtypid = o.oid
                    AND pg_catalog.lower(e.enumlabel::text) = ANY ($1::text[])),
            (SELECT {function} FROM pg_catalog.pg_proc p
                WHERE o.class = 'pg_catalog.pg_proc'::pg_catalog.regclass::oid AND p.oid = o.oid)), 0)
    FROM named o";

/// SQL for a text that tells the function `p` from another one of its name, and from what it was before it was
/// replaced or changed.
pub const FUNCTION: &str = "pg_catalog.concat_ws('/', p.oid, p.prosrc, p.probin, p.prosqlbody::text, p.prolang, p.provolatile,
        p.prosecdef, p.proisstrict, p.proowner, p.proconfig)";

/// The definitions, as numbers, of what these texts about rows of a table may name, by name.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn named(
    db: &Session,
    texts: &[&str],
    table: u32,
) -> Result<BTreeMap<String, i64>, EngineError> {
    let words: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    if words.is_empty() {
        return Ok(BTreeMap::new());
    }
    let doing = "looking what conditions read and call";
    let sql = NAMED.replace("{function}", FUNCTION);
    let rows = db
        .query(doing, &sql, &[&words, &table, &texts.join(" ")])
        .await?;
    Ok(each(&rows, |row| Ok((row.get(0)?, row.get(1)?)))?
        .into_iter()
        .collect())
}
