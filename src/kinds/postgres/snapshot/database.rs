//! The database as a whole: size, cache, connections, long transactions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::memory::{recall, remember};
use super::{Snapshot, seconds};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{COUNTING_SINCE, END_SESSION};
use crate::engines::postgres::{Session, each};
use crate::plan::{Finding, Measurement, Moment, Plan, Severity};

/// A hit ratio over fewer blocks than this says nothing.
const FEWEST_BLOCKS: i64 = 100_000;

/// How many long transactions are named.
const MOST: usize = 5;

/// Counters of the server since `reset`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Counters {
    reset: Option<DateTime<Utc>>,
    hits: i64,
    reads: i64,
    commits: i64,
    deadlocks: i64,
    temporary_bytes: i64,
}

/// What the server says about the database.
#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    pub(super) bytes: i64,
    counters: Counters,
    connections: i64,
    active: i64,
    idle_in_transaction: i64,
    connection_limit: i64,
    /// The role sees what other sessions do.
    sees_all: bool,
    long: Vec<Long>,
    states: Vec<State>,
}

/// Connections of clients in one state.
#[derive(Clone, Debug)]
struct State {
    /// `active`, `idle`, `idle in transaction`, …
    name: String,
    count: i64,
    /// Those that wait for a lock.
    waiting: i64,
    /// Since when the first of them is in it.
    longest_seconds: f64,
}

#[derive(Clone, Debug)]
struct Long {
    what: String,
    id: String,
    who: String,
    seconds: f64,
    /// Ends this transaction and no other; none where that cannot be said.
    end: Option<String>,
}

const DATABASE: &str =
    "SELECT pg_catalog.pg_database_size(d.oid) AS bytes, {counting_since} AS reset, s.blks_hit AS hits, s.blks_read AS reads,
        s.xact_commit AS commits, s.deadlocks, s.temp_bytes AS temporary_bytes,
        pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
    WHERE d.datname = pg_catalog.current_database()";

// Of other roles' sessions an ordinary role does not see what they are.
const CONNECTIONS: &str = "SELECT count(*) FILTER (WHERE a.backend_type = 'client backend' OR (a.backend_type IS NULL AND a.datid IS NOT NULL)) AS connections,
        count(*) FILTER (WHERE a.backend_type = 'client backend' AND a.state = 'active') AS active,
        count(*) FILTER (WHERE a.state LIKE 'idle in transaction%') AS idle_in_transaction,
        pg_catalog.current_setting('max_connections')::int8 - pg_catalog.current_setting('superuser_reserved_connections')::int8
            - coalesce(pg_catalog.current_setting('reserved_connections', true)::int8, 0) AS connection_limit
    FROM pg_catalog.pg_stat_activity a";

const STATES: &str = "SELECT coalesce(a.state, 'unknown') AS state, count(*) AS count, count(*) FILTER (WHERE a.wait_event_type = 'Lock') AS waiting,
        coalesce(max(extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change)), 0)::float8 AS longest_seconds
    FROM pg_catalog.pg_stat_activity a
    WHERE coalesce(a.backend_type, 'client backend') = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
    GROUP BY 1 ORDER BY state";

const LONG: &str = "SELECT 'session' AS what, a.pid::text AS id, pg_catalog.concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state) AS who,
        extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS seconds, {end_session} AS ending
    FROM pg_catalog.pg_stat_activity a
    WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
        AND pg_catalog.clock_timestamp() - a.xact_start > pg_catalog.make_interval(secs => $1)
    UNION ALL SELECT 'prepared transaction', p.gid, p.owner::text,
        extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8, pg_catalog.format('ROLLBACK PREPARED %L', p.gid)
    FROM pg_catalog.pg_prepared_xacts p
    WHERE p.database = pg_catalog.current_database() AND pg_catalog.clock_timestamp() - p.prepared > pg_catalog.make_interval(secs => $1)
    ORDER BY seconds DESC LIMIT 20";

pub(super) async fn read(db: &Session, options: &Snapshot) -> Result<Database, EngineError> {
    let database = db
        .query(
            "reading the size of the database",
            &DATABASE.replace("{counting_since}", COUNTING_SINCE),
            &[],
        )
        .await?;
    let connections = db.query("counting connections", CONNECTIONS, &[]).await?;
    let states = db
        .query("counting connections by state", STATES, &[])
        .await?;
    let limit = options.max_transaction.get().as_secs_f64();
    let long = db
        .query(
            "looking for long transactions",
            &LONG.replace("{end_session}", END_SESSION),
            &[&limit],
        )
        .await?;
    let (Some(d), Some(c)) = (database.first(), connections.first()) else {
        return Ok(Database::default());
    };
    Ok(Database {
        bytes: d.named("bytes")?,
        counters: Counters {
            reset: d.named("reset")?,
            hits: d.named("hits")?,
            reads: d.named("reads")?,
            commits: d.named("commits")?,
            deadlocks: d.named("deadlocks")?,
            temporary_bytes: d.named("temporary_bytes")?,
        },
        sees_all: d.named("sees_all")?,
        connections: c.named("connections")?,
        active: c.named("active")?,
        idle_in_transaction: c.named("idle_in_transaction")?,
        connection_limit: c.named("connection_limit")?,
        states: each(&states, |row| {
            Ok(State {
                name: row.named("state")?,
                count: row.named("count")?,
                waiting: row.named("waiting")?,
                longest_seconds: row.named("longest_seconds")?,
            })
        })?,
        long: each(&long, |row| {
            Ok(Long {
                what: row.named("what")?,
                id: row.named("id")?,
                who: row.named("who")?,
                seconds: row.named("seconds")?,
                end: row.named("ending")?,
            })
        })?,
    })
}

