//! Records as a person at a terminal reads them.
//!
//! Every function returns complete lines. Whatever comes from a database is
//! escaped, so that no table name can move the cursor or fake a line.

mod columns;
mod details;
mod history;
mod marks;
mod parts;
mod style;
mod summary;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
mod waits;
mod words;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod words_tests;

pub use columns::{Align, Cell, Columns, Cut};
pub use columns::{within, wrapped};
pub use details::{run_details, run_details_folded, step_details};
pub use history::history_table;
pub use style::{Ink, Style};
pub use summary::run_summary;
pub(super) use words::shell_word;
pub use words::{
    age, counted, counted_do, counted_rows, folded, human_bytes, human_count, human_duration_ms,
    shown,
};
