//! Replicas that are behind, and slots that hold back the log.

use super::{Snapshot, seconds, trend::bytes};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::catalog::DROP_IDLE_SLOT;
use crate::plan::{Finding, Measurement, Plan, Severity, Site};

/// One standby, as itself or as the primary sees it.
#[derive(Clone, Debug)]
pub(super) struct Standby {
    name: String,
    behind_bytes: i64,
    behind_seconds: f64,
    paused: bool,
}

/// One replication slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    name: String,
    active: bool,
    retained: i64,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    state: Option<String>,
    /// The statement that drops it, if nobody uses it by then.
    drop: String,
}

/// What is known about replication.
#[derive(Clone, Debug, Default)]
pub(super) struct Replication {
    standbys: Vec<Standby>,
    slots: Vec<Slot>,
}

const PRIMARY: &str = "SELECT pg_catalog.pg_current_wal_lsn()::text";

// Time alone would call an idle primary's standby late, and a standby that no
// longer receives anything punctual. One that has replayed nothing yet is at
// least as late as it is old.
const STANDBY: &str = "SELECT pg_catalog.pg_wal_lsn_diff($1::text::pg_catalog.pg_lsn, pg_catalog.pg_last_wal_replay_lsn())::int8,
        extract(epoch FROM pg_catalog.now()
            - coalesce(pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.pg_postmaster_start_time()))::float8,
        CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() END";

const SENDERS: &str = "SELECT coalesce(nullif(r.application_name, ''), r.client_addr::text, r.pid::text),
        coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn), 0)::int8,
        coalesce(extract(epoch FROM r.replay_lag), 0)::float8
    FROM pg_catalog.pg_stat_replication r WHERE r.state = 'streaming' AND r.replay_lsn IS NOT NULL ORDER BY 1";

const SLOTS: &str = "SELECT s.slot_name::text, s.active,
        coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn), 0)::int8, s.wal_status, {drop_slot}
    FROM pg_catalog.pg_replication_slots s ORDER BY 1";

pub(super) async fn read(site: &Site<Session>) -> Result<Replication, EngineError> {
    let db = &site.primary;
    let mut standbys = Vec::new();
    let senders = db
        .query("reading who receives the log", SENDERS, &[])
        .await?;
    let sql = SLOTS.replace("{drop_slot}", DROP_IDLE_SLOT);
    let slots = db.query("reading replication slots", &sql, &[]).await?;
    if site.replicas.is_empty() {
        for row in &senders {
            standbys.push(Standby {
                name: row.get(0),
                behind_bytes: row.get(1),
                behind_seconds: row.get(2),
                paused: false,
            });
        }
    } else {
        let rows = db.query("reading the end of the log", PRIMARY, &[]).await?;
        let end: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        for (n, session) in &site.replicas {
            let rows = session
                .query("asking how far the replica is", STANDBY, &[&end])
                .await?;
            let Some(row) = rows.first() else { continue };
            // A server that is no standby has no position, and is somebody else's to judge.
            let (Some(behind), Some(paused)) =
                (row.get::<_, Option<i64>>(0), row.get::<_, Option<bool>>(2))
            else {
                continue;
            };
            standbys.push(Standby {
                name: format!("replica {}", n + 1),
                behind_bytes: behind.max(0),
                behind_seconds: if behind > 0 {
                    row.get::<_, Option<f64>>(1).unwrap_or(0.0)
                } else {
                    0.0
                },
                paused,
            });
        }
    }
    Ok(Replication {
        standbys,
        slots: slots
            .iter()
            .map(|row| Slot {
                name: row.get(0),
                active: row.get(1),
                retained: row.get(2),
                state: row.get(3),
                drop: row.get(4),
            })
            .collect(),
    })
}

impl Replication {
    pub(super) fn judge(&self, options: &Snapshot, plan: &mut Plan) {
        for standby in &self.standbys {
            let mut note = |metric: &str, value: f64| {
                plan.measurements.push(Measurement {
                    metric: metric.to_owned(),
                    object: standby.name.clone(),
                    value,
                });
            };
            note("replication.lag_ms", standby.behind_seconds * 1000.0);
            note("replication.lag_bytes", standby.behind_bytes as f64);
            if standby.behind_seconds <= options.max_replication_lag.get().as_secs_f64() {
                continue;
            }
            let (why, suggestion) = if standby.paused {
                (
                    ": its replay is paused",
                    "SELECT pg_catalog.pg_wal_replay_resume() -- on the replica",
                )
            } else {
                (
                    "",
                    "SELECT application_name, state, sent_lsn, write_lsn, flush_lsn, replay_lsn, replay_lag FROM pg_catalog.pg_stat_replication",
                )
            };
            plan.findings.push(Finding {
                code: "replication.lag".to_owned(),
                severity: Severity::Warning,
                object: standby.name.clone(),
                message: format!(
                    "{} is {} and {} of log behind{why}; it answers with old data",
                    standby.name,
                    seconds(standby.behind_seconds),
                    bytes(standby.behind_bytes)
                ),
                suggestion: Some(suggestion.to_owned()),
            });
        }
        for slot in &self.slots {
            plan.measurements.push(Measurement {
                metric: "slot.retained_bytes".to_owned(),
                object: slot.name.clone(),
                value: slot.retained as f64,
            });
            let (severity, what) = match slot.state.as_deref() {
                Some("lost") => (Severity::Critical, "has lost log that its reader still needs: the reader cannot go on and has to be made anew".to_owned()),
                Some("unreserved") => (Severity::Critical, "is about to lose log that its reader still needs".to_owned()),
                _ if !slot.active && slot.retained > i64::try_from(options.max_slot_retention.get()).unwrap_or(i64::MAX) => (
                    Severity::Warning,
                    format!("is used by nobody and holds back {} of log, which fills the disk", bytes(slot.retained)),
                ),
                _ => continue,
            };
            plan.findings.push(Finding {
                code: "replication.slot".to_owned(),
                severity,
                object: slot.name.clone(),
                message: format!("the replication slot {} {what}", slot.name),
                suggestion: Some(slot.drop.clone()),
            });
        }
    }
}
