//! PostgreSQL: connections, sessions, identifiers.

pub mod connect;
