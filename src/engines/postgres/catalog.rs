//! Pieces of catalog SQL that more than one query needs.

use super::{Server, compared};

/// Schemas that belong to the server itself. `n` is `pg_namespace`.
pub const NOT_SYSTEM_SCHEMA: &str = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'";

/// SQL that tells whether the role may VACUUM and ANALYZE the table `c`
/// (`pg_class`): it owns the table, or the database (shared tables excepted),
/// or from 17 on has MAINTAIN on it, `pg_maintain` included.
pub fn may_vacuum(server: &Server) -> String {
    format!(
        "({} OR (NOT c.relisshared AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AND pg_catalog.pg_has_role((SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()), 'USAGE')))",
        may_reindex(server)
    )
}

/// SQL that tells whether the role may REINDEX indexes of the table `c`.
/// Unlike VACUUM, owning the database does not suffice.
pub fn may_reindex(server: &Server) -> String {
    let maintain = if server.major() >= 17 {
        " OR pg_catalog.has_table_privilege(c.oid, 'MAINTAIN')"
    } else {
        ""
    };
    // Who may not use the schema cannot name the table.
    format!(
        "((pg_catalog.pg_has_role(c.relowner, 'USAGE'){maintain}) AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'))"
    )
}

/// SQL: whether somebody has the relation with this oid for themselves, or waits for that.
///
/// Whoever else opens it then waits, and so does what writes down an expression, a key or an
/// index of it, or asks for its size. One such table would hold up the look at all others.
pub fn held(oid: &str) -> String {
    format!(
        "({oid} = ANY (ARRAY(SELECT l.relation FROM pg_catalog.pg_locks l
                WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                    AND l.database IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())))))"
    )
}

/// SQL for the size in bytes of the relation `alias` (`pg_class`); of one that somebody holds
/// the size at its last vacuum has to do. One that had none yet is not taken for empty: the rows that
/// are counted have to do, of the fewest bytes that a row takes.
pub fn size_of(alias: &str) -> String {
    format!(
        "CASE WHEN {}
            THEN CASE WHEN {alias}.reltuples < 0 AND {alias}.relpages = 0
                THEN greatest(pg_catalog.current_setting('block_size')::int8, 28::int8
                    * (pg_catalog.pg_stat_get_live_tuples({alias}.oid) + pg_catalog.pg_stat_get_dead_tuples({alias}.oid)))
                ELSE {alias}.relpages::int8 * pg_catalog.current_setting('block_size')::int8 END
            ELSE coalesce(pg_catalog.pg_relation_size({alias}.oid), 0) END",
        held(&format!("{alias}.oid"))
    )
}

/// SQL for a subquery: `relid` of the relation with this oid and of all below it, tables or
/// indexes. The server's own function for that waits for whoever holds one of them.
pub fn tree(oid: &str) -> String {
    format!(
        "(WITH RECURSIVE below (relid) AS (SELECT {oid}::pg_catalog.oid
            UNION SELECT i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.relid)
            SELECT b.relid FROM below b)"
    )
}

/// SQL for a subquery: `relid` of the relation with this oid and of every table that it is a partition of. Foreign
/// keys, publications, policies and triggers of all of them concern its rows; those of a table that it inherits
/// from in another way do not.
pub fn with_ancestors(oid: &str) -> String {
    format!(
        "(SELECT {oid}::pg_catalog.oid AS relid UNION SELECT a.relid FROM pg_catalog.pg_partition_ancestors({oid}) AS a (relid))"
    )
}

/// SQL: whether the server holds writers to the constraint `alias` (`pg_constraint`):
/// since 18 it may be NOT ENFORCED, and then nothing is looked up for it.
pub fn enforced(server: &Server, alias: &str) -> String {
    match server.major() >= 18 {
        true => format!("{alias}.conenforced"),
        false => "true".to_owned(),
    }
}

