//! Rows that this transaction has stored in a table, found again where they
//! are: whatever triggers made of them since is seen.

use crate::engines::EngineError;
use crate::engines::postgres::{Row, each, literal};

/// Tables, and the first and last place in each.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(String, String, String)>);

impl Places {
    /// Reads places from rows whose columns are table, first and last place,
    /// all as text.
    pub(super) fn of(rows: &[Row]) -> Result<Places, EngineError> {
        let text = |row: &Row, n: usize| row.get::<String>(n);
        let all = each(rows, |row| {
            Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?))
        });
        all.map(Places)
    }

    /// SQL: whether any of them is in a table that a crash of the server would empty. Until the end of the
    /// transaction that stored them nobody can make it one.
    pub(super) fn fleeting(&self) -> String {
        let tables = self
            .0
            .iter()
            .map(|(table, ..)| format!("{}::pg_catalog.regclass", literal(table)));
        let tables: Vec<String> = tables.collect();
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relpersistence <> 'p' AND c.oid IN ({}))",
            tables.join(", ")
        )
    }

    /// Selects `what` of those rows. None of it is a value from outside: the
    /// server wrote the names, quoted, and the places.
    pub(super) fn select(&self, what: &str) -> String {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(table, first, last)| {
                format!(
                    "SELECT {what} FROM ONLY {table} WHERE ctid >= '{first}'::tid AND ctid <= '{last}'::tid AND xmin = (SELECT pg_current_xact_id()::xid)"
                )
            })
            .collect();
        parts.join(" UNION ALL ")
    }
}
