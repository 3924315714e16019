//! Documents beside typed columns: what a Parquet file has of each of them.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{RawBsonRef, RawDocument};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extended::value_text;
use crate::engines::parquet::{Column, Form};

/// Text in a column beside the document, in bytes; longer is only in the document.
const MOST_TEXT: usize = 64 << 10;
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
    let id = document.get("_id").ok().flatten();
    let id = id.and_then(|id| value_text(id, MOST_TEXT));
    let mut row = vec![id.map(String::into_bytes)];
    row.extend(fields.iter().map(|field| {
        let value = document.get(&field.name).ok().flatten()?;
        field.kind.kept(value)
    }));
    row
}

impl FieldType {
    fn form(self) -> Form {
        match self {
            FieldType::Bool => Form::Bool,
            FieldType::Int => Form::Int4,
            FieldType::Long => Form::Int8,
            FieldType::Double => Form::Float8,
            FieldType::Date => Form::TimestampTz,
            FieldType::Uuid => Form::Uuid,
            FieldType::String | FieldType::ObjectId | FieldType::Decimal => Form::Text,
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
