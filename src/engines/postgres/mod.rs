//! PostgreSQL: connections, sessions, identifiers.

pub mod catalog;
pub mod connect;
pub mod load;
pub mod claim;
mod name;
pub mod pooler;
mod session;
pub mod settings;
pub mod trust;
pub mod watch;

pub use name::{Identifier, RelationName, literal};
pub use session::{Server, Session};
