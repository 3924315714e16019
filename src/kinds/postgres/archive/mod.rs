//! Keeps old rows elsewhere before they go: in another table, or in files on
//! disk or in object storage.

mod facts;

mod beside;
mod columns;
mod fate;
mod former;
mod partition;
mod steps;

use self::partition::Candidate;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use self::facts::Facts;
use super::retention::facts::{Member, Table};
use super::retention::leftover::{self};
use super::retention::rule::{Rule, Way};
use super::retention::{age_of, clock_differs, invalid, mark, outside};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::storage::{Storage, check_address};
use crate::plan::postgres::{Lost, Settle};
use crate::plan::{
    Ageing, Finding, Gone, Kind, Manifest, Moment, Plan, Severity, Site, Step, Unfit, archived,
};
use crate::values::{
    CalendarSpan, Engine, Epoch, Percent, TableName, TimeSpan, TimeZone, several, several_do,
};

/// Marks what was detached in order to be archived, so that a run that dies in
/// between leaves nothing that nobody knows of.
pub(in crate::kinds::postgres) const MARK: &str = "maint: to be archived, once a partition of ";

/// Options of `kind: archive`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archive {
    /// The table; of a partitioned one, all partitions.
    table: TableName,
    /// The column that tells how old a row is: a timestamp, a date, a UUIDv7, or an integer with
    /// `epoch`. A row without a value there stays.
    #[serde(default)]
    column: Option<String>,
    /// Rows older than this are archived.
    #[serde(default)]
    older_than: Option<CalendarSpan>,
    /// What an integer `column` counts since 1970.
    #[serde(default)]
    epoch: Option<Epoch>,
    /// On whose clocks a `timestamp without time zone` or a `date` was written.
    #[serde(default)]
    time_zone: Option<TimeZone>,
    /// Only rows that meet this SQL condition. Names in it other than the table's columns are
    /// written with their schema.
    #[serde(default, rename = "where")]
    only: Option<String>,
    /// No rows that meet one of these SQL conditions.
    #[serde(default)]
    keep: Vec<String>,
    /// How to go through the table; by default what the statistics recommend.
    #[serde(default)]
    walk: Way,
    /// Where the rows are kept.
    destination: Destination,
    /// Whether an expired partition leaves as a whole: `true` also where deleting its rows would
    /// fire triggers, obey policies or be published; `false` never. By default, only where
    /// nothing but its rows would be lost.
    #[serde(default)]
    drop_partitions: Option<bool>,
    /// Archive although a foreign key without an index points here from a table of more than 1 MB,
    /// so that the server reads all of it for each row.
    #[serde(default)]
    allow_unindexed_cascade: bool,
    /// How long one transaction should take; the number of rows in it follows.
    #[serde(default = "seconds")]
    batch_goal: TimeSpan,
    /// Where more rows than this would go, none does.
    #[serde(default)]
    max_rows: Option<u64>,
    /// Where a larger share of the rows would go, none does.
    #[serde(default)]
    max_share: Option<Percent>,
}

/// Where rows are kept: one of these.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Destination {
    /// A table, made where it does not exist: of the same database, unless `database` is named.
    #[serde(default)]
    table: Option<TableName>,
    /// The target in whose database `table` is.
    #[serde(default)]
    #[schemars(extend("format" = "maint-target"))]
    database: Option<String>,
    /// Parquet files below `file:///folder` or `s3://bucket/prefix`. Credentials for S3 come from
    /// the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`.
    #[serde(default)]
    files: Option<String>,
}

/// Row locks are taken at the end of a batch only, when its files are proved;
/// few large files read better than many small ones.
fn seconds() -> TimeSpan {
    TimeSpan::from_secs(5)
}

impl Archive {
    fn rule(&self) -> Rule {
        Rule {
            table: self.table.clone().into(),
            schemas: Vec::new(),
            column: self.column.clone(),
            older_than: self.older_than,
            epoch: self.epoch,
            time_zone: self.time_zone,
            only: self.only.clone(),
            orphaned: None,
            keep: self.keep.clone(),
            walk: self.walk,
            max_rows: self.max_rows,
            max_share: self.max_share,
        }
    }
}

