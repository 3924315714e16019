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
        Rows::Gone => Some("committed".to_owned()),
        Rows::Back => Some("aborted".to_owned()),
        Rows::Between(..) | Rows::Unlike(_) | Rows::Unseen(_) | Rows::Away(_) if known => was,
        Rows::Between(_, why) | Rows::Unlike(why) | Rows::Unseen(why) | Rows::Away(why) => {
            let said = was.as_deref().unwrap_or("too long ago");
            Some(format!("{said}; {why}"))
        }
    })
}
