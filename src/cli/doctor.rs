//! Says what each target lacks (versions, rights, extensions) and what that costs, and what was
//! left unfinished there.

use super::context::Context;
use super::rehearse::{self, with_hint};
use super::run::worse;
use super::{Failure, documents, places, records};
use crate::config::Task;
use crate::pipeline::{self, Level, PipelineError};
use crate::plan::Scope;
use crate::report::text::{Ink, counted, shown, wrapped};

/// Versions, privileges, extensions; and what each missing thing costs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maint doctor\n  maint doctor --output json")]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config().await?;
        let mut lines: Vec<(String, Level, String)> = Vec::new();
        // Without it no run knows what earlier ones did, and nobody what it did itself.
        let recorded = records::look(&config).await;
        let mut code = recorded.code;
        let level = match recorded.code {
            0 => Level::Ok,
            _ => Level::Problem,
        };
        let hint = recorded.hint.map(|hint| format!("; {hint}"));
        let text = recorded.text + &hint.unwrap_or_default();
        lines.push((recorded.place, level, text));
        let mut targets = Vec::new();
        for target in config.targets.values() {
            match pipeline::look_up(target).await {
                Ok(found) => {
                    targets.extend(found);
                    let shut = pipeline::shut(target).await.unwrap_or_default();
                    let note = |(name, why)| (name, Level::Note, why);
                    lines.extend(shut.into_iter().map(note));
                }
                Err(error) => {
                    let (error_code, text) = match &error {
                        PipelineError::Engine(error) if error.is_address() => (2, with_hint(error)),
                        PipelineError::Engine(error) => (3, with_hint(error)),
                        other => (1, other.to_string()),
                    };
                    code = worse(code, error_code);
                    lines.push((target.name.clone(), Level::Problem, text));
                }
            }
        }
        let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
        let places = pipeline::last_places(&config, &names).await;
        let history = crate::history::open_existing(config.history.expose()).await;
        let history = history.ok();
        for target in &targets {
            let name = target.name.clone();
            if !target.configured {
                let text = "not configured: its url is empty".to_owned();
                lines.push((name, Level::Note, text));
                continue;
            }
            let tasks = config.tasks.values().filter(|task| task.enabled);
            let tasks: Vec<&Task> = tasks
                .filter(|task| task.targets.iter().any(|one| one == target.server()))
                .filter(|task| target.scope != Scope::Server || task.looks_at_server)
                .collect();
            let mut found = Vec::new();
            let last = places.get(&name);
            let seen =
                pipeline::examine(target, &tasks, last, history.as_deref(), &mut found).await;
            let blocked = found.iter().any(|(level, _)| *level == Level::Blocked);
            let hindered: Vec<&str> = tasks
                .iter()
                .filter(|task| found.iter().any(|line| hinders(line, task)))
                .map(|task| task.name.as_str())
                .collect();
            let of = |(level, text)| (name.clone(), level, text);
            lines.extend(found.into_iter().map(of));
            match seen {
                Ok(()) if blocked => continue,
                Ok(()) => {}
                Err(PipelineError::Engine(error)) => {
                    let bad_url = error.is_address();
                    code = worse(code, if bad_url { 2 } else { 3 });
                    lines.push((name, Level::Problem, with_hint(&error)));
                    continue;
                }
                Err(other) => lines.push((name.clone(), Level::Problem, other.to_string())),
            }
            for task in tasks {
                let mut told = rehearse::all_of(&config, task, target, history.as_deref()).await;
                // One verdict, not two.
                if hindered.contains(&task.name.as_str()) {
                    told.retain(|(level, _)| *level != Level::Ok);
                }
                let of = |(level, text)| (name.clone(), level, format!("{}: {text}", task.name));
                lines.extend(told.into_iter().map(of));
            }
        }
        for place in places::of_files(&config).await {
            let (level, text) = match (place.tried, place.is_there) {
                (Ok(text), true) => (Level::Ok, text),
                (Ok(text), false) => (Level::Note, text),
                (Err(why), _) => (Level::Problem, format!("files cannot be kept: {why}")),
            };
            let text = format!("{}: {text}", place.task.name);
            lines.push((place.target.to_owned(), level, text));
        }
        if let Some(history) = history {
            history.close().await;
        }
        // One of many may be left out on purpose; with all of them nothing is looked after.
        if !targets.is_empty() && !targets.iter().any(|target| target.configured) {
            for (_, level, _) in &mut lines {
                *level = Level::Problem;
            }
        }
        if code == 0 && lines.iter().any(|(_, level, _)| level.is_problem()) {
            code = 1;
        }
        if context.json() {
            let checks = lines
                .iter()
                .map(|(target, level, text)| documents::Checkup {
                    target,
                    level: level.word(),
                    text,
                });
            documents::print(&documents::Doctor {
                checks: checks.collect(),
            });
            return Ok(code);
        }
        let style = context.style(config.timezone);
        for (target, level, text) in &lines {
            let begin = format!("{:>8}  ", level.word());
            let room = style.width.map(|width| width.saturating_sub(begin.len()));
            let text = format!("{target}: {}", shown(text));
            for (n, line) in wrapped(&text, room).iter().enumerate() {
                let ink = match level {
                    Level::Ok => Ink::Good,
                    Level::Note => Ink::Plain,
                    Level::Problem | Level::Blocked => Ink::Bad,
                };
                match n {
                    0 => outln!("{}{line}", style.paint(ink, &begin)),
                    _ => outln!("{:begin$}{line}", "", begin = begin.len()),
                }
            }
        }
        let problems = lines.iter().filter(|(_, level, _)| level.is_problem());
        match problems.count() {
            0 => outln!("all is well"),
            n => outln!("{}", counted(n, "problem")),
        }
        Ok(code)
    }
}

/// Whether a line says what keeps a task from working.
fn hinders((level, text): &(Level, String), task: &Task) -> bool {
    let of_task = text.strip_prefix(task.name.as_str());
    level.is_problem() && of_task.is_some_and(|rest| rest.starts_with(": "))
}
