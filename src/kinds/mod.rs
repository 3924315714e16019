//! What can be done. `ls` is the feature list.
pub mod postgres;
