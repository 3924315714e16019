//! Documents as lines of canonical extended JSON, equal to the byte when they
//! are read back: the few that no such line tells are told by their bytes.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{RawArray, RawBsonRef, RawDocument};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// No document is larger: what the server stores, and what it adds to commands.
pub const MOST_DOCUMENT: usize = (16 << 20) + (16 << 10);
/// No line is longer: the bytes of the largest document, in base64.
pub const MOST_LINE: usize = 24 << 20;
/// A longer text is not unpacked character by character, in memory of its own:
/// the document is told by its bytes.
const MOST_TEXT: usize = 12 << 20;
/// How deep documents may lie in each other; the server's own limit is lower.
const DEEPEST: usize = 110;
/// What a line begins with that tells a document by its bytes.
const BYTES: &str = "$maint_bson";

/// A value has no counterpart.
struct Unlike;

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

/// A value as canonical extended JSON; none where it has no counterpart, or
/// where that is longer than `most`.
pub(super) fn value_text(of: RawBsonRef<'_>, most: usize) -> Option<String> {
    let mut out = Vec::new();
    value(of, &mut out, 0).ok()?;
    String::from_utf8(out)
        .ok()
        .filter(|text| text.len() <= most)
}

/// Fields with their values, as one document of canonical extended JSON.
pub(super) struct Members {
    out: Vec<u8>,
    most: usize,
    /// Whether one has no counterpart, or they are longer than they may be.
    unlike: bool,
}

impl Members {
    /// None yet, and no longer than `most`.
    pub(super) fn new(most: usize) -> Members {
        Members {
            out: Vec::new(),
            most,
            unlike: false,
        }
    }

    pub(super) fn push(&mut self, name: &str, of: RawBsonRef<'_>) {
        if self.unlike {
            return;
        }
        self.out.push(if self.out.is_empty() { b'{' } else { b',' });
        let told = text(name, &mut self.out).and_then(|()| {
            self.out.push(b':');
            value(of, &mut self.out, 1)
        });
        self.unlike = told.is_err() || self.out.len() >= self.most;
        if self.unlike {
            self.out = Vec::new();
        }
    }

    /// The text; none where there are no fields, or they cannot be told.
    pub(super) fn text(mut self) -> Option<String> {
        if self.unlike || self.out.is_empty() {
            return None;
        }
        self.out.push(b'}');
        String::from_utf8(self.out).ok()
    }
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let mut encoder = base64::write::EncoderWriter::new(out, &STANDARD);
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    let _ = encoder.finish();
}

fn text(text: &str, out: &mut Vec<u8>) -> Result<(), Unlike> {
    serde_json::to_writer(&mut *out, text).map_err(|_| Unlike)
}

fn object(document: &RawDocument, out: &mut Vec<u8>, depth: usize) -> Result<(), Unlike> {
    out.push(b'{');
    for (n, element) in document.iter_elements().enumerate() {
        let element = element.map_err(|_| Unlike)?;
        if n > 0 {
            out.push(b',');
        }
        text(element.key().as_str(), out)?;
        out.push(b':');
        value(element.value().map_err(|_| Unlike)?, out, depth + 1)?;
    }
    out.push(b'}');
    Ok(())
}

fn array(array: &RawArray, out: &mut Vec<u8>, depth: usize) -> Result<(), Unlike> {
    out.push(b'[');
    for (n, element) in array.iter_elements().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        let element = element.map_err(|_| Unlike)?;
        value(element.value().map_err(|_| Unlike)?, out, depth + 1)?;
    }
    out.push(b']');
    Ok(())
}

