//! Shows maint at work on a throwaway server: the shipped tasks run on aged data, and what the
//! server says of sizes before and after is compared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Client;

use super::Failure;
use super::context::Context;
use super::paste;
use super::run::{Ran, run_all, signal_code};
use super::signals::Signals;
use crate::config::Config;
use crate::demo::mongodb::{self, Counted, Found, Mongod, Throwaway};
use crate::demo::{self, Binaries, Cluster, ClusterOptions};
use crate::execute::Stop;
use crate::history::Period;
use crate::report::text::{Align, Cell, Columns, Cut, Style, human_bytes, run_details};
use crate::report::{Pictures, Scope, Templates, compose, gather};
use crate::values::wall_clock;

/// A throwaway PostgreSQL with the data of a learning platform, aged, and
/// maintained by the shipped tasks; with MongoDB beside it where there is a `mongod`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint demo\n  maint demo --scale 1          about 2.3 GB\n  maint demo --keep             look around afterwards\n\nMAINT_PG_BIN names the folder of a PostgreSQL server, MAINT_MONGOD a mongod, or `none`."
)]
pub(super) struct Demo {
    /// How much data; 1 is about 2.3 GB
    #[arg(long, default_value_t = demo::DEFAULT_SCALE, value_parser = super::usage::scale)]
    scale: f64,
    /// Leave the server running and print how to connect
    #[arg(long)]
    keep: bool,
    /// Where configuration, history and report are written; made anew each time
    #[arg(long, default_value = "maint-demo", value_name = "FOLDER")]
    folder: PathBuf,
}

/// The shipped tasks of the kinds that exist, in the order they run here.
const TASKS: &[(&str, &str)] = &[
    (
        "session-cleanup",
        include_str!("../../tasks/session-cleanup.yaml"),
    ),
    (
        "behavioral-cleanup",
        include_str!("../../tasks/behavioral-cleanup.yaml"),
    ),
    ("partitions", include_str!("../../tasks/partitions.yaml")),
    (
        "archive-analytics",
        include_str!("../../tasks/archive-analytics.yaml"),
    ),
    ("analyze", include_str!("../../tasks/analyze.yaml")),
    ("repack", include_str!("../../tasks/repack.yaml")),
    ("reindex", include_str!("../../tasks/reindex.yaml")),
    (
        "rebuild-fulltext",
        include_str!("../../tasks/rebuild-fulltext.yaml"),
    ),
    // Leaves dead rows in the views, for the vacuum after it.
    (
        "refresh-views",
        include_str!("../../tasks/refresh-views.yaml"),
    ),
    ("vacuum", include_str!("../../tasks/vacuum.yaml")),
    ("integrity", include_str!("../../tasks/integrity.yaml")),
    ("snapshot", include_str!("../../tasks/snapshot.yaml")),
];

/// Those for MongoDB.
const MONGODB_TASKS: &[(&str, &str)] = &[
    (
        "content-cleanup",
        include_str!("../../tasks/content-cleanup.yaml"),
    ),
    // Before its events go: what it has made of them stays.
    (
        "dashboard-metrics",
        include_str!("../../tasks/dashboard-metrics.yaml"),
    ),
    (
        "archive-learning-events",
        include_str!("../../tasks/archive-learning-events.yaml"),
    ),
    (
        "content-snapshot",
        include_str!("../../tasks/content-snapshot.yaml"),
    ),
];

const MONGODB_TARGET: &str = "  content: { engine: mongodb, url: \"${MAINT_DEMO_MONGODB_URL:-}\" }
";

const SCHEDULES: &str =
    "# Written by `maint demo`. The server it was for is gone, unless --keep was given.
targets:
  app: { engine: postgres, url: \"${MAINT_DEMO_URL:-}\" }
";

/// Tells a folder of the demo from anybody else's.
const MARKER: &str = ".maint-demo";

/// All tables, views with rows and indexes of the platform, by name, with the
/// size that the server says, and whether it is an index.
const SIZES: &str = "SELECT n.nspname || '.' || c.relname, pg_catalog.pg_relation_size(c.oid), c.relkind = 'i'
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'i') AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
    ORDER BY 1";

/// What the server says of a table or an index.
struct Sized {
    name: String,
    bytes: i64,
    index: bool,
}

