//! Records and sums to text, HTML and charts; pure but for [`gather`], which
//! reads the sums.

mod build;
mod gather;
mod metrics;
pub mod model;
mod period;
pub mod text;

pub use gather::{ReportError, Scope, gather};
pub use period::Asked;
