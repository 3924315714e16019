//! Opens a history in PostgreSQL: our own driver goes first, because it knows why a connection
//! fails and which of several hosts takes writes; or nothing is opened before the first call.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, PgPool};

use super::PostgresStore;
use super::hosts::Hosts;
use super::migrate::Standing;
use crate::engines::postgres::connect::{ConnectError, Dial, Plain};
use crate::history::{HistoryError, Opening, Place};

/// Connections at the same time. Calls are short; a run waits for its own.
const CONNECTIONS: u32 = 8;

/// How long a call waits for a connection, with the time to open one.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// The same for a history that did not answer before: each call asks again.
const UNSEEN_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection nobody needs is closed: between two nights there are none.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl PostgresStore {
    pub(in crate::history) async fn open(
        dial: &Dial,
        opening: Opening,
    ) -> Result<PostgresStore, HistoryError> {
        let place = dial.place();
        // Our own driver goes first: it knows why a connection fails, and
        // which of several hosts can be written.
        let writable = opening == Opening::CreateIfMissing;
        let settled = settle(dial.clone(), writable)
            .await
            .map_err(|source| match source {
                None => HistoryError::OutOfReach {
                    place: place.clone(),
                    source: "the attempt was given up".into(),
                },
                Some(source) => HistoryError::NoConnection {
                    place: place.clone(),
                    hint: source.hint(),
                    source: source.into(),
                },
            })?;
        let host = settled.place();
        let plain = settled.plain().map_err(HistoryError::BadUrl)?;
        let pool = pool(&plain, ACQUIRE_TIMEOUT);
        let store = PostgresStore {
            place: dial.place(),
            hosts: Hosts::new(dial, writable, host, pool),
        };
        match (store.standing().await?, opening) {
            (Standing::Current, _) => {}
            (Standing::Absent, Opening::MustExist) => {
                return Err(HistoryError::Missing {
                    place: Place::Server(store.place),
                });
            }
            (Standing::Behind, Opening::MustExist) => match store.migrate().await {
                Err(HistoryError::NotAllowed { .. } | HistoryError::ReadOnly { .. }) => {
                    return Err(HistoryError::OlderSchema {
                        place: Place::Server(store.place),
                    });
                }
                migrated => migrated?,
            },
            (_, Opening::CreateIfMissing) => store.migrate().await?,
        }
        Ok(store)
    }

    /// Connects with the first call, if the server answers then.
    pub(in crate::history) fn unseen(dial: &Dial) -> Result<PostgresStore, HistoryError> {
        let plain = dial.plain().map_err(HistoryError::BadUrl)?;
        let pool = pool(&plain, UNSEEN_ACQUIRE_TIMEOUT);
        Ok(PostgresStore {
            place: dial.place(),
            hosts: Hosts::new(dial, true, dial.first_place(), pool),
        })
    }
}

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
