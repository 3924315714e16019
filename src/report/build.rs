//! Sums to a report: what matters, in words. Pure.

mod reasons;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::reasons::{never_ran, reasons, shorten};
use super::material::{MOST_TROUBLES, Material, part_middle};
use super::metrics::{DETAILS, Direction, METRICS, Metric};
use super::model::{
    DayLine, FindingLine, FindingNumbers, Findings, Numbers, Planned, Point, Reason, Report, Trend,
    Verdict,
};
use super::telling::finding_text;
use super::troubles::lines;
use super::{idle, standing};
use crate::config::Config;
use crate::history::{
    Day, FindingState, Pause, Period, RunStatus, Series, TrackedFinding, TrackedFindings,
};
use crate::kinds;
use crate::plan::Severity;
use crate::values::natural;

/// A change below this share is noise.
const NOTICEABLE: f64 = 0.02;
/// How many findings are listed.
const MOST_FINDINGS: usize = 30;
/// How many coming occurrences are told.
const MOST_PLANNED: usize = 8;

pub(super) fn report(material: Material<'_>) -> Report {
    let Material { config, scope, .. } = material;
    let mut tasks = standing::lines(config, material.tasks, &material.findings.listed);
    for line in tasks.iter_mut().filter(|line| line.enabled) {
        line.next_at = standing::next_run(config, &line.task, &material.pauses, scope.now);
    }
    let mut findings = findings(material.findings);
    let mut troubles = lines(material.troubles);
    let summary = Numbers {
        missed: material.missed,
        ..numbers(&material.days)
    };
    let mut reasons = reasons(&tasks, &findings, &troubles, &summary);
    troubles.truncate(MOST_TROUBLES);
    reasons.extend(never_ran(config, &tasks, scope.now));
    reasons.extend(idle::reasons(
        config,
        &tasks,
        &material.overdue,
        &material.pauses,
        scope,
    ));
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.verdict));
    let verdict = reasons
        .iter()
        .map(|reason| reason.verdict)
        .max()
        .unwrap_or(Verdict::Well);
    let headline = headline(verdict, &reasons, &findings, &summary);
    shorten(&mut reasons);
    shorten_findings(&mut findings);
    Report {
        period: scope.period,
        period_text: scope.text.clone(),
        made_at: scope.now,
        zone: config.timezone.to_string(),
        verdict,
        headline,
        reasons,
        tasks_total: i64::try_from(config.tasks.len()).unwrap_or(i64::MAX),
        page_url: config.web.url.clone(),
        tasks_enabled: i64::try_from(config.tasks.values().filter(|task| task.enabled).count())
            .unwrap_or(i64::MAX),
        before: Numbers {
            missed: material.missed_before,
            ..numbers(&material.before)
        },
        summary,
        tasks,
        days: days(&material.days),
        gains: material.gains,
        troubles,
        findings,
        trends: trends(config, &scope.period, material.series),
        planned: planned(config, &material.pauses, scope.now),
    }
}

fn numbers(days: &[Day]) -> Numbers {
    let mut sum = Numbers::default();
    for day in days {
        match day.status {
            RunStatus::Succeeded => sum.succeeded += day.runs,
            RunStatus::Incomplete => sum.incomplete += day.runs,
            RunStatus::Partial => sum.partial += day.runs,
            RunStatus::Failed | RunStatus::Interrupted => sum.failed += day.runs,
            RunStatus::Cancelled => sum.cancelled += day.runs,
            RunStatus::Skipped => sum.skipped += day.runs,
            RunStatus::Running => {}
        }
        if day.status != RunStatus::Skipped {
            sum.runs += day.runs;
        }
        sum.duration_ms += day.duration_ms;
        sum.bytes_reclaimed += day.bytes_reclaimed;
        if kinds::removes_rows(&day.name) {
            sum.rows_removed += day.rows;
        }
    }
    sum
}

/// All that were read, the same on several targets as one.
fn findings(tracked: TrackedFindings) -> Findings {
    let count = |state: FindingState, severity: Severity| {
        tracked
            .counts
            .iter()
            .filter(|(one, other, _)| *one == state && *other == severity)
            .map(|(_, _, n)| n)
            .sum::<i64>()
    };
    let counts: Vec<FindingNumbers> = [Severity::Critical, Severity::Warning, Severity::Info]
        .map(|severity| FindingNumbers {
            severity,
            new: count(FindingState::New, severity),
            open: count(FindingState::Open, severity),
            gone: count(FindingState::Gone, severity),
        })
        .to_vec();
    let all: i64 = tracked.counts.iter().map(|(_, _, n)| n).sum();
    let read = i64::try_from(tracked.listed.len()).unwrap_or(all);
    Findings {
        more: all.saturating_sub(read).max(0),
        counts,
        listed: alike(tracked.listed),
    }
}

