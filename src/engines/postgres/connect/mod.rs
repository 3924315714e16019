//! Everything between a URL, or libpq's environment, and an open session.
//!
//! [`Dial::resolve`] reads the words (URL, service file, variables, password
//! file) once; [`Dial::connect`] opens a session as often as wanted. The
//! rules are libpq's, with one exception made on purpose: where nobody said
//! anything about TLS, a server on another machine must prove who it is
//! (`sslmode=verify-full`), while libpq would settle for `prefer`. Unix
//! sockets never use TLS, and loopback addresses use it where offered.

mod attempt;
mod classify;
mod dial;
mod dial_error;
mod environment;
mod error;
mod hosts;
mod link;
mod parameters;
mod passfile;
mod plain;
mod ports;
mod resolve;
mod resolve_tls;
mod service;
mod tls;
mod url;
mod wire;

pub(in crate::engines::postgres) use classify::waited_in_vain;
pub use dial::Dial;
pub use dial_error::{DialError, Origin};
pub use error::{CertificateFault, ConnectError, TlsUse};
pub use link::{Canceller, Link, Notice};
pub use plain::Plain;
