//! Values as canonical extended JSON.

use std::io::Write;

use base64::engine::general_purpose::STANDARD;
use mongodb::bson::{RawArray, RawBsonRef, RawDocument};

/// A longer text is not unpacked character by character, in memory of its own:
/// the document is told by its bytes.
pub(super) const MOST_TEXT: usize = 12 << 20;

/// How deep documents may lie in each other; the server's own limit is lower.
const DEEPEST: usize = 110;

/// A value has no counterpart.
pub(super) struct Unlike;

/// A value as canonical extended JSON; none where it has no counterpart, or
/// where that is longer than `most`.
pub(in crate::engines::mongodb) fn value_text(of: RawBsonRef<'_>, most: usize) -> Option<String> {
    let mut out = Vec::new();
    value(of, &mut out, 0).ok()?;
    String::from_utf8(out)
        .ok()
        .filter(|text| text.len() <= most)
}

/// Fields with their values, as one document of canonical extended JSON.
pub(in crate::engines::mongodb) struct Members {
    out: Vec<u8>,
    most: usize,
    /// Whether one has no counterpart, or they are longer than they may be.
    unlike: bool,
}

impl Members {
    /// None yet, and no longer than `most`.
    pub(in crate::engines::mongodb) fn new(most: usize) -> Members {
        Members {
            out: Vec::new(),
            most,
            unlike: false,
        }
    }

    pub(in crate::engines::mongodb) fn push(&mut self, name: &str, of: RawBsonRef<'_>) {
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
    pub(in crate::engines::mongodb) fn text(mut self) -> Option<String> {
        if self.unlike || self.out.is_empty() {
            return None;
        }
        self.out.push(b'}');
        String::from_utf8(self.out).ok()
    }
}

pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let mut encoder = base64::write::EncoderWriter::new(out, &STANDARD);
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    let _ = encoder.finish();
}

pub(super) fn text(text: &str, out: &mut Vec<u8>) -> Result<(), Unlike> {
    serde_json::to_writer(&mut *out, text).map_err(|_| Unlike)
}

pub(super) fn object(
    document: &RawDocument,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Unlike> {
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

pub(super) fn value(of: RawBsonRef<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Unlike> {
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
