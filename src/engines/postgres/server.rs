//! The server at the other end, and what it says of itself.

use chrono::{DateTime, Utc};

use super::Row;
use crate::engines::{EngineError, clocks};

/// Asked when everything is pinned, so that names mean what they say here.
pub(super) const FACTS: &str = "SELECT current_setting('server_version_num')::int4 AS version_num,
    current_setting('server_version') AS version, current_database()::text AS database,
    current_user::text AS role, session_user::text AS session_role,
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
    pg_catalog.pg_is_in_recovery() AS in_recovery, pg_catalog.pg_backend_pid() AS pid,
    (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::int8 AS clock_ms,
    (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) AS database_oid";

/// The server at the other end, as seen when the session was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `170010` for 17.10.
    pub version_num: i32,
    /// `17.10`, perhaps with a packager's suffix.
    pub version: String,
    /// The database.
    pub database: String,
    /// Its id: one that is put in the place of another has another, whatever its name.
    pub database_oid: u32,
    /// The role that statements run as.
    pub role: String,
    /// The role that logged in, which `pg_stat_activity` shows; another one
    /// where `ALTER ROLE … SET role` says so.
    pub session_role: String,
    /// Whether that role is a superuser.
    pub superuser: bool,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// By how many milliseconds this machine's clock is ahead of the server's,
    /// at least; negative where it is behind, 0 where both may be the same.
    pub clock_ahead_ms: i64,
}

impl Server {
    /// From the answer to [`FACTS`], and when that was asked and answered.
    pub(super) fn of(
        row: &Row,
        asked_at: DateTime<Utc>,
        answered_at: DateTime<Utc>,
    ) -> Result<Server, EngineError> {
        Ok(Server {
            version_num: row.named("version_num")?,
            version: row.named("version")?,
            database: row.named("database")?,
            database_oid: row.named("database_oid")?,
            role: row.named("role")?,
            session_role: row.named("session_role")?,
            superuser: row.named::<Option<bool>>("superuser")?.unwrap_or(false),
            in_recovery: row.named("in_recovery")?,
            clock_ahead_ms: clocks::ahead(
                row.named("clock_ms")?,
                asked_at.timestamp_millis(),
                answered_at.timestamp_millis(),
            ),
        })
    }

    /// The major version: 14 to 19.
    pub fn major(&self) -> i32 {
        self.version_num / 10_000
    }

    /// What is wrong where the two clocks are more than a few seconds apart:
    /// then nobody can tell how old a row is.
    pub fn clock_differs(&self) -> Option<String> {
        clocks::differ(self.clock_ahead_ms, "rows")
    }
}
