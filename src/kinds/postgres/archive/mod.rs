//! Keeps old rows elsewhere before they go: in another table, or in files on
//! disk or in object storage.

mod beside;
mod columns;
mod fate;
mod former;
mod partition;
mod steps;

use self::partition::Candidate;
pub(in crate::kinds::postgres) use self::partition::MARK;

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;

use self::columns::Found;
use super::retention::effects::{self, ForeignKey, Trigger};
use super::retention::estimate::{self, Look};
use super::retention::facts::{self, Member, Table};
use super::retention::leftover::{self, Leftover};
use super::retention::rule::{Rule, Way};
use super::retention::ties::Ties;
use super::retention::{age_of, clock_differs, invalid, mark, outside, proof, rights};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::heirs::Heirs;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::engines::postgres::{Identifier, Session, first};
use crate::engines::storage::{Storage, check_address};
use crate::plan::postgres::{Lost, Settle};
use crate::plan::{Finding, Kind, Manifest, Moment, Plan, Severity, Site, Step, Unfit, archived};
use crate::values::{
    CalendarSpan, Engine, Epoch, Percent, TableName, TimeSpan, TimeZone, several, several_do,
    wall_clock,
};

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

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    standpoint: Standpoint,
    database: String,
    role: String,
    /// What is wrong with the clocks.
    clock: Option<String>,
    standing: Standing,
    /// The destination, where that is a table of the same database.
    into_oid: Option<u32>,
    tables: HashMap<TableName, Table>,
    look: Look,
    foreign_keys: Vec<ForeignKey>,
    triggers: Vec<Trigger>,
    columns: Vec<Found>,
    into: Vec<Found>,
    /// Why the destination cannot take rows and keep them.
    into_obstructed: Option<String>,
    /// A crash of the server would empty the destination.
    into_unlogged: bool,
    /// Members that are the destination, or that its rows would come back to.
    into_itself: bool,
    into_schema: bool,
    /// Whose the destination is to be, where it has to be made.
    heirs: Heirs,
    /// What the role lacks at the destination.
    into_lacks: Option<Finding>,
    /// What lies in the place of the files, where rows go into files.
    place: Option<beside::Place>,
    /// Whether rows meet the rule that no other row points at.
    some_are_free: bool,
    ties: Ties,
    /// Columns that only a member has, by member.
    own_columns: HashMap<u32, Vec<String>>,
    /// Why contents would be lost that rows only point at.
    large_objects: Option<String>,
    /// Columns of what was detached: since then the table may have got others.
    detached_columns: HashMap<u32, Vec<Found>>,
    /// What was detached, and is part of another table by now.
    elsewhere: Vec<Leftover>,
    /// What was detached from tables of other names, one of which may be this one's of before.
    astray: Vec<Leftover>,
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

    /// Conditions go by the days of whoever wrote the rows. What leaves the database is read meanwhile:
    /// where some of it would be written by the same setting, and that is not UTC, nobody may choose.
    async fn by_days(
        &self,
        db: &Session,
        columns: &[Found],
        reading: proof::Reading,
    ) -> Result<proof::Reading, EngineError> {
        if self.only.is_none() && self.keep.is_empty() {
            return Ok(reading);
        }
        let destination = &self.destination;
        let sent = destination.database.is_some();
        let leaves = sent || destination.files.is_some();
        let zoned = columns.iter().find(|c| leaves && c.goes_by_zone(sent));
        let Some(column) = zoned else {
            return Ok(reading.in_their_time());
        };
        let zone = db.query("asking for the time zone of the role here", ZONE, &[]);
        let zone: String = first(&zone.await?, 0)?.unwrap_or_default();
        if UTC.contains(&&*zone.to_lowercase()) {
            return Ok(reading);
        }
        Ok(reading.refused(format!(
            "`where` and `keep` go by the days of the role in this database, whose TimeZone is {zone}, and its column {} ({}) would be written by it, too, with hours that nobody compares; archive into a table of this database, leave `where` and `keep` out, or have the role go by UTC here (ALTER ROLE … IN DATABASE … SET TimeZone = 'UTC') and name the zone in the conditions",
            Identifier::new(&*column.name),
            column.pg_type
        )))
    }
}

/// What a session has where nobody pins it.
const ZONE: &str = "SELECT s.reset_val FROM pg_catalog.pg_settings s WHERE s.name = 'TimeZone'";
/// Names that the server has for it.
const UTC: [&str; 8] = [
    "utc", "etc/utc", "uct", "etc/uct", "gmt", "etc/gmt", "zulu", "etc/zulu",
];

