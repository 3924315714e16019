//! Which targets and groups there are, and what a name stands for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use wildmatch::WildMatch;

use super::files::File;
use super::guess::{guess, shown};
use super::model::SchedulesFile;
use super::node::{Node, Span};
use crate::values::{Engine, natural};

/// The names of `schedules.yaml`, taken from the tree so that one broken entry does not make
/// every name that refers to it look wrong.
#[derive(Default)]
pub(super) struct Names {
    /// The engine is missing where it is broken.
    targets: BTreeMap<String, Option<Engine>>,
    /// Every group with the targets it stands for in the end.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Whether the section `targets` could be read at all.
    pub known: bool,
    /// Whether there are inventories that nobody has looked at: any name may be in one of them.
    unseen: bool,
    /// The engine of the targets in those, where they have one in common.
    unseen_engine: Option<Engine>,
}

impl Names {
    /// Reads targets and groups, and reports what is wrong with the groups, and names that are
    /// in an inventory and somewhere else. `unseen` are the places of those entries of
    /// `targets_from` that nobody has looked at.
    pub(super) fn read(
        root: &Node,
        inventories: &mut [Inventory],
        unseen: &[usize],
        file: &mut File,
    ) -> Self {
        let mut names = Self {
            known: true,
            ..Self::default()
        };
        let targets = root.get("targets").map(Node::entries).unwrap_or_default();
        for entry in targets {
            let engine = entry
                .value
                .get("engine")
                .and_then(Node::text)
                .and_then(engine);
            names.targets.insert(entry.key.clone(), engine);
        }
        for inventory in inventories {
            names.add(inventory);
        }
        let sources = root.get("targets_from").map(Node::items);
        let sources = sources.unwrap_or_default();
        let inventories = !sources.is_empty();
        let mut unseen = unseen.iter().filter_map(|n| sources.get(*n)).map(|source| {
            let said = source.get("engine").and_then(Node::text);
            said.and_then(engine)
        });
        if let Some(first) = unseen.next() {
            names.unseen = true;
            names.unseen_engine = first.filter(|first| unseen.all(|other| other == Some(*first)));
        }
        if targets.is_empty()
            && !inventories
            && root.get("targets").is_some_and(|t| t.items().is_empty())
        {
            let span = root
                .entry("targets")
                .map(|entry| entry.key_span)
                .unwrap_or_default();
            file.report(file.problem(span, "no targets: there is nothing to maintain"));
        }
        let groups = root.get("groups").map(Node::entries).unwrap_or_default();
        let by_name: HashMap<&str, &Node> = groups
            .iter()
            .map(|group| (group.key.as_str(), &group.value))
            .collect();
        for entry in groups {
            if names.targets.contains_key(&entry.key) {
                let message = format!("`{}` names both a target and a group", entry.key);
                file.report(file.problem(entry.key_span, message));
            }
            for member in entry.value.items() {
                let Some(text) = member.text() else { continue };
                if names.unseen || names.targets.contains_key(text) || by_name.contains_key(text) {
                    continue;
                }
                if is_pattern(text) {
                    if matching(&names.targets, text).is_empty() && !file.is_full() {
                        let message = format!(
                            "`{}` in group `{}` matches no target",
                            shown(member),
                            entry.key
                        );
                        file.report(file.problem(member.span, message));
                    }
                    continue;
                }
                if file.is_full() {
                    file.report(file.problem(member.span, "unknown"));
                    continue;
                }
                // No group holds itself.
                let others = groups
                    .iter()
                    .map(|g| &g.key)
                    .filter(|key| **key != entry.key);
                let known = names.targets.keys().chain(others);
                let message = format!(
                    "unknown target or group `{}` in group `{}`",
                    shown(member),
                    entry.key
                );
                let problem = file.problem(member.span, message);
                file.report(guess(problem, member, known.map(String::as_str).collect()));
            }
        }
        let mut members = 0;
        for entry in groups {
            let mut expansion = Expansion {
                groups: &by_name,
                targets: &names.targets,
                found: Vec::new(),
                seen: HashSet::new(),
                done: HashSet::new(),
                too_deep: false,
            };
            if let Err(trail) = expansion.add(&entry.key, &mut Vec::new()) {
                // A loop is reported once, at the first of its groups.
                if trail.first() == Some(&entry.key) && trail.iter().min() == Some(&entry.key) {
                    let message = format!(
                        "group `{}` contains itself: {}",
                        entry.key,
                        trail.join(" -> ")
                    );
                    file.report(file.problem(entry.key_span, message));
                }
            }
            if expansion.too_deep {
                let message = format!("groups stand within groups more than {DEEPEST} deep");
                file.report(file.problem(entry.key_span, message));
            }
            members += expansion.found.len();
            if members > MOST_MEMBERS {
                let message = format!("the groups have more than {MOST_MEMBERS} members in all");
                file.report(file.problem(entry.key_span, message));
                break;
            }
            names.groups.insert(entry.key.clone(), expansion.found);
        }
        for entry in groups {
            names.check_engines(&entry.key, entry.key_span, file);
        }
        names
    }

