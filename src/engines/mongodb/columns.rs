//! Documents beside typed columns: what a Parquet file has of each of them.

use std::collections::HashMap;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{RawBsonRef, RawDocument};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extended::{Members, value_text};
use crate::engines::parquet::{Column, Form};

/// Text in a column beside the document, in bytes; longer is only in the document.
const MOST_TEXT: usize = 64 << 10;
/// What has no column of its own, in bytes of its text; more is only in the document.
const MOST_REST: usize = 1 << 20;
/// Up to here every whole number is a floating-point number.
const EXACT: u64 = 1 << 53;
/// Microseconds from 1970 to 2000, where columns count from.
const TO_2000: i64 = 946_684_800_000_000;

/// The type of a column, as the server names types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FieldType {
    /// True or false.
    Bool,
    /// 32 bits.
    Int,
    /// 64 bits, or 32.
    Long,
    /// A floating-point number.
    Double,
    /// A moment, in microseconds in UTC.
    Date,
    /// Text of up to 64 KB.
    String,
    /// An ObjectId, as its hexadecimal digits.
    ObjectId,
    /// A UUID (binary of subtype 4).
    Uuid,
    /// A decimal number, as text.
    Decimal,
    /// A floating-point number, or a whole one that is exactly one.
    Number,
    /// No field of that name: all that has no place in the other columns, as one document of
    /// canonical extended JSON, of up to 1 MB.
    Rest,
}

impl std::fmt::Display for FieldType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FieldType::Bool => "bool",
            FieldType::Int => "int",
            FieldType::Long => "long",
            FieldType::Double => "double",
            FieldType::Date => "date",
            FieldType::String => "string",
            FieldType::ObjectId => "objectId",
            FieldType::Uuid => "uuid",
            FieldType::Decimal => "decimal",
            FieldType::Number => "number",
            FieldType::Rest => "rest",
        })
    }
}

/// A top-level field that has a column of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type. A value of another type is only in the document.
    #[serde(rename = "type")]
    pub kind: FieldType,
}

/// The columns of a file: `_id` as extended JSON, one for each field, and the
/// bytes of the whole document.
pub fn columns(fields: &[Field]) -> Vec<Column> {
    let column = |name: &str, form| Column {
        name: name.to_owned(),
        pg_type: String::new(),
        form,
        list: false,
    };
    let mut all = vec![column("_id", Form::Text)];
    all.extend(fields.iter().map(|f| column(&f.name, f.kind.form())));
    all.push(column(&whole(fields), Form::Bytes));
    all
}

/// The column of the whole document: none that a field has already.
fn whole(fields: &[Field]) -> String {
    let mut name = "document".to_owned();
    while fields.iter().any(|f| f.name.eq_ignore_ascii_case(&name)) {
        name.push('_');
    }
    name
}

/// What a file has of a document, column by column, without the document itself.
pub fn row(fields: &[Field], document: &RawDocument) -> Vec<Option<Vec<u8>>> {
    let columns = std::iter::once("_id").chain(fields.iter().map(|field| field.name.as_str()));
    let mut places: HashMap<&str, usize> = columns.enumerate().map(|(n, name)| (name, n)).collect();
    let rest = fields
        .iter()
        .position(|field| field.kind == FieldType::Rest);
    if let Some(rest) = rest.and_then(|n| fields.get(n)) {
        places.remove(rest.name.as_str());
    }
    let mut row = vec![None; fields.len() + 1];
    let mut left = Members::new(MOST_REST);
    for element in document.iter_elements() {
        // Whoever looks for a field in a broken document finds what comes before.
        let Ok((name, value)) = element.and_then(|e| Ok((e.key().as_str(), e.value()?))) else {
            break;
        };
        // Of fields of one name the first counts.
        let kept = places.remove(name).and_then(|place| {
            let kept = match place.checked_sub(1).and_then(|n| fields.get(n)) {
                Some(field) => field.kind.kept(value),
                None => value_text(value, MOST_TEXT).map(String::into_bytes),
            };
            *row.get_mut(place)? = Some(kept?);
            Some(())
        });
        if kept.is_none() && rest.is_some() {
            left.push(name, value);
        }
    }
    if let Some(cell) = rest.and_then(|n| row.get_mut(n + 1)) {
        *cell = left.text().map(String::into_bytes);
    }
    row
}

impl FieldType {
    fn form(self) -> Form {
        match self {
            FieldType::Bool => Form::Bool,
            FieldType::Int => Form::Int4,
            FieldType::Long => Form::Int8,
            FieldType::Double | FieldType::Number => Form::Float8,
            FieldType::Date => Form::TimestampTz,
            FieldType::Uuid => Form::Uuid,
            FieldType::String | FieldType::ObjectId | FieldType::Decimal | FieldType::Rest => {
                Form::Text
            }
        }
    }

    /// Whether values of this type, as the server names it, have a place in the column.
    pub fn takes(self, kind: &str) -> bool {
        match self {
            FieldType::Long => matches!(kind, "int" | "long"),
            FieldType::Number => matches!(kind, "int" | "long" | "double"),
            other => other.to_string() == kind,
        }
    }

