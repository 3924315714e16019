//! The schedules as manifests for who already has a scheduler: Kubernetes,
//! systemd, cron. Pure: configuration in, files out.

mod crontab;
mod fields;
mod kubernetes;
mod ports;
mod systemd;

pub use crontab::crontab;
pub use kubernetes::{Kubernetes, Mode, kubernetes};
pub use systemd::systemd;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, DurationRound as _, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::config::{Commands, Config, Schedule};

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
        "{file} holds a password or a secret address in `{key}`, and a ConfigMap is no place for one\n  hint: write `${{NAME}}` in its place; the Secret `{secret}` becomes the environment"
    )]
    Password {
        /// Which file.
        file: String,
        /// Which key of it.
        key: String,
        /// Name of the Secret.
        secret: String,
    },
}

/// The schedules that fire.
fn enabled(config: &Config) -> impl Iterator<Item = &Schedule> {
    config.schedules.values().filter(|s| s.enabled)
}

/// How far ahead changes of the clocks are looked for, in quarters of an hour.
const QUARTERS_AHEAD: i64 = 400 * 24 * 4;

/// Schedules whose time of the day does not exist in a night to come, in which `scheduler` leaves
/// them out. Those that come again within the hour lose nothing.
pub fn left_out(config: &Config, now: DateTime<Utc>, scheduler: &str) -> Vec<String> {
    let mut gaps: BTreeMap<String, Option<Gap>> = BTreeMap::new();
    let mut notes = Vec::new();
    let of_reports = reports(config);
    for schedule in enabled(config).chain(&of_reports) {
        let zone = schedule.timezone.unwrap_or(config.timezone);
        let gap = gaps
            .entry(zone.to_string())
            .or_insert_with(|| next_gap(now, zone));
        let Some((begin, end)) = *gap else {
            continue;
        };
        // On clocks that never change.
        let next = |from: NaiveDateTime| {
            let just_before = from.and_utc() - TimeDelta::seconds(1);
            Some(schedule.cron.next_after(just_before, Tz::UTC)?.naive_utc())
        };
        let Some(skipped) = next(begin).filter(|at| *at < end) else {
            continue;
        };
        if next(end).is_some_and(|at| at < end + TimeDelta::hours(1)) {
            continue;
        }
        notes.push(format!(
            "schedule `{}`: on {} the clocks of {zone} jump from {} to {}, and {scheduler} leaves out {}; `maint serve` has it at {}. A time outside of that hour is never left out",
            schedule.name,
            begin.format("%Y-%m-%d"),
            begin.format("%H:%M"),
            end.format("%H:%M"),
            skipped.format("%H:%M"),
            end.format("%H:%M"),
        ));
    }
    notes
}

/// What the clocks jump over: the first time that they do not show, and the next that they do.
type Gap = (NaiveDateTime, NaiveDateTime);

fn next_gap(now: DateTime<Utc>, zone: Tz) -> Option<Gap> {
    let quarter = TimeDelta::minutes(15);
    let first = now.duration_trunc(quarter).ok()?;
    let shown = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
    (1..=QUARTERS_AHEAD).find_map(|n| {
        let at = first.checked_add_signed(quarter * i32::try_from(n).ok()?)?;
        let (begin, end) = (shown(at - quarter) + quarter, shown(at));
        (end > begin).then_some((begin, end))
    })
}

/// The reports that are mailed, as schedules of their own.
fn reports(config: &Config) -> Vec<Schedule> {
    let of_report = |(name, report): (&String, &crate::config::Report)| {
        (report.enabled && report.email.is_some()).then(|| Schedule {
            name: format!("{REPORT}{name}"),
            cron: report.cron.clone(),
            tasks: Vec::new(),
            window: None,
            timezone: None,
            catch_up: None,
            jitter: None,
            after: Vec::new(),
            ping: None,
            commands: Commands::default(),
            enabled: true,
        })
    };
    config.reports.iter().filter_map(of_report).collect()
}

/// How the scheduler calls the schedule of a report.
const REPORT: &str = "report:";

/// The variables that the files name: those that must be set, and those with a default.
fn variables<'a>(texts: impl Iterator<Item = &'a str>) -> (Vec<String>, Vec<String>) {
    let (mut needed, mut optional) = (BTreeSet::new(), BTreeSet::new());
    for line in texts.flat_map(str::lines) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("${") {
            let escaped = rest[..at].ends_with('$');
            let inside = &rest[at + 2..];
            let end = inside.find('}').unwrap_or(inside.len());
            let (name, default) = match inside[..end].split_once(":-") {
                Some((name, _)) => (name, true),
                None => (&inside[..end], false),
            };
            if !escaped && !name.is_empty() {
                let set = if default { &mut optional } else { &mut needed };
                set.insert(name.to_owned());
            }
            rest = &inside[end..];
        }
    }
    optional.retain(|name| !needed.contains(name));
    (needed.into_iter().collect(), optional.into_iter().collect())
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
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use chrono::{DateTime, Utc};
    use chrono_tz::Tz;

    use super::{next_gap, plain_name};

    #[test]
    fn the_next_jump_of_the_clocks_is_found() {
        let now: DateTime<Utc> = "2026-11-27T06:07:08Z".parse().unwrap();
        let gap = |zone| {
            let told = |(begin, end): super::Gap| format!("{begin} {end}");
            next_gap(now, zone).map(told)
        };
        let berlin = Some("2027-03-28 02:00:00 2027-03-28 03:00:00".to_owned());
        assert_eq!(gap(Tz::Europe__Berlin), berlin);
        let lord_howe = Some("2027-10-03 02:00:00 2027-10-03 02:30:00".to_owned());
        assert_eq!(gap(Tz::Australia__Lord_Howe), lord_howe);
        assert_eq!(gap(Tz::UTC), None);
    }

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