impl Database {
    /// What is to be said of the server that the database is on.
    pub(super) fn judge_server(&self, role: &str, options: &Snapshot, plan: &mut Plan) {
        let mut note = |metric: &str, value: f64| {
            plan.measurements.push(Measurement {
                metric: metric.to_owned(),
                object: String::new(),
                value,
            });
        };
        note("connections.used", self.connections as f64);
        note("connections.active", self.active as f64);
        note(
            "connections.idle_in_transaction",
            self.idle_in_transaction as f64,
        );
        note("connections.limit", self.connection_limit as f64);
        let waiting: i64 = self.states.iter().map(|state| state.waiting).sum();
        note("connections.waiting", waiting as f64);
        for state in &self.states {
            let mut note = |metric: &str, value: f64| {
                plan.measurements.push(Measurement {
                    metric: metric.to_owned(),
                    object: state.name.clone(),
                    value,
                });
            };
            note("connections.by_state", state.count as f64);
            note(
                "connections.longest_ms",
                state.longest_seconds.max(0.0) * 1000.0,
            );
        }
        if !self.sees_all {
            let role = crate::engines::postgres::Identifier::new(role);
            plan.findings.push(Finding {
                code: "privilege.missing".to_owned(),
                severity: Severity::Info,
                object: "pg_monitor".to_owned(),
                message: format!("{role} does not see what other roles' sessions, statements and replicas do: long transactions, slow statements and lag go unnoticed"),
                suggestion: Some(format!("GRANT pg_monitor TO {role}")),
            });
        }
        self.judge_connections(options, plan);
    }

    /// What is to be said of the database itself.
    pub(super) fn judge(&self, options: &Snapshot, at: &Moment, plan: &mut Plan) {
        plan.measurements.push(Measurement {
            metric: "database.bytes".to_owned(),
            object: String::new(),
            value: self.bytes as f64,
        });
        self.judge_cache(options, at, plan);
        for long in self.long.iter().take(MOST) {
            plan.findings.push(Finding {
                code: "transaction.long".to_owned(),
                severity: Severity::Warning,
                object: format!("{} {}", long.what, long.id),
                message: format!(
                    "{} {} ({}) has had a transaction open for {}: dead rows cannot be removed meanwhile. End it once you know what it is for",
                    long.what,
                    long.id,
                    long.who,
                    seconds(long.seconds)
                ),
                suggestion: long.end.clone(),
            });
        }
    }

    /// Since the last snapshot where there was one, else since the counters began.
    fn judge_cache(&self, options: &Snapshot, at: &Moment, plan: &mut Plan) {
        let now = &self.counters;
        let before: Counters = recall(at, "counters");
        let goes_on =
            before.reset == now.reset && before.hits <= now.hits && before.reads <= now.reads;
        let before = if goes_on { before } else { Counters::default() };
        let (hits, reads) = (now.hits - before.hits, now.reads - before.reads);
        let mut note = |metric: &str, value: f64| {
            plan.measurements.push(Measurement {
                metric: metric.to_owned(),
                object: String::new(),
                value,
            });
        };
        note(
            "transactions.committed",
            (now.commits - before.commits) as f64,
        );
        note("deadlocks", (now.deadlocks - before.deadlocks) as f64);
        note(
            "temporary.bytes",
            (now.temporary_bytes - before.temporary_bytes) as f64,
        );
        if hits + reads >= FEWEST_BLOCKS {
            let ratio = hits as f64 / (hits + reads) as f64;
            note("cache.hit_ratio", ratio);
            if ratio < options.min_cache_hit.share() {
                plan.findings.push(Finding {
                    code: "cache.hit_ratio".to_owned(),
                    severity: Severity::Warning,
                    object: "shared_buffers".to_owned(),
                    message: format!(
                        "only {:.1} % of the blocks were found in the server's cache, less than {}: it is too small, or something reads whole tables",
                        ratio * 100.0,
                        options.min_cache_hit
                    ),
                    suggestion: Some("SELECT relid::regclass, heap_blks_read, heap_blks_hit, idx_blks_read FROM pg_statio_user_tables ORDER BY heap_blks_read + coalesce(idx_blks_read, 0) DESC LIMIT 10".to_owned()),
                });
            }
        }
        remember(plan, "counters", now);
    }

    fn judge_connections(&self, options: &Snapshot, plan: &mut Plan) {
        let share = self.connections as f64 / self.connection_limit.max(1) as f64;
        if share <= options.max_connections.share() {
            return;
        }
        plan.findings.push(Finding {
            code: "connections.many".to_owned(),
            severity: if share >= 0.95 {
                Severity::Critical
            } else {
                Severity::Warning
            },
            object: "connections".to_owned(),
            message: format!(
                "{} of {} connections are in use ({:.0} %), {} of them idle in a transaction; when none is left the application is refused",
                self.connections,
                self.connection_limit,
                share * 100.0,
                self.idle_in_transaction
            ),
            suggestion: Some("SELECT datname, usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC".to_owned()),
        });
    }
}
