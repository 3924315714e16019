//! Templates of one's own: found in a folder, tried, and told where they cannot be used.

use std::collections::BTreeMap;
use std::path::Path;

use chrono_tz::Tz;
use minijinja::{Environment, Error, ErrorKind, context};

use super::super::message::Message;
use super::super::{sample, sample_pages};
use super::{BUILT_IN, MOST_STEPS, SHARED_BY_PAGES, Templates, as_json};
use crate::values::{Problem, closest, describe, read_regular};

/// The largest template, in bytes.
const LARGEST: u64 = 1 << 20;

impl Templates {
    /// Those built in, with what the folder has in their place. Files that
    /// cannot be used are problems, and are not used.
    pub fn with_overrides(folder: &Path) -> (Templates, Vec<Problem>) {
        let mut templates = Templates {
            folder: folder.to_owned(),
            overrides: BTreeMap::new(),
            environment: None,
            terminal: None,
        };
        let mut problems = Vec::new();
        let mut files = Vec::new();
        list(folder, folder, &mut files, &mut problems);
        files.sort();
        for name in files {
            let path = folder.join(&name);
            let Some((known, _)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
                let names = BUILT_IN.iter().map(|(known, _)| *known);
                let mut problem = Problem::new(&path, "is not the name of a template");
                if let Some(near) = closest(&name, names) {
                    problem = problem.hint(format!("did you mean `{near}`?"));
                }
                problems.push(problem);
                continue;
            };
            let text = match read_regular(&path, LARGEST) {
                Ok(bytes) => String::from_utf8(bytes),
                Err(why) => {
                    problems.push(Problem::new(&path, why));
                    continue;
                }
            };
            let Ok(text) = text else {
                problems.push(Problem::new(&path, "is not UTF-8 text"));
                continue;
            };
            templates.overrides.insert(known, text);
            // Tried together with those that are good: they include each other.
            if let Err(error) = templates.try_out(known) {
                problems.push(templates.problem(&error, known));
                templates.overrides.remove(known);
            }
        }
        (templates, problems)
    }

    fn try_out(&self, name: &str) -> Result<(), Error> {
        let environment = self.environment(Tz::UTC, true)?;
        let folder = name.split('/').next().unwrap_or_default();
        if folder == "webhook" {
            let digest = sample::digest(Message::Failed);
            let context =
                context! { message => "failed", subject => "a subject", ..digest.context() };
            return as_json(&environment.get_template(name)?.render(&context)?).map(|_| ());
        }
        if folder == "page" {
            return try_pages(&environment, name);
        }
        for message in Message::ALL {
            // What is shared is tried with everything.
            if folder != "base" && folder != message.folder() {
                continue;
            }
            let context = sample::context(*message);
            for file in ["subject.txt.j2", "text.txt.j2", "html.html.j2"] {
                let name = format!("{}/{file}", message.folder());
                environment.get_template(&name)?.render(&context)?;
            }
        }
        Ok(())
    }

    fn problem(&self, error: &Error, fallback: &str) -> Problem {
        let name = error.name().unwrap_or(fallback);
        let path = self.folder.join(name);
        let said = match error.kind() {
            ErrorKind::OutOfFuel => {
                format!("it goes on for too long ({MOST_STEPS} steps); look at its loops")
            }
            _ => error.detail().map_or_else(
                || error.kind().to_string(),
                |detail| format!("{}: {detail}", error.kind()),
            ),
        };
        let mut problem = Problem::new(&path, format!("this template cannot be used: {said}"));
        if let Some(line) = error.line() {
            let source = self.overrides.get(name).map(String::as_str);
            let shown = source
                .and_then(|text| text.lines().nth(line.saturating_sub(1)))
                .unwrap_or_default();
            let width = shown.trim_end().chars().count().max(1);
            problem = problem.at(line, 1, width).source(shown);
        }
        problem.hint("the built-in template is used until this one is mended")
    }
}

/// The templates in a folder, by their names. A folder that has the name of one is found as one, so
/// that it is told: it holds nothing that is used.
fn list(root: &Path, folder: &Path, found: &mut Vec<String>, problems: &mut Vec<Problem>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(why) if folder == root && why.kind() == std::io::ErrorKind::NotFound => return,
        Err(why) => {
            let message = format!("the folder of templates cannot be read: {}", describe(&why));
            problems.push(Problem::new(folder, message));
            return;
        }
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        let Ok(relative) = path.strip_prefix(root) else {
            continue;
        };
        let name = relative.to_string_lossy().into_owned();
        if path.is_dir() && !BUILT_IN.iter().any(|(known, _)| *known == name) {
            list(root, &path, found, problems);
        } else {
            found.push(name);
        }
    }
}

/// Writes the page, or all of them where it is what they share.
fn try_pages(environment: &Environment<'_>, name: &str) -> Result<(), Error> {
    let shared = SHARED_BY_PAGES.contains(&name);
    let pages = BUILT_IN
        .iter()
        .map(|(page, _)| *page)
        .filter(|page| page.starts_with("page/") && !SHARED_BY_PAGES.contains(page))
        .filter(|page| shared || *page == name);
    for page in pages {
        for context in sample_pages::contexts() {
            environment.get_template(page)?.render(&context)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a template of one's own would be tried with less than it gets.
    #[test]
    fn the_sample_has_whatever_pages_show() -> Result<(), Error> {
        let templates = Templates::built_in();
        let mut environment = templates.environment(Tz::UTC, true)?;
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        for name in SHARED_BY_PAGES {
            try_pages(&environment, name)?;
        }
        Ok(())
    }
}
