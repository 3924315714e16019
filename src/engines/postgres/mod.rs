//! PostgreSQL: connections, sessions, identifiers.