/// SQL: whether the server can look for rows that refer by the foreign key `k` (`pg_constraint`) in the index `x`
/// (`pg_index`) of the table with this oid, which has the columns of `conrelid`, in whatever order.
///
/// That is what its planner asks: a column of the key comes first (in GIN and bloom filters, anywhere), as it is or
/// cast to what the operator takes; the operator by which the key
/// is looked up belongs to the index's operator family, both have the same collation, and all rows are in it, or all
/// whose columns are given. The other columns of a longer key only narrow down what is found. Block ranges (BRIN) serve
/// nothing: to look into them is to read much of the table.
pub fn serves(k: &str, relation: &str) -> String {
    let columns = format!(
        "ROWS FROM (pg_catalog.unnest({k}.conkey), pg_catalog.unnest({k}.confkey), pg_catalog.unnest({k}.conpfeqop)) AS u (near, far, operator)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = {k}.conrelid AND a.attnum = u.near
            JOIN pg_catalog.pg_attribute own ON own.attrelid = {relation} AND own.attname = a.attname"
    );
    let holds = holds_all(&format!(
        "ARRAY(SELECT own.attnum FROM {columns} ORDER BY own.attnum)"
    ));
    let cast = compared::first_is_cast("own.attnum", "own.atttypid", "op.oprright");
    // Only where the collation of the parent tells no equal values apart is it the one that values are compared by.
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_class i JOIN pg_catalog.pg_am am ON am.oid = i.relam AND am.amname <> 'brin'
            CROSS JOIN LATERAL pg_catalog.generate_series(0, CASE WHEN am.amname IN ('gin', 'bloom') THEN x.indnkeyatts - 1 ELSE 0 END) AS at (n)
            JOIN ({columns}
                JOIN pg_catalog.pg_attribute theirs ON theirs.attrelid = {k}.confrelid AND theirs.attnum = u.far
                LEFT JOIN pg_catalog.pg_collation parents ON parents.oid = theirs.attcollation
                CROSS JOIN LATERAL (SELECT w.* FROM pg_catalog.pg_operator w WHERE w.oid = u.operator OFFSET 0) AS op) ON own.attnum = x.indkey[at.n]
                    OR (at.n = 0 AND x.indkey[0] = 0 AND {cast})
            JOIN pg_catalog.pg_opclass oc ON oc.oid = x.indclass[at.n]
            JOIN pg_catalog.pg_amop ap ON ap.amopfamily = oc.opcfamily AND ap.amopopr = op.oprcom AND ap.amoppurpose = 's'
            WHERE i.oid = x.indexrelid AND x.indcollation[at.n] IN (0::pg_catalog.oid,
                CASE WHEN parents.collisdeterministic IS FALSE THEN theirs.attcollation ELSE own.attcollation END)
            AND {holds})"
    )
}

/// SQL: whether all rows whose `columns` (an array of column numbers) have values are in the index `x` (`pg_index`).
/// Its predicate is read as it is stored, because having the server write it down waits for whoever holds the table.
/// What is read is one of: no predicate; that all of some of the columns have a value; that one has, or something else
/// is so.
fn holds_all(columns: &str) -> String {
    // What is no AND, OR and NOT, from the inside out: as deep as people write it.
    let other = r"\{(?!BOOLEXPR)[^{}]*\}";
    let given = format!(
        r"pg_catalog.regexp_replace(x.indpred::text, '\{{NULLTEST :arg \{{VAR [^{{}}]*:varattno (' || pg_catalog.array_to_string({columns}, '|') || ') [^{{}}]*\}} :nulltesttype 1 [^{{}}]*\}}', '#', 'g')"
    );
    let reduced = (0..5).fold(given, |text, _| {
        format!("pg_catalog.regexp_replace({text}, '{other}', '@', 'g')")
    });
    format!(
        r"(x.indpred IS NULL OR {reduced} ~ '^(#|\{{BOOLEXPR :boolop and :args \(#( #)*\)[^{{}}]*\}}|\{{BOOLEXPR :boolop or :args \([@ ]*#[#@ ]*\)[^{{}}]*\}})$')"
    )
}

/// SQL: whether rows that refer by the foreign key `k` (`pg_constraint`), of the table `c` (`pg_class`), have to be
/// looked for without an index: in the table, or in a partition that has no such index either, of its own or its
/// parent's.
pub fn without_index(k: &str) -> String {
    let serves = serves(k, "l.relid");
    let below = tree("c.oid");
    format!(
        "EXISTS (SELECT FROM (SELECT c.oid AS relid WHERE c.relkind <> 'p'
                UNION ALL SELECT pt.relid FROM {below} pt WHERE c.relkind = 'p') l
            JOIN pg_catalog.pg_class leaf ON leaf.oid = l.relid AND leaf.relkind = 'r'
            WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = l.relid AND x.indisvalid AND {serves}))"
    )
}

