//! Targets that a command or a query lists: what is to be asked, and what was answered. Nobody is
//! asked here; an answer is read like a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::built;
use super::files::{File, Files};
use super::guess::{guess, shown};
use super::model::SchedulesFile;
use super::node::{Node, Span};
use super::reading::{Care, against, tree};
use super::types::{Outside, Target};
use crate::values::{Problem, TimeSpan};

/// How long a command or a query may take that says nothing else.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How often it is asked again where it says nothing else.
const EVERY: Duration = Duration::from_secs(300);

/// Of a list of targets so many bytes are read: as of a file.
const LARGEST: usize = 1 << 20;

/// A command or a query that lists targets.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its place in `targets_from`, from 0.
    pub place: usize,
    /// What it is called in sentences.
    pub name: String,
    /// What is asked.
    pub ask: Ask,
    /// How long that may take.
    pub time_limit: TimeSpan,
    file: PathBuf,
    span: Span,
}

/// What is asked for targets.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A program is run in this folder.
    Command {
        /// It and its arguments.
        run: Vec<String>,
        /// The folder of the configuration.
        folder: PathBuf,
    },
    /// A database is asked.
    Query {
        /// The query.
        sql: String,
        /// Which database.
        target: Box<Target>,
    },
}

impl Source {
    /// So many bytes of an answer are read.
    pub const LARGEST: usize = LARGEST;

    /// Something wrong with it, at its place in the file. Passwords in the message are masked.
    pub fn problem(&self, message: impl AsRef<str>) -> Problem {
        let Span { line, column, .. } = self.span;
        let message = format!("`targets_from`: {}: {}", self.name, message.as_ref());
        Problem::new(&self.file, message).at(line, column, 0)
    }
}

/// What a command or a query answered.
#[derive(Clone)]
pub struct Answer {
    /// What stands before the line of what is wrong in it.
    pub from: String,
    /// A list of targets, or a mapping, in YAML or JSON. It may hold secrets.
    pub text: String,
}

/// The answers, by the place of what was asked in `targets_from`.
#[derive(Clone, Default)]
pub struct Answers(BTreeMap<usize, Answer>);

impl Answers {
    /// One more.
    pub fn add(&mut self, source: &Source, answer: Answer) {
        self.0.insert(source.place, answer);
    }

    /// That of a place.
    pub(super) fn get(&self, place: usize) -> Option<&Answer> {
        self.0.get(&place)
    }
}

/// What commands and queries have to do with this file.
pub(super) fn outside(root: &Node, answers: &Answers) -> Outside {
    let mut outside = Outside::default();
    let mut sum = Sha256::new();
    for (place, node) in items(root).iter().enumerate() {
        let Some(name) = name(node) else { continue };
        let every = time(node, "every").unwrap_or(EVERY);
        outside.every = Some(outside.every.map_or(every, |least| least.min(every)));
        let Some(answer) = answers.get(place) else {
            let what = match node.get("engine") {
                Some(_) => "its targets, and names that may be theirs",
                None => {
                    "its targets, names that may be theirs, and tasks for them whose kind every engine has"
                }
            };
            let text = format!("`targets_from`: {name} was not asked; {what} were not looked at");
            outside.not_asked.insert(place, text);
            continue;
        };
        sum.update(place.to_le_bytes());
        sum.update(answer.text.len().to_le_bytes());
        sum.update(&answer.text);
    }
    outside.answered = sum.finalize().into();
    outside
}

/// Hides the arguments of commands, however they are written: they may be secret.
pub(super) fn hide(root: &Node, file: &mut File) {
    for node in items(root).iter() {
        match node.get("command") {
            Some(command) if command.scalar().is_none() && command.entries().is_empty() => {
                let arguments = command.items().iter().skip(1);
                arguments.for_each(|argument| file.hide_all(argument));
            }
            Some(command) => file.hide_all(command),
            None => {}
        }
    }
}

