//! What functions and views lead to: relations and functions that are read or called in them.

/// What leads on from `{from}`, which has `class` and `oid`: by the server's own record where there is one, and
/// by names in bodies that are text. A name that is there by accident leads where nothing is read.
const BELOW: &str = "SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, q.oid FROM pg_catalog.pg_proc p
            JOIN pg_catalog.pg_proc q ON q.oid >= 16384 AND pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower(q.proname::text)) > 0
            WHERE {from}.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = {from}.oid
        UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, r.oid FROM pg_catalog.pg_proc p
            JOIN pg_catalog.pg_class r ON r.oid >= 16384 AND r.relkind IN ({kinds})
                AND pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower(r.relname::text)) > 0
            WHERE {from}.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = {from}.oid
        UNION ALL SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
            WHERE {from}.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.classid = {from}.class AND d.objid = {from}.oid
        UNION ALL SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_rewrite w
            JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
            WHERE {from}.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.ev_class = {from}.oid";

/// SQL for `(class, oid)` of everything that a body or a view names or depends on, one step from `from`, with
/// relations of these `kinds`, as a list of literals, where only a body names them.
pub fn below(from: &str, kinds: &str) -> String {
    BELOW.replace("{from}", from).replace("{kinds}", kinds)
}
