//! `maint` looks after databases: it decides from evidence, does the least
//! that helps, and records what changed.
//!
//! The modules are the rooms a run passes through, in this order; a room
//! uses only rooms above it (`tests/it/layers/` enforces that).
//! `ARCHITECTURE.md` says what each one is for and what it deliberately
//! leaves to others.

// They panic where a pipe is closed; `cli::say` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod values;
pub mod engines;
pub mod plan;
pub mod kinds;
pub mod config;
pub mod export;
pub mod history;
pub mod execute;
pub mod report;
pub mod notify;
pub mod pipeline;
pub mod scheduler;
pub mod web;
pub mod init;
pub mod demo;
pub mod cli;