/// One line for what is the same on several targets, in the place of the first.
fn alike(findings: Vec<TrackedFinding>) -> Vec<FindingLine> {
    let mut lines: Vec<FindingLine> = Vec::new();
    let mut places = HashMap::new();
    for mut finding in findings {
        finding.message = finding_text(&finding.message);
        let same = (
            finding.state.as_str(),
            finding.severity.as_str(),
            finding.code.clone(),
            finding.object.clone(),
            finding.message.clone(),
        );
        let place = *places.entry(same).or_insert(lines.len());
        match lines.get_mut(place) {
            Some(line) if line.targets().all(|one| *one != finding.target) => {
                line.also_on.push(finding.target);
            }
            _ => lines.push(FindingLine {
                finding,
                also_on: Vec::new(),
            }),
        }
    }
    for line in &mut lines {
        line.also_on.sort_by(|a, b| natural(a, b));
    }
    lines
}

/// Longer lists go to the status page.
fn shorten_findings(findings: &mut Findings) {
    let left_out = findings
        .listed
        .split_off(MOST_FINDINGS.min(findings.listed.len()));
    let left_out: usize = left_out.iter().map(|line| line.targets().count()).sum();
    findings.more += i64::try_from(left_out).unwrap_or(i64::MAX);
}

/// `reasons` are all of them.
fn headline(
    verdict: Verdict,
    reasons: &[Reason],
    findings: &Findings,
    summary: &Numbers,
) -> String {
    let count = |wanted: Verdict| {
        reasons
            .iter()
            .filter(|reason| reason.verdict == wanted)
            .count()
    };
    // Findings that were not read are reasons as well.
    let critical = |one: &&FindingLine| {
        let one = &one.finding;
        one.severity == Severity::Critical && one.state != FindingState::Gone
    };
    let listed = findings.listed.iter().filter(critical);
    let listed: usize = listed.map(|line| line.targets().count()).sum();
    let standing: i64 = findings
        .counts
        .iter()
        .filter(|one| one.severity == Severity::Critical)
        .map(|one| one.new + one.open)
        .sum();
    let unlisted = usize::try_from(standing)
        .unwrap_or(0)
        .saturating_sub(listed);
    match verdict {
        Verdict::Attention => match count(Verdict::Attention) + unlisted {
            1 => "Needs attention".to_owned(),
            n => format!("Needs attention: {n} reasons"),
        },
        Verdict::Watch => format!("Well, with {} to look at", things(count(Verdict::Watch))),
        Verdict::Well if summary.runs == 0 => "Nothing ran".to_owned(),
        Verdict::Well => "All well".to_owned(),
    }
}

fn things(n: usize) -> String {
    match n {
        1 => "one thing".to_owned(),
        n => format!("{n} things"),
    }
}

fn days(days: &[Day]) -> Vec<DayLine> {
    let mut lines: BTreeMap<&str, DayLine> = BTreeMap::new();
    for day in days {
        let line = lines.entry(&day.day).or_default();
        line.day.clone_from(&day.day);
        match day.status {
            RunStatus::Succeeded => line.succeeded += day.runs,
            RunStatus::Failed | RunStatus::Interrupted => line.failed += day.runs,
            RunStatus::Skipped | RunStatus::Running => {}
            RunStatus::Partial => line.partly += day.runs,
            RunStatus::Incomplete | RunStatus::Cancelled => line.early += day.runs,
        }
    }
    lines.into_values().collect()
}

pub(super) fn trends(config: &Config, period: &Period, series: Vec<Series>) -> Vec<Trend> {
    let trend = |one: Series| {
        let metric = METRICS
            .iter()
            .chain(DETAILS)
            .find(|metric| metric.name == one.metric)?;
        let points = one.points.iter().map(|(part, value)| Point {
            at: part_middle(period, *part),
            value: *value,
        });
        Some(Trend {
            engine: config.target(&one.target).map(|target| target.engine),
            title: metric.title.to_owned(),
            unit: metric.unit,
            worse: worse(metric, one.first, one.last),
            points: points.collect(),
            target: one.target,
            metric: one.metric,
            object: one.object,
            first: one.first,
            last: one.last,
        })
    };
    series.into_iter().filter_map(trend).collect()
}

fn worse(metric: &Metric, first: f64, last: f64) -> Option<bool> {
    let change = last - first;
    let direction = metric.worse?;
    let noticeable = change.abs() > first.abs() * NOTICEABLE;
    noticeable.then(|| (change > 0.0) == (direction == Direction::Up))
}

fn planned(config: &Config, pauses: &[Pause], now: chrono::DateTime<chrono::Utc>) -> Vec<Planned> {
    let mut planned: Vec<Planned> = config
        .schedules
        .values()
        .filter(|schedule| schedule.enabled)
        .filter_map(|schedule| {
            let zone = schedule.timezone.unwrap_or(config.timezone);
            let enabled: BTreeSet<&str> = config
                .tasks
                .values()
                .filter(|task| task.enabled)
                .map(|task| task.name.as_str())
                .collect();
            let at = schedule.cron.next_after(now, zone)?;
            Some(Planned {
                at,
                paused: pauses.iter().any(|one| {
                    one.schedule == schedule.name && one.until.is_none_or(|end| at < end)
                }),
                schedule: schedule.name.clone(),
                tasks: schedule
                    .tasks
                    .iter()
                    .filter(|task| enabled.contains(task.as_str()))
                    .cloned()
                    .collect(),
            })
        })
        .collect();
    planned.sort_by(|a, b| (a.at, &a.schedule).cmp(&(b.at, &b.schedule)));
    planned.truncate(MOST_PLANNED);
    planned
}
