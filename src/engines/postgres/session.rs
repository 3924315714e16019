use std::sync::Mutex;

use futures_util::future::BoxFuture;
use futures_util::pin_mut;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement as Prepared};
use tokio_util::sync::CancellationToken;

use super::connect::{Canceller, Dial, Notice};
use crate::engines::EngineError;

/// What every session is set to, whatever the role's or database's defaults
/// are. `search_path` is pinned so that no name of ours can be captured;
/// functions behind expression indexes then see the path that autovacuum
/// gives them too. `client_connection_check_interval` makes the server end a
/// statement whose client was killed, instead of building on for hours.
const PIN_SETTINGS: &str = "SET search_path = pg_catalog, pg_temp;
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
    SET default_transaction_isolation = 'read committed';
    SET default_transaction_read_only = off;
    SET statement_timeout = 0; SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = 0;
    SET client_min_messages = warning;
    SET client_connection_check_interval = '2s'";

const SERVER_FACTS: &str = "SELECT current_setting('server_version_num')::int4,
    current_setting('server_version'), current_database()::text, current_user::text,
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
    pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid()";

/// Ends the text of every statement of ours, so that whoever looks into
/// `pg_stat_statements` can tell them from the application's.
const OURS: &str = "/* maint */";

/// The statement with the mark of its origin. The line break ends a comment
/// that the text may end with.
fn marked(sql: &str) -> String {
    format!("{sql}\n{OURS}")
}

/// The server at the other end, as seen when the session was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `170010` for 17.10.
    pub version_num: i32,
    /// `17.10`, perhaps with a packager's suffix.
    pub version: String,
    /// The database.
    pub database: String,
    /// The role that statements run as.
    pub role: String,
    /// Whether that role is a superuser.
    pub superuser: bool,
    /// Whether the server is a standby.
    pub in_recovery: bool,
}

impl Server {
    /// The major version: 14 to 18.
    pub fn major(&self) -> i32 {
        self.version_num / 10_000
    }
}

/// What came of statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The warnings raised on the way.
    pub notices: Vec<Notice>,
    /// Rows changed or returned, as the command tags say.
    pub rows: u64,
}

