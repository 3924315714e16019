//! Targets that stand for many databases of one server: which there are is looked up for each
//! run, and what is new, or gone, is told.

use std::collections::BTreeMap;

use super::{PipelineError, Request, Surroundings, blank, closed, engine, error};
use crate::config::{Target, Task};
use crate::execute::Database;
use crate::history::{
    DATABASES, HistoryError, RunFilter, RunRecord, RunStatus, Seen, Store, databases_of,
};
use crate::plan::{Finding, Memory, Severity};
use crate::values::{natural, wall_clock, with_causes};

/// So many databases are named in one sentence.
const MOST_NAMED: usize = 5;

/// What a task is to work on in place of a target that stands for many databases.
#[derive(Debug, Default)]
pub struct Spread {
    /// The server, where the kind looks at what belongs to it, and its databases; any other
    /// target as it is.
    pub targets: Vec<Target>,
    /// What is to be told with the run on the server.
    pub news: Vec<Finding>,
    /// The run that tells them, where there is none on the server; or that could not find out.
    pub run: Option<RunRecord>,
    /// Why nobody could find out, where the server was out of reach.
    pub unreachable: Option<PipelineError>,
}

/// The targets in place of this one, for who only plans.
///
/// # Errors
/// When the server cannot be asked, or has no such database.
pub async fn spread(task: &Task, target: &Target) -> Result<Vec<Target>, PipelineError> {
    if !target.is_many() {
        return Ok(vec![target.clone()]);
    }
    let there = there(target).await?;
    chosen(task.looks_at_server, target, &there)
}

/// The server of a target that stands for many databases, and those; any other target as it is.
///
/// # Errors
/// When the server cannot be asked, or has no such database.
pub async fn look_up(target: &Target) -> Result<Vec<Target>, PipelineError> {
    if !target.is_many() || !target.configured {
        return Ok(vec![target.clone()]);
    }
    let all = engine::databases(target).await?;
    chosen(true, target, &meant(target, all))
}

/// The databases that a target means and that take no connections, as targets of their own: each with
/// what is said of it. Nothing where it stands for one.
///
/// # Errors
/// When the server cannot be asked.
pub async fn shut(target: &Target) -> Result<Vec<(String, String)>, PipelineError> {
    if !target.is_many() || !target.configured {
        return Ok(Vec::new());
    }
    let there = there(target).await?;
    let shut = there.iter().filter(|(_, there)| **there == There::Closed);
    let said = shut.map(|(name, _)| (target.of_database(name).name, closed_told(name)));
    Ok(said.collect())
}

/// What is said of a database that takes no connections.
fn closed_told(name: &str) -> String {
    format!("the database {name} takes no connections: nothing is done in it")
}

/// The same for a run: what is new and what is gone is remembered and told, and where the server
/// cannot be asked, or has no such database, that is a failed run.
///
/// # Errors
/// Only when the history cannot be used.
pub async fn discover(request: &Request<'_>, around: &Surroundings) -> Spread {
    let (task, target) = (request.task, request.target);
    if !target.is_many() {
        return Spread {
            targets: vec![target.clone()],
            ..Spread::default()
        };
    }
    let mut record = blank(request, around);
    // Nothing is lost where a look ends early, so nobody waits for it.
    let there = tokio::select! {
        biased;
        there = there(target) => there,
        () = around.stop.stopping() => return stopped(record, around).await,
    };
    let there = match there {
        Ok(there) => there,
        Err(error) => return failed(record, error, around).await,
    };
    let history = &around.history;
    let store = history.store().as_ref();
    // While the history is away nobody knows what is new.
    let news = match history.ask(databases_of(store, &target.name)).await {
        None => Vec::new(),
        Some(known) => {
            let news = news(target, &there, &known);
            history.remember(&target.name, DATABASES, wall_clock(), &news.memories);
            let mut findings = news.findings;
            for database in &news.gone {
                let gone = history.ask(gone(store, target, database)).await;
                findings.extend(gone);
            }
            findings
        }
    };
    let targets = match chosen(task.looks_at_server, target, &there) {
        Ok(targets) => targets,
        Err(error) => {
            record.findings = news;
            return failed(record, error, around).await;
        }
    };
    if task.looks_at_server {
        return Spread {
            targets,
            news,
            ..Spread::default()
        };
    }
    // What was told to have failed has to be told to be well again.
    let last = history.ask(store.last_run(&task.name, &target.name)).await;
    let last = last.flatten().map(|run| run.status);
    let well = last.is_none_or(|status| status == RunStatus::Succeeded);
    let mut run = None;
    if !(well && news.is_empty()) {
        record.findings = news;
        record.status = RunStatus::Succeeded;
        run = Some(closed(record, around).await);
    }
    Spread {
        targets,
        run,
        ..Spread::default()
    }
}

async fn stopped(mut record: RunRecord, around: &Surroundings) -> Spread {
    record.status = RunStatus::Cancelled;
    record.error = Some(format!(
        "stopped while the server of `{}` was asked for its databases: nothing was begun",
        record.target
    ));
    Spread {
        run: Some(closed(record, around).await),
        ..Spread::default()
    }
}

async fn failed(mut record: RunRecord, error: PipelineError, around: &Surroundings) -> Spread {
    record.status = RunStatus::Failed;
    record.error = Some(match &error {
        PipelineError::Engine(error) => {
            format!("target `{}`: {}", record.target, with_causes(error))
        }
        other => with_causes(other),
    });
    let unreachable = error.is_unreachable().then_some(error);
    Spread {
        run: Some(closed(record, around).await),
        unreachable,
        ..Spread::default()
    }
}

