//! Checks the configuration: every problem of the files at once, and on request also whether
//! targets, history and mail server can be reached.

use super::check_formats::{self, Level};
use super::context::Context;
use super::documents;
use super::records::{self, Found};
use super::{Failure, Output, places, rehearse};
use crate::config::{Config, Target};
use crate::engines::EngineError;
use crate::notify::Smtp;
use crate::pipeline::{self, PipelineError};
use crate::plan::Scope;
use crate::report::Templates;
use crate::report::text::{counted, shown};
use crate::values::{Problems, with_causes};

/// Validates all files: every problem at once.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint check\n  maint check --connect    also asks every target, the places of files, the history and the mail server\n  maint check --output github    shows what is wrong beside the line of a pull request"
)]
pub(super) struct Check {
    /// Also connect to every target, the history and the mail server, try the places that archives go
    /// to with a small file, and say what is there
    #[arg(long)]
    connect: bool,
}

/// What a task will leave alone, or why that is not known.
struct Note {
    place: String,
    text: String,
}

impl Check {
    /// The same as `call` for programs that show it where it is wrong.
    async fn call_for_ci(&self, context: &Context<'_>, format: Output) -> Result<u8, Failure> {
        let mut all = Vec::new();
        let mut code = 0;
        match read(context, self.connect).await {
            Err(failure) => {
                let problems = match &failure {
                    Failure::Problems(problems) => problems,
                    Failure::NotAnswered(failed) => &failed.problems,
                    _ => return Err(failure),
                };
                all.extend(problems.iter().map(check_formats::Found::from));
                code = failure.code();
            }
            Ok(config) => {
                let (found, notes) = match self.connect {
                    true => look(&config).await,
                    false => Default::default(),
                };
                let at = |level, rule, message| check_formats::Found {
                    level,
                    rule,
                    file: config.path.display().to_string(),
                    line: 0,
                    column: 0,
                    width: 0,
                    message,
                };
                let bad = || found.iter().filter(|one| one.code != 0);
                code = bad().map(|one| one.code).min().unwrap_or(code);
                for one in bad() {
                    let hint = one.hint.as_ref();
                    let hint = hint.map_or_else(String::new, |hint| format!("\nhint: {hint}"));
                    let message = format!("{}: {}{hint}", one.place, one.text);
                    all.push(at(Level::Error, "connection", message));
                }
                for warning in &config.warnings {
                    all.push(at(Level::Warning, "warning", warning.clone()));
                }
                for note in &notes {
                    let message = format!("{}: {}", note.place, note.text);
                    all.push(at(Level::Note, "untrusted-code", message));
                }
            }
        }
        let text = check_formats::written(format, &all);
        if !text.is_empty() {
            outln!("{text}");
        }
        Ok(code)
    }

    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        if let Some(format) = context.for_ci() {
            return self.call_for_ci(context, format).await;
        }
        let config = read(context, self.connect).await?;
        let (found, notes) = match self.connect {
            true => look(&config).await,
            false => Default::default(),
        };
        let bad: Vec<&Found> = found.iter().filter(|one| one.code != 0).collect();
        if context.json() {
            let unreachable: Vec<String> = bad
                .iter()
                .map(|one| format!("{}: {}", one.place, one.text))
                .collect();
            let there = found.iter().map(|one| documents::FoundThere {
                place: &one.place,
                ok: one.code == 0,
                text: &one.text,
                hint: one.hint.as_deref(),
            });
            let noted = notes.iter().map(|one| documents::Noted {
                place: &one.place,
                text: &one.text,
            });
            documents::print(&documents::Check {
                problems: [],
                warnings: &config.warnings,
                unreachable,
                found: there.collect(),
                notes: noted.collect(),
            });
        } else {
            let verdict = match bad.len() {
                0 => "is fine".to_owned(),
                n => format!(
                    "can be read, but {} below cannot be used",
                    counted(n, "place")
                ),
            };
            outln!(
                "{} {verdict}: {}, {}, {}",
                shown(&config.path.display().to_string()),
                counted(config.tasks.len(), "task"),
                counted(config.targets.len(), "target"),
                counted(config.schedules.len(), "schedule")
            );
            for one in found.iter().filter(|one| one.code == 0) {
                outln!("  {}: {}", shown(&one.place), shown(&one.text));
            }
            for warning in &config.warnings {
                outln!("note: {}", shown(warning));
            }
            for one in &notes {
                outln!("note: {}: {}", shown(&one.place), shown(&one.text));
            }
            for one in &bad {
                errln!("error: {}: {}", shown(&one.place), shown(&one.text));
                if let Some(hint) = &one.hint {
                    errln!("  hint: {}", shown(hint));
                }
            }
        }
        // What is wrong here before what is out of reach.
        let codes = bad.iter().map(|one| one.code);
        Ok(codes.min().unwrap_or(0))
    }
}

