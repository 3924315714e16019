//! Operations that run long, and shapes of those that are slow on average.

use super::Snapshot;
use super::facts::Facts;
use super::slow;
use super::told::measure;
use super::told::note;
use super::told::say;
use crate::plan::mongodb::{Body, shell_name, shell_text};
use crate::plan::{Plan, Severity};

/// How many shapes of slow operations are named.
const MOST_SLOW: usize = 10;

/// How many of them go into the time series.
const MOST_SHAPES: usize = 50;

impl Snapshot {
    pub(super) fn operations(&self, facts: &Facts, plan: &mut Plan<Body>) {
        for (operation, on, seconds) in &facts.long {
            say(
                plan,
                ("operation.long", Severity::Warning),
                on,
                format!("an operation ({operation}) runs for {} min, longer than {}", seconds / 60, self.max_operation),
                Some("db.getSiblingDB(\"admin\").aggregate([{$currentOp: {allUsers: true}}, {$match: {secs_running: {$gt: 60}}}])".to_owned()),
            );
        }
        let limit = self.max_operation_mean.get().as_secs_f64() * 1000.0;
        let mut slow: Vec<_> = facts
            .slow
            .iter()
            .filter(|((ns, _), slow)| {
                let name = ns.split_once('.').map_or("", |(_, name)| name);
                slow.mean_ms() > limit && self.wants(&facts.database, name)
            })
            .collect();
        // What costs most time in all comes first.
        slow.sort_by_key(|(key, slow)| (std::cmp::Reverse(slow.total_ms), *key));
        let mut shapes: Vec<_> = facts.slow.iter().collect();
        // What costs most time in all comes first.
        shapes.sort_by_key(|(key, slow)| (std::cmp::Reverse(slow.total_ms), *key));
        for ((ns, shape), slow) in shapes.into_iter().take(MOST_SHAPES) {
            let object = format!("{ns} {shape}");
            measure(plan, "operation.mean_ms", &object, slow.mean_ms());
            note(plan, "operation.calls", &object, slow.calls);
        }
        for ((ns, shape), slow) in slow.into_iter().take(MOST_SLOW) {
            say(
                plan,
                ("operation.slow", Severity::Warning),
                ns,
                format!(
                    "takes {:.1} s on average, longer than {}: {:.1} s over {} recorded in the last {} h, {:.1} s at most, {} documents and index entries looked at each time: {shape}",
                    slow.mean_ms() / 1000.0,
                    self.max_operation_mean,
                    slow.total_ms as f64 / 1000.0,
                    slow.calls,
                    slow::HOURS,
                    slow.max_ms as f64 / 1000.0,
                    slow.examined / slow.calls.max(1),
                ),
                Some(format!(
                    "{}.find({{ns: {}}}).sort({{millis: -1}}).limit(5)",
                    shell_name(&facts.database, slow::PROFILE),
                    shell_text(ns)
                )),
            );
        }
    }
}
