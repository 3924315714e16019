//! Everything as Prometheus reads it.

use std::collections::BTreeMap;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::super::measured;
use super::{Metrics, Of, Seconds, periods_of};
use crate::config::Config;
use crate::history::Store;
use crate::values::{wall_clock, with_causes};

impl Metrics {
    /// Everything as Prometheus reads it. Successes and periods come from the
    /// history and the configuration, so that every instance says the same.
    pub(in crate::web) async fn page(
        &self,
        config: &Config,
        store: &dyn Store,
    ) -> Result<String, std::fmt::Error> {
        let successes = Family::<Of, Seconds>::default();
        match store.last_successes().await {
            Ok(known) => {
                for (task, target, at) in known {
                    successes
                        .get_or_create(&Of { task, target })
                        .set(at.timestamp_millis() as f64 / 1000.0);
                }
            }
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "the last successes are not known");
                self.history_errors.inc();
            }
        }
        let periods = Family::<Of, Seconds>::default();
        for ((task, target), period) in periods_of(config, wall_clock()) {
            periods.get_or_create(&Of { task, target }).set(period);
        }
        let mut all = self.registry(successes, periods);
        if let Err(error) = measured::register(&mut all, config, store).await {
            tracing::warn!(error = %with_causes(&error), "the numbers of the last snapshots are not known");
            self.history_errors.inc();
        }
        let mut page = String::new();
        encode(&mut page, &all)?;
        Ok(plain(&page))
    }

    fn registry(&self, successes: Family<Of, Seconds>, periods: Family<Of, Seconds>) -> Registry {
        let mut all = Registry::with_prefix("maint");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "The version that runs", build);
        all.register_with_unit(
            "last_success_timestamp",
            "When a task last succeeded on a target, by any instance, in seconds since 1970",
            Unit::Seconds,
            successes,
        );
        all.register_with_unit(
            "task_period",
            "How long it is from one planned run of a task to the next",
            Unit::Seconds,
            periods,
        );
        all.register(
            "runs",
            "Runs that ended here, by their status",
            self.runs.clone(),
        );
        all.register_with_unit(
            "run_duration",
            "How long runs took",
            Unit::Seconds,
            self.durations.clone(),
        );
        all.register_with_unit(
            "reclaimed",
            "Space that runs have given back",
            Unit::Bytes,
            self.reclaimed.clone(),
        );
        all.register(
            "rows_removed",
            "Rows that were deleted or archived",
            self.removed.clone(),
        );
        all.register_with_unit(
            "lock_wait",
            "How long steps waited for locks of others",
            Unit::Seconds,
            self.lock_waits.clone(),
        );
        all.register_with_unit(
            "throttle",
            "How long steps left the server to others",
            Unit::Seconds,
            self.throttled.clone(),
        );
        all.register(
            "findings",
            "What the last run of a task noticed, by severity",
            self.findings.clone(),
        );
        all.register(
            "occurrences",
            "Planned firings of schedules, by what became of them",
            self.occurrences.clone(),
        );
        all.register_with_unit(
            "scheduler_lag",
            "How late occurrences were begun, after their jitter",
            Unit::Seconds,
            self.lateness.clone(),
        );
        all.register_with_unit(
            "scheduler_last_tick_timestamp",
            "When the calendar was last looked at, in seconds since 1970",
            Unit::Seconds,
            self.last_tick.clone(),
        );
        all.register_with_unit(
            "history_clock_ahead",
            "How far the clock of this machine is ahead of that of the history",
            Unit::Seconds,
            self.clock_ahead.clone(),
        );
        all.register(
            "history_errors",
            "Calls to the history that failed",
            self.history_errors.clone(),
        );
        all.register(
            "configuration_reloads",
            "Changed configurations, taken or refused",
            self.reloads.clone(),
        );
        all
    }
}

/// From OpenMetrics to the plain text format, in which the name of a counter
/// ends in `_total` in its description, too, and an information is a gauge.
fn plain(page: &str) -> String {
    let mut kinds = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            kinds.insert(name, kind);
        }
    }
    let named = |name: &str| match kinds.get(name) {
        Some(&"counter") => format!("{name}_total"),
        Some(&"info") => format!("{name}_info"),
        _ => name.to_owned(),
    };
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|word| {
            let (name, rest) = line.strip_prefix(word)?.split_once(' ')?;
            let rest = if rest == "info" { "gauge" } else { rest };
            Some(format!("{word}{} {rest}", named(name)))
        });
        match described {
            Some(line) => text.push_str(&line),
            None if line.starts_with("# ") => continue,
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}
