use mongodb::bson::Document;

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
