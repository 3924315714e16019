//! The tree against a JSON Schema: every difference with its place, and the JSON to build the
//! typed model from.

mod unknown;
mod wrong;

use std::path::Path;

use serde_json::{Map, Number, Value};

use self::wrong::noun;
use super::files::File;
use super::names::Names;
use super::node::{Content, Entry, Meaning, Node, Scalar, Span};
use super::shape::{Shape, is_secret, shape};
use crate::values::Engine;

/// How the things at the top of a tree are called in messages.
#[derive(Clone, Copy)]
pub(super) struct Wording<'a> {
    /// `key` or `option`.
    pub noun: &'a str,
    /// What follows the name: empty, or ` for kind `reindex``.
    pub whose: &'a str,
    /// The path in front of everything: empty, or `options`.
    pub path: &'a str,
}

impl Wording<'static> {
    /// For whole files.
    pub(super) const FILE: Self = Self {
        noun: "key",
        whose: "",
        path: "",
    };
}

/// Checks trees of one file.
pub(super) struct Walk<'a> {
    /// The schema document, for its `$defs`.
    pub root: &'a Value,
    pub file: &'a mut File,
    pub wording: Wording<'a>,
    /// Where relative `file:` values begin.
    pub folder: &'a Path,
    /// The targets that may be named, and the engine they have to have.
    pub targets: Option<(&'a Names, Engine)>,
}

/// What a place is called; the top of a file has no name.
fn subject(path: &str) -> String {
    match path {
        "" => "the file".to_owned(),
        path => format!("`{path}`"),
    }
}

impl Walk<'_> {
    /// Reports whatever at `node` differs from `schema`.
    ///
    /// Returns the value as JSON; `None` where it is broken, or left out by an empty variable.
    /// `path` names the place in messages.
    pub(super) fn value(&mut self, node: &Node, schema: &Value, path: &str) -> Option<Value> {
        match shape(schema, self.root) {
            Shape::Words(words) => self.word(node, &words, path),
            Shape::Either(branches) => self.either(node, &branches, path),
            Shape::Any => self.anything(node, path),
            Shape::Typed(type_name, fields) => match (&node.content, type_name) {
                (Content::Broken, _) => None,
                (Content::Map(entries), "object") => self.object(node, entries, fields, path),
                (Content::List(items), "array") => self.array(node, items, fields, path),
                (Content::Scalar(scalar), "object") if node.is_nothing() => {
                    debug_assert!(scalar.plain);
                    self.object(node, &[], fields, path)
                }
                (Content::Scalar(_), "array") if node.is_nothing() => {
                    self.array(node, &[], fields, path)
                }
                (Content::Scalar(scalar), "string" | "integer" | "number" | "boolean") => {
                    self.scalar(node.span, scalar, type_name, fields, path)
                }
                _ => {
                    // `webhook: https://…` in place of a mapping is as secret as its `url` is.
                    if holds_secrets(fields, self.root) {
                        self.file.hide_all(node);
                        let message = format!("{} must be {}", subject(path), noun(type_name));
                        let hint = fields.get("properties").and_then(|p| p.get("url"));
                        let hint = hint.map(|_| "write `{ url: … }`".to_owned());
                        self.report_with(node.span, message, hint);
                        return None;
                    }
                    match (self.entry(fields, type_name), node.scalar()) {
                        // A text in place of a mapping, or of a list of them: their keys at once.
                        (Some(entry), Some(_)) => {
                            self.wrong_type_but(node, type_name, path, &entry)
                        }
                        (None, Some(scalar)) if is_place(scalar) && has(fields, "files") => {
                            let entry = format!("{{ files: \"{}\" }}", scalar.shown());
                            self.wrong_type_but(node, type_name, path, &entry)
                        }
                        _ => self.wrong_type(node, type_name, path),
                    }
                }
            },
        }
    }

    pub(super) fn report(&mut self, span: Span, message: impl AsRef<str>) {
        self.report_with(span, message, None);
    }

    pub(super) fn report_with(
        &mut self,
        span: Span,
        message: impl AsRef<str>,
        hint: Option<String>,
    ) {
        let problem = self.file.problem(span, message);
        self.file.report(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }

    fn object(
        &mut self,
        node: &Node,
        entries: &[Entry],
        fields: &Map<String, Value>,
        path: &str,
    ) -> Option<Value> {
        let none = Map::new();
        let properties = fields
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&none);
        let others = fields.get("additionalProperties");
        let free = properties.is_empty() && others.is_none();
        let required: Vec<&str> = fields
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut object = Map::new();
        let mut whole = true;
        for entry in entries {
            let below = join(path, &entry.key);
            let value = match (properties.get(&entry.key), others) {
                (Some(schema), _) => self.property(entry, schema, &required, &below),
                (None, Some(schema)) if schema.is_object() => {
                    let value = self.value(&entry.value, schema, &below);
                    Some(value)
                }
                (None, Some(Value::Bool(true))) => Some(self.as_it_is(&entry.value)),
                (None, _) if free => Some(self.as_it_is(&entry.value)),
                _ => {
                    self.unknown(entry, properties, path);
                    Some(None)
                }
            };
            match value {
                Some(Some(value)) => {
                    object.insert(entry.key.clone(), value);
                }
                Some(None) => whole = false,
                None => {}
            }
        }
        for name in required {
            if !entries.iter().any(|entry| entry.key == name) {
                whole = false;
                let noun = if path == self.wording.path {
                    self.wording.noun
                } else {
                    "key"
                };
                let place = if path == self.wording.path {
                    self.wording.whose.to_owned()
                } else {
                    format!(" in `{path}`")
                };
                self.report(node.span, format!("missing {noun} `{name}`{place}"));
            }
        }
        whole.then_some(Value::Object(object))
    }

    /// `None` where the key counts as left out; `Some(None)` where its value is broken.
    fn property(
        &mut self,
        entry: &Entry,
        schema: &Value,
        required: &[&str],
        path: &str,
    ) -> Option<Option<Value>> {
        let secret = is_secret(schema, self.root);
        if entry.value.is_empty_variable() && !secret {
            if !required.contains(&entry.key.as_str()) {
                return None;
            }
            let written = entry.value.scalar().map(Scalar::shown).unwrap_or_default();
            self.report(
                entry.value.span,
                format!("`{path}` is empty: `{written}` holds nothing"),
            );
            return Some(None);
        }
        if entry.value.is_nothing() {
            return match shape(schema, self.root) {
                Shape::Typed("object", _) if !required.contains(&entry.key.as_str()) => None,
                // What was to stand there may be what is to be left alone.
                Shape::Typed("array", _) => {
                    let hint = "list something, write `[]` for nothing, or remove the key";
                    let message = format!("`{path}` has no value");
                    self.report_with(entry.key_span, message, Some(hint.to_owned()));
                    Some(None)
                }
                _ => {
                    self.report_with(
                        entry.key_span,
                        format!("`{path}` has no value"),
                        Some("give it one, or remove the key".to_owned()),
                    );
                    Some(None)
                }
            };
        }
        Some(self.value(&entry.value, schema, path))
    }

    fn array(
        &mut self,
        node: &Node,
        items: &[Node],
        fields: &Map<String, Value>,
        path: &str,
    ) -> Option<Value> {
        let schema = fields.get("items").unwrap_or(&Value::Bool(true));
        let least = fields.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let mut list = Vec::new();
        let mut whole = true;
        for item in items.iter().filter(|item| !item.is_empty_variable()) {
            match self.value(item, schema, path) {
                Some(value) => list.push(value),
                None => whole = false,
            }
        }
        if whole && (list.len() as u64) < least {
            self.report(node.span, format!("`{path}` must not be empty"));
            return None;
        }
        whole.then_some(Value::Array(list))
    }

    /// What no schema describes.
    pub(super) fn as_it_is(&mut self, node: &Node) -> Option<Value> {
        node.each_scalar(&mut |scalar| self.file.filled.join(&scalar.filled));
        to_json(node)
    }

    /// The first branch that fits; where none does, what the one that comes nearest misses.
    fn either(&mut self, node: &Node, branches: &[&Value], path: &str) -> Option<Value> {
        let mut nearest: Option<(File, usize)> = None;
        for branch in branches {
            let mut trial = File::new(&self.file.path, "");
            let mut walk = Walk {
                root: self.root,
                file: &mut trial,
                wording: self.wording,
                folder: self.folder,
                targets: self.targets,
            };
            let value = walk.value(node, branch, path);
            if value.is_some() && !trial.has_problems() {
                self.file.absorb_secrets(&mut trial);
                return value;
            }
            let distance = usize::from(!same_type(node, branch, self.root));
            if nearest.as_ref().is_none_or(|(_, least)| distance < *least) {
                nearest = Some((trial, distance));
            }
        }
        if let Some((trial, _)) = nearest {
            self.file.absorb(trial);
        }
        None
    }
}

