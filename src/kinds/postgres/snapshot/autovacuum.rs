//! What autovacuum does with each table, and which settings of a table would help it.
//!
//! It begins once `threshold + scale_factor × rows` rows are dead ([documentation]). Of a large
//! table that is a large heap of dead rows; and where it begins in time, it may not keep up.
//!
//! [documentation]: https://www.postgresql.org/docs/current/routine-vacuuming.html#AUTOVACUUM

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::common::{Selection, of_rows, rows};
use super::super::horizon::{self, Holder, Vacuumed};
use super::Snapshot;
use super::memory::{recall, remember};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::NOT_SYSTEM_SCHEMA;
use crate::engines::postgres::{RelationName, Session, each};
use crate::plan::{Finding, Moment, Plan, Severity};

/// Share of dead rows at which autovacuum should have come: a scan of the table reads
/// that much in vain, and its file stays that much larger.
const ENOUGH: f64 = 0.10;

/// The share that is proposed, and the one for [`MANY`] rows and more.
const PROPOSED: (f64, f64) = (0.05, 0.01);

/// Rows that are proposed to be dead besides that share, and those of a table for which so many are more than
/// [`ENOUGH`]: there it is what the server begins with (`autovacuum_vacuum_threshold`).
const PROPOSED_BASE: (f64, f64) = (1_000.0, 50.0);

/// So many rows that a hundredth of them is worth a vacuum.
const MANY: f64 = 10_000_000.0;

/// What is remembered of tables for which autovacuum is late: since when it is.
const BEHIND: &str = "behind";

/// How many tables of one complaint are named; more than that is one problem.
const MOST: usize = 5;

/// What the server lets one round of vacuum cost at most before it pauses.
const HIGHEST_COST: i64 = 10_000;

/// One table with dead rows, or without autovacuum.
#[derive(Clone, Debug)]
pub(super) struct Care {
    name: RelationName,
    live: i64,
    dead: i64,
    /// At how many dead rows autovacuum begins.
    threshold: f64,
    enabled: bool,
    /// What one round may cost before it pauses.
    cost_limit: i64,
    at_work: bool,
    last: Option<DateTime<Utc>>,
    vacuumed: Option<DateTime<Utc>>,
    /// What autovacuum itself thinks, from 19 on: from 1 on it would come.
    score: Option<f64>,
}

/// What is known of autovacuum.
#[derive(Clone, Debug, Default)]
pub(super) struct Autovacuum {
    tables: Vec<Care>,
    /// Its workers that are at work, and how many there may be.
    workers: (i64, i64),
    /// Not for the whole server: that is told elsewhere, and no table's setting would help.
    off: bool,
    /// How long it rests between two looks at this database, in seconds.
    naptime: i64,
    pub(super) holders: Vec<Holder>,
}

const TABLES: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name, s.live, s.dead,
        CASE WHEN most.value >= 0 THEN least(due.value, most.value) ELSE due.value END AS threshold,
        coalesce(own.enabled, true) AS enabled, coalesce(nullif(own.cost_limit, -1), nullif(pg_catalog.current_setting('autovacuum_vacuum_cost_limit')::int8, -1),
            pg_catalog.current_setting('vacuum_cost_limit')::int8) AS cost_limit,
        EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.relid = c.oid AND v.datid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())) AS at_work,
        pg_catalog.pg_stat_get_last_autovacuum_time(c.oid) AS last,
        greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed, {score} AS score
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace {scores}
    CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_stat_get_live_tuples(c.oid), 0) AS live, coalesce(pg_catalog.pg_stat_get_dead_tuples(c.oid), 0) AS dead OFFSET 0) s
    CROSS JOIN LATERAL (SELECT
        pg_catalog.max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_enabled')::bool AS enabled,
        pg_catalog.max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_vacuum_threshold')::float8 AS base,
        pg_catalog.max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_vacuum_max_threshold')::float8 AS most,
        pg_catalog.max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_vacuum_scale_factor')::float8 AS scale,
        pg_catalog.max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_vacuum_cost_limit')::float8::int8 AS cost_limit
        FROM pg_catalog.pg_options_to_table(c.reloptions) o) own
    CROSS JOIN LATERAL (SELECT coalesce(own.base, pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8)
        + coalesce(own.scale, pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0)::float8 AS value) due
    CROSS JOIN LATERAL (SELECT coalesce(own.most, pg_catalog.current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1) AS value) most
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {not_system}
        AND ((s.dead >= $1::int8 AND s.dead > $2::float8 * s.live) OR (NOT coalesce(own.enabled, true) AND s.live + s.dead >= $1::int8))
    ORDER BY s.dead DESC, c.oid LIMIT 100";

