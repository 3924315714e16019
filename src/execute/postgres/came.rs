//! Rows of a batch in the table of another database that they came into: found there, and taken
//! back where the delete here was given back.
//!
//! They are known by the transaction that wrote them, and by their checksum: where the server was
//! set back, another transaction gets the same id.

use super::Job;
use super::known::{by_hand, fate, put};
use super::lot::ExportError;
use super::there::{connect, oid_of, selected, trusted};
use crate::engines::EngineError;
use crate::engines::parquet::Checksum;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::postgres::{Session, first};
use crate::plan::{Manifest, Received};
use crate::values::several;

/// Rows as the transaction `$1` has written them.
const CAME: &str = "xmin::text = ($1::text::numeric % 4294967296)::text";

/// What there is of a batch.
pub(super) struct Came {
    /// Rows of a transaction with that id, counted up to one more than came.
    pub(super) rows: i64,
    /// Whether those are the rows of the batch, all of them, as they came.
    pub(super) whole: bool,
}

/// Looks for the rows of a batch, in the open transaction, and hands each to `take`.
async fn look(
    there: &Session,
    manifest: &Manifest,
    received: &Received,
    mut take: impl FnMut(&[Option<&[u8]>]) + Send,
) -> Result<Came, EngineError> {
    let columns = &manifest.columns;
    let (what, table) = (selected(columns), &received.table);
    let sql = format!("SELECT {what} FROM {table} WHERE {CAME}");
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&received.transaction];
    let (mut rows, mut checksum) = (0, Checksum::default());
    there
        .stream("reading archived rows there", &sql, &params, |fields| {
            checksum.add(columns, fields.iter().copied());
            rows += 1;
            take(fields);
            // Those of another transaction may be any number.
            rows <= manifest.rows
        })
        .await?;
    let known = received.checksum.as_ref();
    let same = known.is_none_or(|known| *known == checksum.to_string());
    Ok(Came {
        rows,
        whole: rows == manifest.rows && same,
    })
}

/// Looks what there is of a batch.
pub(super) async fn count(
    there: &Session,
    manifest: &Manifest,
    received: &Received,
    job: Job<'_>,
) -> Result<Came, ExportError> {
    there
        .execute("opening a transaction there", "BEGIN")
        .await?;
    let counted = async {
        let trusted = trusted(&received.target, job);
        trust::admit(there, &received.table, &[Use::Read], &trusted).await?;
        look(there, manifest, received, |_| {}).await
    };
    let counted = counted.await;
    there.execute("rolling back there", "ROLLBACK").await?;
    Ok(counted?)
}

/// The rows of a batch in the other database; or why they cannot be had.
pub(super) async fn rows_there(
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<Result<Vec<Fields>, String>, ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(Err("it is not in another database".to_owned()));
    };
    let there = connect(&received.target, job).await?;
    let was = fate(&there, &received.transaction, received.server.as_deref()).await?;
    let here = Standpoint::of(&there).await?;
    let Some(table) = oid_of(&there, &received.table).await? else {
        return Ok(Ok(Vec::new()));
    };
    // Whoever moves or brings back a database with a dump writes all rows anew, and no transaction
    // is known by them.
    let server = received.server.as_deref();
    let same = server.is_none() || here.is_of(server);
    let same = same && !received.is_elsewhere(&here, table);
    there
        .execute("opening a transaction there", "BEGIN")
        .await?;
    let trusted = trusted(&received.target, job);
    trust::admit(&there, &received.table, &[Use::Read], &trusted).await?;
    let mut rows: Vec<Fields> = Vec::new();
    let came = look(&there, manifest, received, |fields| {
        rows.push(fields.iter().map(|f| f.map(<[u8]>::to_vec)).collect());
    })
    .await?;
    // Where it has lost them as well, nothing can be there twice.
    let lost = rows.is_empty()
        && match same {
            true => was.as_deref() != Some("committed"),
            false => !has_rows(&there, &received.table).await?,
        };
    there.execute("rolling back there", "ROLLBACK").await?;
    if lost {
        return Ok(Ok(rows));
    }
    Ok(match came.whole {
        true => Ok(rows),
        false => Err(not_as_they_came(manifest, received, &came)),
    })
}

/// Whether there is any row in a table.
async fn has_rows(there: &Session, table: &str) -> Result<bool, EngineError> {
    let sql = format!("SELECT EXISTS (SELECT FROM {table})");
    let rows = there.query("looking for rows there", &sql, &[]).await?;
    Ok(first(&rows, 0)?.unwrap_or(true))
}

/// Removes the rows of a batch whose delete was given back.
pub(super) async fn take_back(manifest: &Manifest, job: Job<'_>) -> Result<(), ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(());
    };
    let there = connect(&received.target, job).await?;
    take_back_by(&there, manifest, job).await
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
            // What is looked at is what goes.
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
            there.execute("opening a transaction there", begin).await?;
            match delete(there, manifest, received, job).await {
                Ok(()) => there.execute("committing there", "COMMIT").await?,
                Err(error) => {
                    there.execute("rolling back there", "ROLLBACK").await?;
                    return Err(error);
                }
            };
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

/// Deletes the rows of a batch, all or none.
async fn delete(
    there: &Session,
    manifest: &Manifest,
    received: &Received,
    job: Job<'_>,
) -> Result<(), ExportError> {
    let (uses, trusted) = (&[Use::Read, Use::Delete], trusted(&received.target, job));
    trust::admit(there, &received.table, uses, &trusted).await?;
    let came = look(there, manifest, received, |_| {}).await?;
    if came.rows == 0 {
        // A take-back that was itself interrupted before it was noted.
        return Ok(());
    }
    let refused = |came: &Came| {
        let why = not_as_they_came(manifest, received, came);
        ExportError::Proof(format!(
            "nothing was taken back: {why}. {}",
            by_hand(manifest)
        ))
    };
    if !came.whole {
        return Err(refused(&came));
    }
    let sql = format!("DELETE FROM {} WHERE {CAME}", received.table);
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&received.transaction];
    let doing = "taking rows back";
    let rows = there.execute_with(doing, &sql, &params).await?.rows;
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    match rows == manifest.rows {
        true => Ok(()),
        false => Err(refused(&Came { rows, whole: false })),
    }
}

fn not_as_they_came(manifest: &Manifest, received: &Received, came: &Came) -> String {
    let (rows, table, target) = (manifest.rows, &received.table, &received.target);
    let those = several(rows, "row");
    match came.rows {
        found if found < rows => format!(
            "{those} came into {table} on target {target}, and {found} of them are still as they came: somebody has changed or deleted the others, or the server was set back"
        ),
        _ => format!(
            "{those} came into {table} on target {target}, and what transaction {} has written there is not what came: somebody has changed them, or the server was set back, and they are another transaction's",
            received.transaction
        ),
    }
}

/// A row, field by field, as the server sends it.
pub(super) type Fields = Vec<Option<Vec<u8>>>;
