//! Records and sums to text, HTML and charts; pure but for [`gather()`], which
//! reads the sums, and for templates of one's own, which are files.

mod build;
pub mod chart;
mod compose;
mod context;
mod digest;
mod filters;
mod gather;
mod idle;
mod material;
mod message;
mod metrics;
pub mod model;
mod period;
pub mod sample;
mod sample_pages;
mod standing;
mod tables;
mod telling;
mod templates;
pub mod text;
mod troubles;

pub use compose::{Composed, compose, compose_page};
pub use context::Pictures;

pub use digest::{Digest, Group, Line, REFUSED};
pub use gather::{gather, gather_trends};
pub use idle::{FORGOTTEN, forgotten, long_pauses, without_url};
pub use material::Scope;
pub use message::{Message, Rendered};
pub use period::Asked;
pub use telling::{error_text, finding_text};
pub use templates::{Shape, Templates, built_in_files};
