//! What views and policies call, as deep as that can be followed: what in it may answer
//! differently though no table has changed, and what changes when somebody replaces it.

use crate::engines::postgres::catalog::NOT_SYSTEM_SCHEMA;

/// `text` (of, tree): what a view selects, what the policies of a table let through, and what its virtual columns
/// compute.
/// `reach` (of, fn): the functions that are called there, and by those of the users: from the
/// support functions of an aggregate to whatever a text names. Objects of the server itself are
/// not in pg_depend, so the trees are read. A name in a text may mean any function called so.
const REACH: &str = "WITH RECURSIVE text (of, tree) AS MATERIALIZED (
        SELECT r.ev_class, r.ev_action::text FROM pg_catalog.pg_rewrite r
            JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN ('m', 'v')
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {not_system}
        UNION ALL SELECT p.polrelid, p.polqual::text FROM pg_catalog.pg_policy p
            JOIN pg_catalog.pg_class c ON c.oid = p.polrelid AND c.relrowsecurity
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL AND {not_system}
        UNION ALL SELECT v.adrelid, v.adbin::text FROM pg_catalog.pg_attrdef v
            JOIN pg_catalog.pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum AND a.attgenerated = 'v'
            JOIN pg_catalog.pg_class c ON c.oid = v.adrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {not_system}
    ), reach (of, fn) AS (
        SELECT t.of, m[1]::pg_catalog.oid FROM text t
            CROSS JOIN LATERAL pg_catalog.regexp_matches(t.tree, '{called}', 'g') m
        UNION SELECT r.of, below.fn FROM reach r CROSS JOIN LATERAL (
            SELECT s.fn FROM pg_catalog.pg_aggregate a CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn,
                    a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::pg_catalog.oid[]) s (fn)
                WHERE a.aggfnoid = r.fn AND r.fn >= 16384 AND s.fn <> 0
            UNION ALL SELECT m[1]::pg_catalog.oid FROM pg_catalog.pg_proc p
                CROSS JOIN LATERAL pg_catalog.regexp_matches(p.prosqlbody::text, '{called}', 'g') m
                WHERE p.oid = r.fn AND p.oid >= 16384
            UNION ALL SELECT q.oid FROM pg_catalog.pg_proc p
                JOIN pg_catalog.pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('c', 'internal')
                CROSS JOIN LATERAL pg_catalog.regexp_matches(p.prosrc, '([[:alnum:]_$]+)\"?[[:space:]]*[(]', 'g') m
                JOIN pg_catalog.pg_proc q ON q.proname IN (m[1]::pg_catalog.name, pg_catalog.lower(m[1])::pg_catalog.name)
                WHERE p.oid = r.fn AND p.oid >= 16384) below)
";

/// What a node that calls a function says of it.
const CALLED: &str = ":(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)";

/// Volatile functions count; stable ones where they belong to a user, whose
/// function may read any table, or are known to read the clock, the session or
/// the catalogs. The stable functions of the server that only read the time
/// zone do not. A user's function counts where its text reads something all the
/// same, and a sample of a table is another one each time.
const MOODS: &str = "SELECT DISTINCT f.of, f.what FROM (
        SELECT r.of, p.proname::text AS what FROM reach r JOIN pg_catalog.pg_proc p ON p.oid = r.fn
            JOIN pg_catalog.pg_language l ON l.oid = p.prolang
            WHERE p.provolatile = 'v' OR (p.provolatile = 's' AND (p.oid >= 16384
                OR (p.proname ~ '^(now$|transaction_timestamp|statement_timestamp|current_|session_user|version$|txid_|pg_|has_|row_security_|inet_|to_reg|(table|schema|database)_to_xml|obj_description|col_description|shobj_description|format_type)'
                    AND p.proname NOT IN ('pg_typeof', 'pg_column_size', 'pg_client_encoding'))
                OR (p.proname = 'age' AND p.pronargs = 1)))
                OR (p.provolatile = 'i' AND p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
                    AND (p.prosrc ~* '\\m(from|execute|perform|current_[a-z]+|localtime|localtimestamp|session_user)\\M|''(now|today|yesterday|tomorrow)'''
                        OR p.prosqlbody::text ~ ':relid [1-9]|[{]SQLVALUEFUNCTION'))
        UNION ALL SELECT t.of, 'a sample of a table' FROM text t WHERE pg_catalog.strpos(t.tree, '{TABLESAMPLECLAUSE') > 0
        UNION ALL SELECT t.of, 'current_date or the like' FROM text t WHERE pg_catalog.strpos(t.tree, '{SQLVALUEFUNCTION') > 0
        UNION ALL SELECT t.of, s.relname::text FROM text t
            CROSS JOIN LATERAL pg_catalog.regexp_matches(t.tree, ':relid ([0-9]+)', 'g') m
            JOIN pg_catalog.pg_class s ON s.oid = m[1]::pg_catalog.oid AND s.oid < 16384
        UNION ALL SELECT t.of, 'a policy of ' || c.oid::pg_catalog.regclass::text || ' that reads tables' FROM text t
            JOIN pg_catalog.pg_class c ON c.oid = t.of AND c.relkind IN ('r', 'p', 'f')
            WHERE pg_catalog.strpos(t.tree, '{SUBLINK') > 0) f
    ORDER BY 1, 2";