/// Whether a mapping may have this key.
fn has(fields: &Map<String, Value>, key: &str) -> bool {
    let properties = fields.get("properties");
    properties.is_some_and(|properties| properties.get(key).is_some())
}

/// Whether it is the address of a place for files.
pub(super) fn is_place(scalar: &Scalar) -> bool {
    ["file://", "s3://"]
        .iter()
        .any(|scheme| scalar.text.starts_with(scheme))
}

/// Whether what belongs here may hold a secret: directly below, or as an item.
fn holds_secrets(fields: &Map<String, Value>, root: &Value) -> bool {
    let own = fields.get("format").and_then(Value::as_str);
    if own == Some(super::formats::SECRET) {
        return true;
    }
    let properties = fields.get("properties").and_then(Value::as_object);
    let below = properties.into_iter().flat_map(|all| all.values());
    below
        .chain(fields.get("items"))
        .any(|schema| is_secret(schema, root))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn same_type(node: &Node, schema: &Value, root: &Value) -> bool {
    match (&node.content, shape(schema, root)) {
        (Content::Map(_), Shape::Typed(name, _)) => name == "object",
        (Content::List(_), Shape::Typed(name, _)) => name == "array",
        (Content::Scalar(_), Shape::Typed(name, _)) => !matches!(name, "object" | "array"),
        (Content::Scalar(_), Shape::Words(_)) => true,
        _ => false,
    }
}

/// A tree that no schema describes.
fn to_json(node: &Node) -> Option<Value> {
    Some(match &node.content {
        Content::Broken => return None,
        Content::List(items) => {
            Value::Array(items.iter().map(to_json).collect::<Option<Vec<_>>>()?)
        }
        Content::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|entry| Some((entry.key.clone(), to_json(&entry.value)?)))
                .collect::<Option<Map<_, _>>>()?,
        ),
        Content::Scalar(scalar) => match scalar.meaning() {
            Meaning::Nothing => Value::Null,
            Meaning::Bool(value) => Value::Bool(value),
            Meaning::Integer(value) => value.into(),
            Meaning::Number(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
            Meaning::Text => Value::String(scalar.text.clone()),
        },
    })
}