/// A field as the server sends it, whatever its type.
struct Sent<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Sent<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Sent(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// One connection with everything pinned.
pub struct Session {
    client: Client,
    canceller: Canceller,
    notices: Mutex<UnboundedReceiver<Notice>>,
    closed: CancellationToken,
    described: String,
    /// The server, and what the role may there.
    pub server: Server,
    /// Process id of the backend.
    pub pid: i32,
}

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
            let failed = |cause| blame(&described, "preparing the session", cause);
            let row = link
                .client
                .query_one(SERVER_FACTS, &[])
                .await
                .map_err(failed)?;
            let server = Server {
                version_num: row.get(0),
                version: row.get(1),
                database: row.get(2),
                role: row.get(3),
                superuser: row.get::<_, Option<bool>>(4).unwrap_or(false),
                in_recovery: row.get(5),
            };
            if server.major() < 14 {
                return Err(EngineError::TooOld {
                    server: described,
                    version: server.version,
                });
            }
            link.client
                .batch_execute(PIN_SETTINGS)
                .await
                .map_err(failed)?;
            Ok(Session {
                client: link.client,
                canceller: link.canceller,
                notices: Mutex::new(link.notices),
                closed: link.closed,
                described,
                server,
                pid: row.get(6),
            })
        })
    }

    /// Asks a question. `doing` completes "while …" in errors.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn query<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> BoxFuture<'a, Result<Vec<Row>, EngineError>> {
        // Boxed, because the compiler cannot prove for callers that are
        // spawned that a future over borrowed `dyn` values is `Send`.
        Box::pin(async move {
            self.client
                .query(&marked(sql), params)
                .await
                .map_err(|cause| self.blame(doing, cause))
        })
    }

    /// Asks a question and hands each row to `each` as it comes: the fields as
    /// the server sends them. The server waits where `each` does. Ends early
    /// where `each` answers `false`.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn stream<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
        params: &'a [&'a (dyn ToSql + Sync)],
        mut each: impl FnMut(&[Option<&[u8]>]) -> bool + Send + 'a,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let failed = |cause| self.blame(doing, cause);
            let sql = marked(sql);
            let rows = self.client.query_raw(&sql, params.iter().copied());
            let rows = rows.await.map_err(failed)?;
            pin_mut!(rows);
            while let Some(row) = rows.next().await {
                let row = row.map_err(failed)?;
                let fields: Vec<Option<&[u8]>> = (0..row.len())
                    .map(|n| row.try_get::<_, Option<Sent>>(n).map(|f| f.map(|f| f.0)))
                    .collect::<Result<_, _>>()
                    .map_err(failed)?;
                if !each(&fields) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Fills a table with `COPY … FROM STDIN`; `next` gives piece after piece.
    /// Returns the number of rows.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn copy_in<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
        mut next: impl FnMut() -> Option<bytes::Bytes> + Send + 'a,
    ) -> BoxFuture<'a, Result<u64, EngineError>> {
        Box::pin(async move {
            let failed = |cause| self.blame(doing, cause);
            let sink = self.client.copy_in(sql).await.map_err(failed)?;
            pin_mut!(sink);
            while let Some(piece) = next() {
                sink.send(piece).await.map_err(failed)?;
            }
            sink.finish().await.map_err(failed)
        })
    }

    /// Runs SQL without values, by the simple protocol, which adds no
    /// transaction block of its own around a single statement.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn execute<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Done, EngineError>> {
        Box::pin(async move {
            self.drain_notices();
            let rows = self
                .count_rows(sql)
                .await
                .map_err(|cause| self.blame(doing, cause))?;
            Ok(Done {
                notices: self.drain_notices(),
                rows,
            })
        })
    }

    /// Runs one statement with bound values.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn execute_with<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> BoxFuture<'a, Result<Done, EngineError>> {
        Box::pin(async move {
            self.drain_notices();
            let prepared = self.prepare(doing, sql, params.len()).await?;
            let rows = self
                .client
                .execute(&prepared, params)
                .await
                .map_err(|cause| self.blame(doing, cause))?;
            Ok(Done {
                notices: self.drain_notices(),
                rows,
            })
        })
    }

    /// Asks a question by the simple protocol: the first value of its first row.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn simple_value<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, EngineError>> {
        Box::pin(async move {
            let messages = self
                .client
                .simple_query(&marked(sql))
                .await
                .map_err(|cause| self.blame(doing, cause))?;
            Ok(messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }))
        })
    }

    /// Whether `sql` is one well-formed statement with so many placeholders.
    /// What it names need not exist yet; where it does, the placeholders are counted.
    ///
    /// # Errors
    /// When it is not, or the connection is gone.
    pub fn check_syntax<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
        placeholders: usize,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            match self.prepare(doing, sql, placeholders).await {
                // syntax_error, which also stands for several statements in one text
                Err(error) if error.sqlstate().is_none_or(|code| code == "42601") => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// The driver panics where the numbers of placeholders and values differ.
    async fn prepare(
        &self,
        doing: &str,
        sql: &str,
        values: usize,
    ) -> Result<Prepared, EngineError> {
        let prepared = self
            .client
            .prepare(&marked(sql))
            .await
            .map_err(|cause| self.blame(doing, cause))?;
        match prepared.params().len() {
            placeholders if placeholders == values => Ok(prepared),
            placeholders => Err(EngineError::Placeholders {
                doing: doing.to_owned(),
                placeholders,
                values,
            }),
        }
    }

    /// Lets the rows of results pass without keeping them.
    async fn count_rows(&self, sql: &str) -> Result<u64, tokio_postgres::Error> {
        let messages = self.client.simple_query_raw(&marked(sql)).await?;
        pin_mut!(messages);
        let mut rows = 0;
        while let Some(message) = messages.next().await {
            if let SimpleQueryMessage::CommandComplete(count) = message? {
                rows += count;
            }
        }
        Ok(rows)
    }

    /// Asks the server to give up what this session is doing.
    ///
    /// # Errors
    /// When the server cannot be reached for that.
    pub async fn cancel(&self) -> Result<(), EngineError> {
        Ok(self.canceller.cancel().await?)
    }

    /// Cancelled as soon as the connection has ended.
    pub fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    fn drain_notices(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        // A poisoned lock would mean a panic in `try_recv`; the notices are then lost, nothing else.
        if let Ok(mut waiting) = self.notices.lock() {
            while let Ok(notice) = waiting.try_recv() {
                notices.push(notice);
            }
        }
        notices
    }

    fn blame(&self, doing: &str, cause: tokio_postgres::Error) -> EngineError {
        if cause.is_closed() || self.client.is_closed() {
            EngineError::Lost {
                doing: doing.to_owned(),
                server: self.described.clone(),
                source: Box::new(cause),
            }
        } else {
            blame(&self.described, doing, cause)
        }
    }
}

/// A statement that another session has prepared already, or that nobody has:
/// between us and the server there is a pooler that shares its sessions.
fn blame(server: &str, doing: &str, cause: tokio_postgres::Error) -> EngineError {
    // duplicate_prepared_statement, invalid_sql_statement_name
    match cause.code().map(|code| code.code()) {
        Some("42P05" | "26000") => EngineError::Pooler {
            server: server.to_owned(),
        },
        _ => EngineError::statement(doing, cause),
    }
}
