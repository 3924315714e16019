//! Messages from templates: built in, and replaced file by file by those in
//! the folder `templates/` beside `schedules.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono_tz::Tz;
use css_inline::CSSInliner;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::digest::Digest;
use super::filters::TEXT_WIDTH;
use super::message::{Message, Rendered};
use super::{filters, sample, sample_pages};
use crate::values::{Problem, closest, describe, read_regular, with_causes};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),*]
    };
}

/// Every template: a folder per message, and what they share.
const BUILT_IN: &[(&str, &str)] = built_in![
    "base/layout.html.j2",
    "base/light.css",
    "base/dark.css",
    "base/nav.css",
    "base/nav.html.j2",
    "base/digest.html.j2",
    "base/digest.txt.j2",
    "report/subject.txt.j2",
    "report/text.txt.j2",
    "report/html.html.j2",
    "failed/subject.txt.j2",
    "failed/text.txt.j2",
    "failed/html.html.j2",
    "recovered/subject.txt.j2",
    "recovered/text.txt.j2",
    "recovered/html.html.j2",
    "missed/subject.txt.j2",
    "missed/text.txt.j2",
    "missed/html.html.j2",
    "escalation/subject.txt.j2",
    "escalation/text.txt.j2",
    "escalation/html.html.j2",
    "test/subject.txt.j2",
    "test/text.txt.j2",
    "test/html.html.j2",
    "webhook/generic.json.j2",
    "webhook/slack.json.j2",
    "webhook/teams.json.j2",
    "webhook/ntfy.json.j2",
    "webhook/apprise.json.j2",
    "page/style.css",
    "page/layout.html.j2",
    "page/parts.html.j2",
    "page/running.html.j2",
    "page/overview.html.j2",
    "page/runs.html.j2",
    "page/run.html.j2",
    "page/tasks.html.j2",
    "page/findings.html.j2",
    "page/fleet.html.j2",
    "page/trends.html.j2",
    "page/next.html.j2",
    "page/login.html.j2",
    "page/plan.html.j2",
    "page/error.html.j2",
];

/// What pages are made with, and are no pages.
const SHARED_BY_PAGES: &[&str] = &[
    "page/style.css",
    "page/layout.html.j2",
    "page/parts.html.j2",
];

/// The largest template, in bytes.
const LARGEST: u64 = 1 << 20;

/// So many steps may a template of one's own take: hundreds of times what a page of a large fleet
/// takes, and seconds. Loops in loops would go on for days.
const MOST_STEPS: u64 = 50_000_000;

/// How the body of a webhook is shaped: one template each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everything there is to know.
    Generic,
    /// Blocks, as Slack and its likes want them.
    Slack,
    /// An adaptive card, as Teams wants it.
    Teams,
    /// A message as ntfy publishes it.
    Ntfy,
    /// A message as an Apprise server hands it on.
    Apprise,
}

impl Shape {
    /// Every one of them.
    pub const ALL: &[Shape] = &[
        Shape::Generic,
        Shape::Slack,
        Shape::Teams,
        Shape::Ntfy,
        Shape::Apprise,
    ];

    const fn template(self) -> &'static str {
        match self {
            Shape::Generic => "webhook/generic.json.j2",
            Shape::Slack => "webhook/slack.json.j2",
            Shape::Teams => "webhook/teams.json.j2",
            Shape::Ntfy => "webhook/ntfy.json.j2",
            Shape::Apprise => "webhook/apprise.json.j2",
        }
    }
}

/// The templates in use.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    folder: PathBuf,
    overrides: BTreeMap<&'static str, String>,
    /// What subjects begin with, in brackets.
    environment: Option<String>,
    /// How wide a terminal is that they are read on.
    terminal: Option<usize>,
}

impl Templates {
    /// Those built in.
    pub fn built_in() -> Templates {
        Templates::default()
    }

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

    /// With the name of the environment, which subjects begin with.
    #[must_use]
    pub fn of(mut self, environment: Option<&str>) -> Templates {
        self.environment = environment.map(str::to_owned);
        self
    }

    /// For a terminal of so many columns; texts that are sent have 80.
    #[must_use]
    pub fn on_terminal(mut self, columns: Option<usize>) -> Templates {
        self.terminal = columns;
        self
    }

