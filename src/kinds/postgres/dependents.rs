//! What a `DROP TABLE` would be refused for, or would stop. Kinds that drop look before they
//! detach: what was detached and cannot be dropped is gone from its table.

use std::collections::HashMap;

use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::values::unreadable;

/// All that goes with a table: its partitions, row types, sequences, indexes,
/// constraints. What depends on one of them, and does not go itself, is in the
/// way, such as a view on a partition of the partition, or a function with the
/// row type as an argument; so is an extension that one of them belongs to.
const DEPENDENTS: &str = "WITH RECURSIVE goes (root, class, object) AS (
        SELECT o.oid, 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, o.oid
            FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS o (oid)
        UNION
        SELECT g.root, d.classid, d.objid
            FROM goes g JOIN pg_catalog.pg_depend d ON d.refclassid = g.class AND d.refobjid = g.object
            WHERE d.deptype IN ('a', 'i', 'P', 'S'))
    SELECT DISTINCT g.root, CASE WHEN v.ev_class IS NOT NULL
            THEN CASE c.relkind WHEN 'm' THEN 'materialized view ' WHEN 'v' THEN 'view ' ELSE 'a rule of ' END
                || v.ev_class::pg_catalog.regclass::text
            ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END
    FROM goes g JOIN pg_catalog.pg_depend d ON d.refclassid = g.class AND d.refobjid = g.object AND d.deptype = 'n'
        LEFT JOIN pg_catalog.pg_rewrite v ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND v.oid = d.objid
        LEFT JOIN pg_catalog.pg_class c ON c.oid = v.ev_class
    WHERE NOT EXISTS (SELECT FROM goes o WHERE o.root = g.root AND o.class = d.classid AND o.object = d.objid)
    UNION
    SELECT g.root, pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0) || ' (of which it is a part)'
    FROM goes g JOIN pg_catalog.pg_depend d ON d.classid = g.class AND d.objid = g.object AND d.deptype = 'e'
    UNION
    -- Without the table that it writes to, a subscription stops for good.
    SELECT o.oid, 'subscription ' || pg_catalog.quote_ident(s.subname)
    FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS o (oid) JOIN pg_catalog.pg_subscription_rel r ON r.srrelid = o.oid
        JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid
    ORDER BY 1, 2";

/// SQL without values: whether nothing keeps the table of this id from being dropped; of one that is half out,
/// which only goes on its way, nothing is asked.
pub(super) fn none(oid: u32) -> String {
    let dependents = DEPENDENTS.replace("$1", &format!("ARRAY[{oid}]"));
    format!(
        "(EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = {oid} AND h.inhdetachpending) OR NOT EXISTS ({dependents}))"
    )
}

/// What keeps each of these tables from being dropped, in words.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn read(
    db: &Session,
    tables: &[u32],
) -> Result<HashMap<u32, Vec<String>>, EngineError> {
    let doing = "reading what depends on the tables";
    let mut found: HashMap<u32, Vec<String>> = HashMap::new();
    for row in db.query(doing, DEPENDENTS, &[&tables]).await? {
        let what: String = row.get(1)?;
        let what = unreadable::escaped(&what).into_owned();
        found.entry(row.get(0)?).or_default().push(what);
    }
    Ok(found)
}
