//! Takes over what is remembered under names that a target had.

use super::Job;
use super::known::known;
use super::lot::ExportError;
use crate::history::{Entry, HistoryError};

/// First half of the key of the lock under which a name is taken over: `mnt4`.
const LOCK_CLASS: i32 = 0x6d6e_7434;
const LOCK: &str =
    "SELECT pg_catalog.pg_advisory_xact_lock($1::int4, pg_catalog.hashtext($2::text))::text";

/// Takes over what is remembered under these names, and forgets it there. One task at a time: what
/// another has taken over, and settled since, is not brought in once more.
///
/// # Errors
/// When the history does not take it; the next run does it again before anything rests on it.
pub(super) async fn take_over(former: &[String], job: Job<'_>) -> Result<(), ExportError> {
    for name in former {
        let session = job.session;
        session.execute("opening a transaction", "BEGIN").await?;
        let taken = async {
            let doing = "waiting for other tasks that take over what is remembered";
            session.query(doing, LOCK, &[&LOCK_CLASS, name]).await?;
            one(name, job).await
        };
        let taken = taken.await;
        session.execute("ending the transaction", "COMMIT").await?;
        taken?;
    }
    Ok(())
}

async fn one(name: &str, job: Job<'_>) -> Result<(), ExportError> {
    let (execution, store) = (job.execution, job.execution.history.store());
    let unread = |error: HistoryError| {
        ExportError::Proof(format!(
            "what is remembered of this database as the target {name} cannot be taken over, and nothing was archived: {error}"
        ))
    };
    let memories = store.memories(name, &execution.kind).await;
    let own = known(job).await?;
    let entries = Entry::moved(
        &execution.kind,
        (name, memories.map_err(unread)?),
        (&execution.target, &own),
    );
    store.record(&entries).await.map_err(unread)
}
