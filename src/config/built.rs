//! From what the files say to what the rest of the program sees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::model::{SchedulesFile, TargetEntry};
use super::names::Names;
use super::types::{Config, Outside, Schedule, Target, Task, Web};
use crate::plan::Scope;
use crate::values::{Secret, TimeZone};

pub(super) fn build(
    path: &Path,
    typed: SchedulesFile,
    names: Names,
    tasks: BTreeMap<String, Task>,
    unset: &BTreeSet<String>,
) -> Config {
    let mut warnings = Vec::new();
    let targets: BTreeMap<String, Target> = typed
        .targets
        .into_iter()
        .map(|(name, entry)| {
            let unset = unset.contains(&name);
            let empty = entry.url.as_ref().is_some_and(is_empty);
            if empty && !unset {
                warnings.push(format!(
                    "target `{name}` is not configured (its `url` is empty): its tasks are skipped"
                ));
            }
            let mut target = target(&name, entry);
            target.configured |= unset;
            (name, target)
        })
        .collect();
    let elsewhere = Arc::new(targets.clone());
    let mut tasks = tasks;
    for task in tasks.values_mut() {
        task.elsewhere = Arc::clone(&elsewhere);
    }
    let smtp = typed.smtp.filter(|smtp| {
        if is_empty(&smtp.url) {
            warnings.push("no mail is sent: the `url` of `smtp` is empty".to_owned());
        }
        !is_empty(&smtp.url)
    });
    let folder = path.parent().unwrap_or(Path::new(""));
    let notify = typed.notify.map(|mut notify| {
        notify.webhook = notify.webhook.filter(|hook| !is_empty(&hook.url));
        notify.ping = notify.ping.filter(|hook| !is_empty(&hook.url));
        notify.file = notify.file.map(|file| folder.join(file));
        notify
    });
    let watchdog = notify.as_ref().and_then(|notify| notify.ping.clone());
    let schedules = typed
        .schedules
        .into_iter()
        .map(|(name, entry)| {
            let schedule = Schedule {
                name: name.clone(),
                cron: entry.cron,
                tasks: entry.tasks,
                window: entry.window,
                timezone: entry.timezone.map(TimeZone::get),
                catch_up: entry.catch_up,
                jitter: entry.jitter,
                after: entry.after,
                ping: entry
                    .ping
                    .filter(|hook| !is_empty(&hook.url))
                    .or_else(|| watchdog.clone()),
                commands: entry.commands,
                enabled: entry.enabled,
            };
            (name, schedule)
        })
        .collect();
    Config {
        path: path.to_owned(),
        timezone: typed.timezone.get(),
        environment: typed
            .environment
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty()),
        history: history(&typed.history, path.parent().unwrap_or(Path::new(""))),
        history_retention: typed.history_retention,
        targets,
        groups: names.groups,
        schedules,
        reports: typed.reports,
        smtp,
        notify,
        web: Web {
            url: typed
                .web
                .url
                .map(|url| url.trim_end_matches('/').to_owned())
                .filter(|url| !url.is_empty()),
            ..typed.web
        },
        tasks,
        inventories: Vec::new(),
        outside: Outside::default(),
        warnings,
    }
}

/// A target as the rest of the program sees it.
pub(super) fn target(name: &str, entry: TargetEntry) -> Target {
    let empty = entry.url.as_ref().is_some_and(is_empty);
    Target {
        name: name.to_owned(),
        engine: entry.engine,
        url: entry.url.filter(|url| !is_empty(url)),
        configured: !empty,
        databases: entry.databases,
        database: None,
        scope: Scope::Whole,
        max_connections: entry.max_connections,
        replicas: entry
            .replicas
            .into_iter()
            .filter(|url| !is_empty(url))
            .collect(),
        trust_owners: entry.trust_owners,
        description: entry.description,
    }
}

fn is_empty(secret: &Secret) -> bool {
    secret.expose().is_empty()
}

/// The history with its file in the folder of the configuration, whatever the process calls
/// its own.
fn history(written: &Secret, folder: &Path) -> Secret {
    let text = if is_empty(written) {
        "sqlite:maint.db"
    } else {
        written.expose()
    };
    let Some(file) = text.strip_prefix("sqlite:") else {
        return written.clone();
    };
    if file == ":memory:" {
        return written.clone();
    }
    let file = file.strip_prefix("//").unwrap_or(file);
    Secret::new(format!("sqlite:{}", folder.join(file).display()))
}
