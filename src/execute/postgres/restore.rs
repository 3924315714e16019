//! Brings archived rows back: all of what is asked for, or nothing.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::back;
use super::export::check;
use super::lot::SETTLE;
use super::naming::Naming;
use super::returning::{Returning, files};
use crate::engines::EngineError;
use crate::engines::parquet::{Column, copy_line, rows};
use crate::engines::postgres::catalog::by_people;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::heirs::Heirs;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::postgres::{Identifier, RelationName, Session, each};
use crate::engines::storage::Storage;
use crate::plan::postgres::only_for_its_owner;
use crate::plan::{Manifest, Restored};
use crate::values::{wall_clock, with_causes};

/// Pieces of this size are handed to the server.
const PIECE: usize = 64 << 10;
/// So many partitions are named.
const MOST_NAMED: usize = 20;

/// What sessions that bring rows back are called on the server.
pub const NAME: &str = "maint archive restore";

/// How rows are to come back.
#[derive(Clone, Copy)]
pub struct Restore<'a> {
    /// Where the session leads.
    pub dial: &'a Dial,
    /// The table to fill.
    pub into: &'a RelationName,
    /// Keeps the table's own triggers from touching the rows.
    pub disable_triggers: bool,
    /// Roles whose code may run.
    pub trust_owners: &'a [String],
}

/// What stands there before rows come back.
#[derive(Debug, Default)]
pub struct Site {
    /// The table's id; none where it has to be made.
    pub oid: Option<u32>,
    /// Whether the schema has to be made.
    pub no_schema: bool,
    /// The columns to be made, with their types.
    pub columns: Vec<(String, String)>,
    /// How it is partitioned, where it is: `RANGE (at)`.
    key: Option<String>,
    /// Columns that the table computes itself.
    pub computed: Vec<String>,
    /// Columns that are of another type than the archived rows have there: name, type, and that of the rows.
    pub retyped: Vec<(String, String, String)>,
    /// Triggers that see each row before it is stored, and rules.
    pub changing: Vec<String>,
    /// Tables and their triggers, quoted, with the word that enables each again.
    triggers: Vec<(String, String, &'static str)>,
    /// Rules, quoted, with the same.
    rules: Vec<(String, &'static str)>,
}

const TABLE: &str = "SELECT c.oid, c.relkind::text, CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname::text = $1 AND c.relname::text = $2";

const SCHEMA: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname::text = $1)";

const COLUMNS: &str =
    "SELECT a.attname::text, a.attgenerated <> '', pg_catalog.format_type(a.atttypid, a.atttypmod),
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";

const TRIGGERS: &str = concat!(
    "SELECT c.oid::pg_catalog.regclass::text AS table_name, pg_catalog.quote_ident(t.tgname) AS trigger_name,
        t.tgenabled::text AS enabled, t.tgtype & 3 = 3 AS before_each_row
    FROM (SELECT $1::oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1)) AS tree (oid)
        JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid
    WHERE ",
    by_people!("t"),
    " AND t.tgtype & 4 <> 0 AND t.tgenabled <> 'D' ORDER BY table_name, trigger_name"
);

/// Constraints that the server asks by triggers, and would not ask where these are switched off.
const ASLEEP: &str = "SELECT DISTINCT pg_catalog.quote_ident(con.conname) || ' of ' || con.conrelid::pg_catalog.regclass::text
    FROM (SELECT $1::oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1)) AS tree (oid)
        JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.oid JOIN pg_catalog.pg_constraint con ON con.oid = t.tgconstraint
    WHERE t.tgisinternal AND t.tgtype & 4 <> 0 AND t.tgenabled NOT IN ('O', 'A') AND con.conrelid = t.tgrelid ORDER BY 1";

const RULES: &str = "SELECT r.rulename::text, pg_catalog.quote_ident(r.rulename), r.ev_enabled::text FROM pg_catalog.pg_rewrite r
    WHERE r.ev_class = $1 AND r.ev_type = '3' AND r.ev_enabled <> 'D' ORDER BY 1";

