//! What stands in a file where something of another type is expected.

use serde_json::{Map, Value};

use super::super::node::{Content, Meaning, Node};
use super::super::shape::{Shape, shape};
use super::unknown::{is_command, words_of};
use super::{Walk, subject};

impl Walk<'_> {
    /// `{ name: …, sql: … }`, for a mapping with keys that must be there, or a list of such.
    pub(super) fn entry(&self, fields: &Map<String, Value>, type_name: &str) -> Option<String> {
        let keys = |fields: &Map<String, Value>| {
            let required = fields.get("required")?.as_array()?;
            let keys: Vec<String> = required
                .iter()
                .filter_map(|key| Some(format!("{}: …", key.as_str()?)))
                .collect();
            (!keys.is_empty()).then(|| format!("{{ {} }}", keys.join(", ")))
        };
        match type_name {
            "object" => keys(fields),
            "array" => match shape(fields.get("items")?, self.root) {
                Shape::Typed("object", fields) => Some(format!("[{}]", keys(fields)?)),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn wrong_type_but(
        &mut self,
        node: &Node,
        type_name: &str,
        path: &str,
        entry: &str,
    ) -> Option<Value> {
        let message = format!("`{path}` must be {}, not text", noun(type_name));
        self.report_with(node.span, message, Some(format!("write `{entry}`")));
        None
    }

    pub(in crate::config) fn wrong_type(
        &mut self,
        node: &Node,
        type_name: &str,
        path: &str,
    ) -> Option<Value> {
        let found = match &node.content {
            Content::Map(_) => "a mapping",
            Content::List(_) => "a list",
            Content::Broken => return None,
            Content::Scalar(scalar) => match scalar.meaning() {
                Meaning::Nothing => {
                    self.report(
                        node.span,
                        format!("`{path}` has no value; expected {}", noun(type_name)),
                    );
                    return None;
                }
                Meaning::Bool(_) => "`true` or `false`",
                Meaning::Integer(_) | Meaning::Number(_) => "a number",
                Meaning::Text => "text",
            },
        };
        let hint = match (type_name, node.scalar()) {
            ("array", Some(_)) if self.file.is_hidden(node.span) => {
                Some("write a list: `[…, …]`".to_owned())
            }
            ("array", Some(scalar)) if is_command(path) && scalar.shown().contains(' ') => {
                Some(format!("write `[{}]`", words_of(scalar.shown())))
            }
            ("array", Some(scalar)) => Some(format!("write `[{}]`", scalar.shown())),
            ("boolean", Some(scalar)) => match scalar.text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "1" => Some("write `true`".to_owned()),
                "no" | "off" | "n" | "0" => Some("write `false`".to_owned()),
                _ => None,
            },
            ("object", Some(scalar)) if path == "retries" => {
                Some(format!("write `{{ max: {} }}`", scalar.shown()))
            }
            ("string", Some(scalar)) => Some(format!("put it in quotes: `\"{}\"`", scalar.shown())),
            _ => None,
        };
        let message = format!("{} must be {}, not {found}", subject(path), noun(type_name));
        self.report_with(node.span, message, hint);
        None
    }
}

pub(super) fn noun(type_name: &str) -> &'static str {
    match type_name {
        "object" => "a mapping",
        "array" => "a list",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        _ => "text",
    }
}
