//! Throwaway servers with the learning platform's data, aged: PostgreSQL, and
//! MongoDB where it is to be had.

mod binaries;
mod cluster;
mod error;
pub mod mongodb;
mod platform;
mod setup;
mod watcher;

pub use binaries::Binaries;
pub use cluster::Cluster;
pub use error::DemoError;
pub use platform::{DEFAULT_SCALE, age, load, settings};
pub use setup::{ClusterOptions, Tls};