/// Looks at where the rows are to go, and whether they fit.
///
/// # Errors
/// When they do not.
pub async fn look(
    session: &Session,
    into: &RelationName,
    manifests: &[Manifest],
) -> Result<Site, EngineError> {
    let doing = "looking at the table";
    let mut site = Site {
        columns: union(manifests),
        ..Site::default()
    };
    let (schema, table) = (into.schema.raw(), into.relation.raw());
    if schema.starts_with("pg_") || schema == "information_schema" {
        return Err(files(format!(
            "nothing was restored: the schema {schema} is the server's own, and {into} would be lost or refused there; name a table in another schema"
        )));
    }
    let found = session.query(doing, TABLE, &[&schema, &table]).await?;
    let Some(row) = found.first() else {
        let answer = session.query(doing, SCHEMA, &[&schema]).await?;
        site.no_schema = !matches!(answer.first().map(|row| row.get(0)), Some(Ok(true)));
        for (name, pg_type) in &site.columns {
            is_type(session, name, pg_type).await?;
        }
        in_one_zone(into, manifests, &site.columns)?;
        site.retyped = retyped(manifests, &site.columns);
        return Ok(site);
    };
    let kind: String = row.get(1)?;
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(files(format!("{into} is no table")));
    }
    let oid: u32 = row.get(0)?;
    site.oid = Some(oid);
    site.key = row.get(2)?;
    let mut there: Vec<(String, String)> = Vec::new();
    let mut wanted: Vec<String> = Vec::new();
    for row in session.query(doing, COLUMNS, &[&oid]).await? {
        let name: String = row.get(0)?;
        if row.get(1)? {
            site.computed.push(name.clone());
        }
        if row.get(3)? {
            wanted.push(name.clone());
        }
        there.push((name, row.get(2)?));
    }
    in_one_zone(into, manifests, &there)?;
    let lacks = |name: &String| there.iter().all(|(one, _)| one != name);
    if let Some((name, pg_type)) = site.columns.iter().find(|(name, _)| lacks(name)) {
        return Err(files(format!(
            "{into} has no column {name}, which the archived rows have; ALTER TABLE {into} ADD COLUMN {} {pg_type}, or restore into a new table",
            Identifier::new(&**name)
        )));
    }
    let archived = |name: &String| site.columns.iter().any(|(one, _)| one == name);
    if let Some(name) = wanted.iter().find(|name| !archived(name)) {
        let quoted = Identifier::new(&**name);
        return Err(files(format!(
            "nothing was restored: column {name} of {into} has to have a value, has no default, and the archived rows have no such column; ALTER TABLE {into} ALTER COLUMN {quoted} SET DEFAULT …, or DROP NOT NULL, or restore into a new table"
        )));
    }
    site.retyped = retyped(manifests, &there);
    site.retyped
        .retain(|(name, ..)| !site.computed.contains(name));
    let asleep = session.query(doing, ASLEEP, &[&oid]).await?;
    let asleep: Vec<String> = each(&asleep, |row| row.get(0))?;
    if !asleep.is_empty() {
        return Err(files(format!(
            "nothing was restored: triggers of these constraints are switched off, so rows would come back that break them: {}. Switch them on (ALTER TABLE {into} ENABLE TRIGGER ALL), or restore into a table of its own (`--into`)",
            asleep.join(", ")
        )));
    }
    for row in session.query(doing, TRIGGERS, &[&oid]).await? {
        let (table, name): (String, String) =
            (row.named("table_name")?, row.named("trigger_name")?);
        let enabled: String = row.named("enabled")?;
        if row.named("before_each_row")? && enabled != "R" {
            site.changing.push(format!("trigger {name} of {table}"));
        }
        site.triggers.push((table, name, again(&enabled)));
    }
    for row in session.query(doing, RULES, &[&oid]).await? {
        let name: String = row.get(0)?;
        site.changing.push(format!("rule {name} of {into}"));
        site.rules
            .push((row.get(1)?, again(&row.get::<String>(2)?)));
    }
    Ok(site)
}

