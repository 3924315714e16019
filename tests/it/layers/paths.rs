//! Which items of which other files a file names: `use` lines, and paths within the code.

use std::collections::{BTreeMap, BTreeSet};

/// The text without comments, and without the unit tests at its end.
pub(super) fn without_tests(text: &str) -> String {
    let own = [
        "",
        "#[allow(clippy::unwrap_used, reason = \"tests fail by panicking\")]\n",
    ];
    let end = own
        .iter()
        .find_map(|allowed| text.find(&format!("\n#[cfg(test)]\n{allowed}mod tests {{")));
    let code = &text[..end.unwrap_or(text.len())];
    code.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A module, or an item in one, from the root of the crate.
pub(super) type Place = Vec<String>;

/// What one file says of others.
#[derive(Default)]
struct Named {
    /// Every path in it, from the root of the crate.
    used: Vec<Place>,
    /// Names that it hands on, with `pub use`, and what they stand for.
    handed_on: BTreeMap<String, Place>,
}

/// For each file the items of other files that it uses, by those files. What a file only hands on
/// with `pub use` is used by whoever takes it from there, not by it.
pub(super) fn arrows(
    files: &BTreeMap<String, String>,
) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let modules: BTreeMap<Place, &str> = files
        .keys()
        .filter(|file| *file != "main.rs")
        .map(|file| (module(file), file.as_str()))
        .collect();
    let named: BTreeMap<&Place, Named> = modules
        .iter()
        .map(|(module, file)| (module, read(module, &files[*file], &modules)))
        .collect();
    let mut arrows: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, names) in &named {
        for path in &names.used {
            let Some((other, Some(item))) = resolve(path, &modules, &named, &mut BTreeSet::new())
            else {
                continue;
            };
            if other != **module {
                let from = arrows.entry(modules[*module].to_owned()).or_default();
                let to = from.entry(modules[&other].to_owned()).or_default();
                to.insert(item);
            }
        }
    }
    arrows
}

/// The module that a file is.
pub(super) fn module(file: &str) -> Place {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" => Vec::new(),
        _ => path.split('/').map(str::to_owned).collect(),
    }
}

/// The module that a path leads to, through whatever hands it on, and the item in it.
fn resolve(
    path: &Place,
    modules: &BTreeMap<Place, &str>,
    named: &BTreeMap<&Place, Named>,
    seen: &mut BTreeSet<Place>,
) -> Option<(Place, Option<String>)> {
    if !seen.insert(path.clone()) {
        return None;
    }
    let length = (0..=path.len())
        .rev()
        .find(|n| modules.contains_key(&path[..*n]))?;
    let module = path[..length].to_vec();
    let Some(item) = path.get(length) else {
        return Some((module, None));
    };
    if let Some(to) = named[&module].handed_on.get(item) {
        let mut to = to.clone();
        to.extend_from_slice(&path[length + 1..]);
        return resolve(&to, modules, named, seen);
    }
    Some((module, Some(item.clone())))
}

fn read(module: &Place, text: &str, modules: &BTreeMap<Place, &str>) -> Named {
    let mut names = Named::default();
    let mut aliases: BTreeMap<String, Place> = BTreeMap::new();
    let mut rest = String::new();
    let mut statement: Option<(bool, String)> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if statement.is_none() {
            match use_line(trimmed) {
                Some((public, tree)) => statement = Some((public, tree.to_owned())),
                None => {
                    rest.push_str(line);
                    rest.push('\n');
                    continue;
                }
            }
        } else if let Some((_, tree)) = &mut statement {
            tree.push_str(trimmed);
        }
        let Some((public, tree)) = statement.take_if(|(_, tree)| tree.ends_with(';')) else {
            continue;
        };
        for (path, name) in leaves(&tree[..tree.len() - 1], &[]) {
            let Some(path) = from_root(module, &path, modules) else {
                continue;
            };
            aliases.insert(name.clone(), path.clone());
            match public {
                true => drop(names.handed_on.insert(name, path)),
                false => names.used.push(path),
            }
        }
    }
    for path in within(&rest) {
        let from = match aliases.get(&path[0]) {
            Some(alias) => Some(alias.iter().chain(&path[1..]).cloned().collect()),
            None => from_root(module, &path, modules),
        };
        names.used.extend(from);
    }
    names
}

/// Whether a line begins a `use`, whether that is public, and what follows.
fn use_line(line: &str) -> Option<(bool, &str)> {
    if let Some(tree) = line.strip_prefix("use ") {
        return Some((false, tree));
    }
    let after = line.strip_prefix("pub")?;
    let after = match after.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => after,
    };
    Some((true, after.strip_prefix(" use ")?))
}

/// The paths of a `use`, each with the name that it gives.
fn leaves(tree: &str, before: &[String]) -> Vec<(Place, String)> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    let ends = tree.char_indices().chain([(tree.len(), ',')]);
    for (at, c) in ends {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = tree[start..at].trim();
                start = at + 1;
                let (path, inner) = match part.split_once('{') {
                    Some((path, inner)) => (path, inner.strip_suffix('}')),
                    None => (part, None),
                };
                let (path, alias) = match path.split_once(" as ") {
                    Some((path, alias)) => (path, Some(alias.trim().to_owned())),
                    None => (path, None),
                };
                let words = path.split("::").map(str::trim).filter(|w| !w.is_empty());
                let mut whole: Place = before.to_vec();
                whole.extend(words.map(str::to_owned));
                if let Some(inner) = inner {
                    found.extend(leaves(inner, &whole));
                    continue;
                }
                if whole.len() > 1 && whole.last().is_some_and(|last| last == "self") {
                    whole.pop();
                }
                if let Some(last) = whole.last().cloned() {
                    found.push((whole, alias.unwrap_or(last)));
                }
            }
            _ => {}
        }
    }
    found
}

/// A path of the crate from its root; none for those of other crates.
fn from_root(module: &Place, path: &[String], modules: &BTreeMap<Place, &str>) -> Option<Place> {
    let first = path.first()?;
    let mut base = module.clone();
    let rest = match first.as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" => &path[1..],
        "super" => {
            let ups = path.iter().take_while(|word| *word == "super").count();
            base.truncate(base.len().checked_sub(ups)?);
            &path[ups..]
        }
        _ => {
            base.push(first.clone());
            let is_child = modules.contains_key(&base);
            base.pop();
            is_child.then_some(path)?
        }
    };
    base.extend_from_slice(rest);
    Some(base)
}

/// Paths of more than one word within code.
fn within(code: &str) -> Vec<Place> {
    let mut found = Vec::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = code;
    let mut before = ' ';
    while let Some(at) = rest.find(is_word) {
        if at > 0 {
            before = rest[..at].chars().next_back().unwrap_or(' ');
        }
        rest = &rest[at..];
        let mut path = Vec::new();
        loop {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            path.push(rest[..end].to_owned());
            rest = &rest[end..];
            match rest.strip_prefix("::") {
                Some(after) if after.starts_with(is_word) => rest = after,
                _ => break,
            }
        }
        if path.len() > 1 && before != ':' && before != '.' {
            found.push(path);
        }
        before = ' ';
    }
    found
}
