//! Rows that go by one at a time: read as they come, or filled in by `COPY`.

use futures_util::future::BoxFuture;
use futures_util::pin_mut;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::super::Row;
use super::{Session, marked};
use crate::engines::EngineError;

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

impl Session {
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
}
