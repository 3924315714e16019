//! How to talk to a server; knows no kind.

mod clocks;
mod error;
pub mod mongodb;
pub mod parquet;
pub mod postgres;
pub mod storage;

pub use error::EngineError;
pub use postgres::Origin;
