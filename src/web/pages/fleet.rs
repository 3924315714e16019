//! Every target in one row, those that need attention first.

use std::collections::{BTreeMap, BTreeSet};

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use minijinja::{Value, context};
use serde::Deserialize;

use super::guard::Visit;
use super::{Pages, Sorry};
use crate::config::Config;
use crate::history::{
    FindingState, Period, RunStatus, Series, TaskTotals, TrackedFinding, task_totals,
};
use crate::plan::Severity;
use crate::values::{natural, wall_clock};

/// How far back runs and sizes are looked at.
const DAYS: i64 = 30;
/// More findings than a fleet should have.
const MOST_FINDINGS: u32 = 20_000;
/// Into how many parts the trend is divided: only its ends are told.
const PARTS: u32 = 2;
/// More targets that are well than that are shown only to who asks for them.
const MOST_WELL: usize = 100;
/// The size of a target.
const SIZE: &str = "database.bytes";

/// One target.
#[derive(Clone, Debug, Default)]
struct Row {
    target: String,
    configured: bool,
    last_run: Option<DateTime<Utc>>,
    last_success: Option<DateTime<Utc>>,
    /// Tasks whose last run failed.
    failed: BTreeSet<String>,
    /// Tasks of which some steps failed.
    partly: BTreeSet<String>,
    worst: Option<TrackedFinding>,
    findings: usize,
    size: Option<(f64, f64)>,
}

impl Row {
    /// How urgent it is; nothing is to be done where that is 0.
    fn urgency(&self) -> u8 {
        let finding = self.worst.as_ref().map(|one| one.severity);
        match (finding, self.failed.is_empty() && self.partly.is_empty()) {
            (Some(Severity::Critical), _) => 4,
            (_, false) => 3,
            (Some(Severity::Warning), _) => 2,
            _ if self.configured && self.last_run.is_some() && self.last_success.is_none() => 1,
            _ => 0,
        }
    }

    fn value(&self) -> Value {
        let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339());
        let worst = self.worst.as_ref().map(|one| {
            context! {
                severity => one.severity.as_str(), code => one.code.as_str(), object => one.object.as_str(),
                message => one.message.as_str(), run => one.run.to_string(),
            }
        });
        context! {
            target => self.target.as_str(),
            configured => self.configured,
            last_run => time(self.last_run),
            last_success => time(self.last_success),
            failed => self.failed.iter().cloned().collect::<Vec<_>>(),
            partly => self.partly.iter().cloned().collect::<Vec<_>>(),
            worst,
            more => self.findings.saturating_sub(1),
            size => self.size.map(|(_, last)| last),
            size_before => self.size.map(|(first, _)| first),
        }
    }
}

/// How much is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// Those that are well, too, however many they are.
    all: bool,
}

pub(super) async fn page(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Result<Response, Sorry> {
    let config = pages.config_with_databases().await?;
    let now = wall_clock();
    let period = Period {
        since: now - TimeDelta::days(DAYS),
        until: now,
    };
    let targets: Vec<String> = config.targets.keys().cloned().collect();
    let tasks: Vec<String> = config.tasks.keys().cloned().collect();
    let sums = pages.store.summaries();
    let (totals, mut findings, sizes) = tokio::try_join!(
        task_totals(pages.store.as_ref(), &period, 0),
        sums.tracked_findings(&period, &tasks, MOST_FINDINGS),
        sums.series(&targets, &[(SIZE, 1)], &period, PARTS),
    )?;
    visit.findings(findings.listed.iter_mut().map(|one| &mut one.message));
    let rows = rows(&config, totals, findings.listed, sizes);
    let (urgent, well): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.urgency() > 0);
    let values = |rows: &[Row]| rows.iter().map(Row::value).collect::<Vec<_>>();
    let shown = asked.all || well.len() <= MOST_WELL;
    let own = context! {
        urgent => values(&urgent),
        well => well.len(),
        well_rows => if shown { values(&well) } else { Vec::new() },
        all => urgent.len() + well.len(),
        days => DAYS,
    };
    pages.show(&visit, "fleet", own)
}

/// One row for each target that can be worked on, the most urgent first.
fn rows(
    config: &Config,
    totals: Vec<TaskTotals>,
    findings: Vec<TrackedFinding>,
    sizes: Vec<Series>,
) -> Vec<Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for target in config.targets.values() {
        let row = Row {
            target: target.name.clone(),
            configured: target.configured,
            ..Row::default()
        };
        rows.insert(target.name.clone(), row);
    }
    for one in totals {
        let Some(row) = rows.get_mut(&one.target) else {
            continue;
        };
        row.last_run = row.last_run.max(Some(one.last_started_at));
        row.last_success = row.last_success.max(one.last_success_at);
        let enabled = config.tasks.get(&one.task).is_some_and(|task| task.enabled);
        let outcome = one.outcome.as_ref().map(|last| last.status);
        match outcome.filter(|_| enabled) {
            Some(RunStatus::Failed | RunStatus::Interrupted) => drop(row.failed.insert(one.task)),
            Some(RunStatus::Partial) => drop(row.partly.insert(one.task)),
            _ => {}
        }
    }
    for one in findings {
        let row = rows.get_mut(&one.target);
        let Some(row) = row.filter(|_| one.state != FindingState::Gone) else {
            continue;
        };
        if one.severity > Severity::Info {
            row.findings += 1;
            let worse = |known: &TrackedFinding| known.severity < one.severity;
            if row.worst.as_ref().is_none_or(worse) {
                row.worst = Some(one);
            }
        }
    }
    for one in sizes {
        if let Some(row) = rows.get_mut(&one.target) {
            row.size = Some((one.first, one.last));
        }
    }
    // A server of which there is nothing to say itself is there by its databases.
    let servers: BTreeSet<String> = rows
        .keys()
        .filter_map(|name| {
            let (server, _) = name.split_once('/')?;
            rows.contains_key(server).then(|| server.to_owned())
        })
        .collect();
    rows.retain(|name, row| !servers.contains(name) || row.last_run.is_some());
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by(|a, b| {
        let urgency = b.urgency().cmp(&a.urgency());
        urgency.then_with(|| natural(&a.target, &b.target))
    });
    rows
}
