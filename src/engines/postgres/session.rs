//! A session on PostgreSQL in a known state: what settings of roles and databases could change of
//! our statements is pinned before the first of them.

mod opening;
mod streams;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::pin_mut;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, Statement as Prepared};
use tokio_util::sync::CancellationToken;

use super::Row;
use super::connect::{Canceller, Notice};
use super::server::Server;
use crate::engines::EngineError;

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

/// What came of statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The warnings raised on the way.
    pub notices: Vec<Notice>,
    /// Rows changed or returned, as the command tags say.
    pub rows: u64,
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
