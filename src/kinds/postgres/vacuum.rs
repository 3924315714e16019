//! Removes dead rows and freezes old ones, oldest age first.

mod decide;
mod facts;
mod uncleaned;

use schemars::JsonSchema;
use serde::Deserialize;

use self::decide::{Decision, InVain, Want, kept_by};
use self::facts::Facts;
use super::common::{Selection, rows};
use super::horizon::{self, Holder};
use super::rights::{Forbidden, forbid};
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::plan::{
    Finding, Kind, Memory, Moment, Param, Plan, Query, Severity, Site, Statement, Step,
};
use crate::values::{Bytes, Engine, NamePattern, Percent, SchemaPattern};

/// Age from which a database's transaction ids are reported as a warning.
/// With the default `autovacuum_freeze_max_age` of 200 million, an age of
/// 500 million means that several forced vacuums in a row did not get through.
const AGE_WARNING: i64 = 500_000_000;

/// Age from which it is critical. The server stops accepting writes about
/// 2.1 billion after the last freeze; at 1.6 billion its own failsafe starts.
const AGE_CRITICAL: i64 = 1_200_000_000;

/// Options of `kind: vacuum`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Vacuum {
    /// Only tables that match one of these patterns, such as `public.*` or `orders`.
    include: Vec<NamePattern>,
    /// No tables that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// Only in schemas that one of these patterns names and none with a `!` does; all where there is none.
    schemas: Vec<SchemaPattern>,
    /// Share of dead rows from which on a table is vacuumed.
    min_dead: Percent,
    /// Fewer dead rows than this never matter.
    min_dead_rows: u64,
    /// Share of rows inserted since the last vacuum from which on it runs,
    /// so that index-only scans can trust the visibility map.
    min_inserted: Percent,
    /// Fewer inserted rows than this never matter.
    min_inserted_rows: u64,
    /// Age in transactions from which on a table, its TOAST table included,
    /// is frozen. Default: three quarters of the server's `autovacuum_freeze_max_age`.
    freeze_age: Option<u32>,
    /// The same for multixact ids. Default: three quarters of the server's
    /// `autovacuum_multixact_freeze_max_age`.
    freeze_multixact_age: Option<u32>,
    /// Parallel workers for the indexes of one table; the server decides where not given.
    parallel: Option<u8>,
    /// Shared buffers that one vacuum may use (PostgreSQL 16 and newer).
    buffer_usage_limit: Option<Bytes>,
    /// Whether empty pages at the end of a table go back to the operating
    /// system. That takes a short exclusive lock, which a standby replays.
    /// Default: as the table's `vacuum_truncate` says, and they do where it says nothing.
    truncate: Option<bool>,
}

impl Default for Vacuum {
    fn default() -> Self {
        Vacuum {
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            min_dead: Percent::new(10.0),
            min_dead_rows: 1_000,
            min_inserted: Percent::new(20.0),
            min_inserted_rows: 10_000,
            freeze_age: None,
            freeze_multixact_age: None,
            parallel: None,
            buffer_usage_limit: None,
            truncate: None,
        }
    }
}

/// Heap and TOAST without their free space and visibility maps, which a
/// vacuum may only just create.
const MEASURE: &str = "SELECT pg_catalog.pg_relation_size(c.oid)
            + coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0),
        CASE WHEN pg_catalog.current_setting('server_version_num')::int4 >= 150000
            THEN pg_catalog.pg_stat_get_dead_tuples(c.oid)::float8 END
    FROM pg_catalog.pg_class c WHERE c.oid = $1::oid";

