//! Messages from templates: built in, and replaced file by file by those in
//! the folder `templates/` beside `schedules.yaml`.

mod own;

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono_tz::Tz;
use css_inline::CSSInliner;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::digest::Digest;
use super::filters;
use super::filters::TEXT_WIDTH;
use super::message::{Message, Rendered};
use crate::values::with_causes;

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
}

/// The built-in templates as files, for whoever wants to change one.
pub fn built_in_files() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.iter().copied()
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
