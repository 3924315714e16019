//! What a configuration could look like: from a database that is looked at, or from what ran until
//! now. Reads only what catalogs and statistics say, and writes no file: a [`Draft`] is text.

mod draft;
pub mod mongodb;
pub mod postgres;
mod yaml;

pub use draft::{Draft, DraftSchedule, DraftTarget, DraftTask, Left};
pub(crate) use yaml::{comment, quoted};
