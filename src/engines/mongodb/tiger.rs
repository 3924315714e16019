//! What the storage tells of itself.

use mongodb::bson::{Bson, Document};

use super::number;

/// How often a collection was written to since its server started, by its `storageStats`; none
/// where its storage does not say.
pub fn writes(stats: &Document) -> Option<i64> {
    let tiger = stats.get_document("wiredTiger").ok()?;
    let cursor = tiger.get_document("cursor").ok()?;
    let counts = [
        "insert calls",
        "update calls",
        "remove calls",
        "modify calls",
        "truncate calls",
    ];
    Some(
        counts
            .iter()
            .filter_map(|key| number(cursor.get(key)))
            .sum(),
    )
}

/// Whether a server compacts by itself just now, by its `serverStatus`.
pub fn is_compacting(status: &Document) -> bool {
    let tiger = status.get_document("wiredTiger").ok();
    let running = tiger
        .and_then(|tiger| tiger.get_document("background-compact").ok())
        .and_then(|background| background.get("background compact running"));
    match running {
        Some(Bson::Boolean(yes)) => *yes,
        other => number(other).unwrap_or(0) > 0,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn a_server_says_whether_it_compacts_by_itself() {
        let status = |running: Bson| doc! { "wiredTiger": { "background-compact": { "background compact running": running } } };
        assert!(is_compacting(&status(Bson::Int32(1))));
        assert!(is_compacting(&status(Bson::Boolean(true))));
        assert!(!is_compacting(&status(Bson::Int64(0))));
        assert!(!is_compacting(&doc! { "wiredTiger": {} }));
    }
}
