//! Rows that come from another history.

use sqlx::AssertSqlSafe;

use super::{PostgresStore, scalar};
use crate::history::HistoryError;
use crate::history::sql::Access;

const JSON_COLUMNS: &str = "SELECT attname::text FROM pg_catalog.pg_attribute
    JOIN pg_catalog.pg_class ON pg_class.oid = attrelid
    JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'maint' AND relname = $1 AND attnum > 0
      AND atttypid = 'pg_catalog.json'::pg_catalog.regtype";

impl PostgresStore {
    /// The columns of a table that hold JSON.
    pub(in crate::history) async fn json_columns(
        &self,
        table: &str,
    ) -> Result<Vec<String>, HistoryError> {
        const OPERATION: &str = "read the schema";
        let mut reading = self.begin(OPERATION, Access::Read).await?;
        scalar(JSON_COLUMNS)
            .bind(table)
            .fetch_all(&mut *reading)
            .await
            .map_err(|error| self.failed(OPERATION, error))
    }

    /// Adds rows, given as an array of JSON objects, to a table of ours; the
    /// columns in `json` hold JSON as text. Returns how many were not there yet.
    pub(in crate::history) async fn put_rows(
        &self,
        table: &str,
        columns: &[String],
        json: &[String],
        rows: &str,
    ) -> Result<u64, HistoryError> {
        let quoted = |name: &String| format!("\"{name}\"");
        let names: Vec<String> = columns.iter().map(quoted).collect();
        let values: Vec<String> = columns
            .iter()
            .map(|name| match json.contains(name) {
                true => format!("(\"{name}\" OPERATOR(pg_catalog.#>>) '{{}}')::json"),
                false => quoted(name),
            })
            .collect();
        // Only names of our own schema get here.
        let sql = format!(
            "INSERT INTO maint.\"{table}\" ({}) SELECT {} FROM
             pg_catalog.json_populate_recordset(NULL::maint.\"{table}\", $1::text::json)
             ON CONFLICT DO NOTHING",
            names.join(", "),
            values.join(", ")
        );
        const OPERATION: &str = "copy rows";
        let failed = |error| self.failed(OPERATION, error);
        let mut writing = self.begin(OPERATION, Access::Write).await?;
        let done = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(rows)
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await.map_err(failed)?;
        Ok(done.rows_affected())
    }
}
