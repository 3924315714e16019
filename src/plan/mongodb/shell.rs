//! Values as the shell, `mongosh`, reads them: it takes extended JSON for
//! documents with odd keys, with which nothing compares.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document};

use crate::engines::mongodb::Json;

/// A collection as the shell writes it, whatever its name.
pub fn shell_name(database: &str, collection: &str) -> String {
    format!(
        "db.getSiblingDB({}).getCollection({})",
        shell_text(database),
        shell_text(collection)
    )
}

/// A text as the shell writes it.
pub fn shell_text(text: &str) -> String {
    // Only of NUL do both languages not think alike: a digit may follow it.
    let parts = text.split('\0').map(|part| {
        let quoted = format!("{part:?}");
        let within = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
        within.unwrap_or_default().to_owned()
    });
    format!("\"{}\"", parts.collect::<Vec<_>>().join("\\x00"))
}

/// A document, or any other value, as the shell writes it.
pub fn shell_json(json: &Json) -> String {
    // What stands for no value was written by nobody of ours, and is told as it is.
    json.value()
        .map_or_else(|_| json.0.to_string(), |value| shell_value(&value))
}

/// The stages of a pipeline as the shell writes them.
pub fn shell_stages<'a>(stages: impl IntoIterator<Item = &'a Json>) -> String {
    let stages = stages.into_iter().map(shell_json);
    format!("[{}]", stages.collect::<Vec<_>>().join(", "))
}

/// A document as the shell writes it.
pub fn shell_document(of: &Document) -> String {
    let members = of
        .iter()
        .map(|(key, value)| format!("{}: {}", shell_key(key), shell_value(value)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

/// The name of a field, before its colon.
pub fn shell_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$');
    let is_bare = key.starts_with(bare) && key.chars().all(|c| bare(c) || c.is_ascii_digit());
    match key {
        // Without the brackets it is no field, but what the object descends from.
        "__proto__" => "[\"__proto__\"]".to_owned(),
        _ if is_bare => key.to_owned(),
        _ => shell_text(key),
    }
}

fn shell_value(value: &Bson) -> String {
    match value {
        Bson::Double(number) => double(*number),
        Bson::String(text) => shell_text(text),
        Bson::Array(values) => {
            let values = values.iter().map(shell_value);
            format!("[{}]", values.collect::<Vec<_>>().join(", "))
        }
        Bson::Document(document) => shell_document(document),
        Bson::Boolean(yes) => yes.to_string(),
        Bson::Null => "null".to_owned(),
        Bson::Undefined => "undefined".to_owned(),
        Bson::RegularExpression(of) => {
            let pattern = shell_text(of.pattern.as_str());
            let options = shell_text(of.options.as_str());
            // The shell's own know neither all options nor all patterns of the server's.
            format!("BSONRegExp({pattern}, {options})")
        }
        Bson::JavaScriptCode(code) => format!("Code({})", shell_text(code)),
        Bson::JavaScriptCodeWithScope(of) => {
            let scope = shell_document(&of.scope);
            format!("Code({}, {scope})", shell_text(&of.code))
        }
        Bson::Int32(number) => number.to_string(),
        // The shell takes larger ones for doubles, which are not exact.
        Bson::Int64(number) => match i32::try_from(*number) {
            Ok(number) => number.to_string(),
            Err(_) => format!("NumberLong(\"{number}\")"),
        },
        Bson::Timestamp(of) => format!("Timestamp({}, {})", of.time, of.increment),
        Bson::Binary(of) => binary(of),
        Bson::ObjectId(id) => format!("ObjectId(\"{id}\")"),
        Bson::DateTime(at) => date(*at),
        Bson::Symbol(text) => format!("BSONSymbol({})", shell_text(text)),
        Bson::Decimal128(number) => format!("NumberDecimal(\"{number}\")"),
        Bson::MinKey => "MinKey()".to_owned(),
        Bson::MaxKey => "MaxKey()".to_owned(),
        // The shell has no word of its own for it.
        Bson::DbPointer(_) => format!("EJSON.deserialize({})", Json::of_value(value).0),
    }
}

fn double(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number.is_infinite() && number > 0.0 => "Infinity".to_owned(),
        _ if number.is_infinite() => "-Infinity".to_owned(),
        _ => format!("{number:?}"),
    }
}

fn binary(of: &Binary) -> String {
    match (of.subtype, <[u8; 16]>::try_from(of.bytes.as_slice())) {
        (BinarySubtype::Uuid, Ok(bytes)) => {
            format!("UUID(\"{}\")", mongodb::bson::Uuid::from_bytes(bytes))
        }
        (subtype, _) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.encode(&of.bytes);
            format!("BinData({}, \"{bytes}\")", u8::from(subtype))
        }
    }
}

