//! Letters on their way, to a real mail server with TLS and AUTH.

mod answers;
pub(crate) mod hook;
mod outbox;
mod recipients;
mod server;
mod telling;
mod watchdog;
