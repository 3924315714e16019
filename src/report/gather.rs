//! Reads what a report is made from. Sums come from the history, never
//! records one by one.

use super::build;
use super::material::{Material, PARTS, Scope};
use super::metrics::{DETAILS, METRICS, Metric};
use super::model::{Report, Trend};
use crate::config::Config;
use crate::history::{
    By, HistoryError, OccurrenceFilter, OccurrenceStatus, Period, Series, Store, Summaries,
    overdue, task_totals, with_known_databases,
};

/// Durations per task that the usual one is made from.
const RECENT: u32 = 20;
/// Longer lists go to the status page.
const MOST_GAINS: u32 = 10;
/// How many are read: those with one cause become one.
const MOST_READ_TROUBLES: u32 = 1_000;
/// Nobody counts further.
const MOST_MISSED: u32 = 10_000;
/// The same: those that are alike on several targets become one.
const MOST_READ_FINDINGS: u32 = 5_000;

/// Makes the report of a period.
///
/// # Errors
/// When the history cannot be read.
pub async fn gather(
    store: &dyn Store,
    config: &Config,
    scope: &Scope,
) -> Result<Report, HistoryError> {
    let config = &with_known_databases(config, store).await?;
    let sums = store.summaries();
    let (period, earlier) = (&scope.period, &scope.period.before());
    let known: Vec<String> = config.tasks.keys().cloned().collect();
    let targets: Vec<String> = config.targets.keys().cloned().collect();
    // None needs to know what another found, and a history reads for several at once.
    let (
        days,
        before,
        tasks,
        gains,
        troubles,
        findings,
        missed,
        missed_before,
        series,
        overdue,
        pauses,
    ) = tokio::try_join!(
        sums.days(period, By::Kind),
        sums.days(earlier, By::Kind),
        task_totals(store, period, RECENT),
        sums.gains(period, MOST_GAINS),
        sums.troubles(period, MOST_READ_TROUBLES),
        sums.tracked_findings(period, &known, MOST_READ_FINDINGS),
        missed(store, period),
        missed(store, earlier),
        series(sums, &targets, period, &[METRICS]),
        overdue(config, store, scope.now),
        store.pauses(),
    )?;
    let mut findings = findings;
    // Of a database that is gone nobody can do anything about them.
    findings.listed.retain(|one| !config.is_gone(&one.target));
    Ok(build::report(Material {
        config,
        scope,
        days,
        before,
        tasks,
        gains,
        troubles,
        findings,
        missed,
        missed_before,
        series,
        overdue,
        pauses,
    }))
}

/// The trends of some targets alone.
///
/// # Errors
/// When the history cannot be read.
pub async fn gather_trends(
    store: &dyn Store,
    config: &Config,
    targets: &[String],
    period: &Period,
) -> Result<Vec<Trend>, HistoryError> {
    let all = [METRICS, DETAILS];
    let series = series(store.summaries(), targets, period, &all).await?;
    Ok(build::trends(config, period, series))
}

/// How many occurrences of the period did not run, and are not made up for.
async fn missed(store: &dyn Store, period: &Period) -> Result<i64, HistoryError> {
    let filter = OccurrenceFilter {
        statuses: vec![OccurrenceStatus::Missed],
        since: Some(period.since),
        limit: Some(MOST_MISSED),
        ..OccurrenceFilter::default()
    };
    let missed = store.occurrences(&filter).await?;
    let within = missed
        .iter()
        .filter(|one| one.scheduled_for < period.until && !one.is_covered());
    Ok(i64::try_from(within.count()).unwrap_or(i64::MAX))
}

async fn series(
    sums: &dyn Summaries,
    targets: &[String],
    period: &Period,
    metrics: &[&[Metric]],
) -> Result<Vec<Series>, HistoryError> {
    let metrics = metrics.iter().copied().flatten();
    let metrics: Vec<_> = metrics.map(|one| (one.name, one.most)).collect();
    sums.series(targets, &metrics, period, PARTS).await
}
