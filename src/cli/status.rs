//! One line and an exit code for monitoring: whether all is well, and what is not since when, by
//! what the history says; no target is asked.

mod alike;
mod look;

use chrono::{DateTime, Utc};

use self::look::look;
use super::Failure;
use super::context::Context;
use super::documents::{self, NotWell as Reason};
use super::history::waiting;
use crate::history::{HistoryError, RunFilter, Store};
use crate::plan::Severity;
use crate::report::text::{Ink, age, counted, shown, wrapped};
use crate::values::wall_clock;

/// Is all well, and since when not: one line, and an exit code.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint status\n  maint status --output nagios    OK, WARNING or CRITICAL, with exit code 0, 1 or 2\n\nExit codes: 0 all is well, 1 it is not, 3 the history is out of reach"
)]
pub(super) struct Status {}

impl Status {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        let now = wall_clock();
        let store = match crate::history::open_existing(config.history.expose()).await {
            Ok(store) => Some(store),
            Err(HistoryError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let mut reasons = Vec::new();
        let mut last = None;
        if let Some(store) = &store {
            last = newest(store.as_ref()).await?;
            reasons = look(&config, store.as_ref(), now).await?;
        }
        let waiting = waiting(&config);
        if let Some(waiting) = &waiting {
            reasons.push(Reason {
                targets: Vec::new(),
                severity: Severity::Critical,
                since: None,
                text: format!("{waiting}: what failed of it is not known here"),
                hint: Some(
                    "the next run that reaches the history writes them down, or says why it cannot"
                        .to_owned(),
                ),
            });
        }
        if last.is_none() && waiting.is_none() {
            reasons.push(Reason {
                targets: Vec::new(),
                severity: Severity::Warning,
                since: None,
                text: "nothing has run yet".to_owned(),
                hint: Some(
                    "`maint next` says what is planned, `maint run TASK --now` runs one".to_owned(),
                ),
            });
        }
        // The worst first, and of those what lasts longest.
        reasons.sort_by_key(|one| (std::cmp::Reverse(one.severity), one.since));
        let since = reasons.iter().filter_map(|one| one.since).min();
        let well = reasons.is_empty();
        let ran = last.map_or_else(
            || "nothing has run yet".to_owned(),
            |(task, target, at)| format!("last run {}: {task} on {target}", age(at, now)),
        );
        let tasks = config.tasks.values().filter(|task| task.enabled).count();
        let reached = config.targets.values().filter(|one| one.configured).count();
        let size = match (reached, config.targets.len()) {
            (0, all) if all > 0 => format!(
                "{}, and no URL for {} here",
                counted(tasks, "task"),
                counted(all, "target")
            ),
            (reached, _) => format!(
                "{} on {}",
                counted(tasks, "task"),
                counted(reached, "target")
            ),
        };
        if context.json() {
            documents::print(&documents::Status {
                well,
                since,
                reasons: &reasons,
            });
            return Ok(u8::from(!well));
        }
        if context.nagios() {
            let (word, code) = match reasons.first().map(|one| one.severity) {
                None | Some(Severity::Info) => ("OK", 0),
                Some(Severity::Warning) => ("WARNING", 1),
                Some(Severity::Critical) => ("CRITICAL", 2),
            };
            let text = match reasons.first() {
                None => format!("all is well; {ran}"),
                Some(first) => format!("{}{}", first.text, and_more(reasons.len())),
            };
            // `|` begins numbers there.
            outln!(
                "MAINT {word} - {} | reasons={}",
                shown(&text).replace('|', "/"),
                reasons.len()
            );
            return Ok(code);
        }
        let style = context.style(config.timezone);
        let Some(first) = reasons.first() else {
            outln!("{}: {size}; {ran}", style.paint(Ink::Good, "all is well"));
            return Ok(0);
        };
        let since = since.map_or_else(String::new, |at| {
            let at = at.with_timezone(&config.timezone);
            format!(" since {}", at.format("%a %Y-%m-%d %H:%M %Z"))
        });
        let ink = match first.severity {
            Severity::Critical => Ink::Bad,
            _ => Ink::Warning,
        };
        let verdict = format!("not well{since}");
        // Wrapped before it is painted: what paints takes no room.
        let told = wrapped(&format!("{verdict}: {size}; {ran}"), style.width);
        for line in &told {
            let painted = match line.strip_prefix(&verdict) {
                Some(rest) => format!("{}{rest}", style.paint(ink, &verdict)),
                None => line.clone(),
            };
            outln!("{painted}");
        }
        let room = |indent: usize| {
            style
                .width
                .map(|width| width.saturating_sub(indent).max(20))
        };
        for one in &reasons {
            let text = wrapped(&shown(&one.text), room(4));
            for (n, line) in text.iter().enumerate() {
                outln!("{}{line}", if n == 0 { "  " } else { "    " });
            }
            for line in one.hint.iter().flat_map(|hint| wrapped(hint, room(4))) {
                outln!("    {}", style.paint(Ink::Faint, &line));
            }
        }
        Ok(1)
    }
}

fn and_more(reasons: usize) -> String {
    match reasons {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    }
}

async fn newest(
    store: &dyn Store,
) -> Result<Option<(String, String, DateTime<Utc>)>, HistoryError> {
    let filter = RunFilter {
        limit: Some(1),
        ..RunFilter::default()
    };
    let runs = store.runs(&filter).await?;
    Ok(runs
        .into_iter()
        .next()
        .map(|run| (run.task, run.target, run.started_at)))
}
