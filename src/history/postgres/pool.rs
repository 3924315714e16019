//! Connections to one host that has the history, and which of several that is.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, PgPool};

use crate::engines::postgres::connect::{ConnectError, Dial, Plain};

/// Connections at the same time. Calls are short; a run waits for its own.
const CONNECTIONS: u32 = 8;

/// How long a call waits for a connection, with the time to open one.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection nobody needs is closed: between two nights there are none.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn pool(plain: &Plain, acquire_timeout: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(acquire_timeout)
        .idle_timeout(IDLE_TIMEOUT)
        // Whoever waits in vain says so in words of ours.
        .acquire_slow_threshold(Duration::from_secs(3600))
        .connect_lazy_with(options(plain))
}

/// On a thread of its own: our driver's futures cannot move between threads,
/// and whoever opens a history may.
pub(super) async fn settle(dial: Dial, writable: bool) -> Result<Dial, Option<ConnectError>> {
    let runtime = tokio::runtime::Handle::current();
    let settled = tokio::task::spawn_blocking(move || {
        runtime.block_on(dial.settle("maint history", writable))
    });
    settled.await.map_err(|_| None)?.map_err(Some)
}

fn options(plain: &Plain) -> PgConnectOptions {
    // Only a URL takes options as they are written.
    let base = plain.options.as_ref().and_then(|options| {
        let encoded: String = url::form_urlencoded::byte_serialize(options.as_bytes()).collect();
        PgConnectOptions::from_str(&format!(
            "postgres:///?options={}",
            encoded.replace('+', "%20")
        ))
        .ok()
    });
    let mut options = base
        .unwrap_or_else(PgConnectOptions::new_without_pgpass)
        .host(&plain.host)
        .port(plain.port)
        .username(&plain.role)
        .database(&plain.database)
        .password(plain.password.as_ref().map_or("", |word| word.expose()))
        .application_name("maint history")
        .ssl_mode(match plain.tls_mode {
            "disable" => PgSslMode::Disable,
            "prefer" => PgSslMode::Prefer,
            "require" => PgSslMode::Require,
            "verify-ca" => PgSslMode::VerifyCa,
            _ => PgSslMode::VerifyFull,
        })
        // Poolers know neither this setting nor our prepared statements.
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .disable_statement_logging();
    if plain.host.starts_with('/') {
        options = options.socket(&plain.host);
    }
    if let Some(file) = &plain.authorities {
        options = options.ssl_root_cert(file);
    }
    if let Some((certificate, key)) = &plain.certificate {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    options
}