impl Demo {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        make_folder(&self.folder)?;
        let signals = Signals::listen(Duration::from_secs(5));
        errln!("starting a throwaway PostgreSQL");
        let options = ClusterOptions {
            settings: demo::settings(),
            ..ClusterOptions::default()
        };
        let found = Mongod::find()?;
        let cluster = Cluster::start(&Binaries::find()?, options)?;
        let content = match found {
            Found::Program(mongod) => {
                errln!("starting a throwaway MongoDB");
                Some(Throwaway::start(&mongod).await?)
            }
            Found::None(why) => {
                errln!(
                    "without the platform's MongoDB part: {why} (MAINT_MONGOD may name a mongod, 4.4 or newer)"
                );
                None
            }
        };
        let url = cluster.url("postgres");
        let ended = self
            .maintain(context, &url, content.as_ref(), &signals.stop)
            .await;
        let content_url = content.as_ref().map(|content| content.url("content"));
        if self.keep {
            outln!("The server keeps running: psql '{url}'");
            let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
            if let (Some(content), Some(url)) = (content, &content_url) {
                let (pid, folder) = content.detach();
                outln!("MongoDB, too: mongosh '{url}'");
                outln!("Its process: {pid}; its folder: {}", folder.display());
            }
            let content_url = content_url
                .map(|url| format!(" MAINT_DEMO_MONGODB_URL='{url}'"))
                .unwrap_or_default();
            outln!(
                "Plan against it: MAINT_DEMO_URL='{url}'{content_url} {} --config {} plan",
                paste::myself(),
                paste::word(&folder.join("schedules.yaml"))
            );
            outln!("Its folder: {}", cluster.detach().display());
        } else {
            content.map(Throwaway::stop).transpose()?;
            cluster.stop()?;
        }
        ended
    }

    async fn maintain(
        &self,
        context: &Context<'_>,
        url: &str,
        content: Option<&Throwaway>,
        stop: &Stop,
    ) -> Result<u8, Failure> {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .map_err(from_server)?;
        tokio::spawn(connection);
        let say = |what: &str| errln!("  {what}");
        let prepare = async {
            demo::load(&client, self.scale, &say).await?;
            demo::age(&client, self.scale, &say).await?;
            match content {
                Some(content) => mongodb::load(content.client(), self.scale, &say).await,
                None => Ok(()),
            }
        };
        tokio::select! {
            prepared = prepare => prepared?,
            () = stop.stopping() => return Ok(signal_code(stop)),
        }
        let (target, more) = match content {
            Some(_) => (MONGODB_TARGET, MONGODB_TASKS),
            None => ("", [].as_slice()),
        };
        let tasks: Vec<&(&str, &str)> = TASKS.iter().chain(more).collect();
        let schedules = format!("{SCHEDULES}{target}");
        write(&self.folder.join("schedules.yaml"), &schedules)?;
        for (name, text) in &tasks {
            write(&self.folder.join(format!("tasks/{name}.yaml")), text)?;
        }
        let folder = std::path::absolute(&self.folder)
            .map_err(|why| Failure::Other(format!("{}: {why}", self.folder.display())))?;
        let env = |name: &str| match name {
            "MAINT_DEMO_URL" => Some(url.to_owned()),
            "MAINT_DEMO_MONGODB_URL" => content.map(|content| content.url("content")),
            "ARCHIVE_URL" => Some(format!("file://{}/archive", folder.display())),
            _ => None,
        };
        let path = self.folder.join("schedules.yaml");
        let config = crate::config::load(&path, &context.kinds, &env)?;
        let names: Vec<String> = tasks.iter().map(|(name, _)| (*name).to_owned()).collect();
        let work = context.tasks(&config, &names, None, &[])?;

        let began = wall_clock();
        let before = sizes(&client).await?;
        let documents_before = documents(content).await?;
        let ran = run_all(context, &config, work, super::run::How::at(true), stop).await?;
        let after = sizes(&client).await?;
        if context.json() {
            return Ok(ran.code);
        }
        let style = context.style(config.timezone);
        let mut won = won(&before, &after, &style);
        let documents_after = documents(content).await?;
        won.push_str(&moved(&documents_before, &documents_after, &style));
        out!("{won}");
        let report = self.folder.join("report.txt");
        write(&report, &report_text(&ran, &won, &config))?;
        let maint = format!(
            "{} --config {}",
            paste::myself(),
            paste::word(&folder.join("schedules.yaml"))
        );
        outln!("\nlook at a run: {maint} show last");
        outln!("what ran:      {maint} history");
        outln!("every step:    {}", folder.join("report.txt").display());
        let page = self.folder.join("report.html");
        write(&page, &page_of(&config, began).await?)?;
        outln!("the report:    {}", folder.join("report.html").display());
        Ok(ran.code)
    }
}

