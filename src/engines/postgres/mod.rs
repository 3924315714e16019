//! PostgreSQL: connections, sessions, identifiers.

pub mod catalog;
pub mod connect;
mod name;
mod session;

pub use name::{Identifier, RelationName};
pub use session::{Server, Session};
