//! Records and sums to text, HTML and charts; pure but for [`gather()`], which
//! reads the sums, and for templates of one's own, which are files.

mod build;
pub mod chart;
mod compose;
mod digest;
mod filters;
mod gather;
mod metrics;
pub mod model;
mod period;
pub mod sample;
mod sample_pages;
mod tables;
mod telling;
mod templates;
pub mod text;
mod troubles;

pub use compose::{Composed, Pictures, compose, compose_page};

pub use digest::{Digest, Group, Line, REFUSED};
pub use gather::{Scope, gather, gather_trends};
pub use period::Asked;
pub use telling::{error_text, finding_text};
pub use templates::{Message, Rendered, Shape, Templates, built_in_files};