/// The report of the demo's own run, as a page.
async fn page_of(config: &Config, began: DateTime<Utc>) -> Result<String, Failure> {
    let store = crate::history::open_existing(config.history.expose()).await?;
    let now = wall_clock();
    let scope = Scope {
        period: Period {
            since: began,
            until: now,
        },
        text: "this demo".to_owned(),
        now,
    };
    let report = gather(store.as_ref(), config, &scope).await?;
    store.close().await;
    let zone = config.timezone;
    compose(&report, &Templates::built_in(), zone, Pictures::Inline)
        .map(|composed| composed.rendered.html)
        .map_err(|why| Failure::Other(format!("the report cannot be written: {why}")))
}

/// A folder for this demo alone. One of an earlier demo is emptied.
fn make_folder(folder: &Path) -> Result<(), Failure> {
    let failed =
        |why: std::io::Error| Failure::Other(format!("{} cannot be used: {why}", folder.display()));
    if folder.join(MARKER).exists() {
        std::fs::remove_dir_all(folder).map_err(failed)?;
    } else if folder.exists() {
        return Err(Failure::Usage(format!(
            "{} exists, and no demo has made it\n  hint: name another folder with `--folder`",
            folder.display()
        )));
    }
    std::fs::create_dir_all(folder.join("tasks")).map_err(failed)?;
    write(&folder.join(MARKER), "")
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|why| Failure::Other(format!("{} cannot be written: {why}", path.display())))
}

fn from_server(error: tokio_postgres::Error) -> Failure {
    let said = error
        .as_db_error()
        .map_or_else(|| error.to_string(), |said| said.message().to_owned());
    Failure::Other(format!("the throwaway server: {said}"))
}

async fn sizes(client: &Client) -> Result<Vec<Sized>, Failure> {
    let rows = client.query(SIZES, &[]).await.map_err(from_server)?;
    let sizes = rows.iter().map(|row| {
        Ok(Sized {
            name: row.try_get(0)?,
            bytes: row.try_get(1)?,
            index: row.try_get(2)?,
        })
    });
    sizes.collect::<Result<_, _>>().map_err(from_server)
}

/// What the server itself says of tables and indexes before and after.
fn won(before: &[Sized], after: &[Sized], style: &Style) -> String {
    let mut text = "What SELECT pg_relation_size says of tables and indexes\n".to_owned();
    for (index, one, all) in [(false, "table", "tables"), (true, "index", "indexes")] {
        let mut changed: Vec<(&str, i64, i64)> = before
            .iter()
            .filter(|was| was.index == index)
            .filter_map(|was| {
                let is = after.iter().find(|other| other.name == was.name)?.bytes;
                (is != was.bytes).then_some((was.name.as_str(), was.bytes, is))
            })
            .collect();
        changed.sort_by_key(|(_, was, is)| is - was);
        let mut table = Columns::new()
            .column(one, Align::Left, Cut::Middle)
            .column("before", Align::Right, Cut::Never)
            .column("after", Align::Right, Cut::Never);
        for (name, was, is) in changed {
            table.row([
                Cell::from(name),
                Cell::from(&human_bytes(was)),
                Cell::from(&human_bytes(is)),
            ]);
        }
        let sum = |sizes: &[Sized]| -> i64 {
            let these = sizes.iter().filter(|size| size.index == index);
            these.map(|size| size.bytes).sum()
        };
        let (was, is) = (sum(before), sum(after));
        text.push_str(&format!(
            "{}  all {all}: {} before, {} after, {} came back\n",
            table.render(2, style),
            human_bytes(was),
            human_bytes(is),
            human_bytes(was - is)
        ));
    }
    text
}

/// How many documents MongoDB holds; none where there is no MongoDB.
async fn documents(content: Option<&Throwaway>) -> Result<Vec<Counted>, Failure> {
    match content {
        Some(content) => Ok(mongodb::count(content.client()).await?),
        None => Ok(Vec::new()),
    }
}

/// What MongoDB itself says of its collections before and after.
fn moved(before: &[Counted], after: &[Counted], style: &Style) -> String {
    if after.is_empty() {
        return String::new();
    }
    let mut table = Columns::new()
        .column("collection", Align::Left, Cut::Middle)
        .column("before", Align::Right, Cut::Never)
        .column("after", Align::Right, Cut::Never);
    for (was, is) in before.iter().zip(after) {
        table.row([
            Cell::from(&is.name),
            Cell::from(&was.documents.to_string()),
            Cell::from(&is.documents.to_string()),
        ]);
    }
    format!(
        "What countDocuments says of collections of MongoDB\n{}",
        table.render(2, style)
    )
}

fn report_text(ran: &Ran, won: &str, config: &Config) -> String {
    let style = Style {
        color: false,
        width: Some(100),
        zone: config.timezone,
    };
    let runs: Vec<String> = ran
        .records
        .iter()
        .map(|record| run_details(record, config.engine_of(&record.target), &style))
        .collect();
    format!("{}\n{won}", runs.join("\n"))
}
