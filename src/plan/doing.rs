//! What tests of this room have steps do: one statement, on an object with an identity.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::Body;

/// What it runs, and what it relies on.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Doing(pub(super) String, pub(super) Value);

impl Body for Doing {
    fn text(&self) -> String {
        self.0.clone()
    }

    fn identity(&self) -> Value {
        self.1.clone()
    }

    fn until(&self) -> Option<DateTime<Utc>> {
        None
    }

    fn elsewhere(&self) -> Option<String> {
        None
    }

    fn keeps_what_it_did(&self) -> bool {
        false
    }

    fn destroys(&self) -> bool {
        true
    }
}