fn value(of: RawBsonRef<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Unlike> {
    if depth > DEEPEST || out.len() > MOST_TEXT {
        return Err(Unlike);
    }
    let mut plain = |key: &str, shown: &dyn std::fmt::Display| {
        write!(out, "{{\"{key}\":\"{shown}\"}}").map_err(|_| Unlike)
    };
    match of {
        RawBsonRef::Double(n) if n.is_nan() => plain("$numberDouble", &"NaN"),
        RawBsonRef::Double(n) if n.is_infinite() => {
            let sign = if n > 0.0 { "Infinity" } else { "-Infinity" };
            plain("$numberDouble", &sign)
        }
        RawBsonRef::Double(n) => plain("$numberDouble", &format_args!("{n:?}")),
        RawBsonRef::Int32(n) => plain("$numberInt", &n),
        RawBsonRef::Int64(n) => plain("$numberLong", &n),
        RawBsonRef::Decimal128(n) => plain("$numberDecimal", &n),
        RawBsonRef::ObjectId(id) => plain("$oid", &id),
        RawBsonRef::DateTime(at) => {
            let millis = at.timestamp_millis();
            write!(out, "{{\"$date\":{{\"$numberLong\":\"{millis}\"}}}}").map_err(|_| Unlike)
        }
        RawBsonRef::Timestamp(at) => {
            let (time, increment) = (at.time, at.increment);
            write!(out, "{{\"$timestamp\":{{\"t\":{time},\"i\":{increment}}}}}").map_err(|_| Unlike)
        }
        RawBsonRef::Boolean(yes) => write!(out, "{yes}").map_err(|_| Unlike),
        RawBsonRef::Null => {
            out.extend_from_slice(b"null");
            Ok(())
        }
        RawBsonRef::Undefined => {
            out.extend_from_slice(b"{\"$undefined\":true}");
            Ok(())
        }
        RawBsonRef::MinKey => {
            out.extend_from_slice(b"{\"$minKey\":1}");
            Ok(())
        }
        RawBsonRef::MaxKey => {
            out.extend_from_slice(b"{\"$maxKey\":1}");
            Ok(())
        }
        RawBsonRef::String(of) => text(of, out),
        RawBsonRef::Symbol(of) => texts(out, &[("$symbol", of)]),
        RawBsonRef::JavaScriptCode(of) => texts(out, &[("$code", of)]),
        RawBsonRef::JavaScriptCodeWithScope(of) => {
            out.extend_from_slice(b"{\"$code\":");
            text(of.code, out)?;
            out.extend_from_slice(b",\"$scope\":");
            object(of.scope, out, depth + 1)?;
            out.push(b'}');
            Ok(())
        }
        RawBsonRef::RegularExpression(of) => {
            out.extend_from_slice(b"{\"$regularExpression\":");
            let (pattern, options) = (of.pattern.as_str(), of.options.as_str());
            texts(out, &[("pattern", pattern), ("options", options)])?;
            out.push(b'}');
            Ok(())
        }
        RawBsonRef::Binary(of) => {
            out.extend_from_slice(b"{\"$binary\":{\"base64\":\"");
            base64(of.bytes, out);
            let kind = u8::from(of.subtype);
            write!(out, "\",\"subType\":\"{kind:02x}\"}}}}").map_err(|_| Unlike)
        }
        RawBsonRef::Document(of) => object(of, out, depth),
        RawBsonRef::Array(of) => array(of, out, depth),
        // Long out of use; its parts are not told by the library.
        RawBsonRef::DbPointer(_) => Err(Unlike),
    }
}

fn texts(out: &mut Vec<u8>, pairs: &[(&str, &str)]) -> Result<(), Unlike> {
    for (n, (key, of)) in pairs.iter().enumerate() {
        out.push(if n == 0 { b'{' } else { b',' });
        text(key, out)?;
        out.push(b':');
        text(of, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The bytes of the document that a line tells.
///
/// # Errors
/// What is wrong with it: nothing else than what [`write_line`] writes is read.
pub fn read_line(line: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(line);
    let kind = Value {
        out: &mut out,
        whole: true,
    };
    let kind = kind.deserialize(&mut json).and_then(|kind| {
        json.end()?;
        Ok(kind)
    });
    match kind {
        Ok(3) if RawDocument::from_bytes(&out).is_ok() => Ok(out),
        Ok(_) => Err("it is no document".to_owned()),
        // No word of what the document says.
        Err(error) if error.is_data() => Err("a value is none of extended JSON's".to_owned()),
        Err(error) => Err(format!(
            "it is no JSON, or too deep, at character {}",
            error.column()
        )),
    }
}

/// Puts a value behind what is in `out`, and gives its type.
struct Value<'a> {
    out: &'a mut Vec<u8>,
    /// Whether it is a whole line.
    whole: bool,
}

/// A text of the line itself, where nothing in it had to be written otherwise.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long<'a> {
    #[serde(rename = "$numberLong", borrow)]
    number: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    t: u32,
    i: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern<'a> {
    #[serde(borrow)]
    pattern: Cow<'a, str>,
    #[serde(borrow)]
    options: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Blob<'a> {
    #[serde(borrow)]
    base64: Cow<'a, str>,
    #[serde(rename = "subType", borrow)]
    kind: Cow<'a, str>,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = u8;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<u8, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = u8;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("a value of canonical extended JSON")
    }

    fn visit_bool<E: Error>(self, yes: bool) -> Result<u8, E> {
        self.out.push(u8::from(yes));
        Ok(8)
    }

    fn visit_unit<E: Error>(self) -> Result<u8, E> {
        Ok(10)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u8, E> {
        string(self.out, text)?;
        Ok(2)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u8, A::Error> {
        let begin = open(self.out);
        for n in 0_usize.. {
            let element = Element {
                out: &mut *self.out,
                key: &n.to_string(),
            };
            if list.next_element_seed(element)?.is_none() {
                break;
            }
        }
        close(self.out, begin)?;
        Ok(4)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u8, A::Error> {
        let Value { out, whole } = self;
        let Some(Text(first)) = map.next_key()? else {
            let begin = open(out);
            close(out, begin)?;
            return Ok(3);
        };
        let kind = match &*first {
            BYTES if whole => {
                let Text(text) = map.next_value()?;
                STANDARD.decode_vec(&*text, out).map_err(|_| odd())?;
                3
            }
            "$oid" => {
                let Text(text) = map.next_value()?;
                let id = mongodb::bson::oid::ObjectId::parse_str(&*text).map_err(|_| odd())?;
                out.extend_from_slice(&id.bytes());
                7
            }
            "$numberInt" => {
                let n: i32 = number(&mut map)?;
                out.extend_from_slice(&n.to_le_bytes());
                16
            }
            "$numberLong" => {
                let n: i64 = number(&mut map)?;
                out.extend_from_slice(&n.to_le_bytes());
                18
            }
            "$numberDouble" => {
                let n: f64 = number(&mut map)?;
                out.extend_from_slice(&n.to_le_bytes());
                1
            }
            "$numberDecimal" => {
                let n: mongodb::bson::Decimal128 = number(&mut map)?;
                out.extend_from_slice(&n.bytes());
                19
            }
            "$date" => {
                let Long { number } = map.next_value()?;
                let millis: i64 = number.parse().map_err(|_| odd())?;
                out.extend_from_slice(&millis.to_le_bytes());
                9
            }
            "$timestamp" => {
                let Stamp { t, i } = map.next_value()?;
                out.extend_from_slice(&i.to_le_bytes());
                out.extend_from_slice(&t.to_le_bytes());
                17
            }
            "$regularExpression" => {
                let Pattern { pattern, options } = map.next_value()?;
                name(out, &pattern)?;
                name(out, &options)?;
                11
            }
            "$binary" => {
                let Blob { base64, kind } = map.next_value()?;
                let kind = u8::from_str_radix(&kind, 16).map_err(|_| odd())?;
                let begin = out.len();
                out.extend_from_slice(&[0; 4]);
                out.push(kind);
                let inner = BinarySubtype::from(kind) == BinarySubtype::BinaryOld;
                if inner {
                    out.extend_from_slice(&[0; 4]);
                }
                let from = out.len();
                STANDARD.decode_vec(&*base64, out).map_err(|_| odd())?;
                if inner {
                    length(out, from - 4, from)?;
                }
                length(out, begin, begin + 5)?;
                5
            }
            "$symbol" => {
                let Text(text) = map.next_value()?;
                string(out, &text)?;
                14
            }
            "$code" => {
                let begin = out.len();
                out.extend_from_slice(&[0; 4]);
                let Text(code) = map.next_value()?;
                string(out, &code)?;
                match map.next_key()? {
                    None => {
                        out.drain(begin..begin + 4);
                        return Ok(13);
                    }
                    Some(Text(key)) if key == "$scope" => {
                        let scope = Value {
                            out: &mut *out,
                            whole: false,
                        };
                        if map.next_value_seed(scope)? != 3 {
                            return Err(odd());
                        }
                        length(out, begin, begin)?;
                        15
                    }
                    Some(_) => return Err(odd()),
                }
            }
            "$undefined" => {
                if !map.next_value::<bool>()? {
                    return Err(odd());
                }
                6
            }
            "$minKey" | "$maxKey" => {
                if map.next_value::<u8>()? != 1 {
                    return Err(odd());
                }
                if first == "$minKey" { 255 } else { 127 }
            }
            _ => {
                let begin = open(out);
                let mut key = first;
                loop {
                    map.next_value_seed(Element {
                        out: &mut *out,
                        key: &key,
                    })?;
                    match map.next_key()? {
                        Some(Text(next)) => key = next,
                        None => break,
                    }
                }
                close(out, begin)?;
                return Ok(3);
            }
        };
        match map.next_key::<Text<'_>>()? {
            None => Ok(kind),
            Some(_) => Err(odd()),
        }
    }
}

/// A value under a key.
struct Element<'a> {
    out: &'a mut Vec<u8>,
    key: &'a str,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let Element { out, key } = self;
        if out.len() > MOST_DOCUMENT {
            return Err(odd());
        }
        let at = out.len();
        out.push(0);
        name(out, key)?;
        let value = Value {
            out: &mut *out,
            whole: false,
        };
        let kind = value.deserialize(from)?;
        if let Some(byte) = out.get_mut(at) {
            *byte = kind;
        }
        Ok(())
    }
}

fn odd<E: Error>() -> E {
    E::custom("no value")
}

fn number<'de, A: MapAccess<'de>, N: std::str::FromStr>(map: &mut A) -> Result<N, A::Error> {
    let Text(text) = map.next_value()?;
    text.parse().map_err(|_| odd())
}

fn string<E: Error>(out: &mut Vec<u8>, text: &str) -> Result<(), E> {
    let length = i32::try_from(text.len() + 1).map_err(|_| odd())?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    Ok(())
}

fn name<E: Error>(out: &mut Vec<u8>, text: &str) -> Result<(), E> {
    if text.contains('\0') {
        return Err(odd());
    }
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    Ok(())
}

fn open(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len() - 4
}

fn close<E: Error>(out: &mut Vec<u8>, begin: usize) -> Result<(), E> {
    out.push(0);
    length(out, begin, begin)
}

/// Writes at `at` how much there is behind `from`.
fn length<E: Error>(out: &mut [u8], at: usize, from: usize) -> Result<(), E> {
    let length = i32::try_from(out.len() - from).map_err(|_| odd())?;
    match out.get_mut(at..at + 4) {
        Some(place) => {
            place.copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        None => Err(odd()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
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
