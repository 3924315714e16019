//! A throwaway PostgreSQL with the learning platform's data, aged.

mod binaries;
mod cluster;
mod error;
mod platform;
mod setup;

pub use binaries::Binaries;
pub use cluster::{Cluster, ClusterOptions, Tls};
pub use error::DemoError;
pub use platform::{DEFAULT_SCALE, age, load, settings};
