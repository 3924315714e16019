//! How a session comes to be in a known state: connecting, and what is pinned.

use std::sync::Mutex;

use futures_util::future::BoxFuture;

use super::super::connect::{ConnectError, Dial, waited_in_vain};
use super::super::server::{FACTS, Server};
use super::super::{Identifier, Row, settings};
use super::{Session, blame};
use crate::engines::EngineError;
use crate::values::wall_clock;

/// No encoding: bytes come as they are.
const BYTES: &str = "SQL_ASCII";

const DEMANDED_NOW: &str = "SELECT s.name, s.setting FROM pg_catalog.pg_settings s
    WHERE s.name = ANY ($1::text[])";

impl Session {
    /// Connects and pins the settings.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or is older than 14.
    pub fn open<'a>(
        dial: &'a Dial,
        application_name: &'a str,
    ) -> BoxFuture<'a, Result<Session, EngineError>> {
        Box::pin(async move {
            let link = dial.connect(application_name).await?;
            let described = dial.describe();
            let failed = |cause: tokio_postgres::Error| match cause.as_db_error() {
                Some(said) if waited_in_vain(said) => ConnectError::PoolFull {
                    server: described.clone(),
                    source: cause.into(),
                }
                .into(),
                _ => blame(&described, "preparing the session", "", cause),
            };
            // Before anything else is said: `SET` looks up no function and no operator, and the
            // owner of a database chooses where everything else would be looked for.
            let reported = link.version.as_deref().and_then(settings::major_of);
            let pins = settings::pins(reported.unwrap_or(14));
            link.client.batch_execute(&pins).await.map_err(failed)?;
            if link.bytes {
                let set = format!("SET client_encoding = {BYTES}");
                link.client.batch_execute(&set).await.map_err(failed)?;
            }
            let asked_at = wall_clock();
            let facts = link.client.query(FACTS, &[]).await;
            let answered_at = wall_clock();
            let doing = "reading what the server says of itself";
            let facts = facts.map_err(|cause| match failed(cause) {
                error if error.is_forbidden() => error.reworded(|message| {
                    let role = Identifier::new(dial.role());
                    format!(
                        "{message}; every session reads these: GRANT SELECT ON pg_catalog.pg_roles, pg_catalog.pg_database TO {role}"
                    )
                }),
                error => error,
            });
            let facts = Row::all(doing, facts?);
            let Some(row) = facts.first() else {
                return Err(EngineError::NotVisible {
                    what: format!("{described} answered nothing to the question what it is"),
                });
            };
            let server = Server::of(row, asked_at, answered_at)?;
            let pid = row.named("pid")?;
            if server.major() < 14 {
                return Err(EngineError::TooOld {
                    server: described,
                    version: server.version,
                });
            }
            let session = Session {
                client: link.client,
                canceller: link.canceller,
                notices: Mutex::new(link.notices),
                closed: link.closed,
                described,
                bytes: link.bytes,
                prepared: Mutex::default(),
                server,
                pid,
            };
            if reported.is_none() {
                session.pin().await?;
            }
            session.demand().await?;
            Ok(session)
        })
    }

    /// Pins the settings, again after [`Session::unpin`].
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub async fn pin(&self) -> Result<(), EngineError> {
        let pins = settings::pins(self.server.major());
        self.execute("pinning the settings", &pins).await.map(drop)
    }

    /// Gives the session what role and database have set, for statements of
    /// the user's own; the limits and `search_path` stay.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub async fn unpin(&self) -> Result<(), EngineError> {
        let theirs = settings::theirs(self.server.major());
        let doing = "giving back the settings of role and database";
        self.execute(doing, &theirs).await.map(drop)
    }

    /// Gives the session what role and database have set of what decides values, for statements of
    /// ours that store what expressions of the user's make; see [`Session::unpin`].
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub async fn unpin_values(&self) -> Result<(), EngineError> {
        let reset = settings::for_values(self.server.major());
        let doing = "giving back the settings of role and database";
        self.execute(doing, &reset).await.map(drop)
    }

    /// What a database without an encoding hands out: names as they are, or
    /// only what is valid UTF-8, else an error. The values of rows go to other
    /// places, and have to be what they say.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn take_any_bytes(&self, any: bool) -> Result<(), EngineError> {
        if !self.bytes {
            return Ok(());
        }
        let set = format!("SET client_encoding = {}", if any { BYTES } else { "UTF8" });
        self.execute("saying in which encoding to answer", &set)
            .await
            .map(drop)
    }

    /// Has the settings that only a superuser may change as they have to be.
    async fn demand(&self) -> Result<(), EngineError> {
        let names: Vec<&str> = settings::DEMANDED.iter().map(|(name, ..)| *name).collect();
        let doing = "reading settings";
        for row in self.query(doing, DEMANDED_NOW, &[&names]).await? {
            let name: String = row.get(0)?;
            let now: String = row.get(1)?;
            let wanted = settings::DEMANDED.iter().find(|(n, ..)| *n == name);
            let Some((name, value, why)) = wanted.filter(|(_, value, _)| *value != now) else {
                continue;
            };
            let set = format!("SET {name} = {value}");
            match self.execute("setting it back", &set).await {
                Ok(_) => {}
                // insufficient_privilege
                Err(error) if error.sqlstate() == Some("42501") => {
                    let role = Identifier::new(&self.server.session_role);
                    let database = Identifier::new(&self.server.database);
                    return Err(EngineError::Setting {
                        server: self.described.clone(),
                        setting: format!("{name} = {now}"),
                        why,
                        mend: format!(
                            "ALTER ROLE {role} RESET {name}; ALTER DATABASE {database} RESET {name}; ALTER ROLE {role} IN DATABASE {database} RESET {name}"
                        ),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
