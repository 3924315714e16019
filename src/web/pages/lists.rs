//! Runs, tasks, findings, trends, the report, and the calendar.

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Deserialize;
use uuid::Uuid;

use super::guard::Visit;
use super::{Pages, Sorry, heat};
use crate::config::Config;
use crate::history::{
    self, By, OccurrenceFilter, OccurrenceStatus, Period, RunFilter, RunStatus, task_totals,
};
use crate::report::{Asked, Scope, chart, compose_page, gather, gather_trends};
use crate::values::wall_clock;

/// Runs on one page.
const PAGE: u32 = 50;
/// Weeks of a task's calendar.
const WEEKS: u32 = 18;
const MOST_FINDINGS: u32 = 200;
const MOST_MISSED: u32 = 50;
const MOST_TRENDS: usize = 60;

/// What a list of runs is asked for; empty means any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunsAsked {
    task: String,
    target: String,
    status: String,
    /// The last run of the page before: its start and its id.
    after: String,
}

pub(super) async fn runs(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<RunsAsked>,
) -> Result<Response, Sorry> {
    let status = match asked.status.as_str() {
        "" => Vec::new(),
        word => vec![RunStatus::from_word(word).ok_or_else(|| unknown("status", word))?],
    };
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let filter = RunFilter {
        task: named(&asked.task),
        target: named(&asked.target),
        statuses: status,
        after: match asked.after.as_str() {
            "" => None,
            word => Some(place(word).ok_or_else(|| unknown("place in the list", word))?),
        },
        limit: Some(PAGE + 1),
        ..RunFilter::default()
    };
    let mut runs = history::runs(&*pages.store, &filter).await?;
    let more = runs.len() > PAGE as usize;
    runs.truncate(PAGE as usize);
    visit.errors(runs.iter_mut().map(|run| &mut run.error));
    let next = runs.last().filter(|_| more).map(|last| {
        let start = last.started_at.timestamp_millis();
        format!("{start}.{}", last.id.simple())
    });
    let config = pages.config_with_databases().await?;
    let own = context! {
        runs => Value::from(Serde(&runs)),
        next,
        task => asked.task,
        target => asked.target,
        status => asked.status,
        paged => !asked.after.is_empty(),
        tasks => Value::from(Serde(config.tasks.keys().collect::<Vec<_>>())),
        targets => Value::from(Serde(config.targets.keys().collect::<Vec<_>>())),
        statuses => RunStatus::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>(),
    };
    pages.show(&visit, "runs", own)
}

fn place(word: &str) -> Option<(DateTime<Utc>, Uuid)> {
    let (start, id) = word.split_once('.')?;
    let start = DateTime::from_timestamp_millis(start.parse().ok()?)?;
    Some((start, Uuid::try_parse(id).ok()?))
}

fn unknown(what: &str, word: &str) -> Sorry {
    let word: String = word.chars().take(40).collect();
    Sorry::new(
        StatusCode::BAD_REQUEST,
        format!("there is no {what} `{}`", word.escape_debug()),
    )
}

/// The last so many days.
fn last_days(days: i64) -> Period {
    let now = wall_clock();
    Period {
        since: now - TimeDelta::days(days),
        until: now,
    }
}

pub(super) async fn tasks(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Sorry> {
    let config = pages.config_with_databases().await?;
    let sums = pages.store.summaries();
    let (month, season) = (last_days(30), last_days(i64::from(WEEKS) * 7));
    let (totals, days) = tokio::try_join!(
        task_totals(pages.store.as_ref(), &month, 0),
        sums.days(&season, By::Task)
    )?;
    let today = wall_clock().date_naive();
    let mut tasks = Vec::new();
    for task in config.tasks.values() {
        let own = days.iter().filter(|day| day.name == task.name);
        let (svg, told) = heat::calendar(own, today, WEEKS);
        let lines: Vec<Value> = totals
            .iter()
            .filter(|one| one.task == task.name)
            .map(|one| {
                context! {
                    target => one.target.as_str(),
                    runs => one.runs,
                    failed => one.failed + one.partial,
                    id => one.last_run.to_string(),
                    status => one.last_status.as_str(),
                    started_at => one.last_started_at.to_rfc3339(),
                    duration_ms => one.last_duration_ms,
                    last_success_at => one.last_success_at.map(|at| at.to_rfc3339()),
                }
            })
            .collect();
        tasks.push(context! {
            name => task.name.as_str(),
            kind => task.kind.as_str(),
            description => task.description.as_deref(),
            enabled => task.enabled,
            targets => Value::from(Serde(&task.targets)),
            schedules => config.schedules.values()
                .filter(|one| one.enabled && one.tasks.contains(&task.name))
                .map(|one| one.name.clone()).collect::<Vec<_>>(),
            heat => context! { svg => Value::from_safe_string(svg), told },
            lines,
        });
    }
    pages.show(&visit, "tasks", context! { tasks })
}

pub(super) async fn findings(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Sorry> {
    let known: Vec<String> = pages.config().tasks.keys().cloned().collect();
    let sums = pages.store.summaries();
    let mut found = sums
        .tracked_findings(&last_days(7), &known, MOST_FINDINGS)
        .await?;
    visit.findings(found.listed.iter_mut().map(|one| &mut one.message));
    let all: i64 = found.counts.iter().map(|(_, _, n)| n).sum();
    let own = context! {
        findings => Value::from(Serde(&found.listed)),
        all,
        more => all - i64::try_from(found.listed.len()).unwrap_or(all),
    };
    pages.show(&visit, "findings", own)
}

/// How many days a trend shows: one for each of its points.
const TREND_DAYS: i64 = 28;

/// Which trends are asked for; empty means those of all targets.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TrendsAsked {
    target: String,
}

pub(super) async fn trends(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<TrendsAsked>,
) -> Result<Response, Sorry> {
    let config = pages.config_with_databases().await?;
    let all: Vec<String> = config.targets.keys().cloned().collect();
    let (targets, most) = match asked.target.as_str() {
        "" => (all.clone(), MOST_TRENDS),
        name if config.targets.contains_key(name) => (vec![name.to_owned()], usize::MAX),
        name => return Err(unknown("target", name)),
    };
    let month = last_whole_days();
    let found = gather_trends(pages.store.as_ref(), &config, &targets, &month).await?;
    let trends: Vec<Value> = found
        .iter()
        .take(most)
        .map(|trend| {
            let drawn = chart::trend(trend);
            context! {
                trend => Value::from(Serde(trend)),
                svg => Value::from_safe_string(drawn.svg),
            }
        })
        .collect();
    let own = context! {
        more => found.len() - trends.len(),
        trends,
        target => asked.target,
        targets => Value::from(Serde(&all)),
    };
    pages.show(&visit, "trends", own)
}

/// As many days as a trend has points, today among them: each point is of one day.
fn last_whole_days() -> Period {
    let now = wall_clock();
    // Days in charts are days of UTC.
    let tomorrow = now.date_naive().succ_opt();
    let midnight = tomorrow.and_then(|day| day.and_hms_opt(0, 0, 0));
    let until = midnight.map_or(now, |at| at.and_utc());
    Period {
        since: until - TimeDelta::days(TREND_DAYS),
        until,
    }
}

/// What a report is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct ReportAsked {
    #[serde(default = "a_week")]
    period: String,
}

