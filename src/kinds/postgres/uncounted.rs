//! Whose changes the server does not count: where nobody knows how much has changed, nobody knows
//! that nothing is to be done.

use crate::engines::EngineError;
use crate::engines::postgres::{Session, each, first};
use crate::plan::{Finding, Plan, Severity};
use crate::values::unreadable;

/// Whose changes are not counted here: of one role, of all, of whoever comes into this database. What is said for a role
/// in this database counts for more than what is said for it everywhere. Functions write with the settings of
/// whoever calls them, so that privileges do not tell which tables are meant. With each, what takes the setting back.
const UNCOUNTED: &str = "SELECT CASE WHEN s.setrole = 0 THEN 'all roles' ELSE r.rolname::text END,
        CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALTER ROLE ALL RESET track_counts'
            WHEN s.setrole = 0 THEN pg_catalog.format('ALTER DATABASE %I RESET track_counts', pg_catalog.current_database())
            WHEN s.setdatabase = 0 THEN pg_catalog.format('ALTER ROLE %I RESET track_counts', r.rolname)
            ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %I RESET track_counts', r.rolname, pg_catalog.current_database()) END
    FROM (SELECT s.setrole, s.setdatabase, (SELECT pg_catalog.bool_and(CASE WHEN pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) = 'track_counts'
                THEN pg_catalog.split_part(c, '=', 2)::bool END) FROM pg_catalog.unnest(s.setconfig) AS c) AS counts
            FROM pg_catalog.pg_db_role_setting s
            WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))) AS s
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
    WHERE NOT s.counts AND (s.setrole = 0 OR (r.rolcanlogin AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')))
        AND (s.setdatabase <> 0 OR NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting o
            CROSS JOIN LATERAL pg_catalog.unnest(o.setconfig) AS c
            WHERE o.setrole = s.setrole AND pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) = 'track_counts'
                AND o.setdatabase = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())))
    ORDER BY 1, 2";

/// Whether the server counts at all.
const COUNTS: &str = "SELECT pg_catalog.current_setting('track_counts') = 'on'";

/// Who changes tables without being counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Uncounted {
    /// Roles, or `all roles`; empty where it is nobody, or the whole server.
    whose: Vec<String>,
    /// What takes these settings back.
    remedies: Vec<String>,
    /// Whether our own changes are not counted either.
    ours: bool,
}

impl Uncounted {
    /// Asks who it is.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub(super) async fn read(db: &Session) -> Result<Uncounted, EngineError> {
        let doing = "asking whose changes are not counted";
        let rows = db.query(doing, UNCOUNTED, &[]).await?;
        let both = each(&rows, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (mut whose, remedies): (Vec<String>, Vec<String>) = both.into_iter().unzip();
        whose.dedup();
        let counts = first::<bool>(&db.query(doing, COUNTS, &[]).await?, 0)?;
        Ok(Uncounted {
            whose,
            remedies,
            ours: counts == Some(false),
        })
    }

    /// For a sentence; none where all changes are counted.
    pub(super) fn text(&self) -> Option<String> {
        match (self.whose.is_empty(), self.ours) {
            (true, false) => None,
            (true, true) => Some("track_counts is off".to_owned()),
            (false, _) => Some(format!("track_counts is off for {}", self.whose.join(", "))),
        }
    }

    /// Tells that of so many tables nobody knows whether there is anything to do.
    pub(super) fn tell(&self, tables: usize, what: &str, plan: &mut Plan) {
        let Some(text) = self.text().filter(|_| tables > 0) else {
            return;
        };
        let text = unreadable::escaped(&text);
        let object = match self.whose.is_empty() {
            true => "track_counts".to_owned(),
            false => self.whose.join(", "),
        };
        let these = match tables {
            1 => "a table that is left alone needs".to_owned(),
            n => format!("{n} tables that are left alone need"),
        };
        plan.findings.push(Finding {
            code: "changes.uncounted".to_owned(),
            severity: Severity::Warning,
            object: unreadable::escaped(&object).into_owned(),
            message: format!(
                "{text}: what is changed there nobody counts, neither for autovacuum nor for this task, and whether {these} {what} is not known"
            ),
            suggestion: (!self.remedies.is_empty()).then(|| self.remedies.join("; ")),
        });
    }
}
