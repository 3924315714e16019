//! What is said of a column that does not hold what it is to hold.

use sqlx::Error;

pub(in crate::history) fn unreadable(
    column: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::ColumnDecode {
        index: format!("`{column}`"),
        source: source.into(),
    }
}
