//! How far members are behind, and how far back the oplog reaches.

use super::Snapshot;
use super::facts::Facts;
use super::told::note;
use super::told::say;
use crate::engines::mongodb::number;
use crate::plan::mongodb::Body;
use crate::plan::{Measurement, Plan, Severity};

impl Snapshot {
    pub(super) fn replication(&self, facts: &Facts, plan: &mut Plan<Body>) {
        for member in &facts.members.0 {
            let Some(lag) = member.lag else { continue };
            plan.measurements.push(Measurement {
                metric: "replication.lag_ms".to_owned(),
                object: member.name.clone(),
                value: lag * 1000.0,
            });
            if lag > self.max_replication_lag.get().as_secs_f64() {
                say(
                    plan,
                    ("replication.lag", Severity::Warning),
                    &member.name,
                    format!(
                        "the member is {lag:.0} s behind, more than {}",
                        self.max_replication_lag
                    ),
                    Some("rs.printSecondaryReplicationInfo()".to_owned()),
                );
            }
        }
        if let Some(seconds) = facts.oplog {
            note(plan, "oplog.window_ms", "", seconds.saturating_mul(1000));
            let least = i64::try_from(self.min_oplog.get().as_secs()).unwrap_or(i64::MAX);
            let size = facts
                .status
                .as_ref()
                .and_then(|s| number(s.get("uptime")))
                .unwrap_or(i64::MAX);
            // A young set has written nothing for longer.
            if seconds < least && size > least {
                say(
                    plan,
                    ("oplog.short", Severity::Warning),
                    "local.oplog.rs",
                    format!(
                        "the oplog reaches back {:.1} h, less than {}: a member that is away for longer has to copy everything anew",
                        seconds as f64 / 3600.0,
                        self.min_oplog
                    ),
                    Some("db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES})".to_owned()),
                );
            }
        }
    }
}
