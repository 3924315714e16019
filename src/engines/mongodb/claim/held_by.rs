//! Whose a claim is, for people: whatever stands in it, anybody may have written.

use mongodb::bson::Document;

use super::super::names::CLAIMS;

/// Who has a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldBy {
    /// For people: who, since when, until when.
    pub who: String,
    /// The run, as it calls itself; none where the claim is free again.
    pub owner: Option<String>,
    /// What ends the claim, and no other.
    pub end: Option<String>,
}

impl HeldBy {
    /// Of a claim as it stands in this database.
    pub(super) fn of(holder: &Document, database: &str) -> HeldBy {
        HeldBy {
            who: told(holder, database),
            owner: Some(holder.get_str("owner").unwrap_or_default().to_owned()),
            end: Some(ending(holder, database)),
        }
    }
}

/// More characters than a name has that maint writes into a claim.
const LONGEST: usize = 100;

/// A text of a claim, which anybody may have written, in one line.
fn short(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

/// What removes a claim.
fn ending(holder: &Document, database: &str) -> String {
    let id = holder.get_str("_id").unwrap_or_default();
    format!("db.getSiblingDB({database:?}).getCollection({CLAIMS:?}).deleteOne({{_id: {id:?}}})")
}

/// Whose a claim of this database is, since when and until when, and what ends one that is nobody's.
fn told(holder: &Document, database: &str) -> String {
    let at = |name: &str| {
        let at = holder.get_datetime(name).ok();
        let at = at.and_then(|at| chrono::DateTime::from_timestamp_millis(at.timestamp_millis()));
        at.map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
            .unwrap_or_default()
    };
    format!(
        "{} on {}, since {}; its claim holds until {} unless it is renewed, and {} ends one that is nobody's",
        short(holder.get_str("owner").unwrap_or("another run")),
        short(holder.get_str("host").unwrap_or("another machine")),
        at("since"),
        at("expires"),
        ending(holder, database),
    )
}
