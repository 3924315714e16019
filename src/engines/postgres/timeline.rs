//! Which server this is, and how far it has come. After a failover, a restore to a point in time
//! or a move, what earlier transactions did may be undone, and their ids are other transactions'.

use super::{Session, first};
use crate::engines::EngineError;

/// The timeline that the server writes: another one after each failover. A standby writes none.
pub const TIMELINE: &str = "CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
    pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END";

/// A server at one moment of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standpoint {
    /// Its system identifier and its timeline.
    pub server: String,
    /// The id that the next transaction gets, at least.
    pub next_transaction: u64,
}

impl Standpoint {
    /// Asks the server of a session.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn of(session: &Session) -> Result<Standpoint, EngineError> {
        let doing = "asking which server this is";
        let sql = format!(
            "SELECT {TIMELINE}, pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text"
        );
        let rows = session.query(doing, &sql, &[]).await?;
        let timeline: Option<String> = first(&rows, 0)?.flatten();
        let next: Option<String> = first(&rows, 1)?;
        let system = session.system_identifier().await?.unwrap_or_default();
        Ok(Standpoint {
            server: place(&system, &timeline.unwrap_or_default()),
            next_transaction: next.and_then(|id| id.parse().ok()).unwrap_or_default(),
        })
    }

    /// Whether this server may not know what a transaction did: that was on another server or
    /// timeline, or this one was set back to before it. Of none, nothing can be lost.
    pub fn may_have_lost(&self, server: Option<&str>, transaction: &str) -> bool {
        transaction
            .parse::<u64>()
            .is_ok_and(|id| server != Some(&*self.server) || id >= self.next_transaction)
    }
}

/// A system identifier and a timeline as manifests have them.
pub fn place(system: &str, timeline: &str) -> String {
    format!("{system}/{}", timeline.trim_start_matches('0'))
}
