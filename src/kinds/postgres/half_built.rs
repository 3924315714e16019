//! What a concurrent rebuild that failed leaves behind: an invalid index beside the one that it
//! was to replace. Who removes it and who only tells of it mean the same indexes.

use crate::engines::postgres::catalog::size_of;

/// SQL for whether the role may drop an index of the table `c`: MAINTAIN, which lets it rebuild
/// one, does not suffice.
pub(super) const MAY_DROP: &str = "(pg_catalog.pg_has_role(c.relowner, 'USAGE') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'))";

/// Indexes that bear the name the server gives the halves of a concurrent
/// rebuild: the base name, cut so that the suffix fits into 63 bytes, and
/// `_ccnew` or `_ccold` with a number where the name was taken. Names alone
/// prove nothing, so the base must exist on the same table and be defined alike:
/// unique where that is. It is valid, unless what was to be mended was an invalid one. `busy` names who holds a lock on the table that every
/// build, and every vacuum, holds all the time it works. Expressions are compared as they are
/// stored: having the server write them down waits for whoever holds the table.
const LEFTOVERS: &str = "SELECT x.oid, i.indrelid, n.nspname::text AS leftover_schema, x.relname::text AS leftover_name,
        tn.nspname::text AS table_schema, c.relname::text AS table_name, b.relname::text AS base_name,
        {size} AS bytes,
        (SELECT pg_catalog.concat_ws(', ', 'pid ' || l.pid::text, a.usename, nullif(a.application_name, ''))
            FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
            WHERE l.locktype = 'relation' AND l.relation IN (c.oid, x.oid)
                AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
            LIMIT 1) AS busy, {may} AS may, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner
    FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
        JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_namespace tn ON tn.oid = c.relnamespace
        JOIN pg_catalog.pg_index bi ON bi.indrelid = i.indrelid AND bi.indexrelid <> i.indexrelid
        JOIN pg_catalog.pg_class b ON b.oid = bi.indexrelid,
        LATERAL (SELECT pg_catalog.regexp_replace(x.relname, '_cc(new|old)[0-9]*$', '') AS stem,
            pg_catalog.regexp_replace(x.relname, '(_cc(new|old)[0-9]*)+$', '') AS root) AS p
    WHERE x.relkind = 'i' AND NOT i.indisvalid AND x.relname ~ '_cc(new|old)[0-9]*$'
        AND (bi.indisvalid OR x.relname ~ '_ccnew[0-9]*$') AND x.relam = b.relam AND x.relnamespace = b.relnamespace
        AND (b.relname IN (p.stem, p.root)
            OR pg_catalog.octet_length(x.relname::text) > 59 AND pg_catalog.starts_with(b.relname::text, p.stem)
                AND pg_catalog.octet_length(b.relname::text) > pg_catalog.octet_length(p.stem))
        AND {alike}";

/// Whether two indexes of one table, `i` and `bi`, are defined alike.
const ALIKE: &str = "bi.indkey::text = i.indkey::text AND bi.indclass::text = i.indclass::text
        AND bi.indcollation::text = i.indcollation::text AND bi.indoption::text = i.indoption::text
        AND bi.indnkeyatts = i.indnkeyatts AND bi.indisunique = i.indisunique AND bi.indisexclusion = i.indisexclusion
        -- Only from 15 on; a column of a version that is not there yet is none.
        AND pg_catalog.to_jsonb(bi) OPERATOR(pg_catalog.->>) 'indnullsnotdistinct'
            IS NOT DISTINCT FROM pg_catalog.to_jsonb(i) OPERATOR(pg_catalog.->>) 'indnullsnotdistinct'
        AND pg_catalog.regexp_replace(bi.indexprs::text, ':location -?[0-9]+', '', 'g')
            IS NOT DISTINCT FROM pg_catalog.regexp_replace(i.indexprs::text, ':location -?[0-9]+', '', 'g')
        AND pg_catalog.regexp_replace(bi.indpred::text, ':location -?[0-9]+', '', 'g')
            IS NOT DISTINCT FROM pg_catalog.regexp_replace(i.indpred::text, ':location -?[0-9]+', '', 'g')";

/// A valid index that is defined as `{i}` is, an invalid one of its table; none where that is part of another.
const TWIN: &str = "CASE WHEN NOT i.indisvalid AND NOT x.relispartition THEN (SELECT pg_catalog.format('%I.%I', bn.nspname, b.relname)
        FROM pg_catalog.pg_index bi JOIN pg_catalog.pg_class b ON b.oid = bi.indexrelid
            JOIN pg_catalog.pg_namespace bn ON bn.oid = b.relnamespace
        WHERE bi.indrelid = i.indrelid AND bi.indexrelid <> i.indexrelid AND bi.indisvalid AND bi.indisready AND b.relam = x.relam
            AND {alike} ORDER BY 1 LIMIT 1) END";

/// SQL for that index, of the one whose rows in `pg_index` and `pg_class` go by these names.
pub(super) fn twin(index: &str, class: &str) -> String {
    let of = TWIN.replace("{alike}", ALIKE);
    let of = of
        .replace("(i)", "(\u{1})")
        .replace("(i.", "(\u{1}.")
        .replace(" i.", " \u{1}.")
        .replace(" x.", " \u{2}.");
    of.replace('\u{1}', index).replace('\u{2}', class)
}

/// What an invalid index is that has such a twin, and what helps.
pub(super) fn redundant(twin: &str) -> String {
    format!(
        "{twin} is defined alike, and valid: a CREATE INDEX CONCURRENTLY that failed, and was begun again under another name, left this one. Drop it; rebuilt, it would be a second index like that"
    )
}

/// What helps where an index is invalid that is to keep keys apart: built as it is, it would only
/// fail again, and leave one more.
pub(super) const TWICE: &str = "Keys that are there twice may be why: find and mend them, then rebuild it with REINDEX INDEX CONCURRENTLY, or drop it";

/// SQL for all of them; `may` tells whether we may drop it.
pub(super) fn sql(may: &str) -> String {
    LEFTOVERS
        .replace("{alike}", ALIKE)
        .replace("{size}", &size_of("x"))
        .replace("{may}", may)
}
