//! The kind of a task, and its options by the kind's own schema.

use std::path::Path;

use serde_json::Value;

use super::files::File;
use super::guess::{guess, shown};
use super::names::Names;
use super::node::{Content, Node, Span};
use super::walk::{Walk, Wording};
use crate::plan::{KindInfo, Part};

/// The kind a task file names, for the engine of its target. Reports what does not fit.
pub(super) fn kind<'k>(
    root: &Node,
    names: &Names,
    kinds: &'k [KindInfo],
    file: &mut File,
) -> Option<&'k KindInfo> {
    let node = root.get("kind")?;
    let name = node.text()?;
    let target = root.get("target").and_then(Node::text).unwrap_or_default();
    let engine = names.engine(target);
    let mut named = kinds.iter().filter(|kind| kind.name == name).peekable();
    let Some(first) = named.peek().copied() else {
        let known = kinds
            .iter()
            .filter(|kind| engine.is_none_or(|engine| kind.engine == engine));
        let known = known.map(|kind| kind.name).collect();
        let problem = file.problem(node.span, format!("unknown kind `{}`", shown(node)));
        file.report(guess(problem, node, known));
        return None;
    };
    let Some(engine) = engine else {
        // The target is reported elsewhere; the options can still be checked where the name
        // means one kind only.
        return (named.count() == 1).then_some(first);
    };
    let fitting = named.find(|kind| kind.engine == engine);
    if fitting.is_none() {
        let message = format!(
            "kind `{name}` is for {}, but target `{target}` is {engine}",
            first.engine
        );
        let known: Vec<&str> = kinds
            .iter()
            .filter(|kind| kind.engine == engine)
            .map(|kind| kind.name)
            .collect();
        file.report(file.problem(node.span, message).known(known));
    }
    fitting
}

/// Says of options that stand beside `options:` where they belong.
pub(super) fn misplaced(root: &Node, kind: &KindInfo, file: &mut File) {
    let schema = (kind.options_schema)().to_value();
    let known = schema.get("properties").and_then(Value::as_object);
    for entry in root.entries() {
        if known.is_some_and(|known| known.contains_key(&entry.key)) {
            let key = &entry.key;
            let hint = format!(
                "it is an option of `{}`: `options: {{ {key}: … }}`",
                kind.name
            );
            file.advise(entry.key_span, "unknown key", &hint);
        }
    }
}

/// The options of a task as JSON. Reports what the kind's schema or the kind itself refuses.
pub(super) fn options(
    root: &Node,
    kind: &KindInfo,
    names: &Names,
    folder: &Path,
    file: &mut File,
) -> Option<Value> {
    let schema = (kind.options_schema)().to_value();
    let place = root.entry("options").or(root.entry("kind"));
    let span = place.map(|entry| entry.key_span).unwrap_or(root.span);
    let nothing = Node {
        span,
        content: Content::Map(Vec::new().into()),
    };
    let node = root
        .get("options")
        .filter(|node| !node.is_nothing())
        .unwrap_or(&nothing);
    let whose = format!(" for kind `{}`", kind.name);
    let wording = Wording {
        noun: "option",
        whose: &whose,
        path: "options",
    };
    let mut walk = Walk {
        root: &schema,
        file,
        wording,
        folder,
        targets: names.known.then_some((names, kind.engine)),
    };
    let options = walk.value(node, &schema, "options")?;
    if let Err(unfit) = (kind.check_options)(&options) {
        for misfit in unfit.0 {
            let place = place_of(node, &misfit.path).unwrap_or(span);
            file.report(file.problem(place, format!("options of kind `{}`: {misfit}", kind.name)));
        }
        return None;
    }
    Some(options)
}

/// Where the last part of the way stands that the file has: a key, or where an element begins.
pub(super) fn place_of(options: &Node, path: &[Part]) -> Option<Span> {
    let mut node = options;
    let mut place = None;
    for part in path {
        match part {
            Part::Key(key) => {
                let Some(entry) = node.entry(key) else { break };
                (node, place) = (&entry.value, Some(entry.key_span));
            }
            Part::Item(item) => {
                let Some(item) = node.items().get(*item) else {
                    break;
                };
                let first = item.entries().first().map(|entry| entry.key_span);
                (node, place) = (item, Some(first.unwrap_or(item.span)));
            }
        }
    }
    place
}