fn date(at: DateTime) -> String {
    // `ISODate` takes four digits of a year.
    match at.try_to_rfc3339_string() {
        Ok(text) if text.len() <= "2020-01-01T00:00:00.000Z".len() && !text.starts_with('-') => {
            format!("ISODate(\"{text}\")")
        }
        _ => format!("new Date({})", at.timestamp_millis()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{DbPointer, JavaScriptCodeWithScope, Regex, Timestamp, Uuid, doc};
    use serde_json::json;

    #[test]
    fn every_type_is_written_as_the_shell_reads_it() {
        let id = ObjectId::parse_str("6b0a084ae1b0a7e3fc0d3a03").unwrap();
        let uuid = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        let of = |subtype, bytes: &[u8]| {
            Bson::Binary(Binary {
                subtype,
                bytes: bytes.to_vec(),
            })
        };
        let cases: Vec<(Bson, &str)> = vec![
            (Bson::Double(1.5), "1.5"),
            (Bson::Double(-2e300), "-2e300"),
            (Bson::Double(f64::NAN), "NaN"),
            (Bson::Double(f64::INFINITY), "Infinity"),
            (Bson::Double(f64::NEG_INFINITY), "-Infinity"),
            (
                Bson::String("a \"b\" \\ c\n".to_owned()),
                r#""a \"b\" \\ c\n""#,
            ),
            (Bson::String("a\u{0}1".to_owned()), r#""a\x001""#),
            (Bson::String("it's".to_owned()), r#""it's""#),
            (Bson::Array(vec![Bson::Int32(1), Bson::Null]), "[1, null]"),
            (Bson::Boolean(true), "true"),
            (Bson::Undefined, "undefined"),
            (Bson::Int32(-7), "-7"),
            (Bson::Int64(2_147_483_647), "2147483647"),
            (
                Bson::Int64(1_793_228_474_993),
                r#"NumberLong("1793228474993")"#,
            ),
            (
                Bson::Int64(i64::MIN),
                r#"NumberLong("-9223372036854775808")"#,
            ),
            (
                Bson::ObjectId(id),
                r#"ObjectId("6b0a084ae1b0a7e3fc0d3a03")"#,
            ),
            (
                Bson::DateTime(DateTime::from_millis(1_577_836_800_000)),
                r#"ISODate("2020-01-01T00:00:00Z")"#,
            ),
            (
                Bson::DateTime(DateTime::from_millis(1_577_836_800_123)),
                r#"ISODate("2020-01-01T00:00:00.123Z")"#,
            ),
            (
                Bson::DateTime(DateTime::from_millis(300_000_000_000_000)),
                "new Date(300000000000000)",
            ),
            (
                Bson::DateTime(DateTime::from_millis(-70_000_000_000_000)),
                "new Date(-70000000000000)",
            ),
            (
                Bson::DateTime(DateTime::MIN),
                "new Date(-9223372036854775808)",
            ),
            (
                Bson::Decimal128("1234567890.12345".parse().unwrap()),
                r#"NumberDecimal("1234567890.12345")"#,
            ),
            (
                Bson::RegularExpression(Regex {
                    pattern: "^a/\"b\"(?i)".try_into().unwrap(),
                    options: "im".try_into().unwrap(),
                }),
                r#"BSONRegExp("^a/\"b\"(?i)", "im")"#,
            ),
            (
                Bson::Binary(uuid.into()),
                r#"UUID("00112233-4455-6677-8899-aabbccddeeff")"#,
            ),
            (of(BinarySubtype::Generic, b"abc"), r#"BinData(0, "YWJj")"#),
            (
                of(BinarySubtype::UuidOld, &[0; 16]),
                r#"BinData(3, "AAAAAAAAAAAAAAAAAAAAAA==")"#,
            ),
            (of(BinarySubtype::Uuid, b"abc"), r#"BinData(4, "YWJj")"#),
            (
                of(BinarySubtype::UserDefined(128), b""),
                r#"BinData(128, "")"#,
            ),
            (
                Bson::Timestamp(Timestamp {
                    time: 7,
                    increment: 2,
                }),
                "Timestamp(7, 2)",
            ),
            (
                Bson::JavaScriptCode("return \"x\"".to_owned()),
                r#"Code("return \"x\"")"#,
            ),
            (
                Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                    code: "x".to_owned(),
                    scope: doc! { "x": 1 },
                }),
                r#"Code("x", {x: 1})"#,
            ),
            (Bson::Symbol("s".to_owned()), r#"BSONSymbol("s")"#),
            (Bson::MinKey, "MinKey()"),
            (Bson::MaxKey, "MaxKey()"),
        ];
        for (value, said) in cases {
            assert_eq!(shell_value(&value), said, "{value:?}");
            // Kept in a plan, it is still the same.
            assert_eq!(
                shell_json(&Json::of(&doc! { "v": value })),
                format!("{{v: {said}}}")
            );
        }
        let pointer: DbPointer = serde_json::from_value(
            json!({ "$dbPointer": { "$ref": "a.b", "$id": { "$oid": id.to_hex() } } }),
        )
        .unwrap();
        assert_eq!(
            shell_value(&Bson::DbPointer(pointer)),
            r#"EJSON.deserialize({"$dbPointer":{"$ref":"a.b","$id":{"$oid":"6b0a084ae1b0a7e3fc0d3a03"}}})"#
        );
    }

    #[test]
    fn names_of_fields_are_names_of_fields() {
        for (key, said) in [
            ("_id", "_id"),
            ("$lt", "$lt"),
            ("a1", "a1"),
            ("1a", "\"1a\""),
            ("a.b", "\"a.b\""),
            ("", "\"\""),
            ("für", "\"für\""),
            ("__proto__", "[\"__proto__\"]"),
        ] {
            assert_eq!(shell_document(&doc! { key: 1 }), format!("{{{said}: 1}}"));
        }
    }

    #[test]
    fn what_stands_for_nothing_is_told_as_it_is() {
        assert_eq!(shell_json(&Json(json!({ "$oid": 1 }))), r#"{"$oid":1}"#);
        let stages = [Json(json!({ "$limit": 1 })), Json(json!({ "$out": "x" }))];
        assert_eq!(shell_stages(&stages), r#"[{$limit: 1}, {$out: "x"}]"#);
    }

    #[test]
    fn names_of_collections_are_texts() {
        assert_eq!(
            shell_name("shop", "a\"b"),
            r#"db.getSiblingDB("shop").getCollection("a\"b")"#
        );
    }
}
