//! A connection to a MongoDB database, and commands on it: each has a limit on the server, and none
//! is waited for without end.

mod commands;
mod opening;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mongodb::Client;
use mongodb::bson::{Bson, doc};
use mongodb::options::ClientOptions;
use tokio_util::sync::CancellationToken;

pub use self::commands::kill_operations;
use super::{Dial, MongoError};
use crate::engines::clocks;

/// How long a question that reads only what the server knows of itself may take.
const ASIDE: Duration = Duration::from_secs(30);

/// How long a command may take on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Duration);

impl Limit {
    /// For questions that read only what the server knows of itself.
    pub const ASIDE: Limit = Limit(ASIDE);

    fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis())
            .unwrap_or(i64::from(i32::MAX))
            .clamp(1, i64::from(i32::MAX))
    }
}

/// Whom we talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As the server writes it: `6.0.5`.
    pub version: String,
    /// Major and minor: `(6, 0)`.
    pub release: (u32, u32),
    /// Feature compatibility, where the role may ask for it: `6.0`.
    pub compatibility: Option<String>,
    /// The replica set, if it is one.
    pub set: Option<String>,
    /// What the set calls this member, if it is one.
    pub me: Option<String>,
    /// Whether it may be written to: the primary, or a server that stands alone.
    pub writable: bool,
    /// Whether it is a shard of a cluster, so that it answers for a part of the documents only.
    pub shard: bool,
    /// By how many milliseconds this machine's clock is ahead of the server's,
    /// at least; negative where it is behind, 0 where both may be the same.
    pub clock_ahead_ms: i64,
}

impl Server {
    /// What is wrong where the two clocks are more than a few seconds apart:
    /// then nobody can tell how old a document is.
    pub fn clock_differs(&self) -> Option<String> {
        clocks::differ(self.clock_ahead_ms, "documents")
    }

    /// What the server's clock shows when ours shows `now`.
    pub fn clock(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now - TimeDelta::milliseconds(self.clock_ahead_ms)
    }
}

/// A client of one target: several connections that the driver looks after,
/// to the primary of a replica set wherever it moves to. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    client: Client,
    options: Arc<ClientOptions>,
    dial: Dial,
    name: Arc<str>,
    commands: Arc<AtomicU64>,
    /// Whom we talk to.
    pub server: Arc<Server>,
    pub(super) claimed: Arc<tokio::sync::Mutex<Option<Claim>>>,
    /// Cancelled when the claim is lost.
    pub(super) lost: CancellationToken,
}

/// `database.collection`, as the server writes it.
pub fn namespace(database: &str, collection: &str) -> String {
    format!("{database}.{collection}")
}

impl Session {
    /// Whether only the server that the URL names is asked, whatever its state.
    pub fn is_direct(&self) -> bool {
        self.options.direct_connection == Some(true)
    }

    /// The same session, holding no claim.
    pub(super) fn alone(&self) -> Session {
        Session {
            claimed: Arc::default(),
            ..self.clone()
        }
    }

    /// How the target is reached.
    pub(crate) fn dial(&self) -> &Dial {
        &self.dial
    }

    /// The database to look after.
    pub fn database(&self) -> &str {
        self.dial.database()
    }

    /// What the client calls itself on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The servers, for people.
    pub fn describe(&self) -> &str {
        self.dial.describe()
    }

    /// The host and port of a session on one member; the first of those in the URL otherwise.
    pub(crate) fn address(&self) -> String {
        let first = self.options.hosts.first();
        first.map(ToString::to_string).unwrap_or_default()
    }

    /// The driver's collection, for documents that have to stay as they are, to the byte.
    pub(crate) fn raw(
        &self,
        database: &str,
        collection: &str,
    ) -> mongodb::Collection<mongodb::bson::RawDocumentBuf> {
        self.client.database(database).collection(collection)
    }

    /// The driver's client, for transactions.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The database that our user was made in.
    pub fn lives_in(&self) -> &str {
        let credential = self.options.credential.as_ref();
        credential
            .and_then(|credential| credential.source.as_deref())
            .unwrap_or("admin")
    }

    /// Every database but the server's own.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn databases(&self) -> Result<Vec<String>, MongoError> {
        let command = doc! { "listDatabases": 1, "nameOnly": true };
        let answer = self
            .command("listing databases", "admin", command, Limit::ASIDE)
            .await?;
        let all = answer.get_array("databases").into_iter().flatten();
        let names = all.filter_map(|one| one.as_document()?.get_str("name").ok());
        Ok(names
            .filter(|name| !matches!(*name, "admin" | "config" | "local"))
            .map(str::to_owned)
            .collect())
    }

    /// Whether our user may do this to a collection of a database, or to all of them.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn may(&self, action: &str, database: &str) -> Result<bool, MongoError> {
        let command = doc! { "connectionStatus": 1, "showPrivileges": true };
        let doing = "asking for privileges";
        let answer = self.command(doing, "admin", command, Limit::ASIDE).await?;
        let info = answer.get_document("authInfo").cloned().unwrap_or_default();
        // Nobody logs in, and everybody may do everything.
        let nobody = info
            .get_array("authenticatedUsers")
            .map_or(true, Vec::is_empty);
        let privileges = info
            .get_array("authenticatedUserPrivileges")
            .into_iter()
            .flatten();
        Ok(nobody
            || privileges.filter_map(Bson::as_document).any(|privilege| {
                let has = privilege
                    .get_array("actions")
                    .is_ok_and(|actions| actions.iter().any(|one| one.as_str() == Some(action)));
                has && privilege.get_document("resource").is_ok_and(|on| {
                    let here = on
                        .get_str("db")
                        .is_ok_and(|on| on.is_empty() || on == database);
                    here || on.get_bool("anyResource").unwrap_or(false)
                })
            }))
    }

    /// Ends the connections, so that nothing is left to be done when the process ends.
    pub async fn close(self) {
        self.client.shutdown().immediate(true).await;
    }

    /// The names of the collections of a database, the server's own left out; none where
    /// they may not be listed.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn collection_names(
        &self,
        database: &str,
    ) -> Result<Option<Vec<String>>, MongoError> {
        let command = doc! { "listCollections": 1, "nameOnly": true };
        let doing = "listing collections";
        let found = match self.all(doing, database, command, Limit::ASIDE).await {
            Err(MongoError::Unauthorized { .. }) => return Ok(None),
            found => found?,
        };
        let names = found.iter().filter_map(|one| one.get_str("name").ok());
        Ok(Some(
            names
                .filter(|name| !name.starts_with("system."))
                .map(str::to_owned)
                .collect(),
        ))
    }
}

/// A number whatever its type.
pub fn number(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        Bson::Double(n) if n.is_finite() => Some(*n as i64),
        Bson::Boolean(yes) => Some(i64::from(*yes)),
        _ => None,
    }
}

/// A claim that is being renewed until this is dropped.
pub struct Claim {
    pub(super) session: Session,
    pub(super) task: String,
    pub(super) owner: String,
    pub(super) end: CancellationToken,
}
