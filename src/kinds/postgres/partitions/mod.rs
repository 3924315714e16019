//! Creates partitions before they are needed, and retires those whose time is over.

mod away;
mod calendar;
mod comment;
mod coverage;
mod create;
mod default;
mod doubts;
mod entitled;
mod facts;
mod look;
mod make;
mod midnights;
mod nodes;
mod planned;
mod prune;
mod retired;
mod subject;
mod subscribers;
mod unfinished;
mod wanted;
mod without;

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::calendar::{Interval, KeyEpoch};
use self::entitled::unentitled;
use self::facts::Facts;
pub(in crate::kinds::postgres) use self::facts::MARK as RETIRED;
use self::subject::Subject;
use super::by_schema::{self, is_meant};
use super::{held, trust};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::{Touch, Use};
use crate::plan::{
    Ageing, Finding, Gone, Kind, Moment, Plan, Scope, Severity, Site, Speaks, Unfit,
};
use crate::values::{
    Bytes, CalendarSpan, Engine, NamedTable, SchemaPattern, TableName, TimeSpan, TimeZone,
};

/// What becomes of a partition whose time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expired {
    /// It is detached, and dropped after `grace`.
    #[default]
    Drop,
    /// It is detached and moved to the schema `keep_in`.
    Keep,
    /// It is left to a task of kind `archive`, which copies it before it drops it.
    Archive,
}

/// Options of `kind: partitions`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Partitions {
    /// Tables partitioned by range over one column: a date, a timestamp, a UUIDv7, or an integer
    /// with `epoch`.
    tables: Vec<NamedTable>,
    /// The tables are looked after in every schema that one of these patterns names and none with a `!`
    /// does, as where each tenant has one; they are named without a schema then.
    #[serde(default)]
    schemas: Vec<SchemaPattern>,
    /// How long a new partition is.
    interval: Interval,
    /// So many periods after the current one have a partition.
    #[serde(default = "ahead")]
    ahead: u32,
    /// Partitions all of whose rows are older than this are retired. Without it none is.
    #[serde(default)]
    keep: Option<CalendarSpan>,
    /// What becomes of them.
    #[serde(default)]
    expired: Expired,
    /// How long a detached partition stays before it is dropped.
    #[serde(default = "grace")]
    grace: TimeSpan,
    /// The schema for `expired: keep`.
    #[serde(default)]
    keep_in: Option<String>,
    /// What an integer key counts since 1970.
    #[serde(default)]
    epoch: Option<KeyEpoch>,
    /// On whose clocks days begin; that of the configuration if missing.
    #[serde(default)]
    time_zone: Option<TimeZone>,
    /// Name of a partition, with `{table}`, `{year}`, `{month}`, `{day}`, `{quarter}`, `{week}`
    /// and `{week_year}`. What a partition covers is decided by its bounds alone.
    #[serde(default)]
    name: Option<String>,
    /// Also create partitions for gaps between existing ones.
    #[serde(default)]
    fill_gaps: bool,
    /// Move rows that sit in the default partition into the partitions that are created for
    /// them. The rows of one partition move in one transaction, so that nobody ever misses any.
    #[serde(default)]
    move_default_rows: bool,
    /// No more rows than this are moved in one transaction.
    #[serde(default = "max_moved_rows")]
    max_moved_rows: u32,
    /// While a partition is attached the server reads the whole default partition, and nobody
    /// else may. Where it is larger than this, nothing is created.
    #[serde(default = "max_default_size")]
    max_default_size: Bytes,
}

fn ahead() -> u32 {
    3
}

fn grace() -> TimeSpan {
    TimeSpan::from_mins(7 * 24 * 60)
}

fn max_moved_rows() -> u32 {
    1_000_000
}

fn max_default_size() -> Bytes {
    // Read from memory in well under a second.
    Bytes(256 * 1024 * 1024)
}

/// Words of `name`.
const PLACEHOLDERS: [&str; 7] = [
    "table",
    "year",
    "month",
    "day",
    "quarter",
    "week",
    "week_year",
];

const DOCS: &str = "see docs/partitions.md";

