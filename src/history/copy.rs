//! Moves a history from SQLite to PostgreSQL.
//!
//! The two schemas are twins: the same tables with the same columns. So rows
//! travel as JSON, and a table that is added later travels without a change
//! here.

use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection};

use super::location::Location;
use super::postgres::PostgresStore;
use super::{HistoryError, Opening};

/// Rows that travel at once.
const BATCH: usize = 500;

/// Tables of the source, those that others refer to first.
const TABLES: &str = "SELECT name FROM sqlite_schema
    WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'
    ORDER BY name <> 'runs', name";

const COLUMNS: &str = "SELECT name FROM pragma_table_info(?1) ORDER BY cid";

/// How many rows of a table travelled.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// The table.
    pub table: String,
    /// Rows read from the source.
    pub rows: u64,
    /// Rows that were not in the destination yet.
    pub new: u64,
}

/// Copies everything from the SQLite history at `from` to the PostgreSQL
/// history at `to`, which may hold something already: a row that is there
/// stays as it is, so a copy may be repeated.
///
/// # Errors
/// Where either cannot be opened, read or written, and
/// [`HistoryError::CannotCopy`] for any other pair of places.
pub async fn copy(from: &str, to: &str) -> Result<Vec<Copied>, HistoryError> {
    let (Location::SqliteFile(path), Location::Postgres(_)) =
        (Location::parse(from)?, Location::parse(to)?)
    else {
        return Err(HistoryError::CannotCopy);
    };
    // Brings the file to the current schema, and says what is wrong with it.
    super::open_as(from, Opening::MustExist)
        .await?
        .close()
        .await;
    let destination = super::open_postgres(to, Opening::CreateIfMissing).await?;
    let failed = |error| HistoryError::from_sqlite(&path, "read", error);
    let mut source = SqliteConnectOptions::new()
        .filename(&path)
        .read_only(true)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(failed)?;
    let tables: Vec<String> = sqlx::query_scalar(TABLES)
        .fetch_all(&mut source)
        .await
        .map_err(failed)?;
    let mut copied = Vec::new();
    for table in tables {
        let columns: Vec<String> = sqlx::query_scalar(COLUMNS)
            .bind(&table)
            .fetch_all(&mut source)
            .await
            .map_err(failed)?;
        copied.push(copy_table(&mut source, &path, &destination, table, &columns).await?);
    }
    destination.close().await;
    Ok(copied)
}

/// Every row as one JSON object; a column of JSON is a text in it. The names
/// are those of our own schema.
fn select(table: &str, columns: &[String]) -> String {
    let fields: Vec<String> = columns
        .iter()
        .map(|name| {
            // SQLite itself writes 15 digits, which are not all of them.
            format!(
                "'{name}', CASE typeof(\"{name}\") WHEN 'real'
                 THEN printf('%!.17g', \"{name}\") ELSE \"{name}\" END"
            )
        })
        .collect();
    format!("SELECT json_object({}) FROM \"{table}\"", fields.join(", "))
}

/// PostgreSQL keeps no NUL in a text: `\u0000` becomes the sign for what
/// cannot be shown. An escaped backslash before `u0000` is none.
fn without_nul(document: &str) -> String {
    let mut clean = String::with_capacity(document.len());
    let mut rest = document;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        clean.push_str(before);
        let length = if escape.starts_with("\\u0000") { 6 } else { 2 };
        let (escape, after) = escape.split_at(length.min(escape.len()));
        clean.push_str(if length == 6 { "\\ufffd" } else { escape });
        rest = after;
    }
    clean.push_str(rest);
    clean
}

async fn copy_table(
    source: &mut SqliteConnection,
    path: &std::path::Path,
    destination: &PostgresStore,
    table: String,
    columns: &[String],
) -> Result<Copied, HistoryError> {
    let failed = |error| HistoryError::from_sqlite(path, "read", error);
    let mut copied = Copied {
        table,
        rows: 0,
        new: 0,
    };
    let select = select(&copied.table, columns);
    let json = destination.json_columns(&copied.table).await?;
    let mut batch: Vec<String> = Vec::with_capacity(BATCH);
    let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(source);
    loop {
        let row = rows.try_next().await.map_err(failed)?;
        let over = row.is_none();
        if let Some(row) = row {
            batch.push(row.try_get(0).map_err(failed)?);
            copied.rows += 1;
        }
        if !batch.is_empty() && (over || batch.len() == BATCH) {
            let document = without_nul(&format!("[{}]", batch.join(",")));
            copied.new += destination
                .put_rows(&copied.table, columns, &json, &document)
                .await?;
            batch.clear();
        }
        if over {
            return Ok(copied);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::without_nul;

    #[test]
    fn only_a_nul_is_replaced() {
        for (document, expected) in [
            (r#"["a\u0000b"]"#, r#"["a\ufffdb"]"#),
            (r#"["a\\u0000b"]"#, r#"["a\\u0000b"]"#),
            (r#"["a\\\u0000é\n\""]"#, r#"["a\\\ufffdé\n\""]"#),
            (r#"["é行"]"#, r#"["é行"]"#),
        ] {
            assert_eq!(without_nul(document), expected);
        }
    }
}
