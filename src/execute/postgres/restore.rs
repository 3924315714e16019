//! Brings archived rows back: all of what is asked for, or nothing.

use bytes::Bytes;

use super::export::check;
use crate::engines::EngineError;
use crate::engines::parquet::{copy_line, rows};
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::engines::storage::Storage;
use crate::plan::Manifest;
use crate::values::with_causes;

/// Pieces of this size are handed to the server.
const PIECE: usize = 64 << 10;

const TABLE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname::text = $1 AND c.relname::text = $2)";

/// Copies the rows of these manifests into a table, in one transaction. A
/// table that does not exist is made. Returns the number of rows.
///
/// # Errors
/// When a file is missing or not what its manifest says, or the server
/// refuses; nothing has been restored then.
pub async fn restore(
    session: &Session,
    into: &RelationName,
    manifests: &[Manifest],
) -> Result<i64, EngineError> {
    session.execute("opening a transaction", "BEGIN").await?;
    let restored = within(session, into, manifests).await;
    let (doing, sql) = match restored {
        Ok(_) => ("committing", "COMMIT"),
        Err(_) => ("rolling back", "ROLLBACK"),
    };
    let ended = session.execute(doing, sql).await;
    let rows = restored?;
    ended?;
    Ok(rows)
}

async fn within(
    session: &Session,
    into: &RelationName,
    manifests: &[Manifest],
) -> Result<i64, EngineError> {
    if let Some(first) = manifests.first() {
        let (schema, table) = (into.schema.raw(), into.relation.raw());
        let there = session
            .query("looking for the table", TABLE, &[&schema, &table])
            .await?;
        if !there.first().is_some_and(|row| row.get(0)) {
            let columns: Vec<String> = first
                .columns
                .iter()
                .map(|c| format!("{} {}", Identifier::new(&*c.name), c.pg_type))
                .collect();
            let sql = format!("CREATE TABLE {into} ({})", columns.join(", "));
            session.execute("making the table", &sql).await?;
        }
    }
    let mut total = 0;
    for manifest in manifests {
        let storage = Storage::open(&manifest.storage).map_err(|e| files(&e))?;
        let names: Vec<String> = manifest
            .columns
            .iter()
            .map(|c| Identifier::new(&*c.name).to_string())
            .collect();
        let sql = format!("COPY {into} ({}) FROM STDIN", names.join(", "));
        for file in &manifest.files {
            let content = storage.get(&file.path).await.map_err(|e| files(&e))?;
            check(content.clone(), file, &manifest.columns).map_err(|why| EngineError::Files {
                message: format!("{}: {why}", storage.full(&file.path)),
            })?;
            let mut lines = rows(content, &manifest.columns).map_err(|e| files(&e))?;
            let mut wrong = None;
            let next = || {
                let mut piece = String::new();
                while piece.len() < PIECE {
                    let line = match lines.next() {
                        Some(Ok(row)) => copy_line(&manifest.columns, &row, &mut piece),
                        Some(Err(error)) => Err(error),
                        None => break,
                    };
                    if let Err(error) = line {
                        wrong = Some(error);
                        return None;
                    }
                }
                (!piece.is_empty()).then(|| Bytes::from(piece))
            };
            let copied = session.copy_in("restoring rows", &sql, next).await?;
            if let Some(error) = wrong {
                return Err(files(&error));
            }
            if i64::try_from(copied) != Ok(file.rows) {
                return Err(EngineError::Files {
                    message: format!(
                        "{}: {copied} of {} rows arrived in {into}; a trigger or rule keeps some out",
                        storage.full(&file.path),
                        file.rows
                    ),
                });
            }
            total += file.rows;
        }
    }
    Ok(total)
}

fn files(error: &dyn std::error::Error) -> EngineError {
    EngineError::Files {
        message: with_causes(error),
    }
}
