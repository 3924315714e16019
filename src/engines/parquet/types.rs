//! Which PostgreSQL types can be kept exactly, and as what.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
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
    /// counterpart elsewhere, such as numbers without a precision, ranges,
    /// intervals.
    Text,
}

/// A column to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// Its type as PostgreSQL writes it.
    pub pg_type: String,
    /// How it is kept; of a list, each element.
    pub form: Form,
    /// Whether it is an array that is kept as a list. A second column of the
    /// file holds the dimensions of those arrays that are more than a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub list: bool,
}

/// How columns of a type are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As what; of a list, each element.
    pub form: Form,
    /// Whether as a list.
    pub list: bool,
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
    "int2vector",
    "oidvector",
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
pub fn kept_as(
    base: &str,
    class: &str,
    element: Option<(&str, &str)>,
    modifier: i32,
) -> Option<Kept> {
    let (form, list) = match element {
        // The one type whose arrays are not written with commas.
        Some(("box", _)) => (Form::Text, false),
        Some((element, class)) => (form_of(element, class, modifier)?, true),
        None => (form_of(base, class, modifier)?, false),
    };
    Some(Kept { form, list })
}

fn form_of(base: &str, class: &str, modifier: i32) -> Option<Form> {
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
            // A cast is what somebody says that the text is; the type itself says what it is.
            Form::Text if self.is_made() => {
                let list = if self.list { "::pg_catalog.text[]" } else { "" };
                format!(
                    "CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}){list} END"
                )
            }
            Form::Text | Form::Decimal128 { .. } | Form::Decimal256 { .. } => {
                let list = if self.list { "[]" } else { "" };
                format!("{name}::text{list}")
            }
            _ => name.to_owned(),
        }
    }

    /// Whether its type is one that somebody has made. Of those, the name says in
    /// which schema; of the server's own, it does not.
    pub fn is_made(&self) -> bool {
        self.pg_type.contains('.')
    }

    /// Whether its values are whole documents: large, and each another.
    pub(super) fn large(&self) -> bool {
        self.pg_type.is_empty() && self.form == Form::Bytes
    }

    /// The column of the file.
    pub fn field(&self) -> Field {
        if self.list {
            return Field::new(&self.name, DataType::List(self.element()), true);
        }
        Field::new(&self.name, self.data_type(), true)
    }

    /// Of a list: its elements, under the name that Parquet's specification gives them.
    pub(super) fn element(&self) -> FieldRef {
        Arc::new(Field::new("element", self.data_type(), true))
    }

    fn data_type(&self) -> DataType {
        match self.form {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_exactly_is_refused() {
        let plain = |name| form_of(name, "b", -1);
        assert_eq!(plain("int8"), Some(Form::Int8));
        assert_eq!(plain("jsonb"), Some(Form::Text));
        assert_eq!(plain("numeric"), Some(Form::Text));
        assert_eq!(form_of("mood", "e", -1), Some(Form::Text));
        let array = |element, class, modifier| kept_as("_x", "b", Some((element, class)), modifier);
        let list = |form| Some(Kept { form, list: true });
        assert_eq!(array("mood", "e", -1), list(Form::Text));
        assert_eq!(array("int8", "b", -1), list(Form::Int8));
        assert_eq!(array("bpchar", "b", 9), list(Form::Text));
        assert_eq!(array("bpchar", "b", -1), None);
        assert_eq!(array("box", "b", -1).map(|kept| kept.list), Some(false));
        for refused in ["money", "regclass", "geometry", "hstore"] {
            assert_eq!(plain(refused), None, "{refused}");
            assert_eq!(array(refused, "b", -1), None);
        }
        assert_eq!(form_of("pair", "c", -1), None);
    }

    #[test]
    fn numbers_by_their_precision() {
        let numeric = |precision: i32, scale: i32| {
            form_of("numeric", "b", ((precision << 16) | (scale & 0x7ff)) + 4)
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
