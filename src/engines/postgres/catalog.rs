//! Pieces of catalog SQL that more than one query needs.

use super::Server;

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

/// SQL for the size in bytes of the relation `alias` (`pg_class`).
///
/// `pg_relation_size` waits for whoever holds the relation exclusively, and
/// one such table would hold up the look at all others; for those the size at
/// their last vacuum has to do.
pub fn size_of(alias: &str) -> String {
    format!(
        "CASE WHEN {alias}.oid = ANY (ARRAY(SELECT l.relation FROM pg_catalog.pg_locks l
                WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'))
            THEN {alias}.relpages::int8 * pg_catalog.current_setting('block_size')::int8
            ELSE coalesce(pg_catalog.pg_relation_size({alias}.oid), 0) END"
    )
}

/// Answers `true` while the relation `$1` still has the schema `$2` and the
/// name `$3`; no row, or `false`, means that it vanished or was renamed.
pub const STILL_THERE: &str = "SELECT n.nspname = $2::text AND c.relname = $3::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = $1::oid";

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
