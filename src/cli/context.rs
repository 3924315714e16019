//! What every verb needs of the command line and the files: the configuration, the chosen tasks,
//! the style of the output, the templates, the ways to tell people.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono_tz::Tz;

use super::{Args, Failure, Output};
use crate::config::{self, Answers, Care, Config, Target, Task};
use crate::history::{self, Recorder, Store};
use crate::kinds;
use crate::notify::Teller;
use crate::pipeline;
use crate::plan::KindInfo;
use crate::report::Templates;
use crate::report::text::{Style, shown};
use crate::values::{closest, host, with_causes};

/// What every verb needs of the command line and the files.
pub(super) struct Context<'a> {
    args: &'a Args,
    pub(super) kinds: Vec<KindInfo>,
}

impl<'a> Context<'a> {
    pub(super) fn new(args: &'a Args) -> Self {
        Context {
            args,
            kinds: kinds::catalog(),
        }
    }

    /// Whether the answer is for a monitoring system of that family.
    pub(super) fn nagios(&self) -> bool {
        self.args.output == Output::Nagios
    }

    /// The format that continuous integration asks for.
    pub(super) fn for_ci(&self) -> Option<Output> {
        let format = self.args.output;
        matches!(format, Output::Github | Output::Junit | Output::Sarif).then_some(format)
    }

    pub(super) fn json(&self) -> bool {
        self.args.output == Output::Json
    }

    /// Where the configuration is.
    pub(super) fn config_path(&self) -> Result<std::path::PathBuf, Failure> {
        let env = |name: &str| std::env::var(name).ok();
        Ok(config::locate(self.args.config.as_deref(), &env)?)
    }

    /// Says of which tasks another takes what they make, as far as it is about one of these.
    pub(super) fn tell_overwritten(&self, config: &Config, work: &[(Arc<Task>, Target)]) {
        let names: Vec<&str> = work.iter().map(|(task, _)| task.name.as_str()).collect();
        for said in config::overwritten_by_others(config, &self.kinds, &names) {
            errln!("note: {}", shown(&said));
        }
    }

    /// Reads the configuration, or reports every problem in it.
    pub(super) async fn config(&self) -> Result<Config, Failure> {
        self.config_at(&self.config_path()?).await
    }

    /// The same from this file, whatever others have come or gone where one is looked for.
    pub(super) async fn config_at(&self, path: &Path) -> Result<Config, Failure> {
        let config = self.config_with(path, Care::Run).await?;
        for warning in &config.warnings {
            tracing::info!("{warning}");
        }
        Ok(config)
    }

    /// The same for verbs that connect to no target: what only targets and mail need may be unset,
    /// and who does not say which targets there are keeps nobody from looking.
    pub(super) async fn config_for_looking(&self) -> Result<Config, Failure> {
        self.config_with(&self.config_path()?, Care::Look).await
    }

    /// The same for who checks it: URLs are taken apart, too. Commands and queries for targets are
    /// asked only where others may be connected to.
    pub(super) async fn config_for_check(&self, connect: bool) -> Result<Config, Failure> {
        match connect {
            true => self.config_with(&self.config_path()?, Care::Check).await,
            false => self.config_unasked(Care::Check),
        }
    }

    /// The same for who hands it to another machine.
    pub(super) async fn config_for_export(&self) -> Result<Config, Failure> {
        self.config_with(&self.config_path()?, Care::Export).await
    }

    /// The configuration as far as the files say it.
    pub(super) fn config_unasked(&self, care: Care) -> Result<Config, Failure> {
        let env = |name: &str| std::env::var(name).ok();
        let (path, answers) = (self.config_path()?, Answers::default());
        Ok(config::load_with(&path, &self.kinds, &env, care, &answers)?)
    }

    /// The same for who only wants names, from this file where one is given.
    pub(super) fn config_to_complete(&self, path: Option<PathBuf>) -> Result<Config, Failure> {
        let env = |name: &str| std::env::var(name).ok();
        let given = path.as_deref().or(self.args.config.as_deref());
        let (path, answers) = (config::locate(given, &env)?, Answers::default());
        Ok(config::load_with(
            &path,
            &self.kinds,
            &env,
            Care::Look,
            &answers,
        )?)
    }

    async fn config_with(&self, path: &Path, care: Care) -> Result<Config, Failure> {
        let env = |name: &str| std::env::var(name).ok();
        let sources = config::sources(path, &env, care);
        let (answers, failed) = pipeline::ask(&sources).await;
        if let Some(failed) = failed {
            if care != Care::Look {
                return Err(Failure::NotAnswered(failed));
            }
            for problem in &failed.problems {
                errln!("note: {}", problem.message);
            }
        }
        let load = |answers| config::load_with(path, &self.kinds, &env, care, answers);
        let problems = match load(&answers) {
            Ok(config) => return Ok(config),
            Err(problems) if care != Care::Look || sources.is_empty() => {
                return Err(problems.into());
            }
            Err(problems) => problems,
        };
        // Who only looks goes on without an answer that cannot be read, as without one.
        let Ok(config) = load(&Answers::default()) else {
            return Err(problems.into());
        };
        for problem in &problems {
            errln!(
                "note: {}:{}: {}",
                problem.file.display(),
                problem.line,
                problem.message
            );
        }
        Ok(config)
    }

    /// How text is to look on stdout.
    pub(super) fn style(&self, zone: Tz) -> Style {
        let terminal = std::io::stdout().is_terminal();
        let color = self.args.color.wanted(&std::io::stdout());
        let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
        let width = terminal.then(|| columns.unwrap_or_else(|| usize::from(console_width())));
        Style { color, width, zone }
    }

