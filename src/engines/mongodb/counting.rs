//! Commands that count what meets a filter. No command takes every filter that `find` and `delete` take:
//! `count` knows no `$$NOW`, and an aggregation no `$where`.

use mongodb::bson::{Bson, DateTime, Document, doc};

use super::number;

/// Counts what meets a filter, along this index, and no further than `most`.
pub fn counting(
    collection: &str,
    filter: Document,
    index: Option<Bson>,
    most: Option<i64>,
) -> Document {
    let mut count = if has(&filter, "$expr") && !has(&filter, "$where") {
        let limit = most.map(|most| doc! { "$limit": most });
        let stages = [
            Some(doc! { "$match": filter }),
            limit,
            Some(doc! { "$count": "n" }),
        ];
        let stages: Vec<Document> = stages.into_iter().flatten().collect();
        doc! { "aggregate": collection, "pipeline": stages, "cursor": {} }
    } else {
        let mut count = doc! { "count": collection, "query": filter };
        count.extend(most.map(|most| ("limit".to_owned(), Bson::Int64(most))));
        count
    };
    count.extend(index.map(|index| ("hint".to_owned(), index)));
    count
}

/// What the server answers to it.
pub fn counted(answer: &Document) -> i64 {
    let batch = answer.get_document("cursor");
    let of = match batch.and_then(|cursor| cursor.get_array("firstBatch")) {
        // Of nothing there is no document that says so.
        Ok(batch) => batch.first().and_then(Bson::as_document),
        Err(_) => Some(answer),
    };
    of.and_then(|of| number(of.get("n"))).unwrap_or(0)
}

/// The filter with this moment in the place of the server's time: deletes before 6.0 do not know that
/// everywhere where `find` does.
pub fn at_moment(filter: Document, now: DateTime) -> Document {
    fn at(value: Bson, now: DateTime) -> Bson {
        match value {
            Bson::String(text) if text == "$$NOW" => Bson::DateTime(now),
            Bson::Document(document) => Bson::Document(at_moment(document, now)),
            Bson::Array(values) => values.into_iter().map(|value| at(value, now)).collect(),
            other => other,
        }
    }
    let each = |(key, value): (String, Bson)| match key.as_str() {
        "$literal" => (key, value),
        _ => (key, at(value, now)),
    };
    filter.into_iter().map(each).collect()
}

/// Whether a filter is one that no command counts by: with `$where`, and with what only an
/// aggregation knows.
pub fn is_uncountable(filters: &[Document]) -> bool {
    filters.iter().any(|filter| has(filter, "$where"))
        && filters.iter().any(|filter| names_now(&Bson::from(filter)))
}

/// Whether an operator stands anywhere in a filter.
fn has(filter: &Document, operator: &str) -> bool {
    fn within(value: &Bson, operator: &str) -> bool {
        match value {
            Bson::Document(document) => has(document, operator),
            Bson::Array(values) => values.iter().any(|value| within(value, operator)),
            _ => false,
        }
    }
    let mut all = filter.iter();
    all.any(|(key, value)| key == operator || within(value, operator))
}

/// Whether the time of the server, as a variable, stands anywhere in a value.
fn names_now(value: &Bson) -> bool {
    match value {
        Bson::String(text) => ["$$NOW", "$$CLUSTER_TIME"]
            .iter()
            .any(|now| text.starts_with(now)),
        Bson::Document(document) => document.values().any(names_now),
        Bson::Array(values) => values.iter().any(names_now),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_is_counted_by_the_command_that_knows_it() {
        let by = |filter: Document| {
            let command = counting("c", filter, Some("at_1".into()), Some(7));
            assert_eq!(command.get_str("hint").ok(), Some("at_1"));
            let name = command.keys().next().cloned();
            name.unwrap_or_default()
        };
        let now = doc! { "$expr": { "$lt": ["$at", "$$NOW"] } };
        assert_eq!(by(doc! { "at": 1 }), "count");
        assert_eq!(by(doc! { "$where": "true" }), "count");
        assert_eq!(
            by(doc! { "$and": [{ "a": 1 }, { "$nor": [now.clone()] }] }),
            "aggregate"
        );
        assert_eq!(by(doc! { "$where": "true", "$expr": true }), "count");
        assert!(!is_uncountable(std::slice::from_ref(&now)));
        assert!(is_uncountable(&[
            now,
            doc! { "$or": [{ "$where": "true" }] }
        ]));
    }

    #[test]
    fn the_time_of_the_server_is_put_where_it_stands() {
        let now = DateTime::from_millis(7);
        let filter = doc! { "$expr": { "$and": [{ "$lt": ["$at", "$$NOW"] }, { "$ne": ["$a", { "$literal": "$$NOW" }] }] } };
        let placed = doc! { "$expr": { "$and": [{ "$lt": ["$at", now] }, { "$ne": ["$a", { "$literal": "$$NOW" }] }] } };
        assert_eq!(at_moment(filter, now), placed);
    }

    #[test]
    fn both_answers_are_read() {
        assert_eq!(counted(&doc! { "n": 3, "ok": 1.0 }), 3);
        let batch = |batch: Vec<Document>| doc! { "cursor": { "firstBatch": batch, "id": 0_i64 }, "ok": 1.0 };
        assert_eq!(counted(&batch(vec![doc! { "n": 4 }])), 4);
        assert_eq!(counted(&batch(vec![])), 0);
    }
}
