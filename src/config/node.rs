//! A YAML document with the place of every key and value.

use std::collections::HashMap;

use crate::values::Filled;

/// Where something stands in a file; lines and columns from 1, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub line: usize,
    pub column: usize,
    /// Characters on the first line; 0 where a whole block is meant.
    pub width: usize,
    /// The last line.
    pub end_line: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub span: Span,
    pub content: Content,
}

impl Node {
    /// Hands over every scalar.
    pub(super) fn each_scalar(&self, take: &mut dyn FnMut(&Scalar)) {
        match &self.content {
            Content::Scalar(scalar) => take(scalar),
            Content::List(items) => items.iter().for_each(|item| item.each_scalar(take)),
            Content::Map(entries) => {
                let values = entries.iter().map(|entry| &entry.value);
                values.for_each(|value| value.each_scalar(take));
            }
            Content::Broken => {}
        }
    }

    /// Hands over every text with the keys above it, and its place where it stands in a list.
    pub(super) fn each_text(&self, path: &str, take: &mut dyn FnMut(&str, &str, Option<usize>)) {
        self.texts(path, None, take);
    }

    fn texts(
        &self,
        path: &str,
        nth: Option<usize>,
        take: &mut dyn FnMut(&str, &str, Option<usize>),
    ) {
        match &self.content {
            Content::Map(entries) => {
                for entry in entries.iter() {
                    let below = match path {
                        "" => entry.key.clone(),
                        path => format!("{path}.{}", entry.key),
                    };
                    entry.value.texts(&below, None, take);
                }
            }
            Content::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    item.texts(path, Some(n), take);
                }
            }
            Content::Scalar(scalar) => take(path, &scalar.text, nth),
            Content::Broken => {}
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Entries),
    /// Already reported; says nothing further.
    Broken,
}

/// The entries of a mapping, in order, found by their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    places: HashMap<String, usize>,
}

impl Entries {
    /// The entries with where each key is.
    pub(super) fn new(list: Vec<Entry>, places: HashMap<String, usize>) -> Entries {
        Entries { list, places }
    }

    pub(super) fn find(&self, key: &str) -> Option<&Entry> {
        self.places.get(key).and_then(|place| self.list.get(*place))
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(list: Vec<Entry>) -> Entries {
        let places = list.iter().enumerate();
        let places = places.map(|(place, entry)| (entry.key.clone(), place));
        let places = places.collect();
        Entries { list, places }
    }
}

impl std::ops::Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.list
    }
}

impl std::ops::DerefMut for Entries {
    fn deref_mut(&mut self) -> &mut [Entry] {
        &mut self.list
    }
}

/// A key of a mapping with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    /// The value, after interpolation.
    pub text: String,
    /// What the file says, where variables went into `text`: the only form that may be shown.
    pub written: Option<String>,
    /// What variables have put into `text`.
    pub filled: Filled,
    /// Written without quotes, so that `5` is a number and `null` is nothing.
    pub plain: bool,
}

/// What a plain scalar means in YAML 1.2.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    Nothing,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text,
}

impl Scalar {
    pub(super) fn meaning(&self) -> Meaning {
        if self.plain {
            meaning(&self.text)
        } else {
            Meaning::Text
        }
    }

    /// How to show the value without giving a variable's content away.
    pub(super) fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }
}

/// YAML's core schema, without the forms nobody writes in a configuration.
pub(super) fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Nothing,
        "true" | "True" | "TRUE" => Meaning::Bool(true),
        "false" | "False" | "FALSE" => Meaning::Bool(false),
        _ => {
            // `parse` also reads `inf` and `nan`, which are words to a person.
            let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
                && text.contains(|c: char| c.is_ascii_digit());
            match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(number), _) if numeric => Meaning::Integer(number),
                (_, Ok(number)) if numeric => Meaning::Number(number),
                _ => Meaning::Text,
            }
        }
    }
}

impl Node {
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.find(key),
            _ => None,
        }
    }

    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar that is not empty.
    pub(super) fn text(&self) -> Option<&str> {
        self.scalar()
            .map(|s| s.text.as_str())
            .filter(|text| !text.is_empty())
    }

    /// A key without a value, as `options:` with everything below commented out.
    pub(super) fn is_nothing(&self) -> bool {
        self.scalar()
            .is_some_and(|s| s.written.is_none() && s.meaning() == Meaning::Nothing)
    }

    /// A variable that holds nothing, as `"${REPLICA_URL:-}"` may.
    pub(super) fn is_empty_variable(&self) -> bool {
        self.scalar()
            .is_some_and(|s| s.written.is_some() && s.text.is_empty())
    }
}