    /// The tasks named, or all that are enabled; with `--set` and `--target` applied.
    pub(super) fn tasks(
        &self,
        config: &Config,
        names: &[String],
        target: Option<&str>,
        settings: &[String],
    ) -> Result<Vec<(Arc<Task>, Target)>, Failure> {
        let mut chosen = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let Some(task) = config.tasks.get(name) else {
                return Err(unknown("task", name, config.tasks.keys()));
            };
            // Named twice, as by a pattern of a shell, it is still one.
            if names.iter().take(n).any(|before| before == name) {
                continue;
            }
            if !task.enabled {
                errln!("note: `{name}` has `enabled: false`; it is used because it was named");
            }
            chosen.push(task.clone());
        }
        if names.is_empty() {
            chosen.extend(config.tasks.values().filter(|task| task.enabled).cloned());
        }
        let mut pairs = Vec::new();
        for mut task in chosen {
            for setting in settings {
                let Some((key, value)) = setting.split_once('=') else {
                    return Err(Failure::Usage(format!(
                        "`--set {setting}`: expected key=value, such as `--set min_bloat=20%`"
                    )));
                };
                task.set(key.trim(), value.trim(), &self.kinds)?;
            }
            // Shared: it names all of its targets.
            let task = Arc::new(task);
            let for_it =
                |target: &&Cow<'_, Target>| task.targets.iter().any(|one| one == target.server());
            let wanted: Vec<Cow<'_, Target>> = match target {
                Some(name) => config
                    .target(name)
                    .filter(|t| for_it(&t))
                    .into_iter()
                    .collect(),
                None => task
                    .targets
                    .iter()
                    .filter_map(|name| config.target(name))
                    .collect(),
            };
            for found in wanted {
                if found.configured || !names.is_empty() {
                    pairs.push((Arc::clone(&task), found.into_owned()));
                }
            }
        }
        match target {
            Some(target) => match known_target(config, target) {
                Ok(()) if pairs.is_empty() => Err(Failure::Usage(format!(
                    "none of these tasks is for the target `{target}`"
                ))),
                Ok(()) => Ok(pairs),
                Err(failure) => Err(failure),
            },
            None => Ok(pairs),
        }
    }

    /// The templates with those of the configuration's folder. What is wrong
    /// with them is logged: a message with the built-in ones is better than none.
    pub(super) fn templates(&self, config: &Config) -> Templates {
        let folder = config.folder().join("templates");
        let (templates, problems) = Templates::with_overrides(&folder);
        for problem in problems {
            tracing::warn!("{problem}");
        }
        templates.of(config.environment.as_deref())
    }

    /// Who tells people what happened.
    pub(super) fn teller(&self, config: &Config) -> Teller {
        let templates = self.templates(config);
        Teller::new(Arc::new(config.clone()), templates, host())
    }

    /// Opens the history for writing.
    pub(super) async fn history(&self, config: &Config) -> Result<Arc<dyn Store>, Failure> {
        let store = history::open(config.history.expose()).await?;
        history::take_up(&spool_folder(config), store.as_ref()).await?;
        Ok(store)
    }

    /// Opens the history for runs. Where it does not answer, the work goes on,
    /// and its records are kept beside it.
    pub(super) async fn recorder(&self, config: &Config) -> Result<Arc<Recorder>, Failure> {
        let spool = spool_folder(config);
        let began = std::time::Instant::now();
        let mut waited = false;
        let store = match self.history(config).await {
            Ok(store) => store,
            Err(Failure::History(error)) if error.is_away() => {
                let hint = error.hint().map(|hint| format!("\n  hint: {hint}"));
                errln!(
                    "note: going on without the history, its records go into {}: {}{}",
                    spool.display(),
                    with_causes(&error),
                    hint.unwrap_or_default()
                );
                waited = began.elapsed() >= history::LONG;
                history::open_unseen(config.history.expose())?
            }
            Err(failure) => return Err(failure),
        };
        let recorder = Recorder::start(store, spool);
        if waited {
            // It has been waited for already.
            recorder.leave_alone();
        }
        Ok(Arc::new(recorder))
    }
}

/// Where records are kept that the history does not take.
pub(super) fn spool_folder(config: &Config) -> std::path::PathBuf {
    history::spool_folder(config.history.expose(), config.folder())
}

/// Refuses a name that is no target's, and no database's of one that stands for many.
pub(super) fn known_target(config: &Config, name: &str) -> Result<(), Failure> {
    // Where somebody did not say which there are, it may be one of those.
    if config.target(name).is_some() || !config.outside.not_asked.is_empty() {
        return Ok(());
    }
    let of = |server: &&Target| server.is_many() && name.starts_with(&format!("{}/", server.name));
    Err(match config.targets.values().find(of) {
        Some(server) => Failure::Usage(format!(
            "`{}` is no database that `targets.{}.databases` means\n  hint: `maint plan` and `maint history` show what its databases are called",
            crate::report::text::shown(name),
            server.name
        )),
        None => unknown("target", name, config.targets.keys()),
    })
}

/// A name that nothing has: what was probably meant, and what there is.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a String> + Clone,
) -> Failure {
    let names: Vec<&str> = known.clone().map(String::as_str).collect();
    let name = crate::report::text::shown(name);
    let meant = closest(&name, known.map(String::as_str));
    let meant = meant.map_or_else(String::new, |meant| {
        format!("\n  hint: did you mean `{meant}`?")
    });
    Failure::Usage(match names.is_empty() {
        true => format!("there is no {what} `{name}`: there are no {what}s at all"),
        false => format!(
            "there is no {what} `{name}`\n  known: {}{meant}",
            names.join(", ")
        ),
    })
}

fn console_width() -> u16 {
    console::Term::stdout().size().1
}
