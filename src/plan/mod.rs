//! What a task would do now: pure data, and the trait by which a kind says so.

mod kind_info;

pub use kind_info::KindInfo;
