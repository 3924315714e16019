//! Whether a result is still what the last aggregation has left.

use serde_json::Value;

use super::super::common::Collection;
use super::Aggregation;
use crate::plan::{Finding, Severity};
use crate::values::several;

/// Why it has to be made anew, if somebody has emptied it, or put another in its place: `left` is
/// what was remembered of it. An edit that leaves as many documents is not seen.
pub(super) fn changed(
    held: &Collection,
    left: &Value,
    aggregation: &Aggregation,
    repeatable: bool,
) -> Option<String> {
    let documents = left.get("documents").and_then(Value::as_i64)?;
    let uuid = left.get("uuid").and_then(Value::as_str)?;
    let now = held.documents;
    if documents > 0 && now == 0 {
        return Some(format!(
            "it held {} when it was made, and is empty",
            several(documents, "document")
        ));
    }
    // Once more would add to what is there, whatever that is.
    if !repeatable {
        return None;
    }
    if uuid != held.uuid {
        return Some("it is another collection than the one that was made".to_owned());
    }
    let expires = held.indexes.iter().any(|index| index.expires.is_some());
    let differs = match aggregation.replaces() {
        true => now != documents,
        // Others may write there, too.
        false => now < documents,
    };
    (differs && !expires).then(|| {
        format!(
            "it held {} when it was made, and holds {now}",
            several(documents, "document")
        )
    })
}

/// What is to be said of a result that takes the place of all that is there, where somebody else has put
/// another one there since it was `left`: another task, another database or another installation does so
/// time and again, and each succeeds.
pub(super) fn by_others(held: &Collection, left: &Value, object: &str) -> Option<Finding> {
    let uuid = left.get("uuid").and_then(Value::as_str)?;
    (uuid != held.uuid && held.documents > 0).then(|| Finding {
        code: "refresh.replaced".to_owned(),
        severity: Severity::Warning,
        object: object.to_owned(),
        message: format!(
            "{object} is another collection than the one that was made last: somebody has put {} there since, which this task replaces. If that is another task, or another database whose `$out` goes there, each replaces what the other has made, and only the last one's is left: give each a place of its own. If somebody has put it there once, or a run ended before it was written down what it made, nothing is to be done",
            several(held.documents, "document")
        ),
        suggestion: None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use serde_json::json;

    use super::super::super::common::Index;
    use super::*;

    #[test]
    fn a_result_that_is_not_what_was_left_is_made_anew() {
        let of = |last: Value| -> Aggregation {
            serde_json::from_value(json!({ "collection": "a", "pipeline": [last] })).unwrap()
        };
        let (out, merge) = (of(json!({ "$out": "m" })), of(json!({ "$merge": "m" })));
        let held = |uuid: &str, documents| Collection {
            uuid: uuid.to_owned(),
            documents,
            ..Collection::default()
        };
        let left = json!({ "uuid": "u", "documents": 5 });
        for (uuid, documents, by_out, by_merge, by_addition) in [
            ("u", 5, false, false, false),
            ("u", 4, true, true, false),
            ("u", 6, true, false, false),
            ("u", 0, true, true, true),
            ("v", 5, true, true, false),
            ("v", 0, true, true, true),
        ] {
            let held = held(uuid, documents);
            let told =
                |by: &Aggregation, repeatable| changed(&held, &left, by, repeatable).is_some();
            assert_eq!(told(&out, true), by_out, "{uuid} {documents}");
            assert_eq!(told(&merge, true), by_merge, "{uuid} {documents}");
            assert_eq!(told(&merge, false), by_addition, "{uuid} {documents}");
        }
        // Before it was remembered, and where it could not be looked at.
        assert_eq!(changed(&held("u", 0), &Value::Null, &out, true), None);
        // What expires is meant to go.
        let mut expiring = held("u", 4);
        expiring.indexes.push(Index {
            expires: Some(1.0),
            ..Index::default()
        });
        assert_eq!(changed(&expiring, &left, &out, true), None);
    }
}