/// A view below may be replaced, and so may a function and the parts of an aggregate; the label
/// of an enum may be renamed, and is what a view has made a text of. Policies may be changed, and
/// to whom a table belongs, and who is a member of whom they are for, decides whether they hold. The
/// expression of a virtual column may be another, and no row has changed. A row that is made a text, or
/// JSON, has the attributes that its type has then, by their names. What a text search makes of words is
/// said by its configuration, which may be named by a constant or a setting: so by all there are.
const DEFINITIONS: &str = ", type (of, oid) AS (
        SELECT t.of, m[1]::pg_catalog.oid FROM text t
            CROSS JOIN LATERAL pg_catalog.regexp_matches(t.tree, 'type(?:id)? ([0-9]+)', 'g') m WHERE m[1]::pg_catalog.int8 >= 16384
        UNION SELECT t.of, inside.oid FROM type t JOIN pg_catalog.pg_type y ON y.oid = t.oid
            CROSS JOIN LATERAL (SELECT b.oid FROM pg_catalog.unnest(ARRAY[y.typbasetype, y.typelem]) b (oid)
                UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = y.typrelid AND y.typrelid <> 0 AND a.attnum > 0) inside
            WHERE inside.oid >= 16384
    ), called AS (
        SELECT r.of, pg_catalog.string_agg(pg_catalog.concat(p.oid, p.prosrc, p.probin, p.prosqlbody,
                p.proisstrict, p.prosecdef, p.proconfig::text, a.text), ' ' ORDER BY p.oid) AS text
            FROM reach r JOIN pg_catalog.pg_proc p ON p.oid = r.fn AND p.oid >= 16384
            LEFT JOIN LATERAL (SELECT pg_catalog.to_jsonb(a)::text AS text FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid) a ON true
            GROUP BY r.of
    ), labels AS (
        SELECT t.of, pg_catalog.string_agg(pg_catalog.concat(e.oid, e.enumlabel), ' ' ORDER BY e.enumtypid, e.enumsortorder) AS text
            FROM type t JOIN pg_catalog.pg_enum e ON e.enumtypid = t.oid GROUP BY t.of
    ), members AS (
        SELECT t.of, pg_catalog.string_agg(pg_catalog.concat(y.oid, y.typname, a.attnum, ' ', a.attname, a.atttypid, ' ', a.atttypmod, a.attisdropped), ' '
                ORDER BY y.oid, a.attnum) AS text
            FROM type t JOIN pg_catalog.pg_type y ON y.oid = t.oid
            JOIN pg_catalog.pg_attribute a ON a.attrelid = y.typrelid AND y.typrelid <> 0 AND a.attnum > 0 GROUP BY t.of
    ), searches AS (
        SELECT DISTINCT r.of, pg_catalog.concat(
                (SELECT pg_catalog.string_agg(pg_catalog.to_jsonb(x)::text, ' ' ORDER BY x.mapcfg, x.maptokentype, x.mapseqno) FROM pg_catalog.pg_ts_config_map x),
                (SELECT pg_catalog.string_agg(pg_catalog.concat(x.oid, x.cfgname, x.cfgnamespace), ' ' ORDER BY x.oid) FROM pg_catalog.pg_ts_config x),
                (SELECT pg_catalog.string_agg(pg_catalog.concat(x.oid, x.dictname, x.dictnamespace, x.dicttemplate, x.dictinitoption), ' ' ORDER BY x.oid)
                    FROM pg_catalog.pg_ts_dict x)) AS text
            FROM reach r JOIN pg_catalog.pg_proc p ON p.oid = r.fn AND p.proname ~ '(tsvector|tsquery|ts_headline|ts_lexize|ts_debug|ts_config)'
    ), said AS (
        SELECT r.ev_class AS of, pg_catalog.concat(c.relowner, CASE c.relkind WHEN 'v' THEN c.reloptions::text END, r.ev_action::text) AS text
            FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN ('m', 'v')
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.ev_type = '1' AND {not_system}
        UNION ALL SELECT c.oid, pg_catalog.concat(c.relowner, c.relforcerowsecurity,
                (SELECT pg_catalog.string_agg(pg_catalog.to_jsonb(p)::text, ' ' ORDER BY p.oid) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid),
                (SELECT pg_catalog.string_agg(b.oid::text, ' ' ORDER BY b.oid) FROM pg_catalog.pg_roles b WHERE b.rolbypassrls),
                (SELECT pg_catalog.string_agg(DISTINCT m.member::text, ' ') FROM pg_catalog.pg_policy p
                    JOIN pg_catalog.pg_auth_members m ON m.roleid = ANY (p.polroles) WHERE p.polrelid = c.oid))
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relrowsecurity AND c.relkind IN ('r', 'p') AND {not_system}
        UNION ALL SELECT v.adrelid, pg_catalog.concat(v.adnum, ' ', v.adbin::text) FROM pg_catalog.pg_attrdef v
            JOIN pg_catalog.pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum AND a.attgenerated = 'v'
            JOIN pg_catalog.pg_class c ON c.oid = v.adrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {not_system})
    SELECT s.of, pg_catalog.hashtextextended(pg_catalog.concat(s.text, '/', c.text, '/', l.text, '/', m.text, '/', w.text), 0)
    FROM (SELECT a.of, pg_catalog.string_agg(a.text, '/' ORDER BY a.text) AS text FROM said a GROUP BY a.of) s
        LEFT JOIN called c ON c.of = s.of LEFT JOIN labels l ON l.of = s.of
        LEFT JOIN members m ON m.of = s.of LEFT JOIN searches w ON w.of = s.of";

/// SQL: why a view, or a table with row security, may show something else tomorrow.
pub(super) fn moods() -> String {
    filled(&[REACH, MOODS].concat())
}

/// SQL: a number that changes with how a view, or the row security of a table, is defined.
pub(super) fn definitions() -> String {
    filled(&[REACH, DEFINITIONS].concat())
}

fn filled(sql: &str) -> String {
    sql.replace("{not_system}", NOT_SYSTEM_SCHEMA)
        .replace("{called}", CALLED)
}
