//! Lines of canonical extended JSON become the bytes of documents: nothing else is read than what is written.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::RawDocument;
use mongodb::bson::spec::BinarySubtype;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{BYTES, MOST_DOCUMENT};

/// The bytes of the document that a line tells.
///
/// # Errors
/// What is wrong with it: nothing else than what [`write_line`](super::write_line) writes is read.
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
pub(super) struct Value<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Whether it is a whole line.
    pub(super) whole: bool,
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

/// A text of the line itself, where nothing in it had to be written otherwise.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Long<'a> {
    #[serde(rename = "$numberLong", borrow)]
    pub(super) number: Cow<'a, str>,
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

pub(super) fn name<E: Error>(out: &mut Vec<u8>, text: &str) -> Result<(), E> {
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