    /// How wide texts are.
    pub(super) fn columns(&self) -> usize {
        let terminal = self.terminal.unwrap_or(TEXT_WIDTH);
        terminal.min(TEXT_WIDTH)
    }

    /// A subject as one line, with the environment before it.
    fn subject(&self, rendered: &str) -> String {
        let subject = rendered.split_whitespace().collect::<Vec<_>>().join(" ");
        match &self.environment {
            Some(environment) => format!("[{environment}] {subject}"),
            None => subject,
        }
    }

    /// The template alone, for what is no message.
    ///
    /// # Errors
    /// When the built-in template cannot be used either.
    pub fn render(&self, name: &str, context: &Value, zone: Tz) -> Result<String, Error> {
        match self
            .environment(zone, true)?
            .get_template(name)?
            .render(context)
        {
            Err(error) if !self.overrides.is_empty() => {
                tracing::warn!(template = name, error = %with_causes(&error), "a template of your own cannot be used; the built-in one is");
                self.environment(zone, false)?
                    .get_template(name)?
                    .render(context)
            }
            rendered => rendered,
        }
    }

    /// A message in all its forms.
    ///
    /// # Errors
    /// When the built-in templates cannot be used either.
    pub fn message(&self, message: Message, context: &Value, zone: Tz) -> Result<Rendered, Error> {
        let folder = message.folder();
        let part = |file: &str| self.render(&format!("{folder}/{file}"), context, zone);
        let subject = part("subject.txt.j2")?;
        Ok(Rendered {
            subject: self.subject(&subject),
            text: tidy(&part("text.txt.j2")?),
            html: inline(&part("html.html.j2")?),
        })
    }

    /// A digest in all its forms.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub fn digest(&self, message: Message, digest: &Digest, zone: Tz) -> Result<Rendered, Error> {
        self.message(message, &digest.context(), zone)
    }

    /// A digest as the body of a webhook.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub fn webhook(
        &self,
        shape: Shape,
        message: Message,
        digest: &Digest,
        zone: Tz,
    ) -> Result<serde_json::Value, Error> {
        let subject = self.render(
            &format!("{}/subject.txt.j2", message.folder()),
            &digest.context(),
            zone,
        )?;
        let context = context! {
            message => message.folder(),
            subject => self.subject(&subject),
            ..digest.context()
        };
        let name = shape.template();
        let own = self
            .environment(zone, true)?
            .get_template(name)?
            .render(&context);
        let own = own.and_then(|text| as_json(&text));
        match own {
            Err(error) if self.overrides.contains_key(name) => {
                tracing::warn!(template = name, error = %with_causes(&error), "a template of your own cannot be used; the built-in one is");
                let built_in = self.environment(zone, false)?;
                as_json(&built_in.get_template(name)?.render(&context)?)
            }
            own => own,
        }
    }

    fn environment(&self, zone: Tz, with_overrides: bool) -> Result<Environment<'_>, Error> {
        let mut environment = Environment::new();
        if with_overrides && !self.overrides.is_empty() {
            environment.set_fuel(Some(MOST_STEPS));
        }
        filters::add_to(&mut environment, zone, self.columns());
        for (name, built_in) in BUILT_IN {
            let own = self.overrides.get(name).filter(|_| with_overrides);
            environment.add_template(name, own.map_or(*built_in, String::as_str))?;
        }
        Ok(environment)
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

/// The built-in templates as files, for whoever wants to change one.
pub fn built_in_files() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.iter().copied()
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

fn as_json(text: &str) -> Result<serde_json::Value, Error> {
    serde_json::from_str(text).map_err(|why| {
        Error::new(
            ErrorKind::BadSerialization,
            format!("what it writes is not JSON: {why}"),
        )
    })
}

/// No spaces at line ends, never more than one empty line.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = 1;
    for line in text.lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy.truncate(tidy.trim_end().len());
    tidy.push('\n');
    tidy
}

/// Styles written into the elements: mail programs drop `<style>`. Rules for
/// small screens and dark mode stay, for those that do not.
fn inline(html: &str) -> String {
    let inliner = CSSInliner::options()
        .keep_style_tags(false)
        .load_remote_stylesheets(false)
        .build();
    inliner.inline(html).unwrap_or_else(|error| {
        tracing::warn!(error = %with_causes(&error), "styles could not be inlined");
        html.to_owned()
    })
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