/// The words that give a trigger or rule the state back that it has.
fn again(enabled: &str) -> &'static str {
    match enabled {
        "A" => "ENABLE ALWAYS",
        "R" => "ENABLE REPLICA",
        _ => "ENABLE",
    }
}

/// All columns that any of the manifests has; of several types, the latest.
fn union(manifests: &[Manifest]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for column in manifests.iter().flat_map(|m| &m.columns) {
        match all.iter_mut().find(|(name, _)| *name == column.name) {
            Some((_, pg_type)) => pg_type.clone_from(&column.pg_type),
            None => all.push((column.name.clone(), column.pg_type.clone())),
        }
    }
    all
}

/// Columns that are of another type there than when rows were archived: name, what it is, what it was.
fn retyped(manifests: &[Manifest], there: &[(String, String)]) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for column in manifests.iter().flat_map(|m| &m.columns) {
        let is = there.iter().find(|(name, _)| *name == column.name);
        if let Some((name, is)) = is.filter(|(_, is)| *is != column.pg_type) {
            let one = (name.clone(), is.clone(), column.pg_type.clone());
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all
}

/// Whether values of this type name a moment, whatever the time zone; none where they are no times.
fn knows_its_zone(pg_type: &str) -> Option<bool> {
    if pg_type.contains("with time zone") {
        return Some(true);
    }
    (pg_type.contains("without time zone") || pg_type == "date").then_some(false)
}

/// Refuses times of a clock on the wall where moments are wanted, and the other way round: the zone they
/// were meant in, or are to be told in, is known to people only.
fn in_one_zone(
    into: &RelationName,
    manifests: &[Manifest],
    there: &[(String, String)],
) -> Result<(), EngineError> {
    for column in manifests.iter().flat_map(|m| &m.columns) {
        let Some((_, wanted)) = there.iter().find(|(name, _)| *name == column.name) else {
            continue;
        };
        let zones = (knows_its_zone(&column.pg_type), knows_its_zone(wanted));
        // A column of days loses more than the zone, which is seen when what came back is compared.
        if let (Some(was), Some(is)) = zones
            && was != is
            && wanted != "date"
        {
            return Err(files(format!(
                "column {} of {into} is {wanted}, and was {} when rows were archived: nobody knows the time zone they are to be read in; restore them into a new table, those from before and after the change apart (`maint archive list` has their ids), and convert them there",
                column.name, column.pg_type
            )));
        }
    }
    Ok(())
}

/// Whether the server reads a text as the name of a type, and nothing else.
async fn is_type(session: &Session, column: &str, pg_type: &str) -> Result<(), EngineError> {
    let sql = "SELECT pg_catalog.to_regtype($1) IS NOT NULL";
    let answer = session.query("looking for a type", sql, &[&pg_type]).await;
    match answer {
        Ok(rows) if matches!(rows.first().map(|r| r.get(0)), Some(Ok(true))) => Ok(()),
        Err(error) if error.sqlstate().is_none() => Err(error),
        _ => Err(files(format!(
            "column {column} is of type `{pg_type}`, which this server does not know; make the type first, or the table with another"
        ))),
    }
}

/// Copies the rows of these manifests into a table, in one transaction. A
/// table that does not exist is made. `note` writes down, before it commits,
/// that these manifests come back, with a mark for each. Restores of one archive come one after the
/// other: `still`, asked when it is this one's turn, says whether these are to
/// come back still. Returns the number of rows.
///
/// # Errors
/// When a file is missing or not what its manifest says, or the server
/// refuses; nothing has been restored then.
pub async fn restore(
    session: &Session,
    how: Restore<'_>,
    manifests: &[Manifest],
    still: impl AsyncFnOnce() -> Result<(), EngineError>,
    note: impl AsyncFnOnce(Vec<Restored>) -> Result<(), EngineError>,
) -> Result<i64, EngineError> {
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    session.execute("opening a transaction", begin).await?;
    let turn = match back::wait_for_turn(session, manifests).await {
        Ok(()) => still().await,
        Err(error) => Err(error),
    };
    if let Err(error) = turn {
        session.execute("rolling back", "ROLLBACK").await?;
        return Err(error);
    }
    let uses = [Use::Insert, Use::Define];
    let into = how.into.to_string();
    let mut restored = match trust::admit(session, &into, &uses, how.trust_owners).await {
        Ok(()) => within(session, how, manifests).await,
        Err(error) => Err(error),
    };
    if let Ok((_, marks)) = &mut restored {
        // What is deferred has its last say here.
        let settled = session.execute("settling", SETTLE).await.map(drop);
        let noted = match settled {
            Ok(()) => note(std::mem::take(marks)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            restored = Err(error);
        }
    }
    let (doing, sql) = match restored {
        Ok(_) => ("committing", "COMMIT"),
        Err(_) => ("rolling back", "ROLLBACK"),
    };
    let ended = session.execute(doing, sql).await;
    let role = Identifier::new(&*session.server.role);
    let (rows, _) = restored.map_err(|error| not_taken(error, how.into, &role))?;
    ended.map_err(|error| not_taken(error, how.into, &role))?;
    Ok(rows)
}

/// Says what the server's refusal means for the rows, and what helps.
fn not_taken(error: EngineError, into: &RelationName, role: &Identifier) -> EngineError {
    let EngineError::Statement {
        sqlstate,
        message,
        origin,
        ..
    } = &error
    else {
        return error;
    };
    let elsewhere = "or restore into a table of its own (`--into`)";
    let rule = origin.rule.as_deref().unwrap_or("a constraint");
    let said = match sqlstate.as_str() {
        // Somebody's code speaks for itself.
        _ if origin.is_raised() => message.clone(),
        "23502" => format!(
            "{rule}: some of the archived rows have no value there, or no such column; give it one by DEFAULT where they lack it, take NOT NULL away (ALTER TABLE {into} ALTER COLUMN … DROP NOT NULL), {elsewhere}"
        ),
        "23503" => format!(
            "the foreign key {rule}: rows that some of the archived ones point at are not there; bring those back first, {elsewhere}"
        ),
        "23505" | "23P01" => format!(
            "{rule}: some of the archived rows meet rows that {into} has, or each other: they may be there already; look for them, {elsewhere}"
        ),
        "23514" => format!(
            "the check {rule}: some of the archived rows do not meet it; make it one that they meet, {elsewhere}"
        ),
        "42501" => format!(
            "{message}. Where {into} is there, {role} needs SELECT and INSERT on it (GRANT SELECT, INSERT ON {into} TO {role}); else CREATE on the schema {0} (GRANT USAGE, CREATE ON SCHEMA {0} TO {role}), or on the database where that is missing, too",
            into.schema
        ),
        _ => message.clone(),
    };
    let said = said.trim_start_matches("nothing was restored: ");
    let said = format!("nothing was restored: {said}");
    error.reworded(|_| said)
}

async fn within(
    session: &Session,
    how: Restore<'_>,
    manifests: &[Manifest],
) -> Result<(i64, Vec<Restored>), EngineError> {
    let into = how.into;
    let site = look(session, into, manifests).await?;
    if site.oid.is_none() {
        if site.no_schema {
            let sql = format!("CREATE SCHEMA {}", into.schema);
            session.execute_with("making the schema", &sql, &[]).await?;
        }
        let columns: Vec<String> = site
            .columns
            .iter()
            .map(|(name, pg_type)| format!("{} {pg_type}", Identifier::new(&**name)))
            .collect();
        let sql = format!("CREATE TABLE {into} ({})", columns.join(", "));
        // One statement, whatever it says: the extended protocol takes no more.
        session.execute_with("making the table", &sql, &[]).await?;
        if back::is_confined(session, manifests).await? {
            let sql = only_for_its_owner(&into.to_string());
            session.execute("closing the table", &sql).await?;
            tracing::warn!(
                table = %into,
                "some may read only a part of the table that the rows came from: row-level security is enabled, and nobody but the owner reads them until there are policies"
            );
        }
        let tables = back::tables(session, manifests).await?;
        let heirs = Heirs::of(session, &tables, into.schema.raw()).await?;
        for sql in heirs.statements(&into.to_string()) {
            session
                .execute("giving the table to who had the rows", &sql)
                .await?;
        }
        // The types that the archive names are somebody's, and so is what they call.
        let uses = [Use::Insert, Use::Define];
        trust::admit(session, &into.to_string(), &uses, how.trust_owners).await?;
    }
    if how.disable_triggers {
        for (table, trigger, _) in &site.triggers {
            let sql = format!("ALTER TABLE ONLY {table} DISABLE TRIGGER {trigger}");
            session.execute("disabling a trigger", &sql).await?;
        }
        for (rule, _) in &site.rules {
            let sql = format!("ALTER TABLE ONLY {into} DISABLE RULE {rule}");
            session.execute("disabling a rule", &sql).await?;
        }
    } else if !site.changing.is_empty() {
        return Err(files(format!(
            "nothing was restored: {} may change rows or keep them out; `--disable-triggers` leaves triggers out",
            site.changing.join(", ")
        )));
    }
    let (schema, table) = (into.schema.raw(), into.relation.raw());
    let doing = "looking for the table";
    let found = session.query(doing, TABLE, &[&schema, &table]).await?;
    let Some(found) = found.first() else {
        return Err(files(format!("{into} has vanished")));
    };
    let oid: u32 = found.get(0)?;
    let held = session.hold().await?;
    let mut returning = Returning::open(session, into, oid).await?;
    let mut total = 0;
    for manifest in manifests {
        let done = one(&mut returning, into, manifest, &site.computed).await;
        let key = site.key.as_deref();
        total += done.map_err(|error| without_partition(error, into, key, manifests))?;
    }
    // What is deferred has its say before it is looked what is there; and a
    // table on which something is still to happen cannot be altered.
    session.execute("settling", SETTLE).await?;
    session.put_back(&held).await?;
    returning.prove().await?;
    if how.disable_triggers {
        for (table, trigger, again) in &site.triggers {
            let sql = format!("ALTER TABLE ONLY {table} {again} TRIGGER {trigger}");
            session.execute("enabling a trigger", &sql).await?;
        }
        for (rule, again) in &site.rules {
            let sql = format!("ALTER TABLE ONLY {into} {again} RULE {rule}");
            session.execute("enabling a rule", &sql).await?;
        }
    }
    let doing = "naming the transaction";
    let database = "SELECT d.oid::text FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
    let database = session.query(doing, database, &[]).await?;
    let Some(database) = database.first() else {
        return Err(files(format!("{into} has vanished")));
    };
    // What the mark says of the transaction decides whether rows come back once more.
    let naming = Naming::beside(how.dial, NAME, session).await?;
    let named = naming.name(session).await?;
    let mark = Restored {
        at: wall_clock(),
        into: into.to_string(),
        oid,
        database: format!("{} {}", session.server.database, database.get::<String>(0)?),
        transaction: named.id,
        server: Some(named.server),
        home: false,
    };
    let mut marks = Vec::new();
    for manifest in manifests {
        let home = back::is_home(session, oid, manifest).await?;
        marks.push(Restored {
            home,
            ..mark.clone()
        });
    }
    Ok((total, marks))
}

/// Copies the rows of one manifest.
async fn one(
    returning: &mut Returning<'_>,
    into: &RelationName,
    manifest: &Manifest,
    computed: &[String],
) -> Result<i64, EngineError> {
    let storage = Storage::open(&manifest.storage).map_err(|e| caused(&e))?;
    // What the table computes from the others is not given.
    let given: Vec<usize> = (0..manifest.columns.len())
        .filter(|n| !computed.contains(&manifest.columns[*n].name))
        .collect();
    let columns: Vec<Column> = given.iter().map(|n| manifest.columns[*n].clone()).collect();
    returning.begin(&columns).await?;
    let mut total = 0;
    for file in &manifest.files {
        let read = storage.get(&file.path, file.size()).await;
        let content = read.map_err(|e| caused(&e))?;
        check(content.clone(), file, &manifest.columns)
            .map_err(|why| files(format!("{}: {why}", storage.full(&file.path))))?;
        let mut lines = rows(content, &manifest.columns).map_err(|e| caused(&e))?;
        let mut wrong = None;
        let next = || {
            let mut piece = String::new();
            while piece.len() < PIECE {
                let line = match lines.next() {
                    Some(Ok(mut row)) => {
                        let row: Vec<Option<Vec<u8>>> = given
                            .iter()
                            .map(|n| row.get_mut(*n).and_then(Option::take))
                            .collect();
                        copy_line(&columns, &row, &mut piece)
                    }
                    Some(Err(error)) => Err(error),
                    None => break,
                };
                if let Err(error) = line {
                    wrong = Some(error);
                    return None;
                }
            }
            (!piece.is_empty()).then(|| Bytes::from(piece))
        };
        let copied = returning.copy(next).await?;
        if let Some(error) = wrong {
            return Err(caused(&error));
        }
        if i64::try_from(copied) != Ok(file.rows) {
            return Err(files(format!(
                "{}: {copied} of {} rows arrived for {into}",
                storage.full(&file.path),
                file.rows
            )));
        }
        total += file.rows;
    }
    if total > 0 {
        let from = storage.full(&manifest.path());
        returning.store(&from).await?;
    }
    Ok(total)
}

/// Says which partitions are missing, where the server has none for a row.
fn without_partition(
    error: EngineError,
    into: &RelationName,
    key: Option<&str>,
    manifests: &[Manifest],
) -> EngineError {
    let none = match &error {
        EngineError::Statement {
            sqlstate, origin, ..
        } => sqlstate == "23514" && origin.file.as_deref() == Some("execPartition.c"),
        _ => false,
    };
    if !none {
        return error;
    }
    let wanted: BTreeSet<String> = manifests
        .iter()
        .filter_map(|manifest| {
            if let Some(bounds) = manifest.whole.as_ref().and_then(|w| w.bounds.as_ref()) {
                let table = &manifest.table;
                return Some(format!("CREATE TABLE {table} PARTITION OF {into} {bounds}"));
            }
            // What the files span is a time; the table may be partitioned by something else.
            let by_time = |key: &str| {
                let named = key.split(['(', ')', ',', ' ']);
                let named: Vec<&str> = named.map(|word| word.trim_matches('"')).collect();
                let mut columns = manifest.columns.iter();
                columns.any(|c| named.contains(&&*c.name) && knows_its_zone(&c.pg_type).is_some())
            };
            if let Some(key) = key.filter(|key| !by_time(key)) {
                return Some(format!("partitions for the values of these rows ({key})"));
            }
            let spans = || manifest.files.iter().filter_map(|f| f.span.as_ref());
            let oldest = spans().map(|(oldest, _)| oldest).min()?;
            let newest = spans().map(|(_, newest)| newest).max()?;
            Some(format!("partitions for {oldest} to {newest}"))
        })
        .collect();
    let more = match wanted.len().checked_sub(MOST_NAMED) {
        Some(more @ 1..) => format!("; and {more} more"),
        _ => String::new(),
    };
    let wanted: Vec<String> = wanted.into_iter().take(MOST_NAMED).collect();
    files(format!(
        "nothing was restored: {into} has no partition for some of the rows. Make what is missing of these: {}{more}. Or restore into a table of its own (`--into`)",
        wanted.join("; ")
    ))
}

fn caused(error: &dyn std::error::Error) -> EngineError {
    EngineError::Files {
        message: with_causes(error),
    }
}
