//! How many connections a role, or a database, may have, and a server takes.

use super::{Fault, Session};
use crate::engines::EngineError;

/// `CONNECTION LIMIT` of the role that logged in, or of the database, or what the server takes besides those it keeps for
/// others, whichever leaves least. Nobody counts those of superusers. Whose a session is, the server shows everybody.
const LIMIT: &str = "SELECT l.what, l.most::int8 AS most, l.used, l.raise FROM (
        SELECT pg_catalog.format('role %I', r.rolname) AS what, r.rolconnlimit AS most,
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid AND {client}) AS used,
            pg_catalog.format('ALTER ROLE %I', r.rolname) AS raise
        FROM pg_catalog.pg_roles r WHERE r.rolname = session_user AND r.rolconnlimit >= 0
        UNION ALL SELECT pg_catalog.format('database %I', d.datname), d.datconnlimit,
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND {client}),
            pg_catalog.format('ALTER DATABASE %I', d.datname)
        FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND d.datconnlimit >= 0
        UNION ALL SELECT 'the server', pg_catalog.current_setting('max_connections')::int8
                - pg_catalog.current_setting('superuser_reserved_connections')::int8
                - CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'pg_use_reserved_connections'
                    AND pg_catalog.pg_has_role(session_user, r.oid, 'USAGE')) THEN 0
                    ELSE coalesce(nullif(pg_catalog.current_setting('reserved_connections', true), '')::int8, 0) END,
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE {client}), NULL) l
    WHERE NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = session_user)
    ORDER BY l.most - l.used, l.what DESC LIMIT 1";

/// Whether a session of the server's is a client's. What it is, of those of other roles, is seen only by who may; that it
/// has a role and a database, by everybody, and of what is no client only few have both.
const CLIENT: &str =
    "coalesce(a.backend_type = 'client backend', a.usesysid IS NOT NULL AND a.datid IS NOT NULL)";

/// A limit of connections, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seats {
    /// Whose it is: `role app`, `database app`, `the server`.
    pub what: String,
    /// How many there may be.
    pub most: u32,
    /// How many there are, this session among them.
    pub used: u32,
    /// What begins the statement that raises it; none where only a setting of the server does.
    raise: Option<String>,
}

impl Seats {
    /// The limit that leaves least; none where there is no limit, or where the role may not see how many there are:
    /// without that no step is begun, which is told elsewhere.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn of(db: &Session) -> Result<Option<Seats>, EngineError> {
        let doing = "asking how many connections there may be";
        let rows = match db
            .query(doing, &LIMIT.replace("{client}", CLIENT), &[])
            .await
        {
            Err(error) if Fault::of(&error) == Fault::Forbidden => return Ok(None),
            rows => rows?,
        };
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let count = |column: &str| {
            row.named::<i64>(column)
                .map(|n| u32::try_from(n).unwrap_or(0))
        };
        Ok(Some(Seats {
            what: row.named("what")?,
            most: count("most")?,
            used: count("used")?,
            raise: row.named("raise")?,
        }))
    }

    /// How many more there may be than there are.
    pub fn spare(&self) -> u32 {
        self.most.saturating_sub(self.used)
    }

    /// Says that a run needs so many, and what helps; none where there are as many besides this one.
    pub fn too_few(&self, needed: u32) -> Option<String> {
        if self.spare() + 1 >= needed {
            return None;
        }
        let others = match self.used.saturating_sub(1) {
            0 => String::new(),
            1 => ", one of which is taken".to_owned(),
            n => format!(", {n} of which are taken"),
        };
        let most = match self.most {
            1 => "one connection".to_owned(),
            n => format!("{n} connections"),
        };
        let what = &self.what;
        Some(match &self.raise {
            Some(raise) => format!(
                "{what} may have {most} at once (CONNECTION LIMIT){others}, and a run needs {needed}: {raise} CONNECTION LIMIT {}",
                self.used.saturating_sub(1) + needed
            ),
            None => format!(
                "{what} takes {most} at once (max_connections, without those that it keeps for others){others}, and a run needs {needed}: raise max_connections, which takes a restart, or have others keep fewer open"
            ),
        })
    }
}