impl Kind for Partitions {
    const NAME: &'static str = "partitions";
    const SUMMARY: &'static str = "creates partitions ahead of time and retires old ones";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    fn ages(&self) -> Vec<Ageing> {
        let Some(keep) = self.keep.filter(|_| self.expired == Expired::Drop) else {
            return Vec::new();
        };
        let patterns: String = self
            .schemas
            .iter()
            .map(|pattern| format!("{pattern} "))
            .collect();
        let tables = self.tables.iter().map(|table| Ageing {
            object: format!("{patterns}{}", **table),
            after: keep,
            fate: Gone::Lost,
        });
        tables.collect()
    }

    fn goes_on_with(&self, schema: &str, table: &str) -> bool {
        let mut tables = self.tables.iter();
        tables.any(|named| by_schema::is_named(named, &self.schemas, (schema, table)))
    }

    fn check(&self) -> Result<(), Unfit> {
        if self.tables.is_empty() {
            return Err(Unfit::at("tables", "`tables` is empty: name at least one"));
        }
        if !self.schemas.is_empty()
            && let Some(named) = self.tables.iter().find(|table| table.has_schema())
        {
            return Err(Unfit::at(
                "schemas",
                format!(
                    "`tables` names {named} and `schemas` besides; write `tables: [{}]`, or leave `schemas` out",
                    named.table
                ),
            ));
        }
        if !self.schemas.is_empty() && self.expired == Expired::Keep {
            return Err(Unfit::at(
                "schemas",
                "partitions of several schemas would meet in `keep_in` under the same names: give each schema a task of its own, or let them go (`expired: drop`)",
            ));
        }
        if self.expired == Expired::Keep && self.keep_in.is_none() {
            return Err(Unfit::at(
                "expired",
                "`expired: keep` needs `keep_in`, the schema to keep them in",
            ));
        }
        // A century of days: more is a slip of the pen.
        if self.ahead > 36_500 {
            return Err(Unfit::at(
                "ahead",
                format!("`ahead` is {}; expected at most 36500", self.ahead),
            ));
        }
        let Some(pattern) = &self.name else {
            return Ok(());
        };
        let mut words = HashSet::new();
        for part in pattern.split('{').skip(1) {
            let word = part.split_once('}').map(|(word, _)| word);
            match word.filter(|word| PLACEHOLDERS.contains(word)) {
                Some(word) => drop(words.insert(word)),
                None => {
                    return Err(Unfit::at(
                        "name",
                        format!(
                            "`name` may hold {{{}}}; `{{{part}` is none of them",
                            PLACEHOLDERS.join("}, {")
                        ),
                    ));
                }
            }
        }
        let needed: &[&str] = match self.interval {
            Interval::Day => &["year", "month", "day"],
            Interval::Week => &["week_year", "week"],
            Interval::Month => &["year", "month"],
            Interval::Quarter => &["year", "quarter"],
            Interval::Year => &["year"],
        };
        match needed.iter().find(|word| !words.contains(*word)) {
            Some(word) => Err(Unfit::at(
                "name",
                format!(
                    "`name` lacks {{{word}}}: partitions of different periods would be called the same"
                ),
            )),
            None => Ok(()),
        }
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let largest = i64::try_from(self.max_default_size.get()).unwrap_or(i64::MAX);
        let keep_in = self.keep_in.as_deref();
        let keep_in = keep_in.filter(|_| self.expired == Expired::Keep);
        let names = self.names(&site.primary).await?;
        let schemas = match !self.schemas.is_empty() && site.scope == Scope::Whole {
            true => Some(site.primary.schemas().await?),
            false => None,
        };
        let mut facts = look::read(site, names, self.epoch, largest, keep_in).await?;
        facts.of_all = schemas;
        if !self.schemas.is_empty() {
            let is_part = |name: &TableName| {
                let node = facts
                    .tables
                    .get(name)
                    .map(|table| facts.nodes.get(&table.oid));
                node.flatten().is_some_and(|node| node.bounds.is_some())
            };
            let names = facts.names.iter().filter(|name| !is_part(name));
            facts.names = names.cloned().collect();
        }
        Ok(facts)
    }

    fn schemas(&self) -> &[SchemaPattern] {
        &self.schemas
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan {
            fixed_order: true,
            ..Plan::default()
        };
        let mut taken = facts.taken.clone();
        // Rows get their time on the server, whatever this machine's clock says.
        let by_server = Moment {
            now: at.now - facts.clock_ahead,
            ..at.clone()
        };
        let schemas = facts.of_all.as_deref();
        for finding in schemas.map_or_else(Vec::new, |schemas| self.nowhere(schemas, &facts)) {
            plan.undone(finding);
        }
        for name in &facts.names {
            if let Some(table) = facts.tables.get(name)
                && let touches = [Use::Define, Use::Insert].map(|how| Touch::new(table.oid, how))
                && trust::refuses(
                    &mut plan,
                    &facts.standing,
                    &touches,
                    &table.name.to_string(),
                )
            {
                continue;
            }
            if let Some((oid, who)) = facts
                .tables
                .get(name)
                .and_then(|table| facts.held.get_key_value(&table.oid))
                && let Some(node) = facts.nodes.get(oid)
            {
                let left_out = "no partition of it was made or retired";
                plan.undone(held::finding(&node.name, who, left_out));
                continue;
            }
            match self.subject(name, &facts, at) {
                Ok(subject) if !subject.table.lacks.is_empty() => {
                    let makes = create::is_needed(self, &subject, &by_server);
                    plan.undone(unentitled(&subject, &facts, makes));
                }
                Ok(subject) => {
                    plan.considered += subject.partitions.len();
                    unfinished::finish(self, &subject, at, &mut plan);
                    create::plan(self, &subject, &facts, &by_server, &mut taken, &mut plan);
                    match &facts.clock {
                        Some(why) => {
                            plan.skip(name.to_string(), why);
                            plan.undone(Finding {
                                code: "clock.differs".to_owned(),
                                severity: Severity::Critical,
                                object: name.to_string(),
                                message: why.clone(),
                                suggestion: None,
                            });
                        }
                        None => {
                            retired::plan(self, &subject, &facts, at, &mut plan);
                            prune::plan(self, &subject, &facts, at, &mut plan);
                        }
                    }
                }
                Err(why) => {
                    plan.skip(name.to_string(), &why);
                    plan.undone(Finding {
                        code: "partitions.unsuitable".to_owned(),
                        severity: Severity::Critical,
                        object: name.to_string(),
                        message: format!("no partitions can be made: {why}"),
                        suggestion: None,
                    });
                }
            }
        }
        retired::follow(&facts, at, &mut plan);
        trust::heed(&mut plan, &facts.standing);
        unfinished::half_out(&facts, &mut plan);
        plan.numbered(1)
    }
}

