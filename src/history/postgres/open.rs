//! Opens a history in PostgreSQL: our own driver goes first, because it knows why a connection
//! fails and which of several hosts takes writes; or nothing is opened before the first call.

use std::time::Duration;

use super::PostgresStore;
use super::hosts::Hosts;
use super::migrate::Standing;
use super::pool::{ACQUIRE_TIMEOUT, pool, settle};
use crate::engines::postgres::connect::Dial;
use crate::history::{HistoryError, Opening, Place};

/// The same for a history that did not answer before: each call asks again.
const UNSEEN_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

impl PostgresStore {
    pub(in crate::history) async fn open(
        dial: &Dial,
        opening: Opening,
    ) -> Result<PostgresStore, HistoryError> {
        let writable = opening == Opening::CreateIfMissing;
        let store = PostgresStore::connect(dial, writable).await?;
        if writable {
            store.refuse_encodings().await?;
        }
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

    /// Connects to the host that is asked for, and looks at nothing there.
    ///
    /// # Errors
    /// Why it cannot be reached, or is none that can be written where that is asked for.
    pub(in crate::history) async fn connect(
        dial: &Dial,
        writable: bool,
    ) -> Result<PostgresStore, HistoryError> {
        let place = dial.place();
        // Our own driver goes first: it knows why a connection fails, and
        // which of several hosts can be written.
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
        Ok(PostgresStore {
            place: dial.place(),
            hosts: Hosts::new(dial, writable, host, pool),
        })
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