/// SQL: whether the trigger `$t` (`pg_trigger`) is one that people made. Before 15 what a
/// partition has of its table's row triggers passes for the server's own, as what makes
/// foreign keys work does.
macro_rules! by_people {
    ($t:literal) => {
        concat!(
            "(NOT ",
            $t,
            ".tgisinternal OR (",
            $t,
            ".tgparentid <> 0 AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint made WHERE made.oid = ",
            $t,
            ".tgconstraint AND made.contype = 'f')))"
        )
    };
}
pub(crate) use by_people;

/// Answers `true` where a crash of the server would empty the table `$1` (quoted,
/// qualified), or a partition of it: an archive is no place for rows then.
pub const UNLOGGED: &str = "WITH RECURSIVE below (oid) AS (
        SELECT pg_catalog.to_regclass($1::text)::oid
        UNION SELECT i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid)
    SELECT EXISTS (SELECT FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid WHERE c.relpersistence = 'u' AND c.relkind = 'r')";

/// What a relation is that cannot be written to as a table can, by its kind in the catalog.
pub fn no_table(relkind: &str) -> Option<&'static str> {
    Some(match relkind {
        "r" | "p" => return None,
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        "S" => "a sequence",
        "i" | "I" => "an index",
        "c" => "a type",
        _ => "no table",
    })
}

/// Schema and name of a partition of the table `$1`, or of one below it, that is a foreign table.
pub const FOREIGN_PART: &str = "WITH RECURSIVE below (oid) AS (
        SELECT pg_catalog.to_regclass($1::text)::oid
        UNION SELECT i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
            JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition)
    SELECT n.nspname::text, c.relname::text FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind = 'f'
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2 LIMIT 1";

/// Answers `true` while the relation `$1` still has the schema `$2` and the
/// name `$3`; NULL, or `false`, means that it vanished or was renamed. It is
/// asked before every step: a join of catalogs would be planned each time, which
/// takes longer than many a step.
pub const STILL_THERE: &str = "SELECT (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, $1::oid, 0)).identity
        = pg_catalog.format('%I.%I', $2::text, $3::text)";

/// The same of many at once: a `boolean`, or NULL, for each id of `$1`, in their order.
pub const ALL_STILL_THERE: &str = "SELECT (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, t.id, 0)).identity
        = pg_catalog.format('%I.%I', t.schema, t.relation)
    FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]))
        WITH ORDINALITY t (id, schema, relation, place) ORDER BY t.place";

/// SQL for the statement that ends the transaction which the session `a`
/// (`pg_stat_activity`) has open now. A report is read days later, when the
/// server may have given the process id to somebody else, or the session may
/// be at something else: then the statement does nothing. NULL where the role
/// may not see since when the session has been there.
pub const END_SESSION: &str = "CASE WHEN a.backend_start IS NOT NULL AND a.xact_start IS NOT NULL THEN pg_catalog.format('SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE a.pid = %s AND a.backend_start = %L AND a.xact_start = %L',
            a.pid, a.backend_start, a.xact_start) END";

/// SQL for the statement that drops the replication slot `s`
/// (`pg_replication_slots`), if nobody uses it by then.
pub const DROP_IDLE_SLOT: &str = "pg_catalog.format('SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %L AND NOT s.active', s.slot_name)";

/// SQL for the moment from which on the server has been counting what happens
/// in this database. Counters begin anew when they are reset, after a crash,
/// on a server that was a standby, and after an upgrade; only some of that is
/// noted for the database itself.
pub const COUNTING_SINCE: &str = "(SELECT greatest((SELECT d.stats_reset FROM pg_catalog.pg_stat_database d WHERE d.datname = pg_catalog.current_database()),
            (SELECT b.stats_reset FROM pg_catalog.pg_stat_bgwriter b), (SELECT a.stats_reset FROM pg_catalog.pg_stat_archiver a)))";

/// Which counters those are: of this database and no other of its name, since then. A database that is made of another
/// takes over its ids, and begins to count at nothing.
pub fn counting_as() -> String {
    format!(
        "pg_catalog.concat((SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), '/', {COUNTING_SINCE})"
    )
}
