//! What the storage tells of itself.

use mongodb::bson::{Bson, Document};

use super::number;

/// How often a collection was written to since its server started, by its `storageStats`; none
/// where its storage does not say.
pub fn writes(stats: &Document) -> Option<i64> {
    let tiger = stats.get_document("wiredTiger").ok()?;
    let cursor = tiger.get_document("cursor").ok()?;
    // A change in place, such as `$inc`, is called `modify` there.
    let mut sum = 0_i64;
    for known in ["insert calls", "update calls", "remove calls", "modify"] {
        sum = sum.saturating_add(number(cursor.get(known))?);
    }
    Some(sum.saturating_add(number(cursor.get("truncate calls")).unwrap_or(0)))
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
    fn what_a_server_does_not_count_is_not_known() {
        let mut cursor =
            doc! { "insert calls": 1, "update calls": 2_i64, "remove calls": 3.0, "modify": 4 };
        let stats = |cursor: &Document| doc! { "wiredTiger": { "cursor": cursor.clone() } };
        assert_eq!(writes(&stats(&cursor)), Some(10));
        cursor.insert("truncate calls", 5);
        assert_eq!(writes(&stats(&cursor)), Some(15));
        cursor.remove("modify");
        assert_eq!(writes(&stats(&cursor)), None);
    }

    #[test]
    fn a_server_says_whether_it_compacts_by_itself() {
        let status = |running: Bson| doc! { "wiredTiger": { "background-compact": { "background compact running": running } } };
        assert!(is_compacting(&status(Bson::Int32(1))));
        assert!(is_compacting(&status(Bson::Boolean(true))));
        assert!(!is_compacting(&status(Bson::Int64(0))));
        assert!(!is_compacting(&doc! { "wiredTiger": {} }));
    }
}
