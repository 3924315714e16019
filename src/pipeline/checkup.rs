//! How a target is, for who asks outside of runs.

use std::collections::HashMap;

use serde_json::Value;

use super::known::last_place;
use crate::config::Config;

/// How good something is that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Something does not work, or is dangerous.
    Problem,
    /// A problem that keeps every task from running: none of them is worth trying.
    Blocked,
}

impl Level {
    /// Whether something is wrong.
    pub fn is_problem(self) -> bool {
        matches!(self, Level::Problem | Level::Blocked)
    }

    /// As it stands at the beginning of a line, and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem | Level::Blocked => "problem",
        }
    }
}

/// What was found: how good it is, and a sentence.
pub type Line = (Level, String);

/// Where the runs on each of these targets have worked last, as far as the history can be asked now.
pub async fn last_places(config: &Config, targets: &[String]) -> HashMap<String, Value> {
    let mut places = HashMap::new();
    let Ok(store) = crate::history::open_existing(config.history.expose()).await else {
        return places;
    };
    for target in targets {
        if let Ok(Some(place)) = last_place(store.as_ref(), target).await {
            places.insert(target.clone(), place);
        }
    }
    store.close().await;
    places
}
