//! What rows that move are compared by.

use super::ONCE;

/// How rows are told from each other when they are compared: by what the server would write for all
/// of their values, which is the same only for the same values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Image {
    /// As one text.
    #[default]
    Text,
    /// In bytes, as values travel, which are made sooner. For each column the function that makes
    /// them, quoted and qualified; where there is none, its text is taken.
    Sent(Vec<Option<String>>),
}

impl Image {
    /// The image of a row of these columns, as `whole`.
    pub fn row_of(&self, columns: &[String]) -> String {
        match self {
            Image::Text => format!("ROW({})::text COLLATE \"C\" AS whole", columns.join(", ")),
            Image::Sent(senders) => {
                let value = |(n, column): (usize, &String)| match senders.get(n) {
                    Some(Some(sender)) => format!("{sender}({column})"),
                    // By its type's own output, and by no cast that somebody has made.
                    _ => format!("pg_catalog.textsend(ROW({column})::text)"),
                };
                let values: Vec<String> = columns.iter().enumerate().map(value).collect();
                // A row of them, sent as a whole, would take longer to make.
                format!("ARRAY[{}]::bytea[] AS whole", values.join(", "))
            }
        }
    }

    /// Two hashes of each image that the query `rows` answers with, as `r`.
    pub fn hashed(&self, rows: &str) -> String {
        let hash = match self {
            Image::Text => "hashtextextended",
            Image::Sent(_) => "hash_array_extended",
        };
        let of = |seed: u8| format!("pg_catalog.{hash}(i.whole, {seed}::pg_catalog.int8)");
        let (one, other) = (of(0), of(1));
        format!("(SELECT {one} AS one, {other} AS other FROM ({rows}{ONCE}) AS i{ONCE}) AS r")
    }

    /// Number and checksums of the rows `r`.
    pub fn sums(&self) -> String {
        let sum = |hash: &str| format!("coalesce(pg_catalog.sum({hash}), 0)::text");
        let (one, other) = match self {
            Image::Text => (sum("r.one"), sum("r.other")),
            // The hash of an array is a sum over its elements: if hashes were added up as they are, values
            // that change places, each within its column, would not be told.
            Image::Sent(_) => (
                sum("pg_catalog.hashint8extended(r.one, r.other)"),
                sum("pg_catalog.hashint8extended(r.other, r.one)"),
            ),
        };
        format!("count(*), {one}, {other}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_compared_as_text() {
        let columns = ["a".to_owned(), "\"B\"".to_owned()];
        let image = Image::Sent(vec![Some("pg_catalog.int8send".to_owned()), None]);
        assert_eq!(
            image.row_of(&columns),
            "ARRAY[pg_catalog.int8send(a), pg_catalog.textsend(ROW(\"B\")::text)]::bytea[] AS whole"
        );
        // A column that nothing is known of is text.
        assert_eq!(
            Image::Sent(Vec::new()).row_of(&columns),
            "ARRAY[pg_catalog.textsend(ROW(a)::text), pg_catalog.textsend(ROW(\"B\")::text)]::bytea[] AS whole"
        );
        assert_eq!(
            Image::Text.row_of(&columns),
            "ROW(a, \"B\")::text COLLATE \"C\" AS whole"
        );
    }
}
