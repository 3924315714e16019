//! Targets that are listed by others: each is read as if it stood under `targets`, and what is
//! wrong with it is said at its place in its file, or in what a command or a query answered.

use std::path::Path;

use super::files::{File, Files};
use super::model::SchedulesFile;
use super::names::Inventory;
use super::node::{Content, Entries, Entry, Node, Scalar, Span};
use super::reading::{Care, against, typed};
use super::sources::{Answer, Answers};
use super::{check, interpolate, yaml};
use crate::values::{Engine, Filled};

/// How an inventory is read.
pub(super) struct Reading<'a> {
    /// Where relative paths begin.
    pub folder: &'a Path,
    /// Variables of the environment, as far as they have to be set.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a variable may leave nothing of a value.
    pub may_be_empty: bool,
    /// What it is read for.
    pub care: Care,
    /// What commands and queries have answered.
    pub answers: &'a Answers,
}

/// Every inventory that `targets_from` names, and the places there of those that are missing: one that
/// cannot be read is reported, one that nobody has asked for is not there.
pub(super) fn read(
    root: &Node,
    reading: &Reading<'_>,
    files: &mut Files,
) -> (Vec<Inventory>, Vec<usize>) {
    let sources = root.get("targets_from").map(Node::items);
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (n, source) in sources.unwrap_or_default().iter().enumerate() {
        match one(n, source, reading, files) {
            Some(inventory) => found.push(inventory),
            None => missing.push(n),
        }
    }
    (found, missing)
}

fn one(n: usize, source: &Node, reading: &Reading<'_>, files: &mut Files) -> Option<Inventory> {
    let (path, mut file) = match source.get("file").and_then(Node::text) {
        Some(path) => {
            let path = reading.folder.join(path);
            match File::read(&path) {
                Ok(file) => (Some(path), file),
                Err(problem) => {
                    let hint = "`targets_from` in schedules.yaml names it";
                    files.report((*problem).hint(hint));
                    return None;
                }
            }
        }
        None => {
            let Answer { from, text } = reading.answers.get(n)?;
            (None, File::answered(from, text))
        }
    };
    let Some(mut tree) = yaml::parse(&mut file) else {
        files.close(file);
        return None;
    };
    interpolate::interpolate(&mut tree, &mut file, reading.env, reading.may_be_empty);
    let engine = source.get("engine");
    let entries = entries(tree, engine, &mut file);
    let at = Span {
        line: 1,
        column: 1,
        ..Span::default()
    };
    let targets = Entry {
        key: "targets".to_owned(),
        key_span: at,
        value: Node {
            span: at,
            content: Content::Map(entries.into()),
        },
    };
    let root = Node {
        span: at,
        content: Content::Map(Entries::from(vec![targets])),
    };
    let typed = typed_targets(&root, reading.folder, &mut file);
    if let Some(typed) = &typed {
        check::connections(&root, typed, &mut file);
        addresses(&root, typed, &mut file);
        if reading.care.takes_urls_apart() {
            check::dials(&root, typed, reading.env, reading.care, &mut file);
        }
    }
    Some(Inventory {
        path,
        root,
        typed,
        file,
    })
}

/// A target that a person writes may be left to the environment of the process. One of a list
/// that has lost its address would be whatever database that happens to name.
fn addresses(root: &Node, typed: &SchedulesFile, file: &mut File) {
    let without = typed.targets.iter().filter(|(_, target)| {
        // Without one, a target of another engine is told wherever it stands.
        target.url.is_none() && target.engine == Engine::Postgres
    });
    for (name, _) in without {
        let place = root.get("targets").and_then(|targets| targets.get(name));
        let place = place.map_or_else(Span::default, |target| target.span);
        let message = format!("the target `{name}` has no `url`");
        let hint = "in an inventory each target says where it is: `url: …`; `url: ''` is one that is not configured";
        file.report(file.problem(place, message).hint(hint));
    }
}

/// The entries by their names, with the engine of the source where they have none.
fn entries(tree: Node, engine: Option<&Node>, file: &mut File) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    match tree.content {
        // `{}` has a width; where nothing is written there is none.
        Content::Map(entries) if entries.iter().next().is_none() && tree.span.width == 0 => {
            let message = "there is nothing in it: expected targets, or `[]` for none";
            file.report(file.problem(tree.span, message));
        }
        Content::Map(entries) => {
            found.extend(entries.iter().cloned());
        }
        Content::List(items) => {
            for item in items {
                let name = item.get("name").and_then(Node::text).map(str::to_owned);
                let Some(name) = name.filter(|name| !name.is_empty()) else {
                    file.hide_all(&item);
                    let message = "a target without a name: expected `name: …` in each of the list";
                    file.report(file.problem(item.span, message));
                    continue;
                };
                let key_span = item.get("name").map(|name| name.span).unwrap_or(item.span);
                if found.iter().any(|known| known.key == name) {
                    let message = format!("the target `{name}` is there twice");
                    file.report(file.problem(key_span, message));
                    continue;
                }
                let content = match item.content {
                    Content::Map(fields) => {
                        let fields = fields.iter().filter(|field| field.key != "name");
                        Content::Map(fields.cloned().collect::<Vec<_>>().into())
                    }
                    other => other,
                };
                let value = Node {
                    span: item.span,
                    content,
                };
                found.push(Entry {
                    key: name,
                    key_span,
                    value,
                });
            }
        }
        _ => {
            file.hide_all(&tree);
            let message = "expected a mapping of names to targets, or a list of targets";
            file.report(file.problem(tree.span, message));
        }
    }
    for entry in &mut found {
        let Content::Map(fields) = &entry.value.content else {
            continue;
        };
        let Some(engine) = engine
            .and_then(Node::text)
            .filter(|_| fields.find("engine").is_none())
        else {
            continue;
        };
        let mut fields: Vec<Entry> = fields.iter().cloned().collect();
        fields.push(Entry {
            key: "engine".to_owned(),
            key_span: entry.key_span,
            value: Node {
                span: entry.key_span,
                content: Content::Scalar(Scalar {
                    text: engine.to_owned(),
                    written: None,
                    filled: Filled::default(),
                    plain: true,
                }),
            },
        });
        entry.value.content = Content::Map(fields.into());
    }
    found
}

/// Targets as a file that has nothing else.
fn typed_targets(root: &Node, folder: &Path, file: &mut File) -> Option<SchedulesFile> {
    let value = against::<SchedulesFile>(root, folder, file)?;
    typed::<SchedulesFile>(value, root, file)
}
