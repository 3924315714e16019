//! Letters on their way, to a real mail server with TLS and AUTH.

mod outbox;
mod server;