impl Kind for Archive {
    const NAME: &'static str = "archive";
    const SUMMARY: &'static str =
        "moves old rows into another table, or into files, and proves it before they go";
    const ENGINE: Engine = Engine::Postgres;
    const NEEDS_HISTORY: bool = true;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

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
        let db = &site.primary;
        let names = std::slice::from_ref(&self.table);
        let mut tables = facts::tables(db, names).await?;
        let mut rule = self.rule();
        let mut look = Look::default();
        let (mut foreign_keys, mut triggers) = (Vec::new(), Vec::new());
        let mut columns = Vec::new();
        let mut elsewhere = Vec::new();
        let mut astray = Vec::new();
        if let Some(table) = tables.get_mut(&self.table) {
            let found = leftover::leftovers(db, MARK).await?.into_iter();
            let (found, others): (Vec<Leftover>, _) = found.partition(|l| l.is_of(table));
            astray = others;
            let waiting: Vec<Leftover>;
            (elsewhere, waiting) = found
                .into_iter()
                .partition(|w| w.part_of.is_some() || w.former.is_some());
            let waiting: Vec<u32> = waiting.iter().map(|w| w.oid).collect();
            for (_, mut member) in facts::read_members(db, &waiting).await? {
                member.detached = true;
                table.members.push(member);
            }
        }
        let mut into_oid = None;
        if let (Some(destination), None) = (&self.destination.table, &self.destination.database) {
            let found = facts::oids(db, &[destination]).await?;
            into_oid = found.get(destination).copied();
        }
        let relations = tables.values().flat_map(Table::relations).chain(into_oid);
        let aside = elsewhere.iter().chain(&astray);
        let relations = relations.chain(aside.map(|leftover| leftover.oid));
        let standing = trust::read(site, relations).await?;
        if let Some(table) = tables.get(&self.table)
            && let Ok(age) = age_of(&rule, table)
        {
            columns = columns::of(db, &self.table).await?;
            let reading = proof::read(db, &mut [(&mut rule, table)], None).await?;
            let reading = reading.into_iter().next().unwrap_or_default();
            let asked = estimate::Asked {
                reading: self.by_days(db, &columns, reading).await?,
                rule: &rule,
                table,
                age,
                also: Vec::new(),
            };
            let looks = estimate::look(db, &[asked], wall_clock(), &standing).await?;
            look = looks.into_iter().next().unwrap_or_default();
            foreign_keys = effects::foreign_keys(db, std::iter::once(table)).await?;
            let members: Vec<u32> = table.members.iter().map(|member| member.oid).collect();
            triggers = effects::triggers(db, &members, &foreign_keys).await?;
        }
        let ties = Ties::read(db, tables.values(), &[]).await?;
        let place = match (&self.destination.files, tables.get(&self.table)) {
            (Some(url), Some(table)) => beside::Place::read(url, table, &columns).await,
            _ => None,
        };
        let mut some_are_free = false;
        if let Some(table) = tables.get(&self.table)
            && let Ok(age) = age_of(&rule, table)
        {
            some_are_free = estimate::any_free(db, &rule, table, age, &ties, &look.under).await?;
        }
        let large_objects = match tables.get(&self.table) {
            Some(table) => {
                let relations = table.relations();
                let elsewhere =
                    self.destination.table.is_none() || self.destination.database.is_some();
                columns::large_objects(db, &relations, elsewhere).await?
            }
            None => None,
        };
        let own_columns = match tables.get(&self.table) {
            Some(table) => columns::own(db, table).await?,
            None => HashMap::new(),
        };
        let mut detached_columns = HashMap::new();
        let members = tables.get(&self.table).map(|t| t.members.as_slice());
        for member in members.unwrap_or_default().iter().filter(|m| m.detached) {
            let name = TableName {
                schema: member.name.schema.raw().to_owned(),
                table: member.name.relation.raw().to_owned(),
            };
            detached_columns.insert(member.oid, columns::of(db, &name).await?);
        }
        let (mut into, mut into_obstructed) = (Vec::new(), None);
        let mut into_unlogged = false;
        let (mut into_itself, mut into_schema, mut into_lacks) = (false, true, None);
        let mut heirs = Heirs::default();
        if let (Some(destination), None) = (&self.destination.table, &self.destination.database) {
            into = columns::of(db, destination).await?;
            into_obstructed = columns::obstructed(db, destination).await?;
            let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
            let locked = into_oid
                .is_some_and(|oid| standing.guard(&[Touch::new(oid, Use::Insert)]).is_some());
            into_lacks = rights::into(db, destination, &names, locked).await?;
            if into_lacks.is_none() {
                into_unlogged = columns::unlogged(db, destination).await?;
            }
            into_itself = columns::related(db, &self.table, destination).await?;
            into_schema = columns::has_schema(db, destination).await?;
            if let (None, Some(table)) = (into_oid, tables.get(&self.table)) {
                heirs = Heirs::of(db, &[table.oid], &destination.schema).await?;
            }
        }
        let standpoint = Standpoint::of(db).await?;
        Ok(Facts {
            standpoint,
            database: db.server.database.clone(),
            role: db.server.role.clone(),
            clock: db.server.clock_differs(),
            standing,
            into_oid,
            tables,
            look,
            foreign_keys,
            triggers,
            columns,
            into,
            into_obstructed,
            into_unlogged,
            into_itself,
            into_schema,
            heirs,
            into_lacks,
            place,
            some_are_free,
            ties,
            own_columns,
            large_objects,
            detached_columns,
            elsewhere,
            astray,
        })
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
