//! Looks at a database, a crontab or an extension, and writes the configuration that fits it, once
//! it has been checked and tried; what is in it is decided elsewhere.

pub(super) mod files;
mod rehearse;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;

use super::Failure;
use super::context::Context;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::postgres::{Session, pooler};
use crate::init::{self, Draft};
use crate::pipeline;
use crate::report::text::{Align, Cell, Columns, Cut, shown, wrapped};
use crate::values::{Engine, Secret, read_stream, read_text, redact};

/// The longest crontab that is read, in bytes.
const LARGEST_CRONTAB: u64 = 16 << 20;
/// Where the package's service keeps its history.
const PACKAGED_HISTORY: &str = "sqlite:/var/lib/maint/maint.db";
use rehearse::{Rehearsed, rehearse};

/// Looks at a database and writes a configuration that fits it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  DATABASE_URL=postgres://maint@db.example.com/shop maint init
  maint init mongodb://db.example.com/content --url-env CONTENT_URL --dir content
  crontab -l | maint init --from crontab -
  maint init --from pg_cron --dir from-pg_cron

It only reads, from catalogs and statistics. Every choice has a comment that names its evidence; what
would delete rows is written with `enabled: false`. Nothing that exists is overwritten, but for files in
/etc/maint that are still as the package ships them; and the URL is in no file: the files name the variable
that holds it.")]
pub(super) struct Init {
    /// The database; what the variable of `--url-env` holds where it is left out. With
    /// `--from crontab`: the file, or `-`
    #[arg(value_name = "URL")]
    given: Option<String>,
    /// The variable that is to hold the URL: DATABASE_URL, or MONGODB_URL, where it is left out
    #[arg(long, value_name = "VARIABLE")]
    url_env: Option<String>,
    /// Where the files are written
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Translate what runs until now, instead of looking at tables
    #[arg(long, value_enum)]
    from: Option<From>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// Lines with psql, vacuumdb or reindexdb
    Crontab,
    /// The jobs in cron.job
    #[value(name = "pg_cron")]
    PgCron,
    /// The tables in part_config
    #[value(name = "pg_partman")]
    PgPartman,
}

/// A URL, and the variable that holds it.
struct Place {
    url: Secret,
    engine: Engine,
    variable: String,
    /// Whether it was on the command line.
    told: bool,
}

