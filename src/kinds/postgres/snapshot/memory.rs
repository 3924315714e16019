//! What one snapshot remembers for the next.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::plan::{Memory, Moment, Plan};

/// What was remembered under this key; nothing where that makes no sense any more.
pub(super) fn recall<T: Default + DeserializeOwned>(at: &Moment, key: &str) -> T {
    let memory = at.memories.get(key).cloned();
    memory
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_default()
}

/// Remembers something for the next snapshot.
pub(super) fn remember<T: Serialize>(plan: &mut Plan, key: &str, value: &T) {
    // Plain data always has a JSON form.
    if let Ok(value) = serde_json::to_value(value) {
        plan.memories.push(Memory {
            key: key.to_owned(),
            value,
        });
    }
}
