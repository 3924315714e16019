//! How to talk to a server; knows no kind.
pub mod postgres;
