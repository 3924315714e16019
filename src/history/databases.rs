//! Which databases of a server were seen: a target that stands for many of them has the history
//! remember them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{HistoryError, Store};
use crate::config::Config;

/// Under which kind they are remembered, by their name.
pub const DATABASES: &str = "databases";

/// What is remembered of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Since when it is known.
    pub since: DateTime<Utc>,
    /// Since when it is not looked after any more: it is gone, or not meant.
    pub gone: Option<DateTime<Utc>>,
}

/// The databases that a target stood for when it was looked at last, and before.
///
/// # Errors
/// When the history cannot be read.
pub async fn databases_of(
    store: &dyn Store,
    target: &str,
) -> Result<BTreeMap<String, Seen>, HistoryError> {
    let memories = store.memories(target, DATABASES).await?;
    let known = memories.into_iter();
    // Nobody else writes there; what cannot be read is as good as not known.
    Ok(known
        .filter_map(|(name, seen)| Some((name, serde_json::from_value(seen).ok()?)))
        .collect())
}

/// The configuration with the databases that the history knows of, in place of the targets that
/// stand for them: for who asks no server.
///
/// # Errors
/// When the history cannot be read.
pub async fn with_known_databases(
    config: &Config,
    store: &dyn Store,
) -> Result<Config, HistoryError> {
    let mut known = BTreeMap::new();
    for target in config.targets.values().filter(|one| one.is_many()) {
        let seen = databases_of(store, &target.name).await?;
        let there = seen.into_iter().filter(|(_, seen)| seen.gone.is_none());
        known.insert(target.name.clone(), there.map(|(name, _)| name).collect());
    }
    Ok(config.with_databases(&known))
}
