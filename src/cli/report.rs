//! Makes the report of a period: on the terminal, as a page, or as a mail; and shows every message
//! with made-up data.

use std::path::{Path, PathBuf};

use super::Failure;
use super::context::Context;
use super::history::tell_waiting;
use super::written;
use crate::config::{self, Config};
use crate::notify::{PostError, deliver, delivery, last_posted, post_report};
use crate::report::{self, Asked, Message, Pictures, Scope, Templates, compose, gather};
use crate::values::{CalendarSpan, TimeSpan, describe, wall_clock, with_causes};

/// The report of a period: is all well, what was done, was it worth it?
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint report\n  maint report --period 2026-10 --html october.html\n  maint report --period 30d --output json\n  maint report --email\n  maint report --preview preview    what every message looks like"
)]
pub(super) struct Report {
    /// How far back (`7d`, `1mo`), a month (`2026-10`), or `since-last`: since
    /// the last report was mailed. Left out: as `--name` has it, or 7d
    #[arg(long, value_name = "PERIOD")]
    period: Option<Asked>,
    /// Write it as a page instead
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Mail it, as `reports` in schedules.yaml says
    #[arg(long, conflicts_with_all = ["html", "preview"])]
    email: bool,
    /// Which of `reports`; needed where there are several
    #[arg(long, value_name = "REPORT")]
    name: Option<String>,
    /// Write every message with made-up data into this folder
    #[arg(long, value_name = "FOLDER")]
    preview: Option<PathBuf>,
}

impl Report {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        // Only who sends it needs what is behind the variables of mail.
        let config = match self.email {
            true => context.config().await?,
            false => context.config_for_looking().await?,
        };
        let templates = context.templates(&config);
        if let Some(folder) = &self.preview {
            return preview(folder, &templates, &config);
        }
        let named = self.named(&config)?;
        let asked = match (self.period, named) {
            (Some(asked), _) => asked,
            (None, Some((_, report))) => Asked::Back(report.period),
            (None, None) => Asked::Back(CalendarSpan::Fixed(TimeSpan::from_mins(7 * 24 * 60))),
        };
        let now = wall_clock();
        if let Some(why) = asked.to_come(now, config.timezone) {
            return Err(Failure::Usage(why));
        }
        if self.email {
            return send(context, &config, &templates, named, asked).await;
        }
        if let Some(path) = &self.html {
            written::may_take(path, PAGE, is_page)?;
        }
        let store = crate::history::open_existing(config.history.expose()).await?;
        let last = match named {
            Some((name, _)) => last_posted(store.as_ref(), name).await?,
            None => None,
        };
        let (period, text) = asked.period(now, config.timezone, last);
        let scope = Scope { period, text, now };
        let report = gather(store.as_ref(), &config, &scope).await?;
        store.close().await;
        if context.json() {
            outln!("{}", serde_json::json!(report));
            if self.html.is_none() {
                return Ok(0);
            }
        }
        let width = context.style(config.timezone).width;
        let templates = templates.on_terminal(width);
        let composed = compose(&report, &templates, config.timezone, Pictures::Inline)
            .map_err(|why| Failure::Other(format!("the report cannot be written: {why}")))?;
        match &self.html {
            Some(path) => {
                written::write(path, &composed.rendered.html, PAGE, is_page)?;
                let text = format!("{}: {}", composed.rendered.subject, path.display());
                match context.json() {
                    true => errln!("{text}"),
                    false => outln!("{text}"),
                }
            }
            None => out!("{}", composed.rendered.text),
        }
        tell_waiting(&config);
        Ok(0)
    }

    /// The report of that name, or the only one there is.
    fn named<'c>(
        &self,
        config: &'c Config,
    ) -> Result<Option<(&'c str, &'c config::Report)>, Failure> {
        let known: Vec<&str> = config.reports.keys().map(String::as_str).collect();
        let found = match &self.name {
            Some(name) => config.reports.get_key_value(name),
            None if known.len() > 1 && self.email => None,
            None if known.len() == 1 => config.reports.first_key_value(),
            None => return Ok(None),
        };
        match found {
            Some((name, report)) => Ok(Some((name.as_str(), report))),
            None => Err(match &self.name {
                Some(name) => super::context::unknown("report", name, config.reports.keys()),
                None => Failure::Usage(format!(
                    "which report? `--name` takes one of: {}",
                    known.join(", ")
                )),
            }),
        }
    }
}

async fn send(
    context: &Context<'_>,
    config: &Config,
    templates: &Templates,
    named: Option<(&str, &config::Report)>,
    asked: Asked,
) -> Result<u8, Failure> {
    let Some(named) = named else {
        return Err(Failure::Usage(format!(
            "{} has no `reports`, so nobody is known to send it to",
            config.path.display()
        )));
    };
    let delivery = delivery(config).map_err(|why| Failure::Usage(with_causes(&why)))?;
    let store = context.history(config).await?;
    match post_report(
        store.as_ref(),
        config,
        templates,
        named,
        asked,
        wall_clock(),
    )
    .await
    {
        Ok(()) => {}
        Err(PostError::History(error)) => return Err(error.into()),
        Err(error @ (PostError::NoRecipient(_) | PostError::NoServer)) => {
            return Err(Failure::Usage(with_causes(&error)));
        }
        Err(error) => return Err(Failure::Other(with_causes(&error))),
    }
    let done = deliver(&delivery, store.as_ref(), wall_clock()).await?;
    store.close().await;
    if context.json() {
        outln!(
            "{}",
            serde_json::json!({ "sent": done.sent, "problems": done.problems })
        );
    } else if done.problems.is_empty() {
        outln!("the report is on its way");
    }
    for problem in &done.problems {
        errln!("not sent: {problem}");
    }
    Ok(u8::from(!done.problems.is_empty()))
}

/// What a report may be written over.
const PAGE: &str = "a page";

/// Whether a text is a page: whoever has templates of their own decides what else is in it.
fn is_page(text: &str) -> bool {
    text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n'])
        .starts_with('<')
}

fn preview(folder: &Path, templates: &Templates, config: &Config) -> Result<u8, Failure> {
    let unusable = |why| Failure::Other(format!("a template cannot be used: {why}"));
    let sample = report::sample::report();
    let composed =
        compose(&sample, templates, config.timezone, Pictures::Inline).map_err(unusable)?;
    let mut messages = vec![("report", composed.rendered)];
    for message in Message::ALL.iter().filter(|one| **one != Message::Report) {
        let digest = report::sample::digest(*message);
        let rendered = templates
            .digest(*message, &digest, config.timezone)
            .map_err(unusable)?;
        messages.push((message.folder(), rendered));
    }
    for (name, message) in &messages {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).map_err(|why| {
            Failure::Other(format!(
                "{} cannot be made: {}",
                folder.display(),
                describe(&why)
            ))
        })?;
        write(
            &folder.join("subject.txt"),
            &format!("{}\n", message.subject),
        )?;
        write(&folder.join("text.txt"), &message.text)?;
        write(&folder.join("html.html"), &message.html)?;
    }
    outln!("{}: {} messages", folder.display(), messages.len());
    Ok(0)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|why| {
        Failure::Other(format!(
            "{} cannot be written: {}",
            path.display(),
            describe(&why)
        ))
    })
}