fn a_week() -> String {
    "7d".to_owned()
}

pub(super) async fn report_of(
    pages: &Pages,
    period: &str,
) -> Result<crate::report::model::Report, Sorry> {
    let asked: Asked = period
        .parse()
        .map_err(|why: String| Sorry::new(StatusCode::BAD_REQUEST, why))?;
    let config = pages.config();
    let now = wall_clock();
    let (period, text) = asked.period(now, config.timezone, None);
    let scope = Scope { period, text, now };
    Ok(gather(pages.store.as_ref(), &config, &scope).await?)
}

/// The report in the browser, as a mail would have it.
pub(super) async fn report(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<ReportAsked>,
) -> Result<Response, Sorry> {
    let report = report_of(&pages, &asked.period).await?;
    let zone = pages.config().timezone;
    let html = compose_page(&report, &pages.templates, zone, visit.context(&pages))
        .map_err(|error| Sorry::broken(&error))?;
    Ok(Html(html).into_response())
}

pub(super) async fn next(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Sorry> {
    let config = pages.config();
    let own = context! { ahead => calendar_ahead(&pages, &config, 5).await? };
    pages.show(&visit, "next", own)
}

/// What comes, what was missed, what is paused.
pub(super) async fn calendar_ahead(
    pages: &Pages,
    config: &Config,
    count: usize,
) -> Result<Value, Sorry> {
    let now = wall_clock();
    let pauses = pages.store.pauses().await?;
    let missed = pages
        .store
        .occurrences(&OccurrenceFilter {
            statuses: vec![OccurrenceStatus::Missed],
            since: Some(now - TimeDelta::days(30)),
            until: Some(now),
            limit: Some(MOST_MISSED),
            ..OccurrenceFilter::default()
        })
        .await?;
    let mut next = Vec::new();
    for schedule in config.schedules.values().filter(|one| one.enabled) {
        let zone = schedule.timezone.unwrap_or(config.timezone);
        let mut after = now;
        for _ in 0..count {
            let Some(at) = schedule.cron.next_after(after, zone) else {
                break;
            };
            next.push((at, schedule));
            after = at;
        }
    }
    next.sort_by_key(|(at, _)| *at);
    let next: Vec<Value> = next
        .iter()
        .map(|(at, schedule)| {
            context! {
                at => at.to_rfc3339(),
                schedule => schedule.name.as_str(),
                paused => pauses.iter().any(|one| {
                    one.schedule == schedule.name && one.until.is_none_or(|until| *at < until)
                }),
                tasks => Value::from(Serde(&schedule.tasks)),
            }
        })
        .collect();
    let missed: Vec<Value> = missed
        .iter()
        .map(|one| {
            context! {
                at => one.scheduled_for.to_rfc3339(),
                schedule => one.schedule.as_str(),
                reason => one.reason.as_deref(),
            }
        })
        .collect();
    let pauses: Vec<Value> = pauses
        .iter()
        .map(|one| {
            context! {
                schedule => one.schedule.as_str(),
                since => one.since.to_rfc3339(),
                until => one.until.map(|at| at.to_rfc3339()),
                by => one.by.as_str(),
            }
        })
        .collect();
    Ok(context! { next, missed, pauses })
}
