//! Everything that needs more than one room: one binary, real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connect;
mod config;
mod history;
