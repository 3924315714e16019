//! Replicas that are behind, and slots that hold back the log.

use std::time::{Duration, Instant};

use super::{Snapshot, seconds, trend::bytes};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::DROP_IDLE_SLOT;
use crate::engines::postgres::load::{self, Position};
use crate::engines::postgres::{Session, each, first};
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
    /// Those of `replicas` that are no standbys.
    strangers: Vec<String>,
}

// Whether its replay is paused.
const PAUSED: &str =
    "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() END";

/// How often, and how long in all, a standby is asked again that seems late.
const AGAIN: Duration = Duration::from_millis(100);
const AT_MOST: Duration = Duration::from_secs(2);

const SENDERS: &str = "SELECT coalesce(nullif(r.application_name, ''), r.client_addr::text, r.pid::text),
        greatest(pg_catalog.pg_wal_lsn_diff({log_end}, r.replay_lsn), 0)::int8,
        CASE WHEN r.replay_lsn < {log_end} THEN coalesce(extract(epoch FROM r.replay_lag), 0) ELSE 0 END::float8
    FROM pg_catalog.pg_stat_replication r WHERE r.state = 'streaming' AND r.replay_lsn IS NOT NULL ORDER BY 1";

const SLOTS: &str = "SELECT s.slot_name::text AS name, s.active,
        coalesce(pg_catalog.pg_wal_lsn_diff({log_end}, s.restart_lsn), 0)::int8 AS retained, s.wal_status AS state, {drop_slot} AS ending
    FROM pg_catalog.pg_replication_slots s ORDER BY name";

pub(super) async fn read(site: &Site<Session>) -> Result<Replication, EngineError> {
    let db = &site.primary;
    let (mut standbys, mut strangers) = (Vec::new(), Vec::new());
    let senders = db
        .query(
            "reading who receives the log",
            &SENDERS.replace("{log_end}", load::LOG_END),
            &[],
        )
        .await?;
    let sql = SLOTS
        .replace("{drop_slot}", DROP_IDLE_SLOT)
        .replace("{log_end}", load::LOG_END);
    let slots = db.query("reading replication slots", &sql, &[]).await?;
    // A target that is a standby itself is behind, too, as far as it can tell.
    if db.server.in_recovery
        && let Some(position) = load::standby(db, i64::MAX).await?
    {
        let rows = db
            .query("asking whether its replay is paused", PAUSED, &[])
            .await?;
        standbys.push(Standby {
            name: "this server".to_owned(),
            behind_bytes: 0,
            behind_seconds: position.seconds,
            paused: first::<Option<bool>>(&rows, 0)?.flatten().unwrap_or(false),
        });
    }
    if site.replicas.is_empty() {
        for row in &senders {
            standbys.push(Standby {
                name: row.get(0)?,
                behind_bytes: row.get(1)?,
                behind_seconds: row.get(2)?,
                paused: false,
            });
        }
    } else {
        let flushed = load::flushed_bytes(db).await?;
        for (n, session) in &site.replicas {
            let name = format!("replica {}", n + 1);
            let Some(position) = settled(session, flushed).await? else {
                strangers.push(name);
                continue;
            };
            let rows = session
                .query("asking whether its replay is paused", PAUSED, &[])
                .await?;
            standbys.push(Standby {
                name,
                behind_bytes: (flushed - position.replayed).max(0),
                behind_seconds: position.seconds,
                paused: first::<Option<bool>>(&rows, 0)? == Some(Some(true)),
            });
        }
    }
    Ok(Replication {
        standbys,
        strangers,
        slots: each(&slots, |row| {
            Ok(Slot {
                name: row.named("name")?,
                active: row.named("active")?,
                retained: row.named("retained")?,
                state: row.named("state")?,
                drop: row.named("ending")?,
            })
        })?,
    })
}

/// How far the standby is. One that was only on its way gets there at once,
/// however long ago the last commit was that it has replayed.
async fn settled(session: &Session, flushed: i64) -> Result<Option<Position>, EngineError> {
    let asked = Instant::now();
    loop {
        let Some(position) = load::standby(session, flushed).await? else {
            return Ok(None);
        };
        if position.replayed >= flushed || position.seconds == 0.0 {
            // What it took us to see that is no lag of its own.
            return Ok(Some(Position {
                seconds: 0.0,
                ..position
            }));
        }
        if asked.elapsed() > AT_MOST {
            return Ok(Some(position));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Replication {
    pub(super) fn judge(&self, options: &Snapshot, plan: &mut Plan) {
        for name in &self.strangers {
            plan.findings.push(Finding {
                code: "replica.not_a_standby".to_owned(),
                severity: Severity::Warning,
                object: name.clone(),
                message: format!(
                    "{name} is no standby: after a failover, `replicas` of the target has to be put right; until then nobody knows how far the others are"
                ),
                suggestion: None,
            });
        }
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
            let limit = options.max_replication_lag.get().as_secs_f64();
            if standby.behind_seconds <= limit {
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
                // Ten times as late as it may be is no delay any more.
                severity: if standby.behind_seconds > 10.0 * limit.max(1.0) {
                    Severity::Critical
                } else {
                    Severity::Warning
                },
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
                Some("unreserved") => (Severity::Critical, "is about to lose log that its reader still needs: start the reader again, or drop the slot if nobody reads it any more; a reader that comes back after that has to be made anew".to_owned()),
                _ if !slot.active && slot.retained > i64::try_from(options.max_slot_retention.get()).unwrap_or(i64::MAX) => (
                    Severity::Warning,
                    format!("is used by nobody and holds back {} of log, which fills the disk: start its reader again, or drop it if nobody reads it any more; a reader that comes back after that has to be made anew", bytes(slot.retained)),
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
