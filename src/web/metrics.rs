//! What Prometheus is told.

mod page;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::config::Config;
use crate::history::{HistoryError, RunRecord, Store};
use crate::kinds;
use crate::plan::Severity;
use crate::scheduler::{Happened, Watcher, zone_of};
use crate::values::wall_clock;

/// The plain text format: every version of Prometheus and every agent reads it.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The status of a missed occurrence whose work a later one does: no reason for an alert.
const COVERED: &str = "covered";

/// From a second to six hours.
const DURATIONS: [f64; 10] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21_600.0,
];

/// From on time to a minute late, in seconds.
const LATENESS: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    task: String,
    target: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    task: String,
    target: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Found {
    task: String,
    target: String,
    severity: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Planned {
    schedule: String,
    status: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Counts what happens here, and reads from the history what any instance did.
pub struct Metrics {
    runs: Family<Ended, Counter>,
    durations: Family<Of, Histogram, fn() -> Histogram>,
    reclaimed: Family<Of, Counter>,
    removed: Family<Of, Counter>,
    lock_waits: Family<Of, Counter<f64, AtomicU64>>,
    throttled: Family<Of, Counter<f64, AtomicU64>>,
    findings: Family<Found, Gauge>,
    occurrences: Family<Planned, Counter>,
    lateness: Histogram,
    last_tick: Seconds,
    clock_ahead: Seconds,
    history_errors: Counter,
    reloads: Family<Reload, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reload {
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            runs: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            reclaimed: Family::default(),
            removed: Family::default(),
            lock_waits: Family::default(),
            throttled: Family::default(),
            findings: Family::default(),
            occurrences: Family::default(),
            lateness: Histogram::new(LATENESS),
            last_tick: Seconds::default(),
            clock_ahead: Seconds::default(),
            history_errors: Counter::default(),
            reloads: Family::default(),
        }
    }
}

impl Metrics {
    /// A configuration was read again, and taken or refused.
    pub fn reloaded(&self, taken: bool) {
        let outcome = if taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&Reload { outcome }).inc();
    }

    /// Takes the findings of the last runs over, which another process may
    /// have found, and lets every counter begin at nothing.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn begin(&self, config: &Config, store: &dyn Store) -> Result<(), HistoryError> {
        for outcome in ["taken", "refused"] {
            drop(self.reloads.get_or_create(&Reload { outcome }));
        }
        for name in config.schedules.keys() {
            for status in ["ran", "caught_up", "skipped", "missed", COVERED] {
                drop(self.occurrences.get_or_create(&Planned {
                    schedule: name.clone(),
                    status,
                }));
            }
        }
        for (task, target) in pairs(config) {
            if let Some(run) = store.last_whole_run(&task, &target).await? {
                self.found(&run);
            }
        }
        Ok(())
    }

    fn found(&self, run: &RunRecord) {
        // What a part of the task does not say is not gone.
        if run.part.is_some() {
            return;
        }
        for (severity, word) in [
            (Severity::Info, "info"),
            (Severity::Warning, "warning"),
            (Severity::Critical, "critical"),
        ] {
            let count = run
                .findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .count();
            self.findings
                .get_or_create(&Found {
                    task: run.task.clone(),
                    target: run.target.clone(),
                    severity: word,
                })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn ran(&self, run: &RunRecord) {
        let of = Of {
            task: run.task.clone(),
            target: run.target.clone(),
        };
        self.runs
            .get_or_create(&Ended {
                task: run.task.clone(),
                target: run.target.clone(),
                status: run.status.as_str(),
            })
            .inc();
        self.durations
            .get_or_create(&of)
            .observe(seconds(run.duration_ms));
        let reclaimed = u64::try_from(run.bytes_before.saturating_sub(run.bytes_after));
        self.reclaimed
            .get_or_create(&of)
            .inc_by(reclaimed.unwrap_or(0));
        if kinds::removes_rows(&run.kind) {
            self.removed
                .get_or_create(&of)
                .inc_by(u64::try_from(run.rows).unwrap_or(0));
        }
        let waited: i64 = run
            .steps
            .iter()
            .flat_map(|step| &step.lock_waits)
            .filter(|wait| !wait.stepped_back)
            .map(|wait| wait.waited_ms.max(0))
            .sum();
        self.lock_waits.get_or_create(&of).inc_by(seconds(waited));
        let paused: i64 = run
            .steps
            .iter()
            .flat_map(|step| &step.throttled)
            .map(|pause| pause.waited_ms.max(0))
            .sum();
        self.throttled.get_or_create(&of).inc_by(seconds(paused));
        self.found(run);
    }
}

impl Watcher for Metrics {
    fn on(&self, happened: Happened<'_>) {
        match happened {
            Happened::Ticked => {
                self.last_tick
                    .set(wall_clock().timestamp_millis() as f64 / 1000.0);
            }
            Happened::Started(occurrence, late) => {
                // What is made up for is late by the down-time, not by us.
                if !occurrence.catch_up && occurrence.claims == 1 {
                    self.lateness
                        .observe(seconds(late.num_milliseconds().max(0)));
                }
            }
            Happened::Ran(run) => self.ran(run),
            Happened::Over(occurrence) => {
                self.occurrences
                    .get_or_create(&Planned {
                        schedule: occurrence.schedule.clone(),
                        status: match occurrence.is_covered() {
                            true => COVERED,
                            false => occurrence.status.as_str(),
                        },
                    })
                    .inc();
            }
            Happened::Compared(ahead) => {
                self.clock_ahead
                    .set(ahead.num_milliseconds() as f64 / 1000.0);
            }
            Happened::HistoryFailed => {
                self.history_errors.inc();
            }
        }
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// Every task on every target that a schedule names.
fn pairs(config: &Config) -> Vec<(String, String)> {
    periods_of(config, wall_clock()).into_keys().collect()
}

/// The longest time between two planned runs, by task and target: a schedule
/// of working days rests over the weekend.
fn periods_of(config: &Config, now: DateTime<Utc>) -> BTreeMap<(String, String), f64> {
    let mut periods: BTreeMap<(String, String), f64> = BTreeMap::new();
    for schedule in config.schedules.values().filter(|one| one.enabled) {
        let zone = zone_of(config, schedule);
        let mut at = now;
        let mut times = std::iter::from_fn(|| {
            at = schedule.cron.next_after(at, zone)?;
            Some(at)
        });
        let Some(mut last) = times.next() else {
            continue;
        };
        let mut longest = 0.0_f64;
        for next in times.take(8) {
            longest = longest.max(seconds((next - last).num_milliseconds()));
            last = next;
        }
        for task in schedule
            .tasks
            .iter()
            .filter_map(|name| config.tasks.get(name))
            .filter(|task| task.enabled)
        {
            for target in &task.targets {
                if config.targets.get(target).is_some_and(|one| one.configured) {
                    // Of several schedules, the most frequent counts.
                    periods
                        .entry((task.name.clone(), target.clone()))
                        .and_modify(|known| *known = known.min(longest))
                        .or_insert(longest);
                }
            }
        }
    }
    periods
}