const WORKERS: &str =
    "SELECT pg_catalog.count(*) FILTER (WHERE a.backend_type = 'autovacuum worker') AS workers,
        pg_catalog.current_setting('autovacuum_max_workers')::int8 AS most, NOT pg_catalog.current_setting('autovacuum')::bool AS off,
        (SELECT t.setting::int8 FROM pg_catalog.pg_settings t WHERE t.name = 'autovacuum_naptime') AS naptime
    FROM pg_catalog.pg_stat_activity a";

/// Reads which tables autovacuum serves badly, and who holds back every vacuum.
pub(super) async fn read(db: &Session, options: &Snapshot) -> Result<Autovacuum, EngineError> {
    let (score, scores) = if db.server.major() >= 19 {
        (
            "w.vacuum_score::float8",
            "LEFT JOIN pg_catalog.pg_stat_autovacuum_scores w ON w.relid = c.oid",
        )
    } else {
        ("NULL::float8", "")
    };
    let sql = TABLES
        .replace("{not_system}", NOT_SYSTEM_SCHEMA)
        .replace("{scores}", scores)
        .replace("{score}", score);
    let least = i64::try_from(options.min_dead_rows).unwrap_or(i64::MAX);
    let doing = "reading what autovacuum does with tables";
    let tables = db.query(doing, &sql, &[&least, &ENOUGH]).await?;
    let tables = each(&tables, |row| {
        Ok(Care {
            name: row.relation("schema", "name")?,
            live: row.named("live")?,
            dead: row.named("dead")?,
            threshold: row.named("threshold")?,
            enabled: row.named("enabled")?,
            cost_limit: row.named("cost_limit")?,
            at_work: row.named("at_work")?,
            last: row.named("last")?,
            vacuumed: row.named("vacuumed")?,
            score: row.named("score")?,
        })
    })?;
    let mut found = Autovacuum {
        tables,
        ..Autovacuum::default()
    };
    // Who is at work, and who holds it back, matters only where something is left undone.
    if !found.tables.is_empty() {
        let doing = "reading who is at work for autovacuum";
        for row in db.query(doing, WORKERS, &[]).await? {
            found.workers = (row.named("workers")?, row.named("most")?);
            found.off = row.named("off")?;
            found.naptime = row.named("naptime")?;
        }
        found.holders = horizon::holders(db).await?;
    }
    Ok(found)
}

impl Autovacuum {
    /// Who keeps a vacuum that comes after `last` from removing anything.
    pub(super) fn holder(&self, last: Option<DateTime<Utc>>) -> Option<&Holder> {
        let vacuumed = Vacuumed {
            at: last,
            in_vain: false,
            kept_by: None,
        };
        horizon::blocks_removal(&self.holders, &vacuumed)
    }

    /// What is to be said.
    ///
    /// That autovacuum does not keep up cannot be seen at one moment: it looks at a table once in
    /// its naptime. So a table has to have been behind in an earlier snapshot, too, at least that
    /// long ago, with nobody who held it back since then.
    pub(super) fn judge(&self, options: &Snapshot, at: &Moment, plan: &mut Plan) {
        let before: BTreeMap<String, DateTime<Utc>> = recall(at, BEHIND);
        let mut behind = BTreeMap::new();
        self.judged(options, at.now, &before, &mut behind, plan);
        remember(plan, BEHIND, &behind);
    }

