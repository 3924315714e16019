//! Everything that needs more than one room: one binary, real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a failing test is meant to stop at once, with the place and the reason"
)]

#[macro_use]
mod support;

mod answers;
mod bytes;
mod cancel;
mod commands;
mod config;
mod connect;
mod demo;
mod docs;
mod engine;
mod export;
mod exported;
mod fleet;
mod history;
mod idle;
mod init;
mod kinds;
mod large;
mod layers;
mod lies;
mod misfits;
mod mongodb;
mod notify;
mod packages;
mod report;
mod run;
mod scheduler;
mod serve;
mod silence;
mod slips;
mod standing;
mod strangers;
mod terminal;
mod settings;
mod saved_meaning;
mod saved_names;
mod saved_plan;
mod schema;
mod web;
