//! Lists of values that fit into a command: the server takes none of more than 16 MB.

use mongodb::bson::{Bson, Document, RawDocumentBuf};

/// Bytes that the values of one list may have.
const MOST_BYTES: usize = 4 << 20;
/// Values of one list.
const MOST: usize = 10_000;

/// The same values as lists that fit into a command, in their order; one that is larger by itself is
/// alone.
pub(crate) fn in_parts(values: &[Bson]) -> Vec<&[Bson]> {
    let mut parts = Vec::new();
    let mut rest = values;
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(fitting(rest));
        parts.push(part);
        rest = behind;
    }
    parts
}

/// How many of these values fit into a list of a command: one at least.
fn fitting(values: &[Bson]) -> usize {
    fitting_of(values.iter().take(MOST).map(size_of))
}

/// How many things of these sizes fit into a command: one at least.
pub(crate) fn fitting_of(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fit = sizes.take_while(|size| {
        bytes += size;
        bytes <= MOST_BYTES
    });
    fit.count().max(1)
}

/// How many bytes a value takes in a list, at most.
pub(crate) fn size_of(value: &Bson) -> usize {
    /// The type, the place in the list as text, the length.
    const BESIDE: usize = 16;
    let own = match value {
        Bson::String(text) | Bson::Symbol(text) | Bson::JavaScriptCode(text) => text.len(),
        Bson::Binary(binary) => binary.bytes.len(),
        Bson::RegularExpression(regex) => {
            regex.pattern.as_str().len() + regex.options.as_str().len()
        }
        Bson::Document(_)
        | Bson::Array(_)
        | Bson::JavaScriptCodeWithScope(_)
        | Bson::DbPointer(_) => {
            let mut one = Document::new();
            one.insert("", value.clone());
            RawDocumentBuf::try_from(&one).map_or(MOST_BYTES, |raw| raw.as_bytes().len())
        }
        Bson::Double(_)
        | Bson::Boolean(_)
        | Bson::Null
        | Bson::Int32(_)
        | Bson::Int64(_)
        | Bson::Timestamp(_)
        | Bson::ObjectId(_)
        | Bson::DateTime(_)
        | Bson::Decimal128(_)
        | Bson::Undefined
        | Bson::MaxKey
        | Bson::MinKey => 16,
    };
    own + BESIDE
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn no_list_is_larger_than_a_command_may_be() {
        let large = |n: usize| Bson::String("x".repeat(n << 20));
        assert!(in_parts(&[]).is_empty());
        let values = [large(1), large(2), large(5), large(1), Bson::Int32(1)];
        let sizes: Vec<usize> = in_parts(&values).iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [2, 1, 2]);
        let many = vec![Bson::Int32(1); 2 * MOST + 1];
        let sizes: Vec<usize> = in_parts(&many).iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [MOST, MOST, 1]);
        let inner = Bson::Document(doc! { "a": [large(1)] });
        assert!(size_of(&inner) > 1 << 20);
    }
}
