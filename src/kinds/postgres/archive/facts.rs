//! What is read before it is decided what leaves: the table, what hangs on it, and where its rows may go.

use std::collections::HashMap;

use super::super::retention::effects::{self, ForeignKey, Trigger};
use super::super::retention::estimate::{self, Look};
use super::super::retention::facts::{self, Table};
use super::super::retention::leftover::{self, Leftover};
use super::super::retention::ties::Ties;
use super::super::retention::{age_of, proof, rights};
use super::super::trust;
use super::Archive;
use super::MARK;
use super::columns::Found;
use super::{beside, columns};
use crate::engines::EngineError;
use crate::engines::postgres::heirs::Heirs;
use crate::engines::postgres::publications::taking_in;
use crate::engines::postgres::rights as rights_of;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::engines::postgres::{Identifier, Session, first};
use crate::plan::{Finding, Severity, Site};
use crate::values::{TableName, wall_clock};

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(super) standpoint: Standpoint,
    pub(super) database: String,
    pub(super) role: String,
    /// What is wrong with the clocks.
    pub(super) clock: Option<String>,
    pub(super) standing: Standing,
    /// The destination, where that is a table of the same database.
    pub(super) into_oid: Option<u32>,
    pub(super) tables: HashMap<TableName, Table>,
    pub(super) look: Look,
    pub(super) foreign_keys: Vec<ForeignKey>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) columns: Vec<Found>,
    pub(super) into: Vec<Found>,
    /// Why the destination cannot take rows and keep them.
    pub(super) into_obstructed: Option<String>,
    /// A crash of the server would empty the destination.
    pub(super) into_unlogged: bool,
    /// Members that are the destination, or that its rows would come back to.
    pub(super) into_itself: bool,
    pub(super) into_schema: bool,
    /// Whose the destination is to be, where it has to be made.
    pub(super) heirs: Heirs,
    /// A number for who may see and do what with the table, where its destination has to be made like it.
    pub(super) rights: Option<i64>,
    /// Its columns that may not be null from now on, and may be in rows that it has.
    pub(super) nulls_from_before: Vec<Identifier>,
    /// What the role lacks at the destination, or why that may not be made.
    pub(super) into_lacks: Option<Finding>,
    /// What lies in the place of the files, where rows go into files.
    pub(super) place: Option<beside::Place>,
    /// Whether rows meet the rule that no other row points at.
    pub(super) some_are_free: bool,
    pub(super) ties: Ties,
    /// Columns that only a member has, by member.
    pub(super) own_columns: HashMap<u32, Vec<String>>,
    /// Why contents would be lost that rows only point at.
    pub(super) large_objects: Option<String>,
    /// Columns of what was detached: since then the table may have got others.
    pub(super) detached_columns: HashMap<u32, Vec<Found>>,
    /// What was detached, and is part of another table by now.
    pub(super) elsewhere: Vec<Leftover>,
    /// What was detached from tables of other names, one of which may be this one's of before.
    pub(super) astray: Vec<Leftover>,
}

/// That the destination cannot be made without harm to subscribers.
fn published(object: String, why: String) -> Finding {
    Finding {
        code: "publication.new_table".to_owned(),
        severity: Severity::Critical,
        object,
        message: why,
        suggestion: None,
    }
}

impl Archive {
    pub(super) async fn seen(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
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
            foreign_keys = effects::foreign_keys(db, std::iter::once(table)).await?;
            let asked = estimate::Asked {
                reading: self.by_days(db, &columns, reading).await?,
                rule: &rule,
                table,
                age,
                also: Vec::new(),
                along: ForeignKey::along(&foreign_keys, table.oid),
            };
            let looks = estimate::look(db, &[asked], wall_clock(), &standing).await?;
            look = looks.into_iter().next().unwrap_or_default();
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
        let (mut heirs, mut rights_now) = (Heirs::default(), None);
        let mut nulls_from_before = Vec::new();
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
                if into_lacks.is_none() {
                    let name = destination.to_string();
                    let why = taking_in(db, &destination.schema, &name).await?;
                    into_lacks = why.map(|why| published(name, why));
                }
                heirs = Heirs::of(db, &[table.oid], &destination.schema).await?;
                rights_now = rights_of::of(db, table.oid).await?;
                nulls_from_before = columns::with_nulls_from_before(db, table.oid).await?;
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
            rights: rights_now,
            nulls_from_before,
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

    /// Conditions go by the days of whoever wrote the rows. What leaves the database is read meanwhile:
    /// where some of it would be written by the same setting, and that is not UTC, nobody may choose.
    pub(super) async fn by_days(
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