    /// A value as columns take it; none where it is of another type.
    fn kept(self, value: RawBsonRef<'_>) -> Option<Vec<u8>> {
        Some(match (self, value) {
            (FieldType::Bool, RawBsonRef::Boolean(yes)) => vec![u8::from(yes)],
            (FieldType::Int, RawBsonRef::Int32(n)) => n.to_be_bytes().to_vec(),
            (FieldType::Long, RawBsonRef::Int32(n)) => i64::from(n).to_be_bytes().to_vec(),
            (FieldType::Long, RawBsonRef::Int64(n)) => n.to_be_bytes().to_vec(),
            (FieldType::Double, RawBsonRef::Double(n)) => n.to_be_bytes().to_vec(),
            (FieldType::Number, RawBsonRef::Double(n)) => n.to_be_bytes().to_vec(),
            (FieldType::Number, RawBsonRef::Int32(n)) => f64::from(n).to_be_bytes().to_vec(),
            (FieldType::Number, RawBsonRef::Int64(n)) if n.unsigned_abs() <= EXACT => {
                #[expect(clippy::cast_precision_loss, reason = "so many digits fit")]
                let n = n as f64;
                n.to_be_bytes().to_vec()
            }
            (FieldType::Date, RawBsonRef::DateTime(at)) => {
                let micros = at.timestamp_millis().checked_mul(1000)?;
                micros.checked_sub(TO_2000)?.to_be_bytes().to_vec()
            }
            (FieldType::Uuid, RawBsonRef::Binary(of))
                if of.subtype == BinarySubtype::Uuid && of.bytes.len() == 16 =>
            {
                of.bytes.to_vec()
            }
            (FieldType::String, RawBsonRef::String(text)) if text.len() <= MOST_TEXT => {
                text.as_bytes().to_vec()
            }
            (FieldType::ObjectId, RawBsonRef::ObjectId(id)) => id.to_hex().into_bytes(),
            (FieldType::Decimal, RawBsonRef::Decimal128(n)) => n.to_string().into_bytes(),
            _ => return None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use mongodb::bson::{Bson, RawDocumentBuf, doc};

    use super::*;

    fn fields(of: &[(&str, FieldType)]) -> Vec<Field> {
        let field = |(name, kind): &(&str, FieldType)| Field {
            name: (*name).to_owned(),
            kind: *kind,
        };
        of.iter().map(field).collect()
    }

    fn told(of: &[(&str, FieldType)], document: &RawDocument) -> Vec<Option<String>> {
        let row = row(&fields(of), document);
        row.into_iter()
            .map(|cell| cell.map(|cell| String::from_utf8_lossy(&cell).into_owned()))
            .collect()
    }

    #[test]
    fn what_has_no_place_is_in_the_rest() {
        let of = [("s", FieldType::String), ("rest", FieldType::Rest)];
        let document = doc! { "_id": 1, "s": "a", "rest": true, "x": { "y": [1_i64] } };
        let document = RawDocumentBuf::try_from(&document).unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told(&of, &document),
            [
                some(r#"{"$numberInt":"1"}"#),
                some("a"),
                some(r#"{"rest":true,"x":{"y":[{"$numberLong":"1"}]}}"#)
            ]
        );
        let fits = RawDocumentBuf::try_from(&doc! { "_id": 1, "s": "a" }).unwrap();
        assert_eq!(told(&of, &fits)[2], None);
        let other = RawDocumentBuf::try_from(&doc! { "_id": 1, "s": Bson::Null }).unwrap();
        assert_eq!(told(&of, &other)[1..], [None, some(r#"{"s":null}"#)]);
        // Two of one name: the second has no column.
        let mut twice = RawDocumentBuf::new();
        twice.append(mongodb::bson::cstr!("s"), "a");
        twice.append(mongodb::bson::cstr!("s"), "b");
        assert_eq!(told(&of, &twice), [None, some("a"), some(r#"{"s":"b"}"#)]);
        let large = RawDocumentBuf::try_from(&doc! { "x": "x".repeat(2 << 20) }).unwrap();
        assert_eq!(told(&of, &large), [None, None, None]);
    }

    #[test]
    fn a_number_is_in_its_column_if_it_is_exactly_that() {
        let of = fields(&[("n", FieldType::Number), ("rest", FieldType::Rest)]);
        let number = |n: Bson| {
            let row = row(&of, &RawDocumentBuf::try_from(&doc! { "n": n }).unwrap());
            let bytes: Option<[u8; 8]> = row[1].clone().map(|cell| cell.try_into().unwrap());
            assert_eq!(bytes.is_none(), row[2].is_some());
            bytes.map(f64::from_be_bytes)
        };
        assert_eq!(number(Bson::Int32(-5)), Some(-5.0));
        assert_eq!(number(Bson::Int64(1 << 53)), Some(9_007_199_254_740_992.0));
        assert_eq!(number(Bson::Int64((1 << 53) + 1)), None);
        assert_eq!(number(Bson::Double(0.5)), Some(0.5));
        assert_eq!(number(Bson::String("5".to_owned())), None);
    }
}
