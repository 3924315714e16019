//! What every run reads of the server's own, and a server may have taken from everybody
//! (`REVOKE … FROM PUBLIC`).

use super::{Identifier, Session, each};
use crate::engines::EngineError;

/// What is read, and whether whoever watches our sessions reads it: without that nobody sees who waits
/// for a step. Functions that a view calls are called with the rights of whoever reads it.
///
/// Of a role that is switched to at login (`ALTER ROLE … SET role`) the one that logged in watches.
const LACKING: &str = "WITH reads (name, is_view, watches) AS (VALUES
        ('pg_locks', true, true), ('pg_stat_activity', true, true), ('pg_prepared_xacts', true, true),
        ('pg_database', true, true), ('pg_stat_progress_create_index', true, true),
        ('pg_stat_progress_vacuum', true, true), ('pg_stat_progress_analyze', true, true),
        ('pg_stat_progress_repack', true, true),
        ('pg_blocking_pids(int4)', false, true), ('pg_lock_status()', false, true),
        ('pg_prepared_xact()', false, true), ('pg_stat_get_activity(int4)', false, true),
        ('pg_stat_get_progress_info(text)', false, true),
        ('pg_roles', true, false), ('pg_stats', true, false), ('pg_settings', true, false),
        ('pg_replication_slots', true, false), ('pg_stat_replication', true, false),
        ('pg_stat_all_tables', true, false), ('pg_stat_all_indexes', true, false),
        ('pg_relation_size(regclass)', false, false), ('pg_relation_size(regclass, text)', false, false),
        ('pg_table_size(regclass)', false, false), ('pg_indexes_size(regclass)', false, false),
        ('pg_total_relation_size(regclass)', false, false), ('pg_database_size(oid)', false, false)),
    roles (role) AS (SELECT session_user::text UNION SELECT current_user::text),
    there AS (SELECT r.name, r.is_view, r.watches,
            CASE WHEN r.is_view THEN pg_catalog.to_regclass('pg_catalog.' || r.name)::oid
                ELSE pg_catalog.to_regprocedure('pg_catalog.' || r.name)::oid END AS oid
        FROM reads r)
    SELECT t.name, CASE WHEN t.is_view THEN 'SELECT ON pg_catalog.' ELSE 'EXECUTE ON FUNCTION pg_catalog.' END || t.name AS right_to,
        r.role, t.watches
    FROM there t CROSS JOIN roles r
    WHERE t.oid IS NOT NULL AND CASE WHEN t.is_view
        THEN EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0
            AND NOT pg_catalog.has_column_privilege(r.role::name, t.oid, a.attnum, 'SELECT'))
        ELSE NOT pg_catalog.has_function_privilege(r.role::name, t.oid, 'EXECUTE') END
    ORDER BY NOT t.is_view, t.name, r.role";

/// Something of the server's own that the role may not read, or call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// Its name, of a function with its arguments.
    pub name: String,
    /// The role that may not.
    pub role: String,
    /// Whether without it nobody sees who waits for a step.
    pub watches: bool,
    /// The statement that lets it.
    pub grant: String,
}

/// What the session's role may not read of the server's own, nor the one that logged in.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn lacking(db: &Session) -> Result<Vec<Lacking>, EngineError> {
    let doing = "asking what the role may see of the server";
    let rows = db.query(doing, LACKING, &[]).await?;
    each(&rows, |row| {
        let role: String = row.named("role")?;
        let right: String = row.named("right_to")?;
        Ok(Lacking {
            grant: format!("GRANT {right} TO {}", Identifier::new(&*role)),
            name: row.named("name")?,
            watches: row.named("watches")?,
            role,
        })
    })
}

/// The names of all, and what lets the role read them; `None` where it lacks nothing.
pub fn told(lacking: &[Lacking]) -> Option<(String, String)> {
    if lacking.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = lacking.iter().map(|one| one.name.as_str()).collect();
    names.dedup();
    let grants: Vec<&str> = lacking.iter().map(|one| one.grant.as_str()).collect();
    Some((names.join(", "), grants.join("; ")))
}