    /// Takes the targets of an inventory up.
    fn add(&mut self, inventory: &mut Inventory) {
        let targets = inventory.root.get("targets").map(Node::entries);
        for entry in targets.unwrap_or_default() {
            let engine = entry
                .value
                .get("engine")
                .and_then(Node::text)
                .and_then(engine);
            if self.targets.insert(entry.key.clone(), engine).is_some() {
                let message = format!(
                    "the target `{}` is there twice: here, and in schedules.yaml or another inventory",
                    entry.key
                );
                let problem = inventory.file.problem(entry.key_span, message);
                inventory.file.report(problem);
            }
        }
    }

    /// Reports groups that stand for nothing: whatever is to be done to them is done nowhere.
    pub(super) fn check_empty(&self, root: &Node, file: &mut File) {
        if self.unseen {
            return;
        }
        let groups = root.get("groups").map(Node::entries).unwrap_or_default();
        let is_group = |member: &Node| {
            let name = member.text();
            name.is_some_and(|name| self.groups.contains_key(name))
        };
        for entry in groups {
            let empty = self.groups.get(&entry.key).is_some_and(Vec::is_empty);
            // Any other member that stands for nothing is reported itself.
            if empty && entry.value.items().iter().all(is_group) {
                let message = format!("group `{}` has no members", entry.key);
                let problem = file.problem(entry.key_span, message);
                file.report(
                    problem.hint("name targets or patterns in it, or take it out, with its tasks"),
                );
            }
        }
    }

    fn check_engines(&self, group: &str, span: Span, file: &mut File) {
        let members = self.expand(group);
        let engines = members
            .iter()
            .filter_map(|name| Some((name, self.targets.get(name).copied()??)));
        let mut engines = engines.peekable();
        let Some((first, engine)) = engines.peek().copied() else {
            return;
        };
        if let Some((other, differing)) = engines.find(|(_, other)| *other != engine) {
            let message = format!(
                "the members of group `{group}` have different engines: \
                 `{first}` is {engine}, `{other}` is {differing}"
            );
            file.report(file.problem(span, message));
        }
    }

    /// The targets a name stands for; none where it is unknown.
    pub(super) fn expand(&self, name: &str) -> Vec<String> {
        if self.targets.contains_key(name) {
            return vec![name.to_owned()];
        }
        self.groups.get(name).cloned().unwrap_or_default()
    }

    /// The engine of a target, or of a group's first member.
    pub(super) fn engine(&self, name: &str) -> Option<Engine> {
        self.expand(name)
            .iter()
            .find_map(|target| self.targets.get(target).copied().flatten())
            .or(self.unseen_engine)
    }

    /// Reports a name that is neither target nor group.
    pub(super) fn check(&self, node: &Node, file: &mut File) {
        let Some(name) = node.text().filter(|_| self.known && !self.unseen) else {
            return;
        };
        if !self.targets.contains_key(name) && !self.groups.contains_key(name) {
            let problem = file.problem(node.span, format!("unknown target `{}`", shown(node)));
            let known = self.targets.keys().chain(self.groups.keys());
            file.report(guess(problem, node, known.map(String::as_str).collect()));
        }
    }
}

