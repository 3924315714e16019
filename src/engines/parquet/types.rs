//! Which PostgreSQL types can be kept exactly, and as what.

use arrow_schema::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

/// How a column is kept. Every form can be turned back into exactly what the
/// server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `integer`, `oid` excepted.
    Int4,
    /// `bigint`.
    Int8,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// Days.
    Date,
    /// Microseconds without a zone.
    Timestamp,
    /// Microseconds in UTC.
    TimestampTz,
    /// Microseconds of a day.
    Time,
    /// Sixteen bytes.
    Uuid,
    /// `bytea`.
    Bytes,
    /// `numeric(precision, scale)` of up to 38 digits.
    Decimal128 {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: i8,
    },
    /// The same of up to 76 digits.
    Decimal256 {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: i8,
    },
    /// The text that the server writes and reads: what has no exact
    /// counterpart elsewhere, such as numbers without a precision, arrays,
    /// ranges, intervals.
    Text,
}

/// A column to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// Its type as PostgreSQL writes it.
    pub pg_type: String,
    /// How it is kept.
    pub form: Form,
}

/// Types whose text says all, on any server, whatever its settings.
const AS_TEXT: &[&str] = &[
    "text",
    "varchar",
    "name",
    "json",
    "jsonb",
    "interval",
    "timetz",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "bit",
    "varbit",
    "tsvector",
    "tsquery",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "pg_lsn",
    "oid",
    "xid8",
    "citext",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
];

/// How a column of this type can be kept; `None` where it cannot be kept exactly.
///
/// `base` is the catalog's name of the type below all domains, `class` its
/// `typtype`, `element` the element type's name and `typtype` where it is an
/// array, `modifier` its `typmod`.
pub fn form_of(
    base: &str,
    class: &str,
    element: Option<(&str, &str)>,
    modifier: i32,
) -> Option<Form> {
    if let Some((element, class)) = element {
        // Elements are written by the same rules as the type itself.
        return form_of(element, class, None, -1).map(|_| Form::Text);
    }
    if class == "e" {
        return Some(Form::Text);
    }
    Some(match base {
        "bool" => Form::Bool,
        "int2" => Form::Int2,
        "int4" => Form::Int4,
        "int8" => Form::Int8,
        "float4" => Form::Float4,
        "float8" => Form::Float8,
        "date" => Form::Date,
        "timestamp" => Form::Timestamp,
        "timestamptz" => Form::TimestampTz,
        "time" => Form::Time,
        "uuid" => Form::Uuid,
        "bytea" => Form::Bytes,
        "numeric" => decimal(modifier),
        // Blanks at its end come back only where its length is known.
        "bpchar" if modifier >= 4 => Form::Text,
        other if AS_TEXT.contains(&other) => Form::Text,
        _ => return None,
    })
}

/// `numeric` by its modifier: precision and scale, or any number of digits.
fn decimal(modifier: i32) -> Form {
    if modifier < 4 {
        return Form::Text;
    }
    let packed = modifier - 4;
    let precision = (packed >> 16) & 0xffff;
    // Eleven bits with a sign: from 15 on a scale may be negative.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if scale >= 0 && scale.unsigned_abs() <= precision => {
            match precision {
                ..=38 => Form::Decimal128 { precision, scale },
                39..=76 => Form::Decimal256 { precision, scale },
                _ => Form::Text,
            }
        }
        _ => Form::Text,
    }
}

impl Column {
    /// What is selected, so that the answer comes in the form expected.
    /// `name` is the column, quoted.
    pub fn selected(&self, name: &str) -> String {
        match self.form {
            Form::Text | Form::Decimal128 { .. } | Form::Decimal256 { .. } => {
                format!("{name}::text")
            }
            _ => name.to_owned(),
        }
    }

    /// The column of the file.
    pub fn field(&self) -> Field {
        let kept = match self.form {
            Form::Bool => DataType::Boolean,
            Form::Int2 => DataType::Int16,
            Form::Int4 => DataType::Int32,
            Form::Int8 => DataType::Int64,
            Form::Float4 => DataType::Float32,
            Form::Float8 => DataType::Float64,
            Form::Date => DataType::Date32,
            Form::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Form::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Form::Time => DataType::Time64(TimeUnit::Microsecond),
            Form::Uuid => DataType::FixedSizeBinary(16),
            Form::Bytes => DataType::Binary,
            Form::Decimal128 { precision, scale } => DataType::Decimal128(precision, scale),
            Form::Decimal256 { precision, scale } => DataType::Decimal256(precision, scale),
            Form::Text => DataType::Utf8,
        };
        Field::new(&self.name, kept, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_exactly_is_refused() {
        let plain = |name| form_of(name, "b", None, -1);
        assert_eq!(plain("int8"), Some(Form::Int8));
        assert_eq!(plain("jsonb"), Some(Form::Text));
        assert_eq!(plain("numeric"), Some(Form::Text));
        assert_eq!(form_of("mood", "e", None, -1), Some(Form::Text));
        assert_eq!(
            form_of("_mood", "b", Some(("mood", "e")), -1),
            Some(Form::Text)
        );
        for refused in ["money", "regclass", "geometry", "hstore"] {
            assert_eq!(plain(refused), None, "{refused}");
            assert_eq!(form_of("_x", "b", Some((refused, "b")), -1), None);
        }
        assert_eq!(form_of("pair", "c", None, -1), None);
    }

    #[test]
    fn numbers_by_their_precision() {
        let numeric = |precision: i32, scale: i32| {
            form_of(
                "numeric",
                "b",
                None,
                ((precision << 16) | (scale & 0x7ff)) + 4,
            )
        };
        assert_eq!(
            numeric(10, 2),
            Some(Form::Decimal128 {
                precision: 10,
                scale: 2
            })
        );
        assert_eq!(
            numeric(38, 0),
            Some(Form::Decimal128 {
                precision: 38,
                scale: 0
            })
        );
        assert_eq!(
            numeric(60, 30),
            Some(Form::Decimal256 {
                precision: 60,
                scale: 30
            })
        );
        assert_eq!(numeric(10, -2), Some(Form::Text));
        assert_eq!(numeric(3, 5), Some(Form::Text));
        assert_eq!(numeric(500, 2), Some(Form::Text));
    }
}