    fn judged(
        &self,
        options: &Snapshot,
        now: DateTime<Utc>,
        before: &BTreeMap<String, DateTime<Utc>>,
        behind: &mut BTreeMap<String, DateTime<Utc>>,
        plan: &mut Plan,
    ) {
        let selection = Selection::new(&options.include, &options.exclude, &options.schemas);
        let mut told = [0_usize; 3];
        if self.off {
            return;
        }
        for table in self.tables.iter().filter(|t| selection.covers(&t.name)) {
            let (nth, finding) = if !table.enabled {
                (0, table.disabled())
            } else if self.holder(table.vacuumed).is_some() || table.at_work {
                // No setting helps against the one; the other is on its way.
                continue;
            } else if table.dead as f64 >= 2.0 * table.threshold {
                let name = table.name.to_string();
                let since = before.get(&name).copied().unwrap_or(now);
                let held = |holder: &Holder| {
                    !holder.elsewhere && holder.since.is_none_or(|began| began <= since)
                };
                if self.holders.iter().any(held) {
                    continue;
                }
                behind.insert(name, since);
                if now - since < TimeDelta::seconds(self.naptime.max(1)) {
                    continue;
                }
                (1, table.behind(self.workers, since))
            } else if (table.dead as f64) < table.threshold
                && let Some(rare) = table.rare()
            {
                (2, rare)
            } else {
                continue;
            };
            told[nth] += 1;
            if told[nth] <= MOST {
                plan.findings.push(finding);
            }
        }
    }
}

impl Care {
    fn share(&self) -> String {
        format!(
            "{} of {} {} dead, beside {} live ones ({:.0} %)",
            of_rows(self.dead as f64),
            self.name,
            if self.dead == 1 { "is" } else { "are" },
            rows(self.live as f64),
            100.0 * self.dead as f64 / self.live.max(1) as f64
        )
    }

    fn last(&self) -> String {
        let score = self.score.map_or_else(String::new, |score| {
            format!("; its own score for a vacuum is {score:.1}, from 1 on it would come")
        });
        match self.last {
            Some(at) => format!("it last came on {}{score}", at.format("%Y-%m-%d %H:%M UTC")),
            None => format!("it has not come since the server began to count{score}"),
        }
    }

    fn disabled(&self) -> Finding {
        self.finding(
            "autovacuum.disabled",
            Severity::Warning,
            format!(
                "autovacuum is switched off for {}, which has {} ({} dead): only a vacuum by hand removes its dead rows and keeps its statistics, until wraparound forces one",
                self.name,
                of_rows((self.live + self.dead) as f64),
                rows(self.dead as f64)
            ),
            format!("ALTER TABLE {} RESET (autovacuum_enabled)", self.name),
        )
    }

    /// None where no setting would have autovacuum begin by what is dead now.
    fn rare(&self) -> Option<Finding> {
        let total = (self.live + self.dead) as f64;
        let scale = if total >= MANY {
            PROPOSED.1
        } else {
            PROPOSED.0
        };
        let begins = |base: f64| base + scale * total;
        let base = match begins(PROPOSED_BASE.0) <= ENOUGH * total {
            true => PROPOSED_BASE.0,
            false => PROPOSED_BASE.1,
        };
        if begins(base) >= self.threshold.min(self.dead as f64) {
            return None;
        }
        Some(self.finding(
            "autovacuum.rare",
            Severity::Info,
            format!(
                "{}, and autovacuum begins at {}: {}. With the setting below it would begin at {}",
                self.share(),
                rows(self.threshold),
                self.last(),
                rows(begins(base))
            ),
            format!(
                "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = {scale}, autovacuum_vacuum_threshold = {base})",
                self.name
            ),
        ))
    }

    fn behind(&self, (busy, most): (i64, i64), since: DateTime<Utc>) -> Finding {
        let share = self.share();
        let last = self.last();
        let begins = format!(
            "{}, and was as late on {}",
            rows(self.threshold),
            since.format("%Y-%m-%d %H:%M UTC")
        );
        if busy >= most {
            return self.finding(
                "autovacuum.behind",
                Severity::Warning,
                format!(
                    "{share}; autovacuum should have begun at {begins}: {last}, and all of its {most} workers are busy"
                ),
                format!(
                    "ALTER SYSTEM SET autovacuum_max_workers = {} -- and a restart before 18",
                    most * 2
                ),
            );
        }
        let limit = (self.cost_limit * 5).min(HIGHEST_COST);
        self.finding(
            "autovacuum.behind",
            Severity::Warning,
            format!(
                "{share}; autovacuum should have begun at {begins}: {last}. It does not keep up with what changes; with the setting below it pauses less often"
            ),
            format!(
                "ALTER TABLE {} SET (autovacuum_vacuum_cost_limit = {limit})",
                self.name
            ),
        )
    }

    fn finding(&self, code: &str, severity: Severity, message: String, help: String) -> Finding {
        Finding {
            code: code.to_owned(),
            severity,
            object: self.name.to_string(),
            message,
            suggestion: Some(help),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
