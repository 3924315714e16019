//! Kinds for PostgreSQL.
