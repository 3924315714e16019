//! How a session comes to be: who answers is asked what it is, and whether it lets us in.

use std::sync::Arc;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ServerAddress};
use tokio_util::sync::CancellationToken;

use super::super::error::said;
use super::super::names::CLAIMS;
use super::super::{Dial, MongoError, Refusal, probe};
use super::{Server, Session};
use crate::engines::clocks;
use crate::values::wall_clock;

impl Session {
    /// Connects; `name` is what the client calls itself on the server.
    ///
    /// # Errors
    /// When that fails, with the reason.
    pub async fn open(dial: &Dial, name: &str) -> Result<Session, MongoError> {
        let (options, by_default) = dial.options(name).await?;
        Session::with(options, by_default, dial, name).await
    }

    /// A session on one member of the set, whatever its state.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn member(&self, address: &str) -> Result<Session, MongoError> {
        let mut options = (*self.options).clone();
        // Its own name may lead nowhere from here, as through a tunnel; the way that we came does.
        if !(self.is_direct() && self.server.me.as_deref() == Some(address)) {
            let address =
                ServerAddress::parse(address).map_err(|error| MongoError::Url(said(&error)))?;
            options.hosts = vec![address];
        }
        options.repl_set_name = None;
        options.direct_connection = Some(true);
        options.srv_max_hosts = None;
        Session::with(options, false, &self.dial, &self.name).await
    }

    pub(super) async fn with(
        options: ClientOptions,
        by_default: bool,
        dial: &Dial,
        name: &str,
    ) -> Result<Session, MongoError> {
        let shown = match options.direct_connection {
            Some(true) => options
                .hosts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            _ => dial.describe().to_owned(),
        };
        let client =
            Client::with_options(options.clone()).map_err(|error| MongoError::Url(said(&error)))?;
        let admin = client.database("admin");
        let hello = match admin.run_command(doc! { "hello": 1 }).await {
            Ok(hello) => hello,
            Err(seen) => return Err(probe::diagnose(&options, by_default, &shown, &seen).await),
        };
        if hello.get_str("msg").ok() == Some("isdbgrid") {
            return Err(MongoError::Connect {
                server: shown,
                refusal: Refusal::Other(
                    "this is a router of a sharded cluster (mongos), which maint does not look after: name a shard's replica set instead".to_owned(),
                ),
            });
        }
        // Needs no role, and is the first thing that needs us to be let in.
        let built = match admin.run_command(doc! { "buildInfo": 1 }).await {
            Ok(built) => built,
            Err(seen) => return Err(probe::diagnose(&options, by_default, &shown, &seen).await),
        };
        if options.credential.is_none() && keeps_out(&client, dial.database()).await {
            return Err(MongoError::Connect {
                server: shown,
                refusal: Refusal::NoUser,
            });
        }
        let version = built.get_str("version").unwrap_or_default().to_owned();
        let release = release(&version);
        if release < (4, 4) {
            return Err(MongoError::TooOld {
                server: shown,
                version,
            });
        }
        let compatibility = admin
            .run_command(doc! { "getParameter": 1, "featureCompatibilityVersion": 1 })
            .await
            .ok()
            .and_then(|answer| {
                let value = answer.get_document("featureCompatibilityVersion").ok()?;
                value.get_str("version").ok().map(str::to_owned)
            });
        // Asked once more: the first answer took as long as connecting does.
        let asked = wall_clock();
        let told = match admin.run_command(doc! { "hello": 1 }).await {
            Ok(hello) => hello,
            Err(seen) => return Err(probe::diagnose(&options, by_default, &shown, &seen).await),
        };
        let answered = wall_clock();
        let clock_ahead_ms = told.get_datetime("localTime").map_or(0, |there| {
            clocks::ahead(
                there.timestamp_millis(),
                asked.timestamp_millis(),
                answered.timestamp_millis(),
            )
        });
        Ok(Session {
            client,
            options: Arc::new(options),
            dial: dial.clone(),
            name: name.into(),
            commands: Arc::default(),
            server: Arc::new(Server {
                version,
                release,
                compatibility,
                set: hello.get_str("setName").ok().map(str::to_owned),
                me: hello.get_str("me").ok().map(str::to_owned),
                shard: is_of_cluster(&told),
                writable: hello.get_bool("isWritablePrimary").unwrap_or(false),
                clock_ahead_ms,
            }),
            claimed: Arc::default(),
            lost: CancellationToken::new(),
        })
    }
}

/// Whether a server does nothing for us, who have not logged in.
async fn keeps_out(client: &Client, database: &str) -> bool {
    let none = doc! { "_id": { "$in": [] } };
    let find = doc! { "find": CLAIMS, "filter": none, "limit": 1, "singleBatch": true };
    let asked = client.database(database).run_command(find).await;
    asked.is_err_and(|error| {
        matches!(
            MongoError::of_driver(&error),
            MongoError::Unauthorized { .. }
        )
    })
}

/// Major and minor of a version such as `6.0.5` or `7.1.0-rc2`.
pub(super) fn release(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Whether the answer to `hello` is that of a member of a sharded cluster. Such a server adds the
/// newest time that a majority has reached to everything it answers, whoever asks, and no other
/// does.
fn is_of_cluster(hello: &Document) -> bool {
    hello.contains_key("lastCommittedOpTime") || hello.contains_key("$configServerState")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_far_as_they_matter() {
        assert_eq!(release("4.4.2"), (4, 4));
        assert_eq!(release("8.0.0-rc1"), (8, 0));
        assert_eq!(release(""), (0, 0));
    }
}
