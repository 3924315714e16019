//! Names of transactions that hold whatever becomes of the server.
//!
//! The server takes the id of a transaction from memory, and its log knows of
//! it only from the first record that the transaction writes. After a crash
//! that comes before that record is on the disk, another transaction gets the
//! same id, and whoever asks what became of the first is told of the second.

use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::copies;
use crate::engines::postgres::timeline::{STARTED, TIMELINE, place};

/// Writes a record of the log that belongs to the transaction, and nothing else.
const RECORD: &str = "pg_catalog.pg_logical_emit_message(true, 'maint'::text, ''::text)";

/// A transaction that no other can be taken for.
pub(super) struct Named {
    /// Its id.
    pub(super) id: String,
    /// The server and its timeline.
    pub(super) server: String,
    /// When that was started.
    pub(super) since: String,
}

/// Names the transactions of other sessions on one server.
pub(super) struct Naming {
    /// The server's system identifier.
    system: String,
    /// What it commits waits for the disk, and with it all that was written
    /// into the log before.
    beside: Session,
}

impl Naming {
    /// Opens a session beside one that works, with the same server and under the same name.
    pub(super) async fn beside(
        dial: &Dial,
        name: &str,
        session: &Session,
    ) -> Result<Naming, EngineError> {
        let beside = Session::open(dial, name).await?;
        copies::both_with_one(dial, session, &beside).await?;
        Naming::with(beside).await
    }

    /// With a session that is there.
    pub(super) async fn with(beside: Session) -> Result<Naming, EngineError> {
        // What is waited for is the disk of this server. A standby that has to confirm would be
        // waited for by what commits here, under the limits of the work.
        let alone = "SET synchronous_commit = local";
        beside
            .execute("setting up the session beside", alone)
            .await?;
        let system = beside.system_identifier().await?.unwrap_or_default();
        Ok(Naming { beside, system })
    }

    /// The id of the session's open transaction, which no other will ever have on this server.
    pub(super) async fn name(&self, session: &Session) -> Result<Named, EngineError> {
        let doing = "naming the transaction";
        let sql = format!(
            "SELECT pg_catalog.pg_current_xact_id()::text AS id, {RECORD}::text, {TIMELINE} AS timeline, {STARTED} AS since"
        );
        let rows = session.query(doing, &sql, &[]).await?;
        flush(&self.beside).await?;
        let (id, timeline, since) = match rows.first() {
            Some(row) => (
                row.named("id")?,
                row.named::<Option<String>>("timeline")?.unwrap_or_default(),
                row.named("since")?,
            ),
            None => (String::new(), String::new(), String::new()),
        };
        Ok(Named {
            id,
            server: place(&self.system, &timeline),
            since,
        })
    }
}

/// Waits until all that was written into the log before is on the disk. A
/// transaction that only takes an id would not wait.
pub(super) async fn flush(session: &Session) -> Result<(), EngineError> {
    let sql = format!("SELECT {RECORD}");
    session.execute("waiting for the disk", &sql).await?;
    Ok(())
}
