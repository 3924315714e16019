//! What PostgreSQL says, sorted by SQLSTATE.

use super::super::error::Cause;
use super::super::{HistoryError, Place};

impl HistoryError {
    /// Sorts what PostgreSQL said while we tried to `operation`.
    pub(in crate::history) fn from_postgres(
        place: &str,
        operation: &'static str,
        error: sqlx::Error,
    ) -> HistoryError {
        let code = match &error {
            sqlx::Error::Database(inner) => inner.code().map(|code| code.into_owned()),
            _ => None,
        };
        let (server, place) = (Place::Server(place.to_owned()), place.to_owned());
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        match (&error, code.as_deref().unwrap_or_default()) {
            (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), _) => {
                HistoryError::Unreadable {
                    place: server,
                    source: said(error),
                }
            }
            (sqlx::Error::PoolTimedOut, _) => HistoryError::OutOfReach {
                place,
                source:
                    "no connection could be had in time: the server takes none, or says nothing"
                        .into(),
            },
            (
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolClosed
                | sqlx::Error::Protocol(_)
                | sqlx::Error::BeginFailed,
                _,
            ) => HistoryError::OutOfReach {
                place,
                source: said(error),
            },
            // Shutdowns, no more connections, a database closed for a while.
            (_, "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "55000" | "3D000") => {
                HistoryError::OutOfReach {
                    place,
                    source: said(error),
                }
            }
            (_, code) if code.starts_with("08") || code.starts_with("28") => {
                HistoryError::OutOfReach {
                    place,
                    source: said(error),
                }
            }
            (_, "25006") => HistoryError::ReadOnly {
                place: server,
                source: said(error),
            },
            (_, "42501") => HistoryError::NotAllowed {
                operation,
                place,
                source: said(error),
            },
            (_, "53100") => HistoryError::DiskFull {
                place: server,
                source: said(error),
            },
            // Lock and statement timeouts, deadlocks, serialization.
            (_, "55P03" | "57014" | "40P01" | "40001") => HistoryError::Busy {
                place: server,
                source: said(error),
            },
            _ => HistoryError::Failed {
                operation,
                place: server,
                source: said(error),
            },
        }
    }
}

/// What the server says, without what its driver adds: the line of the server's own source.
fn said(error: sqlx::Error) -> Cause {
    match &error {
        sqlx::Error::Database(inner) => match inner.code() {
            Some(code) => format!("{} (SQLSTATE {code})", inner.message()).into(),
            None => inner.message().into(),
        },
        _ => error.into(),
    }
}