/// Reports entries that are none of file, command and query, or more than one of them.
pub(super) fn check(root: &Node, file: &mut File) {
    for node in items(root).iter().filter(|node| !node.entries().is_empty()) {
        let ways: Vec<&str> = ["file", "command", "query"]
            .into_iter()
            .filter(|key| node.entry(key).is_some())
            .collect();
        let message = match ways[..] {
            [] => {
                "an entry of `targets_from` needs one of `file`, `command` and `query`".to_owned()
            }
            [_] => String::new(),
            _ => format!(
                "an entry of `targets_from` has one of `file`, `command` and `query`; this one has {}",
                ways.len()
            ),
        };
        if !message.is_empty() {
            file.report(file.problem(node.span, message));
            continue;
        }
        let of = |key: &str| match key {
            "target" => &["query"][..],
            _ => &["command", "query"][..],
        };
        for key in ["target", "time_limit", "every"] {
            let Some(entry) = node.entry(key).filter(|_| !of(key).contains(&ways[0])) else {
                continue;
            };
            let message = format!("`{key}` is for a {}", of(key).join(" or a "));
            file.report(file.problem(entry.key_span, message));
        }
        if ways[0] == "query" {
            asked_of(root, node, file);
        }
    }
}

/// Reports a query without a database to be asked.
fn asked_of(root: &Node, node: &Node, file: &mut File) {
    let Some(target) = node.get("target") else {
        let problem = file.problem(node.span, "missing key `target` in `targets_from`");
        file.report(problem.hint("it says which of `targets` is asked: `target: inventory`"));
        return;
    };
    let targets = root.get("targets");
    let Some(name) = target.text() else { return };
    let found = targets.and_then(|targets| targets.get(name));
    let engine = found
        .and_then(|found| found.get("engine"))
        .and_then(Node::text);
    let message = match (found, engine) {
        (None, _) => format!("unknown target `{}` in `targets_from`", shown(target)),
        // Anything else is reported there.
        (Some(_), Some("mongodb")) => {
            format!(
                "target `{}` in `targets_from` is no database that answers SQL",
                shown(target)
            )
        }
        _ => return,
    };
    let known = targets.map(Node::entries).unwrap_or_default().iter();
    let known = known.map(|entry| entry.key.as_str()).collect();
    file.report(guess(file.problem(target.span, message), target, known));
}

/// The commands and queries of the configuration at `path`; none where it has problems, which who
/// loads it is told.
pub fn sources(path: &Path, env: &dyn Fn(&str) -> Option<String>, care: Care) -> Vec<Source> {
    read(path, env, care).unwrap_or_default()
}

fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>, care: Care) -> Option<Vec<Source>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut file = File::read(path).ok()?;
    let tree = tree(&mut file, env, care)?;
    hide(&tree, &mut file);
    if !items(&tree).iter().any(|node| name(node).is_some()) {
        return None;
    }
    check(&tree, &mut file);
    let typed = against::<SchedulesFile>(&tree, folder, &mut file)?;
    let typed: SchedulesFile = serde_json::from_value(typed).ok()?;
    let mut files = Files::default();
    files.close(file);
    files.finish().ok()?;
    let mut found = Vec::new();
    for (place, node) in items(&tree).iter().enumerate() {
        let Some(name) = name(node) else { continue };
        let command = node.get("command").map(Node::items);
        let ask = match (command, node.get("query").and_then(Node::text)) {
            (Some(words), _) => Ask::Command {
                run: words
                    .iter()
                    .filter_map(|word| Some(word.scalar()?.text.clone()))
                    .collect(),
                folder: folder.to_owned(),
            },
            (None, Some(sql)) => {
                let target = node.get("target").and_then(Node::text)?;
                let entry = typed.targets.get(target)?.clone();
                Ask::Query {
                    sql: sql.to_owned(),
                    target: Box::new(built::target(target, entry)),
                }
            }
            (None, None) => continue,
        };
        found.push(Source {
            place,
            name,
            ask,
            time_limit: TimeSpan::from(time(node, "time_limit").unwrap_or(TIME_LIMIT)),
            file: path.to_owned(),
            span: node.span,
        });
    }
    Some(found)
}

fn items(root: &Node) -> &[Node] {
    root.get("targets_from")
        .map(Node::items)
        .unwrap_or_default()
}

/// What a command or a query is called; `None` for a file. Arguments may be secret.
fn name(node: &Node) -> Option<String> {
    if let Some(command) = node.get("command") {
        let program = command.items().first().and_then(Node::scalar);
        let program = program.map(|program| program.shown()).unwrap_or_default();
        return Some(format!("the command `{program}`"));
    }
    node.get("query")?;
    let target = node.get("target").map(shown).unwrap_or_default();
    Some(format!("the query on `{target}`"))
}

fn time(node: &Node, key: &str) -> Option<Duration> {
    let text = node.get(key)?.text()?;
    text.parse::<TimeSpan>().ok().map(|time| time.get())
}