impl Init {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        if self.from == Some(From::Crontab) {
            let draft = self.crontab()?;
            return self.finish(context, draft, None).await;
        }
        let place = self.place()?;
        let target = Target {
            name: "app".to_owned(),
            engine: place.engine,
            url: Some(place.url.clone()),
            configured: true,
            databases: None,
            database: None,
            scope: crate::plan::Scope::Whole,
            max_connections: None,
            replicas: Vec::new(),
            trust_owners: Vec::new(),
            description: None,
        };
        let draft = match (place.engine, self.from) {
            (Engine::Mongodb, Some(_)) => {
                return Err(Failure::Usage(
                    "`--from` translates what runs beside PostgreSQL; this URL is of MongoDB"
                        .to_owned(),
                ));
            }
            (Engine::Mongodb, None) => {
                let session = pipeline::mongodb::session(&target, "maint init").await?;
                let looked = init::mongodb::look(&session, &place.variable).await;
                session.close().await;
                looked
            }
            (Engine::Postgres, from) => {
                let dial = pipeline::dial(&target)?;
                let session = open(&dial).await.map_err(pipeline::PipelineError::from)?;
                match from {
                    None => init::postgres::look(&session, &place.variable).await,
                    Some(from) => {
                        let drafted = match from {
                            From::PgPartman => {
                                init::postgres::pg_partman::draft(&session, &place.variable).await
                            }
                            _ => init::postgres::pg_cron::draft(&session, &place.variable).await,
                        };
                        match drafted {
                            Ok(Err(why)) => return Err(Failure::Usage(why)),
                            Ok(Ok(draft)) => Ok(draft),
                            Err(error) => Err(error),
                        }
                    }
                }
            }
        }
        .map_err(pipeline::PipelineError::from)?;
        self.finish(context, draft, Some(&place)).await
    }

    /// The URL, from the command line or the environment.
    fn place(&self) -> Result<Place, Failure> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(name) = &self.url_env
            && !files::is_variable(name)
        {
            return Err(Failure::Usage(format!(
                "`{}` is no name of a variable\n  hint: letters, digits and `_`, such as DATABASE_URL",
                shown(name)
            )));
        }
        let usual = ["DATABASE_URL", "MONGODB_URL"];
        let found = match (&self.given, &self.url_env) {
            (Some(url), _) => Some((url.clone(), None)),
            (None, Some(name)) => env(name).map(|url| (url, Some(name.clone()))),
            (None, None) => usual
                .iter()
                .find_map(|name| Some((env(name)?, Some((*name).to_owned())))),
        };
        let Some((url, variable)) = found else {
            return Err(Failure::Usage(match &self.url_env {
                Some(name) => format!("the variable {name} is not set\n  hint: {name}=postgres://role@host/database maint init --url-env {name}"),
                None => "which database?\n  hint: DATABASE_URL=postgres://role@host/database maint init, or mongodb://…; `--from crontab FILE` needs none".to_owned(),
            }));
        };
        let engine = match url.starts_with("mongodb") {
            true => Engine::Mongodb,
            false => Engine::Postgres,
        };
        let variable = variable.or_else(|| self.url_env.clone());
        Ok(Place {
            told: self.given.is_some(),
            variable: variable
                .unwrap_or_else(|| usual[usize::from(engine == Engine::Mongodb)].to_owned()),
            url: Secret::new(url),
            engine,
        })
    }

    fn crontab(&self) -> Result<Draft, Failure> {
        let Some(file) = &self.given else {
            return Err(Failure::Usage(
                "which crontab?\n  hint: crontab -l | maint init --from crontab -".to_owned(),
            ));
        };
        let read = match file.as_str() {
            "-" => read_stream(std::io::stdin(), LARGEST_CRONTAB),
            file => read_text(std::path::Path::new(file), LARGEST_CRONTAB),
        };
        let text = read.map_err(|why| {
            let hint = "`-` reads what is written to standard input: crontab -l | maint init --from crontab -";
            Failure::Usage(format!("{} {why}\n  hint: {hint}", redact(&shown(file))))
        })?;
        let name = match file.as_str() {
            "-" => "the crontab on standard input",
            file => file,
        };
        let variable = self.url_env.as_deref().unwrap_or("DATABASE_URL");
        let zone = files::machine_zone();
        Ok(init::postgres::crontab::draft(
            &text,
            name,
            zone.as_deref(),
            variable,
        ))
    }

    /// Checks the draft, tries what it would do, writes it, and says what comes next.
    async fn finish(
        &self,
        context: &Context<'_>,
        mut draft: Draft,
        place: Option<&Place>,
    ) -> Result<u8, Failure> {
        if draft.tasks.is_empty() {
            return Err(nothing(&draft));
        }
        files::without_what_fails(&mut draft, &context.kinds)?;
        if draft.tasks.is_empty() {
            return Err(nothing(&draft));
        }
        files::in_the_way(&self.dir, &draft)?;
        // Where the package's files stand, its service runs: with a history where that may write.
        let shipped = files::shipped(&self.dir);
        if !shipped.is_empty() {
            draft.history = Some(PACKAGED_HISTORY.to_owned());
            let names = shipped.iter().map(|(path, _)| path.display().to_string());
            let names: Vec<String> = names.collect();
            draft.notes.push(format!(
                "these were as the package ships them, and have given way: {}. The service reads variables from /etc/maint/environment",
                names.join(", ")
            ));
        }
        let config = files::checked(&draft, &context.kinds, &|name| match place {
            Some(place) if place.variable == name => Some(place.url.expose().to_owned()),
            _ => None,
        })?;
        let tried = match place {
            Some(place) => rehearse(&mut draft, &config, place).await,
            None => BTreeMap::new(),
        };
        // What was learned stands in comments: they are read once more all the same.
        files::checked(&draft, &context.kinds, &|_| None)?;
        let written = files::write(&self.dir, &draft, &context.kinds)?;
        match context.json() {
            true => self.tell_json(&draft, &written),
            false => self.tell(context, &draft, &tried, place, &written),
        }
        Ok(0)
    }

    fn tell_json(&self, draft: &Draft, written: &[String]) {
        let left: Vec<_> = draft
            .left
            .iter()
            .map(|left| serde_json::json!({ "place": left.place, "text": left.text, "reason": left.reason }))
            .collect();
        let tasks: Vec<_> = draft
            .tasks
            .iter()
            .map(|task| serde_json::json!({ "name": task.name, "kind": task.kind, "target": task.target, "enabled": task.enabled }))
            .collect();
        let variables: Vec<&String> = draft.targets.iter().map(|t| &t.variable).collect();
        let document = serde_json::json!({
            "folder": self.dir, "files": written, "tasks": tasks, "left": left,
            "notes": draft.notes, "variables": variables,
        });
        outln!("{document}");
    }

    fn tell(
        &self,
        context: &Context<'_>,
        draft: &Draft,
        tried: &BTreeMap<String, Rehearsed>,
        place: Option<&Place>,
        written: &[String],
    ) {
        let style = context.style(chrono_tz::Tz::UTC);
        let mut table = Columns::new()
            .column("written", Align::Left, Cut::Never)
            .column("kind", Align::Left, Cut::Never)
            .column("what it would do now", Align::Left, Cut::End);
        for file in written {
            let name = file
                .strip_prefix("tasks/")
                .and_then(|name| name.strip_suffix(".yaml"));
            let task = draft
                .tasks
                .iter()
                .find(|task| Some(task.name.as_str()) == name);
            let now = match (task, task.and_then(|task| tried.get(&task.name))) {
                (_, Some(Rehearsed::Steps(text))) => text.clone(),
                (_, Some(Rehearsed::Fails(text))) => format!("would fail: {text}"),
                (Some(task), None) if !task.enabled => "not enabled: read it first".to_owned(),
                _ => String::new(),
            };
            table.row([
                Cell::from(&match self.dir.as_os_str().to_str() {
                    Some(".") => file.clone(),
                    _ => self.dir.join(file).display().to_string(),
                }),
                Cell::from(task.map_or("", |task| task.kind)),
                Cell::from(now),
            ]);
        }
        out!("{}", table.render(0, &style));
        tell_left(draft, style.width);
        if !draft.notes.is_empty() {
            outln!("\nWorth knowing:");
            for note in &draft.notes {
                bullet(note, style.width);
            }
        }
        let config = match self.dir.as_os_str().to_str() {
            Some(".") => String::new(),
            _ => format!(" --config {}", super::paste::word(&self.dir)),
        };
        let program = super::paste::myself();
        let here = |target: &&init::DraftTarget| {
            place.is_some_and(|place| !place.told && place.variable == target.variable)
        };
        outln!("\nNext:");
        for target in &draft.targets {
            if here(&target) {
                continue;
            }
            let known = match place {
                Some(place) if place.variable == target.variable => "the URL you gave".to_owned(),
                _ => format!("the URL of {}", target.name),
            };
            outln!("  export {}='…'    # {known}", target.variable);
        }
        outln!("  {program}{config} check --connect");
        outln!("  {program}{config} plan");
        outln!("  {program}{config} next");
        outln!(
            "\nThe URL is in no file. For a service, keep the variable in a file that only its user may read\n(chmod 600)."
        );
        if place.is_some_and(|place| place.told && redact(place.url.expose()) != place.url.expose())
        {
            outln!(
                "\nThe password was on the command line, where everybody on this machine could read it:\nput the URL into the variable next time."
            );
        }
    }
}

async fn open(dial: &crate::engines::postgres::connect::Dial) -> Result<Session, EngineError> {
    let session = Session::open(dial, "maint init").await?;
    pooler::refuse(&session, dial).await?;
    Ok(session)
}

fn nothing(draft: &Draft) -> Failure {
    tell_left(draft, None);
    Failure::Usage("there is nothing here that could become a task; nothing was written".to_owned())
}

fn bullet(text: &str, width: Option<usize>) {
    let room = width.map(|width| width.saturating_sub(4));
    for (n, line) in wrapped(&shown(text), room).iter().enumerate() {
        outln!("{}{line}", if n == 0 { "  - " } else { "    " });
    }
}

fn tell_left(draft: &Draft, width: Option<usize>) {
    if draft.left.is_empty() {
        return;
    }
    outln!("\nNo task was made of:");
    for left in &draft.left {
        bullet(
            &format!("{}: {}\n{}", left.place, left.text, left.reason).replace('\n', " — "),
            width,
        );
    }
}
