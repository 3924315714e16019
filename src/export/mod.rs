//! The schedules as manifests for who already has a scheduler: Kubernetes,
//! systemd, cron. Pure: configuration in, files out.

mod crontab;
mod fields;
mod kubernetes;
mod systemd;

pub use crontab::crontab;
pub use kubernetes::{Kubernetes, Mode, kubernetes};
pub use systemd::systemd;

use crate::config::{Config, Schedule};

/// What came of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The files, in the order in which they are meant to be read.
    pub files: Vec<File>,
    /// What could not be said in the other scheduler's words, in sentences.
    pub notes: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, without a folder.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Why the schedules cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The other scheduler has no words for this cron expression.
    #[error("schedule `{schedule}`: `{cron}` cannot be said to {scheduler}: {why}")]
    Cron {
        /// Which schedule.
        schedule: String,
        /// Its expression.
        cron: String,
        /// Who would not understand it.
        scheduler: &'static str,
        /// The part in question, and what can be done.
        why: String,
    },
    /// Files that a task writes would be lost with each pod.
    #[error(
        "what task `{task}` writes to {folder} would be lost with each pod\n  hint: use `s3://…`, or a folder below `file://{volume}`, for which a volume is claimed"
    )]
    Files {
        /// Which task.
        task: String,
        /// Where it writes.
        folder: String,
        /// Where a volume is mounted.
        volume: &'static str,
    },
    /// The history would be lost with each pod.
    #[error(
        "the history `{history}` would be lost with each pod\n  hint: use `postgres://…`, or `sqlite:{folder}/maint.db`, for which a volume is claimed"
    )]
    History {
        /// Where it is now.
        history: String,
        /// Where the volume is mounted.
        folder: &'static str,
    },
    /// Several replicas over a history that only one can use.
    #[error(
        "{replicas} replicas need a history in PostgreSQL\n  hint: set `history: \"${{MAINT_HISTORY_URL}}\"` to a `postgres://…` URL"
    )]
    Replicas {
        /// How many were asked for.
        replicas: u32,
    },
    /// A file of the configuration holds a password.
    #[error(
        "{file} holds a password, and a ConfigMap is no place for one\n  hint: write `${{NAME}}` in its place; the Secret `{secret}` becomes the environment"
    )]
    Password {
        /// Which file.
        file: String,
        /// Name of the Secret.
        secret: String,
    },
}

/// The schedules that fire.
fn enabled(config: &Config) -> impl Iterator<Item = &Schedule> {
    config.schedules.values().filter(|s| s.enabled)
}

/// What no foreign scheduler can be told.
fn notes(config: &Config, jitter_is_lost: bool) -> Vec<String> {
    let mut notes = Vec::new();
    for schedule in enabled(config) {
        if !schedule.after.is_empty() {
            notes.push(format!(
                "schedule `{}`: `after: [{}]` is not known there; leave enough time between them, or use `maint serve`",
                schedule.name,
                schedule.after.join(", ")
            ));
        }
        if jitter_is_lost && schedule.jitter.is_some() {
            notes.push(format!(
                "schedule `{}`: `jitter` is not known there",
                schedule.name
            ));
        }
    }
    if config.reports.values().any(|report| report.enabled) {
        notes.push("reports are sent by `maint serve`, or by `maint report --email` from an entry of your own".to_owned());
    }
    notes
}

/// A name made of a-z, 0-9 and `-`, at most `longest` characters, different
/// for every name in `taken`, to which it is added.
fn plain_name(name: &str, longest: usize, taken: &mut Vec<String>) -> String {
    let mut plain: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    plain.truncate(longest);
    let base = plain.trim_matches('-').to_owned();
    let mut candidate = if base.is_empty() {
        "schedule".to_owned()
    } else {
        base.clone()
    };
    let mut n = 2;
    while taken.contains(&candidate) {
        let end = format!("-{n}");
        let keep = base.len().min(longest.saturating_sub(end.len()));
        candidate = format!("{}{end}", &base[..keep]);
        n += 1;
    }
    taken.push(candidate.clone());
    candidate
}

#[cfg(test)]
mod tests {
    use super::plain_name;

    #[test]
    fn names_are_plain_short_and_different() {
        let mut taken = Vec::new();
        assert_eq!(plain_name("Nightly_Work", 52, &mut taken), "nightly-work");
        assert_eq!(plain_name("nightly work", 52, &mut taken), "nightly-work-2");
        assert_eq!(plain_name("größe", 52, &mut taken), "gr--e");
        assert_eq!(plain_name("***", 52, &mut taken), "schedule");
        assert_eq!(plain_name(&"x".repeat(80), 10, &mut taken), "x".repeat(10));
        assert_eq!(plain_name(&"x".repeat(90), 10, &mut taken), "xxxxxxxx-2");
    }
}
