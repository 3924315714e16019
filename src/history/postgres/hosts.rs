//! Which of several hosts the history is on now. A failover moves it in the middle of a run, and a
//! daemon outlives many.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};

use super::owners::Known;
use super::pool::{ACQUIRE_TIMEOUT, pool, settle};
use crate::engines::postgres::connect::Dial;

/// After such a silence the other hosts are asked.
const SILENCE: Duration = Duration::from_secs(3);

/// Connections to one host.
pub(super) struct Current {
    /// `host:port/database`.
    host: String,
    pool: PgPool,
    /// Whose the history there is.
    pub(super) known: Known,
}

impl Current {
    fn new(host: String, pool: PgPool) -> Arc<Current> {
        let known = Known::default();
        Arc::new(Current { host, pool, known })
    }
}

/// Where the history is, and where it may be.
pub(super) struct Hosts {
    /// All hosts, where there are several.
    several: Option<Box<Dial>>,
    /// Whether only one that can be written will do.
    writable: bool,
    current: RwLock<Arc<Current>>,
}

impl Hosts {
    /// With connections to the first host; of several, another one where `all` says so.
    pub(super) fn new(all: &Dial, writable: bool, host: String, pool: PgPool) -> Hosts {
        Hosts {
            several: all.has_several_hosts().then(|| Box::new(all.clone())),
            writable,
            current: RwLock::new(Current::new(host, pool)),
        }
    }

    fn current(&self) -> Arc<Current> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a transaction, of several hosts on the one that is the primary now.
    pub(super) async fn begin(
        &self,
        begin: &'static str,
    ) -> Result<(Transaction<'static, Postgres>, Arc<Current>), sqlx::Error> {
        let current = self.current();
        let Some(all) = &self.several else {
            let begun = current.pool.begin_with(begin).await?;
            return Ok((begun, current));
        };
        // A standby refuses to begin to write, and a server that is gone says nothing.
        let begun = tokio::time::timeout(SILENCE, current.pool.begin_with(begin)).await;
        if let Ok(Ok(begun)) = begun {
            return Ok((begun, current));
        }
        let current = self.moved(all, current).await;
        let begun = current.pool.begin_with(begin).await?;
        Ok((begun, current))
    }

    /// Where the history is now: where it was, unless another host answers as it should.
    async fn moved(&self, all: &Dial, from: Arc<Current>) -> Arc<Current> {
        let settled = match settle(all.clone(), self.writable).await {
            Ok(settled) => settled,
            Err(error) => {
                if let Some(error) = error {
                    tracing::debug!(%error, "no host of the history answers as it should");
                }
                return from;
            }
        };
        let host = settled.place();
        let Ok(plain) = settled.plain() else {
            return from;
        };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Another call has found it meanwhile.
        if !Arc::ptr_eq(&current, &from) || from.host == host {
            return Arc::clone(&current);
        }
        tracing::warn!(
            from = from.host,
            to = host,
            "the history is on another host now"
        );
        *current = Current::new(host, pool(&plain, ACQUIRE_TIMEOUT));
        let now = Arc::clone(&current);
        drop(current);
        tokio::spawn(async move { from.pool.close().await });
        now
    }

    /// Lets go of all connections.
    pub(super) async fn close(&self) {
        self.current().pool.close().await;
    }
}
