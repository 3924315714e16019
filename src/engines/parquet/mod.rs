//! Rows of PostgreSQL in Parquet files, so that they come back as they were.

mod checksum;
mod copy_text;
mod decimal;
mod list;
mod pages;
mod plain;
mod read;
mod types;
mod write;

pub use checksum::Checksum;
pub use copy_text::copy_line;
pub use read::{Row, rows, sum};
pub use types::{Column, Form, Kept, kept_as};
pub use write::{Writer, schema_of};

/// Days from 1970, where Parquet begins to count, to 2000, where PostgreSQL does.
const DAYS: i32 = 10_957;
/// The same in microseconds.
const MICROS: i64 = 946_684_800_000_000;

/// A value that cannot be kept, or a file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// A value has no counterpart.
    #[error("column {column}: {message}")]
    Value {
        /// Which column.
        column: String,
        /// What is wrong with it.
        message: String,
    },
    /// The file cannot be written or read.
    #[error(transparent)]
    File(#[from] parquet::errors::ParquetError),
    /// Columns do not fit together.
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
}

impl ParquetError {
    fn value(column: &Column, message: impl Into<String>) -> Self {
        ParquetError::Value {
            column: column.name.clone(),
            message: message.into(),
        }
    }
}
