//! What variables of the environment put into texts of the configuration. Such a text is run as it
//! became, and shown as it is written: what a variable holds may be secret.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::redact;
use super::redact::MASK;

/// What is too short to be a secret, and would be found in half of any text.
const SHORT: usize = 3;

/// What variables hold that stand in the texts of a task, each with how it is written there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// What a variable holds, and `${NAME}`; the longest first, as one may be a piece of another.
    values: Vec<(String, String)>,
}

impl Filled {
    /// Notes that this value stands where `written` is written.
    pub fn add(&mut self, value: &str, written: &str) {
        let pair = (value.to_owned(), written.to_owned());
        if value.len() > SHORT && !self.values.contains(&pair) {
            self.values.push(pair);
            let longest = |(value, _): &(String, String)| std::cmp::Reverse(value.len());
            self.values.sort_by_key(longest);
        }
    }

    /// All of the other's, too.
    pub fn join(&mut self, other: &Filled) {
        for (value, written) in &other.values {
            self.add(value, written);
        }
    }

    /// The text as it is written.
    pub fn over(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        // What has been put in is not looked at again: a variable may hold another one's name.
        while let Some((at, value, written)) = self.next(rest) {
            shown.push_str(&rest[..at]);
            shown.push_str(written);
            rest = &rest[at + value.len()..];
        }
        shown.push_str(rest);
        shown
    }

    fn next(&self, text: &str) -> Option<(usize, &str, &str)> {
        let found = self.values.iter();
        found
            .filter_map(|(value, written)| Some((text.find(value)?, &**value, &**written)))
            .min_by_key(|(at, value, _)| (*at, std::cmp::Reverse(value.len())))
    }

    /// The same for people: also without secrets that are written out, as in `PASSWORD '…'`.
    pub fn shown(&self, text: &str) -> String {
        redact(&self.over(text))
    }

    /// The same in place.
    pub fn hide(&self, text: &mut String) {
        let shown = self.shown(text);
        if shown != *text {
            *text = shown;
        }
    }

    /// The same of every text in a value; not of the names of its fields.
    pub fn hide_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.hide(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.hide_in(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// By how each is written, a sum of what it holds: whether that has changed can be told, and what it
    /// is cannot. 32 bits are too few to try out guesses with.
    pub fn sums(&self) -> BTreeMap<String, String> {
        let values = self.values.iter();
        values
            .map(|(value, written)| (written.clone(), sum(value)))
            .collect()
    }

    /// The same of texts in options with secrets that are written out: by where they stand, which shows them not.
    pub fn sums_of_secrets(&self, options: &Value) -> BTreeMap<String, String> {
        let mut sums = BTreeMap::new();
        self.secrets(options, "", &mut sums);
        sums
    }

    fn secrets(&self, value: &Value, place: &str, sums: &mut BTreeMap<String, String>) {
        let below = |key: &str| match place {
            "" => key.to_owned(),
            place => format!("{place}.{key}"),
        };
        match value {
            Value::String(text) => {
                if self.shown(text) != self.over(text) {
                    sums.insert(format!("{MASK} in {place}"), sum(text));
                }
            }
            Value::Array(items) => {
                let each = items.iter().enumerate();
                each.for_each(|(n, item)| self.secrets(item, &below(&n.to_string()), sums));
            }
            Value::Object(fields) => {
                let each = fields.iter();
                each.for_each(|(key, field)| self.secrets(field, &below(key), sums));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn sum(value: &str) -> String {
    let digest = Sha256::digest(value);
    let bytes = digest.iter().take(4);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.values.iter().map(|(_, written)| written))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled() -> Filled {
        let mut filled = Filled::default();
        for (value, written) in [
            ("geheim", "${A}"),
            ("geheimnis", "${B}"),
            ("x y", "${C}"),
            ("${B} it", "${D}"),
        ] {
            filled.add(value, written);
        }
        filled
    }

    #[test]
    fn texts_are_shown_as_they_are_written() {
        for (text, shown) in [
            ("a geheim, a geheimnis", "a ${A}, a ${B}"),
            ("x y is too short", "x y is too short"),
            ("${B} it and ${B}", "${D} and ${B}"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(filled().over(text), shown);
        }
        let mut value = json!({ "geheim": ["geheim", 1, { "a": "in geheimnis" }] });
        filled().hide_in(&mut value);
        assert_eq!(value, json!({ "geheim": ["${A}", 1, { "a": "in ${B}" }] }));
        assert_eq!(format!("{:?}", filled()), r#"["${B}", "${D}", "${A}"]"#);
    }

    #[test]
    fn a_secret_that_is_written_out_is_told_from_another() {
        let options = |secret: &str| json!({ "statements": [{ "name": "x", "sql": format!("ALTER ROLE x PASSWORD '{secret}'") }] });
        let sums = Filled::default().sums_of_secrets(&options("one"));
        assert_eq!(sums.keys().collect::<Vec<_>>(), ["*** in statements.0.sql"]);
        assert_ne!(sums, Filled::default().sums_of_secrets(&options("two")));
        let mut shown = options("one");
        Filled::default().hide_in(&mut shown);
        assert_eq!(shown["statements"][0]["sql"], "ALTER ROLE x PASSWORD ***");
    }

    #[test]
    fn another_value_has_another_sum() {
        let mut other = Filled::default();
        other.add("geheimes", "${A}");
        let sums = filled().sums();
        assert_eq!(sums.keys().collect::<Vec<_>>(), ["${A}", "${B}", "${D}"]);
        assert_eq!(sums["${A}"].len(), 8);
        assert_ne!(sums["${A}"], other.sums()["${A}"]);
        assert_eq!(sums["${A}"], filled().sums()["${A}"]);
    }
}
