//! What became of the transaction of a manifest.

use super::Job;
use super::again::{self, Rows};
use super::known::fate;
use super::lot::ExportError;
use crate::plan::Manifest;

/// What became of the transaction of a manifest: as the server says, or else as the rows do.
pub(super) async fn fate_of(
    job: Job<'_>,
    manifest: &Manifest,
) -> Result<Option<String>, ExportError> {
    let server = manifest.server.as_deref();
    let was = fate(job.session, &manifest.transaction, server).await?;
    let seen = again::look(manifest, None, job).await?;
    // Of a server that was set back the number is another transaction's, and of a database that was
    // put back it says what was so in the one before: what the rows say counts.
    let database = job.session.server.database_oid;
    let same = manifest.database_oid.is_none_or(|then| then == database);
    let known = same
        && !seen.elsewhere
        && !manifest.doubted
        && matches!(was.as_deref(), Some("committed" | "aborted"));
    Ok(match seen.rows {
        // In another database they may be all there is of them.
        Rows::Gone if manifest.received.is_some() => Some("committed".to_owned()),
        rows => judged(rows, known, was),
    })
}

/// By what the rows say, and what the server says, who is `known` to be the one that did it or not.
fn judged(rows: Rows, known: bool, was: Option<String>) -> Option<String> {
    match rows {
        // Those who wrote them have deleted them meanwhile, as may well be all rows of a small batch: what
        // was copied of them for a transaction that never was is no archive.
        Rows::Gone if known && was.as_deref() == Some("aborted") => was,
        Rows::Gone => Some("committed".to_owned()),
        Rows::Back => Some("aborted".to_owned()),
        Rows::Between(..) | Rows::Unlike(_) | Rows::Unseen(_) | Rows::Away(_) if known => was,
        Rows::Between(_, why) | Rows::Unlike(why) | Rows::Unseen(why) | Rows::Away(why) => {
            let said = was.as_deref().unwrap_or("too long ago");
            Some(format!("{said}; {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_server_say_together_what_became_of_a_batch() {
        let judged = |rows, known, was: &str| judged(rows, known, Some(was.to_owned()));
        let committed = Some("committed".to_owned());
        let aborted = Some("aborted".to_owned());
        // Deleted by the application after the run was killed.
        assert_eq!(judged(Rows::Gone, true, "aborted"), aborted);
        // The server was set back, or is another one: its word counts for nothing.
        assert_eq!(judged(Rows::Gone, false, "aborted"), committed);
        assert_eq!(judged(Rows::Gone, true, "committed"), committed);
        assert_eq!(judged(Rows::Gone, true, "in progress"), committed);
        // Rows that somebody put back are there, whatever became of the batch.
        assert_eq!(judged(Rows::Back, true, "committed"), aborted);
        let some = || Rows::Between(1, "one of two is there".to_owned());
        assert_eq!(judged(some(), true, "aborted"), aborted);
        let unknown = judged(some(), false, "aborted");
        assert_eq!(unknown.as_deref(), Some("aborted; one of two is there"));
    }
}
