//! What a task would do now: pure data, and the trait by which a kind says so.

mod finding;
mod kind_info;

pub use finding::{Finding, Severity};
pub use kind_info::KindInfo;
