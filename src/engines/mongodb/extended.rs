//! Documents as lines of canonical extended JSON, equal to the byte when they
//! are read back: the few that no such line tells are told by their bytes.

mod reading;
mod telling;

use std::io::Write;

use mongodb::bson::RawDocument;

pub use self::reading::read_line;
use self::telling::{MOST_TEXT, base64, object};
pub(super) use self::telling::{Members, value_text};

/// No document is larger: what the server stores, and what it adds to commands.
pub const MOST_DOCUMENT: usize = (16 << 20) + (16 << 10);
/// No line is longer: the bytes of the largest document, in base64.
pub const MOST_LINE: usize = 24 << 20;
/// What a line begins with that tells a document by its bytes.
const BYTES: &str = "$maint_bson";

/// Puts the line of a document, without its end, in place of what is in `out`.
pub fn write_line(document: &RawDocument, out: &mut Vec<u8>) {
    out.clear();
    let told = object(document, out, 0).is_ok() && out.len() <= MOST_TEXT;
    // What is proved is the very line that will be read.
    if told && read_line(out).is_ok_and(|read| read == document.as_bytes()) {
        return;
    }
    out.clear();
    // What it has grown to is given back first.
    out.shrink_to(MOST_TEXT / 4);
    let _ = write!(out, "{{\"{BYTES}\":\"");
    base64(document.as_bytes(), out);
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use mongodb::bson::spec::BinarySubtype;
    use mongodb::bson::{Bson, Document, RawDocumentBuf, cstr, doc};
    use proptest::prelude::*;

    fn line(document: &RawDocument) -> String {
        let mut out = Vec::new();
        write_line(document, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn told(document: Document) -> String {
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        let line = line(&raw);
        assert_eq!(
            read_line(line.as_bytes()).unwrap(),
            raw.as_bytes(),
            "{line}"
        );
        line
    }

    #[test]
    fn lines_are_canonical_extended_json() {
        use mongodb::bson::{Binary, DateTime, Regex, Timestamp, oid::ObjectId};
        let document = doc! {
            "_id": ObjectId::from_bytes([1; 12]), "i": 1, "l": 2_i64, "d": -0.0, "e": 1e300, "n": f64::NAN, "m": f64::NEG_INFINITY,
            "dec": Bson::Decimal128("-0E-6176".parse().unwrap()), "old": DateTime::from_millis(-62_135_596_800_000), "u": Bson::Undefined,
            "t": Timestamp { time: 5, increment: 6 }, "b": Binary { subtype: BinarySubtype::UserDefined(0x80), bytes: vec![0, 255] },
            "o": Binary { subtype: BinarySubtype::BinaryOld, bytes: vec![1, 2] },
            "r": Regex { pattern: cstr!("^a/.*").to_owned(), options: cstr!("imx").to_owned() },
            "c": Bson::JavaScriptCode("1".to_owned()), "s": Bson::Symbol("s".to_owned()), "min": Bson::MinKey, "max": Bson::MaxKey,
            "w": Bson::JavaScriptCodeWithScope(mongodb::bson::JavaScriptCodeWithScope { code: "x".to_owned(), scope: doc! { "a": 1 } }),
            "ref": { "$ref": "users", "$id": 1, "$db": "x" }, "a": [{}, [], null, true, "ü\n\0"], "": "empty", "$k": 1,
        };
        let told = told(document);
        assert!(!told.contains(BYTES), "{told}");
        insta::assert_snapshot!(told, @r##"{"_id":{"$oid":"010101010101010101010101"},"i":{"$numberInt":"1"},"l":{"$numberLong":"2"},"d":{"$numberDouble":"-0.0"},"e":{"$numberDouble":"1e300"},"n":{"$numberDouble":"NaN"},"m":{"$numberDouble":"-Infinity"},"dec":{"$numberDecimal":"-0E-6176"},"old":{"$date":{"$numberLong":"-62135596800000"}},"u":{"$undefined":true},"t":{"$timestamp":{"t":5,"i":6}},"b":{"$binary":{"base64":"AP8=","subType":"80"}},"o":{"$binary":{"base64":"AQI=","subType":"02"}},"r":{"$regularExpression":{"pattern":"^a/.*","options":"imx"}},"c":{"$code":"1"},"s":{"$symbol":"s"},"min":{"$minKey":1},"max":{"$maxKey":1},"w":{"$code":"x","$scope":{"a":{"$numberInt":"1"}}},"ref":{"$ref":"users","$id":{"$numberInt":"1"},"$db":"x"},"a":[{},[],null,true,"ü\n\u0000"],"":"empty","$k":{"$numberInt":"1"}}"##);
    }

    /// What means something else as JSON, or nothing, is told by its bytes.
    #[test]
    fn what_json_does_not_tell_is_told_by_its_bytes() {
        for document in [
            doc! { "_id": 1, "x": { "$numberInt": "5" } },
            doc! { "_id": 1, "x": { "$oid": "not one" } },
            doc! { "_id": 1, "x": { "$date": 5 } },
            doc! { "$maint_bson": "x" },
            doc! { "_id": 1, "x": f64::from_bits(0x7ff8_0000_0000_0001) },
        ] {
            let line = told(document);
            assert!(line.starts_with("{\"$maint_bson\":\""), "{line}");
        }
        let mut deep = doc! {};
        for _ in 0..150 {
            deep = doc! { "d": deep };
        }
        assert!(told(deep).contains(BYTES));
        // Many empty names: a line of many times the bytes.
        let mut wide = RawDocumentBuf::new();
        for _ in 0..2_000_000 {
            wide.append(cstr!(""), mongodb::bson::RawBson::Undefined);
        }
        let line = line(&wide);
        assert!(line.contains(BYTES) && line.len() < MOST_LINE);
        assert_eq!(read_line(line.as_bytes()).unwrap(), wide.as_bytes());
        // Text that is none.
        let invalid = b"\x0f\0\0\0\x02x\0\x03\0\0\0\xc3\x28\0\0".to_vec();
        let invalid = RawDocumentBuf::from_bytes(invalid).unwrap();
        let told = super::tests::line(&invalid);
        assert!(told.contains(BYTES), "{told}");
        assert_eq!(read_line(told.as_bytes()).unwrap(), invalid.as_bytes());
    }

    #[test]
    fn names_may_come_twice() {
        let mut twice = RawDocumentBuf::new();
        twice.append(cstr!("x"), 1);
        twice.append(cstr!("x"), "again");
        let line = line(&twice);
        assert_eq!(line, r#"{"x":{"$numberInt":"1"},"x":"again"}"#);
        assert_eq!(read_line(line.as_bytes()).unwrap(), twice.as_bytes());
    }

    #[test]
    fn other_json_is_refused() {
        for line in [
            "",
            "[]",
            "1",
            "{",
            "{\"a\":1}",
            "{\"a\":{\"$oid\":1}}",
            "{\"a\":\"x\"} {}",
            "{\"a\\u0000b\":true}",
            "{\"$maint_bson\":\"AAAA\"}",
            "{\"$maint_bson\":\"BQAAAAA=\",\"b\":true}",
            "{\"a\":{\"$minKey\":2}}",
            "{\"$oid\":\"010101010101010101010101\"}",
        ] {
            assert!(read_line(line.as_bytes()).is_err(), "{line}");
        }
    }

    fn any_value() -> impl Strategy<Value = Bson> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Bson::Int32),
            any::<i64>().prop_map(Bson::Int64),
            any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
            any::<[u8; 16]>()
                .prop_map(|b| Bson::Decimal128(mongodb::bson::Decimal128::from_bytes(b))),
            any::<i64>().prop_map(|ms| Bson::DateTime(mongodb::bson::DateTime::from_millis(ms))),
            ".*".prop_map(Bson::String),
            any::<bool>().prop_map(Bson::Boolean),
            Just(Bson::Null),
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| {
                Bson::Binary(mongodb::bson::Binary {
                    subtype: BinarySubtype::from(kind),
                    bytes,
                })
            }),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let key = prop_oneof![
                "[a-z$._ü]{0,4}",
                Just("$oid".to_owned()),
                Just("$date".to_owned()),
                Just("$code".to_owned())
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Bson::Array),
                prop::collection::vec((key, inner), 0..5)
                    .prop_map(|pairs| Bson::Document(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_it_is_comes_back(value in any_value()) {
            let raw = RawDocumentBuf::try_from(&doc! { "_id": 1, "v": value }).unwrap();
            let line = line(&raw);
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(read_line(line.as_bytes()).unwrap(), raw.as_bytes());
        }

        #[test]
        fn no_line_panics(text in ".*", at in any::<prop::sample::Index>()) {
            let mut good = br#"{"_id":{"$oid":"010101010101010101010101"},"a":[{"$binary":{"base64":"AP8=","subType":"80"}}]}"#.to_vec();
            let at = at.index(good.len());
            good.splice(at..at, text.bytes());
            if let Ok(read) = read_line(&good) {
                prop_assert!(RawDocument::from_bytes(&read).is_ok());
            }
        }
    }
}