/// Reads all files, replaced templates among them, or reports every problem.
async fn read(context: &Context<'_>, connect: bool) -> Result<Config, Failure> {
    let mut config = context.config_for_check(connect).await?;
    for target in config.targets.values() {
        let of = |text| format!("target `{}`: {text}", target.name);
        let told = pipeline::warnings(target).into_iter().map(of);
        config.warnings.extend(told);
    }
    let (_, broken) = Templates::with_overrides(&config.folder().join("templates"));
    match broken.is_empty() {
        true => Ok(config),
        false => Err(Problems::new(broken).into()),
    }
}

async fn look(config: &Config) -> (Vec<Found>, Vec<Note>) {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    let mut targets = Vec::new();
    for target in config.targets.values().filter(|target| target.configured) {
        match pipeline::look_up(target).await {
            Ok(all) => targets.extend(all),
            Err(error) => found.push(not_found(target, error)),
        }
    }
    let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    let places = pipeline::last_places(config, &names).await;
    for target in &targets {
        let place = format!("target `{}`", target.name);
        let of = |one: &&Target| one.database.is_some() && one.server() == target.name;
        let databases = match target.scope {
            Scope::Server => format!(
                ", {}",
                counted(targets.iter().filter(of).count(), "database")
            ),
            _ => String::new(),
        };
        found.push(
            match pipeline::introduce(target, places.get(&target.name)).await {
                Ok(text) => {
                    let tasks = config.tasks.values().filter(|task| task.enabled);
                    let tasks = tasks
                        .filter(|task| task.targets.iter().any(|one| one == target.server()))
                        .filter(|task| target.scope != Scope::Server || task.looks_at_server);
                    for task in tasks {
                        let told = rehearse::code_of_others(config, task, target).await;
                        let place = format!("task `{}` on target `{}`", task.name, target.name);
                        notes.extend(told.into_iter().map(|text| Note {
                            place: place.clone(),
                            text,
                        }));
                    }
                    // Of a database that is as it should be its server has said enough.
                    if target.database.is_some() {
                        continue;
                    }
                    Found::good(place, text + &databases)
                }
                Err(error) => not_found(target, error),
            },
        );
    }
    for one in places::of_files(config).await {
        let place = format!("files of task `{}`", one.task.name);
        found.push(match one.tried {
            Ok(text) => Found::good(place, text),
            Err(text) => Found {
                place,
                code: 3,
                text,
                hint: None,
            },
        });
    }
    found.push(records::look(config).await);
    if let Some(smtp) = &config.smtp {
        let place = "mail server".to_owned();
        let tried = match Smtp::new(smtp.url.expose()) {
            Ok(smtp) => smtp.try_out().await,
            Err(why) => Err(with_causes(&why)),
        };
        found.push(match tried {
            Ok(text) => Found::good(place, text),
            Err(text) => Found {
                place,
                code: 3,
                text,
                hint: None,
            },
        });
    }
    (found, notes)
}

fn unusable(place: String, error: &EngineError) -> Found {
    Found {
        place,
        code: if error.is_address() { 2 } else { 3 },
        text: with_causes(error),
        hint: error.hint(),
    }
}

/// Why the databases of a target are not known.
fn not_found(target: &Target, error: PipelineError) -> Found {
    let place = format!("target `{}`", target.name);
    match error {
        PipelineError::Engine(error) => unusable(place, &error),
        other => Found {
            place,
            code: 2,
            text: with_causes(&other),
            hint: None,
        },
    }
}
