//! Slow statements, and those that got slower since last month.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Months, Utc};
use serde::{Deserialize, Serialize};

use super::Snapshot;
use super::memory::{recall, remember};
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, Session, each};
use crate::plan::{Finding, Measurement, Moment, Plan, Severity};

/// How many slow statements are named, and how many that got slower.
const MOST: usize = 5;

/// How much of a statement's text is shown.
const SHOWN: usize = 60;

/// A statement got slower only if that can be felt.
const FELT_MS: f64 = 10.0;

/// What pg_stat_statements says.
#[derive(Clone, Debug)]
pub(super) enum Statements {
    /// Why it says nothing.
    Missing(Finding),
    /// The busiest statements since `reset`.
    Seen {
        /// The view, quoted.
        view: String,
        reset: Option<DateTime<Utc>>,
        statements: Vec<Statement>,
    },
}

/// Nothing was asked, and nothing is missing.
impl Default for Statements {
    fn default() -> Self {
        Statements::Seen {
            view: String::new(),
            reset: None,
            statements: Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Statement {
    id: i64,
    text: String,
    calls: i64,
    total_ms: f64,
    /// How far single calls are from the mean, in milliseconds.
    deviation_ms: f64,
    /// Rows that all calls returned or changed.
    rows: i64,
    /// Share of the blocks that were in the server's cache; none where it read none.
    hit_ratio: Option<f64>,
}

/// Calls, and the milliseconds they took together.
type Sum = (i64, f64);

/// What was seen before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Past {
    reset: Option<DateTime<Utc>>,
    /// As the counters stood then, by statement.
    seen: BTreeMap<String, Sum>,
    /// What was added to them month by month: this one and the last.
    months: BTreeMap<String, BTreeMap<String, Sum>>,
}

const EXTENSION: &str = "SELECT n.nspname::text AS schema, a.default_version IS NOT NULL AS available,
        EXISTS (SELECT 1 FROM pg_catalog.pg_attribute c JOIN pg_catalog.pg_class v ON v.oid = c.attrelid
                JOIN pg_catalog.pg_depend d ON d.objid = v.oid AND d.refobjid = e.oid AND d.deptype = 'e'
            WHERE v.relnamespace = n.oid AND v.relname = 'pg_stat_statements' AND c.attname = 'total_exec_time') AS current,
        EXISTS (SELECT 1 FROM pg_catalog.pg_class v
                JOIN pg_catalog.pg_depend d ON d.objid = v.oid AND d.refobjid = e.oid AND d.deptype = 'e'
            WHERE v.relnamespace = n.oid AND v.relname = 'pg_stat_statements_info') AS info
    FROM (SELECT) one
    LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_stat_statements'
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = 'pg_stat_statements'";

// Only what reads and changes rows: maintenance takes its time by nature, and
// commands such as ALTER ROLE are kept with the values they were given.
const STATEMENTS: &str = "SELECT s.queryid AS id, min(s.query) AS text, sum(s.calls)::int8 AS calls, sum(s.total_exec_time)::float8 AS total_ms, {reset} AS reset,
        max(s.stddev_exec_time)::float8 AS deviation_ms, sum(s.rows)::int8 AS result_rows,
        (sum(s.shared_blks_hit) / nullif(sum(s.shared_blks_hit + s.shared_blks_read), 0))::float8 AS hit_ratio
    FROM {view} s
    WHERE s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
        AND s.queryid IS NOT NULL AND s.calls > 0
        -- Ours say so at their end.
        AND s.query !~ '/[*] maint [*]/\\s*$'
        AND s.query ~* '^\\s*(/\\*.*?\\*/\\s*)*(select|with|insert|update|delete|merge|values)\\M'
    GROUP BY s.queryid ORDER BY sum(s.total_exec_time) DESC, s.queryid LIMIT $1";

pub(super) async fn read(db: &Session, top: u32) -> Result<Statements, EngineError> {
    let found = db
        .query("looking for pg_stat_statements", EXTENSION, &[])
        .await?;
    let (schema, available, current, info): (Option<String>, bool, bool, bool) = match found.first()
    {
        Some(row) => (
            row.named("schema")?,
            row.named("available")?,
            row.named("current")?,
            row.named("info")?,
        ),
        None => (None, false, false, false),
    };
    let missing = |why: &str, suggestion: Option<&str>| {
        Statements::Missing(Finding {
            code: "statements.missing".to_owned(),
            severity: Severity::Info,
            object: "pg_stat_statements".to_owned(),
            message: format!(
                "pg_stat_statements {why}: slow statements, and those that got slower, go unnoticed"
            ),
            suggestion: suggestion.map(str::to_owned),
        })
    };
    let Some(schema) = schema else {
        return Ok(if available {
            missing(
                "is not installed in this database",
                Some("CREATE EXTENSION pg_stat_statements"),
            )
        } else {
            missing(
                "is not available on this server; its package is usually called postgresql-contrib",
                None,
            )
        });
    };
    if !current {
        return Ok(missing(
            "is of a version from before PostgreSQL 13",
            Some("ALTER EXTENSION pg_stat_statements UPDATE"),
        ));
    }
    let schema = Identifier::new(schema);
    let view = format!("{schema}.pg_stat_statements");
    let reset = if info {
        format!("(SELECT i.stats_reset FROM {schema}.pg_stat_statements_info i)")
    } else {
        "NULL::timestamptz".to_owned()
    };
    let sql = STATEMENTS
        .replace("{view}", &view)
        .replace("{reset}", &reset);
    let rows = match db
        .query("reading pg_stat_statements", &sql, &[&i64::from(top)])
        .await
    {
        Ok(rows) => rows,
        // object_not_in_prerequisite_state
        Err(error) if error.sqlstate() == Some("55000") => {
            // No statement: what else is loaded may be hidden from the role, and setting it would be
            // the end of that.
            return Ok(missing(
                "is installed, and not loaded by the server: add it to `shared_preload_libraries`, beside what is there, and restart the server",
                None,
            ));
        }
        // character_not_in_repertoire: the statements of all databases are kept together.
        Err(error) if error.sqlstate() == Some("22021") => {
            return Ok(missing(
                "has statements of a database with another encoding, which cannot be read here",
                Some(&format!("SELECT {schema}.pg_stat_statements_reset()")),
            ));
        }
        Err(error) if error.sqlstate() == Some("42501") => {
            let role = Identifier::new(&db.server.role);
            return Ok(missing(
                &format!("may not be read by {role}"),
                Some(&format!("GRANT SELECT ON {view} TO {role}")),
            ));
        }
        Err(error) => return Err(error),
    };
    Ok(Statements::Seen {
        view,
        reset: rows.first().map_or(Ok(None), |row| row.named("reset"))?,
        statements: each(&rows, |row| {
            Ok(Statement {
                id: row.named("id")?,
                text: row.named("text")?,
                calls: row.named("calls")?,
                total_ms: row.named("total_ms")?,
                deviation_ms: row.named("deviation_ms")?,
                rows: row.named("result_rows")?,
                hit_ratio: row.named("hit_ratio")?,
            })
        })?,
    })
}

/// Whether counters that stood at `before` went on to `now`. Those that went
/// back began anew: the entry was thrown out meanwhile. Milliseconds that were
/// kept as text may differ in their last digit from what was counted.
fn went_on(before: Sum, now: Sum) -> bool {
    before.0 <= now.0 && before.1 <= now.1 * (1.0 + 1e-9)
}

/// What is to be said about statements.
pub(super) fn judge(statements: &Statements, options: &Snapshot, at: &Moment, plan: &mut Plan) {
    let (view, reset, statements) = match statements {
        Statements::Missing(finding) => {
            plan.findings.push(finding.clone());
            return;
        }
        Statements::Seen {
            view,
            reset,
            statements,
        } => (view, reset, statements),
    };
    let mut past: Past = recall(at, "statements");
    if past.reset != *reset {
        past.seen.clear();
        past.reset = *reset;
    }
    let local = at.now.with_timezone(&at.zone).date_naive();
    let name = |date: chrono::NaiveDate| format!("{:04}-{:02}", date.year(), date.month());
    let this = name(local);
    let last = name(local.checked_sub_months(Months::new(1)).unwrap_or(local));
    past.months
        .retain(|month, _| *month == this || *month == last);

    let slow_ms = options.max_statement_mean.get().as_secs_f64() * 1000.0;
    let mut slow: Vec<(f64, Finding)> = Vec::new();
    let mut slower: Vec<(f64, Finding)> = Vec::new();
    let mut seen = BTreeMap::new();
    for statement in statements {
        let key = statement.id.to_string();
        let total = (statement.calls, statement.total_ms);
        let before = past.seen.get(&key).copied();
        let before = before.filter(|before| went_on(*before, total));
        let new = before.map_or(total, |(calls, ms)| (total.0 - calls, total.1 - ms));
        seen.insert(key.clone(), total);
        if new.0 == 0 {
            continue;
        }
        let month = past
            .months
            .entry(this.clone())
            .or_default()
            .entry(key.clone())
            .or_default();
        month.0 += new.0;
        month.1 += new.1;
        let month = *month;
        let mean = new.1 / new.0 as f64;
        let object = statement.object();
        let mut note = |metric: &str, value: f64| {
            plan.measurements.push(Measurement {
                metric: metric.to_owned(),
                object: object.clone(),
                value,
            });
        };
        note("statement.mean_ms", mean);
        note("statement.calls", new.0 as f64);
        note("statement.total_ms", new.1);
        note("statement.deviation_ms", statement.deviation_ms);
        let rows = statement.rows as f64 / statement.calls.max(1) as f64;
        note("statement.rows_per_call", rows);
        if let Some(ratio) = statement.hit_ratio {
            note("statement.hit_ratio", ratio);
        }
        let look = Some(format!(
            "SELECT query, calls, mean_exec_time, rows FROM {view} WHERE queryid = {}",
            statement.id
        ));
        let enough = |sum: Sum| u64::try_from(sum.0).unwrap_or(0) >= options.min_calls;
        if mean > slow_ms && enough(new) {
            slow.push((
                new.1,
                Finding {
                    code: "statement.slow".to_owned(),
                    severity: Severity::Warning,
                    message: format!(
                        "takes {} on average ({} more or less), {} over {} calls {}; {rows:.0} rows each{}: {object}",
                        millis(mean),
                        millis(statement.deviation_ms),
                        millis(new.1),
                        new.0,
                        if before.is_some() {
                            "since the last snapshot"
                        } else {
                            "since it was first counted"
                        },
                        statement.hit_ratio.map_or_else(String::new, |ratio| format!(
                            ", {:.0} % of the blocks from the cache",
                            (ratio * 100.0).floor()
                        ))
                    ),
                    object: object.clone(),
                    suggestion: look.clone(),
                },
            ));
        }
        let Some(&then) = past
            .months
            .get(&last)
            .and_then(|of_month| of_month.get(&key))
        else {
            continue;
        };
        let (now, then_mean) = (month.1 / month.0 as f64, then.1 / then.0.max(1) as f64);
        if enough(month)
            && enough(then)
            && now > then_mean * options.slower_by
            && now - then_mean > FELT_MS
        {
            slower.push((
                (now - then_mean) * month.0 as f64,
                Finding {
                    code: "statement.slower".to_owned(),
                    severity: Severity::Warning,
                    message: format!(
                        "takes {} on average this month, {:.1} times as long as last month ({}): {object}",
                        millis(now),
                        now / then_mean.max(0.001),
                        millis(then_mean)
                    ),
                    object,
                    suggestion: look,
                },
            ));
        }
    }
    for mut found in [slow, slower] {
        // What costs most time in all comes first.
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        plan.findings
            .extend(found.into_iter().take(MOST).map(|(_, finding)| finding));
    }
    past.seen = seen;
    // A statement that comes and goes must not fill the memory.
    for month in past.months.values_mut() {
        while month.len() > 4 * options.top.max(1) as usize {
            let least = month
                .iter()
                .min_by(|a, b| a.1.1.total_cmp(&b.1.1))
                .map(|(key, _)| key.clone());
            match least {
                Some(key) => month.remove(&key),
                None => break,
            };
        }
    }
    remember(plan, "statements", &past);
}

impl Statement {
    /// Its beginning on one line, and its id: several statements begin alike.
    fn object(&self) -> String {
        let line = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = line.chars().take(SHOWN).collect();
        if shown.len() < line.len() {
            shown.push('…');
        }
        format!("{shown} [{}]", self.id)
    }
}

fn millis(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        super::seconds(ms / 1000.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