impl Kind for Vacuum {
    const NAME: &'static str = "vacuum";
    const SUMMARY: &'static str = "removes dead rows and freezes old ones, oldest age first";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    fn excludes(&self) -> &[NamePattern] {
        &self.exclude
    }

    fn schemas(&self) -> &[SchemaPattern] {
        &self.schemas
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        facts::read(&site.primary).await
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        let mut plan = Plan::default();
        let mut wanted: Vec<Want<'_>> = Vec::new();
        let mut forbidden = Vec::new();
        let mut held_back: Vec<(&RelationName, &Holder)> = Vec::new();
        let mut unfrozen: Vec<(&RelationName, &Holder)> = Vec::new();
        let mut left = 0;
        for table in facts.tables.iter().filter(|t| selection.covers(&t.name)) {
            plan.considered += 1;
            let seen = uncleaned::seen(table, |heap| self.why_dead(heap).is_some());
            plan.memories.extend(seen);
            match self.decide(table, &facts, at) {
                Decision::Leave => left += usize::from(table.heap.bytes > 0 && !table.system),
                Decision::HeldBack(holder, reason, what) => {
                    plan.skip(table.name.to_string(), reason);
                    match what {
                        InVain::Dead => {
                            held_back.push((&table.name, holder));
                            let key = kept_by(&table.name);
                            let seen = holder.remembered();
                            plan.memories
                                .extend(seen.map(|value| Memory { key, value }));
                        }
                        InVain::Old => unfrozen.push((&table.name, holder)),
                    }
                }
                Decision::Uncleaned(reason) => {
                    plan.skip(table.name.to_string(), reason);
                    plan.findings.push(uncleaned::finding(table));
                }
                Decision::Work(_) if !table.may => {
                    forbidden.push(Forbidden::table(&table.name, &table.owner));
                }
                Decision::Work(want) => wanted.push(want),
            }
        }
        // What could stop the whole server comes first, oldest first; then
        // the longest, so that no connection is left alone with it at the end.
        wanted.sort_by(|a, b| {
            (b.freeze_age, b.table.heap.bytes)
                .cmp(&(a.freeze_age, a.table.heap.bytes))
                .then_with(|| a.table.name.cmp(&b.table.name))
        });
        plan.steps = wanted
            .iter()
            .map(|want| self.step(want, facts.major, at.round))
            .collect();
        // Whether dead rows are gone is known only afterwards: somebody who was not
        // there when the vacuum was decided on, or is in another database, may have
        // wanted to see them. A second look tells, and tries once more.
        if at.round == 1
            && let Some(first) = wanted.iter().find(|want| want.dead)
        {
            plan.pending.push(crate::plan::Skip {
                object: first.table.name.to_string(),
                reason: "whether its dead rows, and those of the others, are gone".to_owned(),
            });
        }
        if at.round == 1 {
            facts.uncounted.tell(left, "VACUUM", &mut plan);
        }
        plan.findings.extend(age_finding(&facts));
        plan.findings.extend(horizon::finding(&held_back));
        plan.findings.extend(horizon::unfrozen(&unfrozen));
        forbid(
            &mut plan,
            "vacuum",
            (&facts.role, facts.major),
            &facts.rights,
            &forbidden,
        );
        plan.numbered(1)
    }
}

impl Vacuum {
    fn step(&self, want: &Want<'_>, major: i32, round: u32) -> Step {
        let table = want.table;
        // SKIP_LOCKED: a vacuum that queued for longer than a second would
        // make the server cancel an autovacuum at work on the same table.
        let mut options = vec!["SKIP_LOCKED".to_owned()];
        if want.freeze_age > 0 {
            options.push("FREEZE".to_owned());
        } else if major >= 16 {
            // Only freezing moves the database's age; without it, the scan
            // of all tables at the end of each VACUUM finds nothing new.
            options.push("SKIP_DATABASE_STATS".to_owned());
        }
        if !want.main && major >= 16 {
            options.push("PROCESS_MAIN FALSE".to_owned());
        }
        // What the table says of itself holds only where nothing is said here.
        if let Some(truncate) = self.truncate {
            let so = if truncate { "TRUE" } else { "FALSE" };
            options.push(format!("TRUNCATE {so}"));
        }
        if let Some(workers) = self.parallel {
            options.push(format!("PARALLEL {workers}"));
        }
        if let Some(limit) = self.buffer_usage_limit.filter(|_| major >= 16) {
            options.push(format!(
                "BUFFER_USAGE_LIMIT '{} kB'",
                limit.get().div_ceil(1024)
            ));
        }
        let only = if major >= 18 && table.has_children {
            "ONLY "
        } else {
            ""
        };
        let sql = format!("VACUUM ({}) {only}{}", options.join(", "), table.name);
        let oid = table.heap.oid;
        let action = if round > 1 { "vacuum_again" } else { "vacuum" };
        let mut step = Step::new(action, table.name.to_string(), format!("table {oid}"))
            .because(want.reasons.join("; "))
            .locking(oid)
            .run(Statement::brief(sql))
            .while_there(
                oid,
                &table.name,
                "the table has vanished, or has another name by now",
            )
            .measured_by(Query::new(MEASURE, [Param::Oid(oid)]))
            .shedding()
            .expecting(table.heap.bytes, None)
            .urgently(want.freeze_age > 0);
        if uncleaned::is_in(table) {
            step.details.push(uncleaned::SAID.to_owned());
        }
        step
    }
}

fn age_finding(facts: &Facts) -> Option<Finding> {
    let age = facts.database_age.max(facts.database_multixact_age);
    let severity = match age {
        a if a >= AGE_CRITICAL => Severity::Critical,
        a if a >= AGE_WARNING => Severity::Warning,
        _ => return None,
    };
    let what = if facts.database_age >= facts.database_multixact_age {
        "transaction"
    } else {
        "multixact"
    };
    let oldest = facts.tables.iter().max_by_key(|t| {
        t.toast
            .iter()
            .fold(t.heap.xid_age, |age, h| age.max(h.xid_age))
    })?;
    Some(Finding {
        code: "freeze.age".to_owned(),
        severity,
        object: Identifier::new(facts.database.clone()).to_string(),
        message: format!(
            "the oldest {what} id in this database is {} old; at about 2.1 G the server stops accepting writes. The oldest table is {}",
            rows(age as f64),
            oldest.name
        ),
        suggestion: Some(format!("VACUUM (FREEZE, VERBOSE) {}", oldest.name)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests;
