//! How to talk to a server; knows no kind.

mod error;
pub mod parquet;
pub mod postgres;

pub use error::EngineError;
