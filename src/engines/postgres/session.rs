//! A session on PostgreSQL in a known state: what settings of roles and databases could change of
//! our statements is pinned before the first of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::pin_mut;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage, Statement as Prepared};
use tokio_util::sync::CancellationToken;

use super::connect::{Canceller, Dial, Notice};
use super::server::{FACTS, Server};
use super::{Identifier, Row, settings};
use crate::engines::EngineError;
use crate::values::wall_clock;

/// Ends the text of every statement of ours, so that whoever looks into
/// `pg_stat_statements` can tell them from the application's.
const OURS: &str = "/* maint */";

/// The statement with the mark of its origin. The line break ends a comment
/// that the text may end with.
fn marked(sql: &str) -> String {
    format!("{sql}\n{OURS}")
}

/// So many questions are kept prepared in a session.
const MOST_PREPARED: usize = 100;

/// No encoding: bytes come as they are.
const BYTES: &str = "SQL_ASCII";

const DEMANDED_NOW: &str = "SELECT s.name, s.setting FROM pg_catalog.pg_settings s
    WHERE s.name = ANY ($1::text[])";

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
    /// Of a database that knows no encoding.
    bytes: bool,
    /// Questions that were asked before, by their text.
    prepared: Mutex<HashMap<String, Prepared>>,
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
            let failed = |cause| blame(&described, "preparing the session", "", cause);
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
            let facts = Row::all(doing, facts.map_err(failed)?);
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
            let known = self.prepared().get(sql).cloned();
            let asked = match &known {
                Some(prepared) => self.client.query(prepared, params).await,
                None => {
                    let prepared = self.prepare(doing, sql, params.len()).await?;
                    let asked = self.client.query(&prepared, params).await;
                    self.keep(sql, prepared);
                    asked
                }
            };
            let rows = match asked {
                Err(cause) if known.is_some() && is_outdated(&cause) => {
                    self.prepared().remove(sql);
                    let again = self.client.query(&marked(sql), params).await;
                    again.map_err(|_| self.blame(doing, sql, cause))
                }
                asked => asked.map_err(|cause| self.blame(doing, sql, cause)),
            };
            Ok(Row::all(doing, rows?))
        })
    }

    /// Asks a question in a transaction of its own, which `begin` opens and which
    /// is rolled back: sent at once, so that it takes one round trip.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn query_alone<'a>(
        &'a self,
        doing: &'a str,
        begin: &'a str,
        sql: &'a str,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> BoxFuture<'a, Result<Vec<Row>, EngineError>> {
        Box::pin(async move {
            let known = self.prepared().get(sql).cloned();
            // Prepared beforehand: the end must not be sent before the question.
            let prepared = match known {
                Some(prepared) => prepared,
                None => {
                    let prepared = self.prepare(doing, sql, params.len()).await?;
                    self.keep(sql, prepared.clone());
                    prepared
                }
            };
            let (begun, asked, ended) = futures_util::future::join3(
                self.execute("opening a transaction", begin),
                self.client.query(&prepared, params),
                self.execute("ending the transaction", "ROLLBACK"),
            )
            .await;
            if asked.as_ref().is_err_and(is_outdated) {
                self.prepared().remove(sql);
            }
            begun?;
            let rows = asked.map_err(|cause| self.blame(doing, sql, cause))?;
            ended?;
            Ok(Row::all(doing, rows))
        })
    }

    /// Keeps what was prepared for the next time: thousands of steps ask the
    /// same questions, and preparing is a round trip of its own.
    fn keep(&self, sql: &str, prepared: Prepared) {
        let mut kept = self.prepared();
        // Texts that differ from object to object must not gather on the server.
        if kept.len() >= MOST_PREPARED {
            kept.clear();
        }
        kept.insert(sql.to_owned(), prepared);
    }

    fn prepared(&self) -> MutexGuard<'_, HashMap<String, Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a question of which only the first row matters, if there is one: the others are let go as
    /// they come, however many somebody's own query returns.
    ///
    /// # Errors
    /// When the server reports one, at whichever row, or the connection is gone.
    pub fn query_first<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Row>, EngineError>> {
        Box::pin(async move {
            let failed = |cause| self.blame(doing, sql, cause);
            let sql = marked(sql);
            let none: [&(dyn ToSql + Sync); 0] = [];
            let rows = self.client.query_raw(&sql, none).await.map_err(failed)?;
            pin_mut!(rows);
            let mut first = None;
            while let Some(row) = rows.next().await {
                let row = row.map_err(failed)?;
                first.get_or_insert(row);
            }
            Ok(Row::all(doing, first.into_iter().collect()))
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
            let failed = |cause| self.blame(doing, sql, cause);
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
            let failed = |cause| self.blame(doing, sql, cause);
            let sink = self.client.copy_in(sql).await.map_err(failed)?;
            pin_mut!(sink);
            while let Some(piece) = next() {
                sink.send(piece).await.map_err(failed)?;
            }
            sink.finish().await.map_err(failed)
        })
    }

    /// Fills a table with `COPY … FROM STDIN` while what it is filled with still comes, piece after
    /// piece, until there is `None`. Where it ends before that, nothing is filled: the server gives
    /// the statement up, and with it the transaction. Whether it was filled is the answer.
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub fn copy_as_it_comes<'a>(
        &'a self,
        doing: &'a str,
        sql: &'a str,
        mut coming: UnboundedReceiver<Option<bytes::Bytes>>,
    ) -> BoxFuture<'a, Result<bool, EngineError>> {
        Box::pin(async move {
            let failed = |cause| self.blame(doing, sql, cause);
            let sink = self.client.copy_in(sql).await.map_err(failed)?;
            pin_mut!(sink);
            while let Some(next) = coming.recv().await {
                match next {
                    Some(piece) => sink.send(piece).await.map_err(failed)?,
                    None => {
                        sink.finish().await.map_err(failed)?;
                        return Ok(true);
                    }
                }
            }
            Ok(false)
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
                .map_err(|cause| self.blame(doing, sql, cause))?;
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
                .map_err(|cause| self.blame(doing, sql, cause))?;
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
                .map_err(|cause| self.blame(doing, sql, cause))?;
            Ok(messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
                _ => None,
            }))
        })
    }

    /// The system identifier of the cluster; none where a provider keeps it to himself.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn system_identifier(&self) -> Result<Option<String>, EngineError> {
        let doing = "asking which server this is";
        let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
        match self.query(doing, sql, &[]).await {
            Ok(rows) => Ok(super::first::<Option<String>>(&rows, 0)?.flatten()),
            Err(error) if error.sqlstate() == Some("42501") => Ok(None),
            Err(error) => Err(error),
        }
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
            .map_err(|cause| self.blame(doing, sql, cause))?;
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

    /// The server, for people.
    pub fn describe(&self) -> &str {
        &self.described
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

    fn blame(&self, doing: &str, sql: &str, cause: tokio_postgres::Error) -> EngineError {
        if cause.is_closed() || self.client.is_closed() {
            EngineError::Lost {
                doing: doing.to_owned(),
                server: self.described.clone(),
                source: Box::new(cause),
            }
        } else {
            blame(&self.described, doing, sql, cause)
        }
    }
}

/// A statement that another session has prepared already, or that nobody has:
/// between us and the server there is a pooler that shares its sessions.
fn blame(server: &str, doing: &str, sql: &str, cause: tokio_postgres::Error) -> EngineError {
    // duplicate_prepared_statement, invalid_sql_statement_name
    match cause.code().map(|code| code.code()) {
        Some("42P05" | "26000") => EngineError::Pooler {
            server: server.to_owned(),
        },
        _ => EngineError::statement(doing, sql, cause),
    }
}

/// Whether a prepared statement is of no use any more: what it reads has
/// changed, and its result would be of another type (`feature_not_supported`).
fn is_outdated(cause: &tokio_postgres::Error) -> bool {
    cause.code().is_some_and(|code| code.code() == "0A000")
}
