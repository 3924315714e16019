//! From the text of a file to what it says: a tree with its variables filled in, held against the
//! schema of its type.

use std::path::Path;

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::files::File;
use super::node::{Content, Node};
use super::walk::{Walk, Wording};
use super::{interpolate, yaml};

/// What is wanted of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Only to look at the history and the calendar: variables of targets, mail and notifications
    /// that are not set are taken for empty.
    Look,
    /// To do what they say.
    Run,
    /// To find everything that is wrong.
    Check,
    /// To hand them to another machine: what only this one does not have may be there.
    Export,
}

impl Care {
    /// Whether URLs are taken apart before anybody connects.
    pub(super) fn takes_urls_apart(self) -> bool {
        matches!(self, Care::Check | Care::Export)
    }
}

/// The tree of a file with its variables filled in.
pub(super) fn tree(
    file: &mut File,
    env: &dyn Fn(&str) -> Option<String>,
    care: Care,
) -> Option<Node> {
    let mut tree = yaml::parse(file)?;
    let perhaps = |name: &str| Some(env(name).unwrap_or_default());
    match &mut tree.content {
        Content::Map(entries) if care == Care::Look => {
            for entry in entries.iter_mut() {
                let connects = ["targets", "smtp", "notify"].contains(&entry.key.as_str());
                let env: &dyn Fn(&str) -> Option<String> = if connects { &perhaps } else { env };
                interpolate::interpolate(&mut entry.value, file, env, connects);
            }
        }
        _ => interpolate::interpolate(&mut tree, file, env, false),
    }
    Some(tree)
}

/// The tree as JSON, where it fits the schema of `T`.
pub(super) fn against<T: JsonSchema>(tree: &Node, folder: &Path, file: &mut File) -> Option<Value> {
    let schema = SchemaGenerator::default()
        .into_root_schema_for::<T>()
        .to_value();
    let mut walk = Walk {
        root: &schema,
        file,
        wording: Wording::FILE,
        folder,
        targets: None,
    };
    walk.value(tree, &schema, "")
}

/// The typed model. Whatever the schema let through and the type does not is still a problem,
/// if one with a poor place.
pub(super) fn typed<T: DeserializeOwned>(value: Value, tree: &Node, file: &mut File) -> Option<T> {
    match serde_json::from_value(value) {
        Ok(typed) => Some(typed),
        Err(why) => {
            file.report(file.problem(tree.span, plain_words(&why.to_string())));
            None
        }
    }
}

/// What serde says, without the names of our types.
pub(super) fn plain_words(text: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut all = text.split(' ').peekable();
    while let Some(word) = all.next() {
        let follows = all
            .peek()
            .is_some_and(|next| next.starts_with(char::is_alphabetic));
        let noun = match word {
            "struct" | "map" if follows || word == "map" => "a mapping",
            "enum" | "variant" if follows => "a word",
            "tuple" | "sequence" => "a list",
            "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
            "i8" | "i16" | "i32" | "i64" => "a whole number",
            "f32" | "f64" => "a number",
            _ => {
                words.push(word);
                continue;
            }
        };
        if matches!(word, "struct" | "enum") {
            all.next();
        }
        words.push(noun);
    }
    words.join(" ")
}
