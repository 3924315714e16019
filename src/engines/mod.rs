//! How to talk to a server; knows no kind.

mod clocks;
mod error;
mod listening;
pub mod mongodb;
pub mod parquet;
mod ports;
pub mod postgres;
pub mod storage;

pub use error::EngineError;
pub use listening::{Ports, Whereabouts};
pub use ports::{ports, whereabouts};
pub use postgres::Origin;
