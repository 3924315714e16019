//! Values that may be anything, such as those of filters: words that many take for something else
//! than YAML does are asked about, instead of meaning nothing that is there.

use serde_json::Value;

use super::node::{Content, Meaning, Node, Scalar};
use super::walk::Walk;

impl Walk<'_> {
    /// A value of any type. Reports what could be taken for two.
    pub(super) fn anything(&mut self, node: &Node, path: &str) -> Option<Value> {
        match self.is_clear(node, path) {
            true => self.as_it_is(node),
            false => None,
        }
    }

    fn is_clear(&mut self, node: &Node, path: &str) -> bool {
        let mut clear = true;
        match &node.content {
            Content::Broken => clear = false,
            Content::List(items) => {
                for item in items {
                    clear &= self.is_clear(item, path);
                }
            }
            Content::Map(entries) => {
                for entry in entries.iter() {
                    clear &= self.is_clear(&entry.value, &format!("{path}.{}", entry.key));
                }
            }
            Content::Scalar(scalar) => {
                let key = path.rsplit('.').next().unwrap_or_default();
                if let Some((means, hint)) = doubt(scalar, key) {
                    let message = format!("`{path}` is `{}`, which is {means}", scalar.shown());
                    self.report_with(node.span, message, Some(hint));
                    clear = false;
                }
            }
        }
        clear
    }
}

/// What a plain word means here although it looks like something else, and what to write instead.
fn doubt(scalar: &Scalar, key: &str) -> Option<(&'static str, String)> {
    if !scalar.plain {
        return None;
    }
    let (text, shown) = (scalar.text.as_str(), scalar.shown());
    let quoted = format!("put it in quotes where text is meant: `\"{shown}\"`");
    let digits = text.trim_start_matches('-').as_bytes();
    match scalar.meaning() {
        Meaning::Integer(_) if matches!(digits, [b'0', b'0'..=b'9', ..]) => {
            Some(("a number without its leading zeros here", quoted))
        }
        Meaning::Text => match text.to_ascii_lowercase().as_str() {
            // It says already what its value is, which only has to be beyond doubt.
            _ if (key == "$date" && is_date(text.as_bytes())) || (key == "$oid" && is_id(text)) => {
                Some(("not in quotes", format!("write `{key}: \"{shown}\"`")))
            }
            "yes" | "on" | "y" => Some(("text here", format!("write `true`, or {quoted}"))),
            "no" | "off" | "n" => Some(("text here", format!("write `false`, or {quoted}"))),
            _ if is_date(text.as_bytes()) => Some((
                "text here, and no date",
                format!("{quoted}; dates are written in a form of their own"),
            )),
            _ if is_id(text) => Some((
                "text here, and no id",
                format!("{quoted}; ids are written in a form of their own"),
            )),
            _ => None,
        },
        _ => None,
    }
}

/// Whether it is the 24 hexadecimal digits of an id.
fn is_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether it begins as `2026-01-31` does, alone or with a time behind it.
fn is_date(text: &[u8]) -> bool {
    let day = |day: &[u8]| {
        day.iter().enumerate().all(|(n, byte)| match n {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
    };
    match text.split_at_checked(10) {
        Some((first, rest)) => day(first) && matches!(rest, [] | [b'T' | b't' | b' ', ..]),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Filled;

    #[test]
    fn what_is_taken_for_two_things_is_doubted() {
        let doubted = |text: &str, plain: bool| {
            let scalar = Scalar {
                text: text.to_owned(),
                written: None,
                filled: Filled::default(),
                plain,
            };
            doubt(&scalar, "at").map(|(means, _)| means)
        };
        for text in [
            "yes",
            "On",
            "n",
            "2020-01-01",
            "2020-01-01T00:00:00Z",
            "01234",
            "-07",
            "6b0a084ae1b0a7e3fc0d3a03",
        ] {
            assert!(doubted(text, true).is_some(), "{text}");
            assert_eq!(doubted(text, false), None, "{text}");
        }
        for (key, text) in [
            ("$oid", "6b0a084ae1b0a7e3fc0d3a03"),
            ("$date", "2020-01-01T00:00:00Z"),
        ] {
            let scalar = Scalar {
                text: text.to_owned(),
                written: None,
                filled: Filled::default(),
                plain: true,
            };
            let said = doubt(&scalar, key);
            let hint = format!("write `{key}: \"{text}\"`");
            assert_eq!(said, Some(("not in quotes", hint)));
        }
        for text in [
            "true", "0", "0.5", "10", "-3", "null", "2020-01", "2020-1-1", "north", "6b0a",
        ] {
            assert_eq!(doubted(text, true), None, "{text}");
        }
    }
}