impl Kind for Archive {
    const NAME: &'static str = "archive";
    const SUMMARY: &'static str =
        "moves old rows into another table, or into files, and proves it before they go";
    const ENGINE: Engine = Engine::Postgres;
    const NEEDS_HISTORY: bool = true;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn ages(&self) -> Vec<Ageing> {
        self.rule().ages(Gone::Kept).into_iter().collect()
    }

    fn goes_on_with(&self, schema: &str, table: &str) -> bool {
        self.table.schema == schema && self.table.table == table
    }

    fn check(&self) -> Result<(), Unfit> {
        self.rule().check()?;
        let why = match (&self.destination.table, &self.destination.files) {
            (None, _) if self.destination.database.is_some() => {
                "`database` needs the `table` there".to_owned()
            }
            (Some(table), None) if *table == self.table && self.destination.database.is_none() => {
                format!("the destination is `{table}` itself")
            }
            (Some(_), None) => return Ok(()),
            (None, Some(url)) => match check_address(url) {
                Ok(()) => return Ok(()),
                Err(why) => why.to_string(),
            },
            _ => "the destination needs one of `table` and `files`".to_owned(),
        };
        Err(Unfit::at("destination", why))
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        self.seen(site).await
    }

    fn plan(&self, mut facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan::default();
        let (known, former) = former::known(at, &facts);
        let own = archived::among::<Manifest>(at.memories.iter());
        let (others, at) = (at, &*known);
        let rule = self.rule();
        if let Some(table) = facts.tables.get_mut(&self.table) {
            let root = table.name.to_string();
            table.members.retain(|member| {
                let ours = !member.detached || mark::is_known(member.oid, &member.name, at);
                if !ours {
                    mark::unknown(&member.name, &root, &mut plan);
                }
                ours
            });
            for member in table.members.iter_mut().filter(|m| m.detached) {
                member.bounds = mark::bounds(member.oid, &member.name, at);
            }
        }
        let Some(table) = facts.tables.get(&self.table) else {
            invalid(&mut plan, &rule, "there is no such table");
            return plan;
        };
        plan.considered = table.members.len();
        if let (Some(why), Some(_)) = (&facts.clock, rule.older_than) {
            clock_differs(&mut plan, &rule, why);
            return plan;
        }
        if let Some(why) = &facts.large_objects {
            invalid(&mut plan, &rule, why);
            return plan;
        }
        if let Some(url) = &self.destination.files
            && let Err(error) = Storage::open(url)
        {
            invalid(&mut plan, &rule, &error.to_string());
            return plan;
        }
        if let Some(place) = &facts.place {
            let source = table.name.to_string();
            let lost = lost(place, table, at, self.destination.files.as_deref());
            plan.findings.extend(lost.or_else(|| place.unseen(&source)));
        }
        let beside = facts.place.as_ref().and_then(|place| place.unknown(others));
        let age = age_of(&rule, table);
        let pending = archived::among::<Manifest>(at.memories.iter())
            .into_iter()
            .filter(|m| !m.settled && m.source == table.name.to_string());
        // A partition that is on its way out is gone on with, not settled.
        let (begun, pending): (Vec<Manifest>, Vec<Manifest>) = pending.partition(|m| {
            let oid = m.whole.as_ref().map(|whole| whole.oid);
            let same =
                |member: &Member| Some(member.oid) == oid && member.name.to_string() == m.table;
            let member = table.members.iter().find(|member| same(member));
            member.zip(age.as_ref().ok()).is_some_and(|(member, age)| {
                let candidate = Candidate {
                    options: self,
                    rule: &rule,
                    table,
                    member,
                    age: *age,
                    facts: &facts,
                    at,
                };
                candidate.leaves_whole()
            })
        });
        let source = table.name.to_string();
        let mut left_over = archived::left_over::<Manifest>(at.memories.iter());
        left_over.retain(|m| m.source == source);
        let left = Manifest::left(&source, table.oid, &facts.standpoint, &at.memories);
        // It stays true until somebody has seen to it.
        let lost = Lost::among(&at.memories).into_iter();
        let lost = lost.filter(|(_, lost)| lost.source == source);
        plan.findings.extend(lost.map(|(_, lost)| lost.finding));
        let has_batches = own
            .iter()
            .any(|m| m.source == source || m.oid == Some(table.oid));
        let names = former::perhaps(others, &former, has_batches, table, &facts);
        plan.findings.extend(names);
        let parts = table.members.iter();
        let parts = parts.map(|member| (member.name.to_string(), member.oid));
        let (parts, here) = (parts.collect(), &facts.standpoint);
        let put_back = Manifest::put_back(&left, (&source, table.oid), parts, here, &at.memories);
        let look_back = put_back.any;
        let settles = look_back
            || !pending.is_empty()
            || !left_over.is_empty()
            || !former.is_empty()
            || beside.is_some();
        if settles {
            let why = match look_back {
                _ if !former.is_empty() => {
                    "this database was archived from under another target name: what is remembered there is taken over"
                }
                true => {
                    "the server, the database or the table is another one, or was set back, since rows were archived: the last ones may be in the table again"
                }
                false if !pending.is_empty() => {
                    "an earlier run ended before it knew whether its last batch was deleted"
                }
                false if beside.is_none() => {
                    "files of batches whose rows are in the table could not be removed"
                }
                false => {
                    "the place of the files has archives that the history does not know: rows of theirs may be in the table"
                }
            };
            let mut step: Step =
                Step::new("settle", source.clone(), format!("table {}", table.oid)).because(why);
            step.body.work = crate::plan::Work::Settle(Box::new(Settle {
                source,
                oid: table.oid,
                pending,
                left_over,
                look_back,
                put_back: put_back.parts,
                beside,
                former,
            }));
            plan.steps.push(step);
        }
        let age = match age {
            Ok(age) => age,
            Err(why) => {
                invalid(&mut plan, &rule, &why);
                return plan.numbered(1);
            }
        };
        let mut steps = steps::of(self, &rule, table, age, &facts, &begun, at, &mut plan);
        // Whoever is told what is missing at the table is told the rest as well.
        let lacks = |one: &Finding| one.code == "privilege.missing";
        let due = !steps.is_empty() || plan.findings.iter().any(lacks);
        if let (Some(finding), true) = (&facts.into_lacks, due) {
            plan.undone(finding.clone());
            steps.clear();
        }
        if !look_back {
            steps::look_first(&mut steps, left, &facts.standpoint);
        }
        let name = table.name.to_string();
        plan.steps.extend(steps.into_iter().map(|step| {
            if settles {
                step.after("settle", name.clone())
            } else {
                step
            }
        }));
        outside::heed(MARK, facts.tables.values(), at, &mut plan);
        mark::unmark(MARK, facts.tables.values(), &mut plan);
        for leftover in &facts.elsewhere {
            match leftover.part_of {
                Some(_) => leftover::disown(leftover, &facts.tables, at, &mut plan),
                None => _ = leftover::renamed(leftover, &facts.tables, at, &mut plan),
            }
        }
        for leftover in &facts.astray {
            leftover::follow(leftover, MARK, &facts.tables, at, &mut plan);
        }
        trust::heed(&mut plan, &facts.standing);
        // A table is not made for rows that stay where they are.
        let filled = |s: &Step| s.needs.iter().any(|need| need.action == steps::CREATE);
        if !plan.steps.iter().any(filled) {
            plan.steps.retain(|step| step.action != steps::CREATE);
        }
        mark::remember(facts.tables.values(), &mut plan);
        plan.numbered(1)
    }
}

/// What was archived to a place where there is nothing now: the disk of
/// another machine, or a folder that was cleared.
fn lost(place: &beside::Place, table: &Table, at: &Moment, url: Option<&str>) -> Option<Finding> {
    let source = table.name.to_string();
    let known: Vec<i64> = archived::among::<Manifest>(at.memories.iter())
        .into_iter()
        .filter(|m| m.settled && m.source == source && Some(m.storage.as_str()) == url)
        .map(|m| m.rows)
        .collect();
    let why = match &place.has_files {
        Ok(true) => return None,
        Ok(false) => "there is nothing there".to_owned(),
        Err(error) => format!("it cannot be read: {error}"),
    };
    if known.is_empty() {
        return None;
    }
    let url = url.unwrap_or_default();
    Some(Finding {
        code: "archive.files_missing".to_owned(),
        severity: Severity::Critical,
        object: source,
        message: format!(
            "{} archived to {url} in {}, and {why}. Bring the files back before they are needed; what is archived from now on may be lost the same way",
            several_do(known.iter().sum::<i64>(), "row", ("was", "were")),
            several(known.len(), "part")
        ),
        suggestion: None,
    })
}