/// What a database of the server is to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    /// Work is done in it.
    Meant,
    /// It is left out.
    Left,
    /// It is meant, and takes no connections.
    Closed,
}

/// Every database of the server, and what it is to the target.
async fn there(target: &Target) -> Result<BTreeMap<String, There>, PipelineError> {
    error::configured(target)?;
    Ok(meant(target, engine::databases(target).await?))
}

fn meant(target: &Target, all: Vec<Database>) -> BTreeMap<String, There> {
    let with_answer = |database: Database| {
        let there = match (target.means(&database.name), database.open) {
            (false, _) => There::Left,
            (true, true) => There::Meant,
            (true, false) => There::Closed,
        };
        (database.name, there)
    };
    all.into_iter().map(with_answer).collect()
}

fn chosen(
    with_server: bool,
    target: &Target,
    there: &BTreeMap<String, There>,
) -> Result<Vec<Target>, PipelineError> {
    let mut meant: Vec<&String> = there
        .iter()
        .filter_map(|(name, there)| (*there == There::Meant).then_some(name))
        .collect();
    if meant.is_empty() {
        let patterns = target.databases.iter().flatten();
        let patterns: Vec<String> = patterns.map(ToString::to_string).collect();
        return Err(PipelineError::NoDatabase {
            target: target.name.clone(),
            patterns: patterns.join(", "),
            databases: there.len(),
        });
    }
    meant.sort_by(|a, b| natural(a, b));
    let server = with_server.then(|| target.of_server());
    let databases = meant.into_iter().map(|name| target.of_database(name));
    Ok(server.into_iter().chain(databases).collect())
}

/// What is different from what was known.
struct News {
    findings: Vec<Finding>,
    memories: Vec<Memory>,
    /// Databases that are not there any more.
    gone: Vec<String>,
}

fn news(target: &Target, there: &BTreeMap<String, There>, known: &BTreeMap<String, Seen>) -> News {
    let now = wall_clock();
    let mut memories = Vec::new();
    let mut note = |name: &str, seen: Seen| {
        memories.push(Memory {
            key: name.to_owned(),
            value: serde_json::json!(seen),
        });
    };
    let mut new = Vec::new();
    for name in there
        .iter()
        .filter_map(|(name, there)| (*there == There::Meant).then_some(name))
    {
        if known.get(name).is_none_or(|seen| seen.gone.is_some()) {
            new.push(name.as_str());
            let seen = Seen {
                since: now,
                gone: None,
            };
            note(name, seen);
        }
    }
    let mut gone = Vec::new();
    let shut = there.iter().filter(|(_, there)| **there == There::Closed);
    let shut: Vec<&String> = shut.map(|(name, _)| name).collect();
    for (name, seen) in known.iter().filter(|(_, seen)| seen.gone.is_none()) {
        match there.get(name) {
            // What is closed may be back any time; what it failed at is waited for meanwhile.
            Some(There::Meant | There::Closed) => continue,
            Some(There::Left) | None => {}
        }
        // Whoever changed `databases` knows that.
        if !there.contains_key(name) {
            gone.push(name.clone());
        }
        let gone = Some(now);
        note(name, Seen { gone, ..*seen });
    }
    let mut findings = Vec::new();
    let info = |object: String, message: String| Finding {
        code: "database.new".to_owned(),
        severity: Severity::Info,
        object,
        message,
        suggestion: None,
    };
    if known.is_empty() && !new.is_empty() {
        let named = new.iter().take(MOST_NAMED).copied();
        let named: Vec<&str> = named.collect();
        let more = match new.len().checked_sub(named.len()) {
            Some(more @ 1..) => format!(" and {more} more"),
            _ => String::new(),
        };
        let message = format!(
            "{} of this server are looked after from now on: {}{more}",
            databases(new.len()),
            named.join(", ")
        );
        findings.push(info(String::new(), message));
    } else {
        findings.extend(new.iter().map(|name| {
            let name_there = target.of_database(name).name;
            let message = format!("the database {name} is new, and looked after as `{name_there}`");
            info((*name).to_owned(), message)
        }));
    }
    findings.extend(shut.into_iter().map(|name| Finding {
        code: "database.closed".to_owned(),
        severity: Severity::Warning,
        object: name.clone(),
        message: closed_told(name),
        suggestion: None,
    }));
    News {
        findings,
        memories,
        gone,
    }
}

/// That a database is not there any more, and what was done last with it. What it had failed at
/// nobody waits for now.
async fn gone(store: &dyn Store, target: &Target, database: &str) -> Result<Finding, HistoryError> {
    let name = target.of_database(database).name;
    let newest = RunFilter {
        target: Some(name.clone()),
        limit: Some(1),
        ..RunFilter::default()
    };
    let last = match store.runs(&newest).await?.first() {
        Some(run) => format!(
            "its last run was {}, on {}: {}",
            run.task,
            run.started_at.format("%Y-%m-%d %H:%M UTC"),
            run.status
        ),
        None => "nothing ever ran in it".to_owned(),
    };
    for alert in store.alerts().await? {
        if alert.target == name {
            store.clear_alert(&alert.task, &alert.target).await?;
        }
    }
    Ok(Finding {
        code: "database.gone".to_owned(),
        severity: Severity::Info,
        object: database.to_owned(),
        message: format!("the database {database} is not there any more; {last}"),
        suggestion: None,
    })
}

fn databases(count: usize) -> String {
    match count {
        1 => "1 database".to_owned(),
        n => format!("{n} databases"),
    }
}