impl Names {
    /// Reports a name that is no target of this engine; nothing is answered then.
    pub(super) fn check_target(&self, node: &Node, engine: Engine, file: &mut File) -> Option<()> {
        let name = node.text()?;
        let message = match self.targets.get(name) {
            // Where its engine is broken, that is reported there.
            Some(found) if found.is_none_or(|found| found == engine) => return Some(()),
            Some(_) => format!("target `{}` is no {engine} database", shown(node)),
            None if self.groups.contains_key(name) => {
                format!("`{}` is a group; expected one target", shown(node))
            }
            None if self.unseen => return Some(()),
            None => format!("unknown target `{}`", shown(node)),
        };
        let fits = |found: &Option<Engine>| found.is_none_or(|found| found == engine);
        let known = self.targets.iter().filter(|(_, found)| fits(found));
        let known = known.map(|(name, _)| name.as_str()).collect();
        file.report(guess(file.problem(node.span, message), node, known));
        None
    }
}

/// Whether a member of a group stands for all targets with such names.
fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// The targets that a pattern stands for, as people would sort them.
fn matching<'t>(targets: &'t BTreeMap<String, Option<Engine>>, pattern: &str) -> Vec<&'t str> {
    let pattern = WildMatch::new(pattern);
    let names = targets.keys().map(String::as_str);
    let mut found: Vec<&str> = names.filter(|name| pattern.matches(name)).collect();
    found.sort_by(|a, b| natural(a, b));
    found
}

/// Groups within groups, from the outermost.
const DEEPEST: usize = 50;

/// Members of all groups together, groups within groups counted with all of theirs.
const MOST_MEMBERS: usize = 200_000;

/// One group being followed to its targets.
struct Expansion<'a> {
    groups: &'a HashMap<&'a str, &'a Node>,
    targets: &'a BTreeMap<String, Option<Engine>>,
    found: Vec<String>,
    seen: HashSet<String>,
    /// Groups whose members are all in: following them again would take a time that doubles with
    /// every level.
    done: HashSet<String>,
    too_deep: bool,
}

impl Expansion<'_> {
    /// The error is the way round the loop.
    fn add(&mut self, name: &str, trail: &mut Vec<String>) -> Result<(), Vec<String>> {
        if let Some(start) = trail.iter().position(|seen| seen == name) {
            let mut way = trail.split_off(start);
            way.push(name.to_owned());
            return Err(way);
        }
        // Also where a target is called so: it is one of them.
        if !self.groups.contains_key(name) && is_pattern(name) {
            for target in matching(self.targets, name) {
                if self.seen.insert(target.to_owned()) {
                    self.found.push(target.to_owned());
                }
            }
            return Ok(());
        }
        if self.targets.contains_key(name) {
            if self.seen.insert(name.to_owned()) {
                self.found.push(name.to_owned());
            }
            return Ok(());
        }
        if self.done.contains(name) {
            return Ok(());
        }
        if trail.len() >= DEEPEST {
            self.too_deep = true;
            return Ok(());
        }
        let Some(group) = self.groups.get(name).copied() else {
            return Ok(());
        };
        trail.push(name.to_owned());
        for member in group.items().iter().filter_map(Node::text) {
            self.add(member, trail)?;
        }
        trail.pop();
        self.done.insert(name.to_owned());
        Ok(())
    }
}

fn engine(text: &str) -> Option<Engine> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// What an inventory brings.
pub(super) struct Inventory {
    /// Where it is, if it is a file.
    pub path: Option<PathBuf>,
    /// Its entries as a file that has nothing but `targets`.
    pub root: Node,
    /// The same, typed; none where something is wrong with one of them.
    pub typed: Option<SchedulesFile>,
    /// To say more about it.
    pub file: File,
}