/// What is told of a table.
fn finding(
    code: &str,
    severity: Severity,
    subject: &Subject<'_>,
    message: String,
    suggestion: Option<String>,
) -> Finding {
    Finding {
        code: code.to_owned(),
        severity,
        object: subject.table.name.to_string(),
        message,
        suggestion,
    }
}

impl Partitions {
    /// The tables that are meant today. A table that is itself a partition is looked after with the one above it.
    async fn names(&self, db: &Session) -> Result<Vec<TableName>, EngineError> {
        if self.schemas.is_empty() {
            return Ok(self.tables.iter().map(|table| (**table).clone()).collect());
        }
        let wanted = self.tables.iter().map(|table| &*table.table).collect();
        let there = by_schema::where_there(db, &wanted).await?;
        let mut names = Vec::new();
        for table in &self.tables {
            let schemas = there.get(&table.table).into_iter().flatten();
            let meant = schemas.filter(|schema| is_meant(&self.schemas, schema));
            names.extend(meant.map(|schema| (*table.in_schema(schema)).clone()));
        }
        Ok(names)
    }

    /// Tells of tables that no schema has.
    fn nowhere(&self, schemas: &[String], facts: &Facts) -> Vec<Finding> {
        let is_there = |table: &str| facts.names.iter().any(|name| name.table == table);
        let missing = self.tables.iter().filter(|table| !is_there(&table.table));
        missing
            .filter_map(|table| by_schema::nowhere(&self.schemas, schemas, &table.table))
            .collect()
    }
}
