//! Rows of a batch in the table of another database that they came into: found there, and taken
//! back where the delete here was given back.

use super::Job;
use super::again::Fields;
use super::export::ExportError;
use super::settle::{fate, put};
use super::there::{connect, selected, trusted};
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::{self, Use};
use crate::plan::Manifest;

/// Rows as the transaction `$1` has written them.
pub(super) const CAME: &str = "xmin::text = ($1::text::numeric % 4294967296)::text";

/// Removes the rows of a batch whose delete was given back.
pub(super) async fn take_back(manifest: &Manifest, job: Job<'_>) -> Result<(), ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(());
    };
    let there = connect(&received.target, job).await?;
    take_back_by(&there, manifest, job).await
}

/// The rows of a batch in the other database, by the transaction that wrote them; or why they
/// cannot be had.
pub(super) async fn rows_there(
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<Result<Vec<Fields>, String>, ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(Err("it is not in another database".to_owned()));
    };
    let there = connect(&received.target, job).await?;
    let was = fate(&there, &received.transaction, received.server.as_deref()).await?;
    let same = was.as_deref() == Some("committed");
    there
        .execute("opening a transaction there", "BEGIN")
        .await?;
    let trusted = trusted(&received.target, job);
    trust::admit(&there, &received.table, &[Use::Read], &trusted).await?;
    let sql = format!(
        "SELECT {} FROM {} WHERE {CAME}",
        selected(&manifest.columns),
        received.table
    );
    let mut rows: Vec<Fields> = Vec::new();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&received.transaction];
    there
        .stream("reading archived rows there", &sql, &params, |fields| {
            rows.push(fields.iter().map(|f| f.map(<[u8]>::to_vec)).collect());
            true
        })
        .await?;
    there.execute("rolling back there", "ROLLBACK").await?;
    // It has lost them as well: nothing can be there twice.
    if !same && rows.is_empty() {
        return Ok(Ok(rows));
    }
    if i64::try_from(rows.len()) != Ok(manifest.rows) {
        return Ok(Err(format!(
            "{} rows came into {}, and {} of them are still as they came",
            manifest.rows,
            received.table,
            rows.len()
        )));
    }
    Ok(Ok(rows))
}

/// The same in a session that is open already.
pub(super) async fn take_back_by(
    there: &Session,
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<(), ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(());
    };
    let was = fate(there, &received.transaction, received.server.as_deref()).await?;
    match was.as_deref() {
        Some("aborted") => {}
        Some("committed") => {
            let sql = format!("DELETE FROM {} WHERE {CAME}", received.table);
            there
                .execute("opening a transaction there", "BEGIN")
                .await?;
            let (gives, trusted) = (&[Use::Delete], trusted(&received.target, job));
            if let Err(error) = trust::admit(there, &received.table, gives, &trusted).await {
                there.execute("rolling back there", "ROLLBACK").await?;
                return Err(error.into());
            }
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&received.transaction];
            let gone = there
                .execute_with("taking rows back", &sql, &params)
                .await?
                .rows;
            // A take-back that was itself interrupted before it was noted.
            if gone != 0 && i64::try_from(gone) != Ok(manifest.rows) {
                there.execute("rolling back there", "ROLLBACK").await?;
                return Err(ExportError::Proof(format!(
                    "{} rows came into {}, and {gone} of them are still as they came: somebody has changed them; see to them by hand",
                    manifest.rows, received.table
                )));
            }
            there.execute("committing there", "COMMIT").await?;
        }
        other => {
            return Err(ExportError::Proof(format!(
                "what became of transaction {} on target {} is not known ({})",
                received.transaction,
                received.target,
                other.unwrap_or("too long ago")
            )));
        }
    }
    put(job, &manifest.key(), serde_json::Value::Null).await
}
