//! The first page: the verdict, what is going on and what lately was, what was found, what comes.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use chrono::TimeDelta;
use minijinja::value::Serde;
use minijinja::{Value, context};

use super::guard::Visit;
use super::lists::{calendar_ahead, report_of};
use super::live::at_work;
use super::{Pages, Sorry, heat};
use crate::history::{self, By, Period, RunFilter};
use crate::values::wall_clock;

const LATEST: u32 = 12;
const WEEKS: u32 = 26;
/// Reasons told for the verdict.
const MOST_REASONS: usize = 5;
/// Findings told on the first page.
const MOST_FINDINGS: usize = 8;

/// What is going on, what comes, what was missed.
pub(super) async fn page(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Sorry> {
    let config = pages.config_with_databases().await?;
    let now = wall_clock();
    let sums = pages.store.summaries();
    let back = |weeks| Period {
        since: now - TimeDelta::weeks(weeks),
        until: now,
    };
    let season = back(i64::from(WEEKS));
    let newest = RunFilter {
        limit: Some(LATEST),
        ..RunFilter::default()
    };
    let (mut latest, days) = tokio::try_join!(
        history::runs(&*pages.store, &newest),
        sums.days(&season, By::Kind),
    )?;
    visit.errors(latest.iter_mut().map(|run| &mut run.error));
    let (svg, told) = heat::calendar(&days, now.date_naive(), WEEKS);
    let report = report_of(&pages, "7d").await?;
    // The same on several targets is one of them.
    let findings = report.findings.listed.iter();
    let mut findings: Vec<_> = findings
        .filter(|line| line.finding.state != history::FindingState::Gone)
        .take(MOST_FINDINGS)
        .cloned()
        .collect();
    visit.findings(findings.iter_mut().map(|line| &mut line.finding.message));
    let findings: Vec<Value> = findings
        .iter()
        .map(|line| Value::from(Serde(line)))
        .collect();
    let own = context! {
        verdict => context! {
            verdict => Value::from(Serde(&report.verdict)),
            headline => report.headline.as_str(),
            period => report.period_text.as_str(),
            reasons => Value::from(Serde(&report.reasons.iter().take(MOST_REASONS).collect::<Vec<_>>())),
        },
        running => at_work(&pages, None).await?,
        latest => Value::from(Serde(&latest)),
        heat => context! { svg => Value::from_safe_string(svg), told },
        findings,
        ahead => calendar_ahead(&pages, &config, 1).await?,
        tasks => startable(&config),
    };
    pages.show(&visit, "overview", own)
}

/// Which task can be started where.
fn startable(config: &crate::config::Config) -> Vec<Value> {
    let mut all = Vec::new();
    for task in config.tasks.values() {
        for target in &task.targets {
            if config.targets.get(target).is_some_and(|one| one.configured) {
                all.push(context! { task => task.name.as_str(), target => target.as_str() });
            }
        }
    }
    all
}
