//! Which server this is, and how far it has come. After a failover, a restore to a point in time
//! or a move, what earlier transactions did may be undone, and their ids are other transactions'.

/// The timeline that the server writes: another one after each failover. A standby writes none.
pub const TIMELINE: &str = "CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
    pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END";

/// When the server was started. Nothing sets one back to an earlier state of its disks while it
/// runs, and afterwards its numbers are other transactions'.
pub const STARTED: &str = "pg_catalog.to_char(pg_catalog.timezone('UTC'::text, pg_catalog.pg_postmaster_start_time()), 'YYYY-MM-DD HH24:MI:SS.US'::text)";

/// A server at one moment of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standpoint {
    /// Its system identifier and its timeline.
    pub server: String,
    /// The id of the database that was asked.
    pub database: u32,
    /// When it was started.
    pub since: String,
    /// The id that the next transaction gets, at least.
    pub next_transaction: u64,
}

impl Standpoint {
    /// Whether this server may not know what a transaction did: that was on another server or
    /// timeline, or this one was set back to before it. Of none, nothing can be lost.
    pub fn may_have_lost(&self, server: Option<&str>, transaction: &str) -> bool {
        transaction
            .parse::<u64>()
            .is_ok_and(|id| server != Some(&*self.server) || id >= self.next_transaction)
    }

    /// Whether it has run without a break since a transaction that noted when it was started: then
    /// it knows what that did. One that was started anew may have been set back to a snapshot, and
    /// tells it by no number once it has gone on from there.
    pub fn has_run_since(&self, since: Option<&str>) -> bool {
        !self.since.is_empty() && since == Some(&*self.since)
    }

    /// Whether this is the server, of whichever timeline, that has this place.
    pub fn is_of(&self, server: Option<&str>) -> bool {
        let system = |place: &str| place.split('/').next().map(str::to_owned);
        server.and_then(system) == system(&self.server)
    }

    /// The server, and since when it runs.
    pub fn run(&self) -> String {
        format!("{} since {}", self.server, self.since)
    }
}

/// A system identifier and a timeline as manifests have them.
pub fn place(system: &str, timeline: &str) -> String {
    format!("{system}/{}", timeline.trim_start_matches('0'))
}
