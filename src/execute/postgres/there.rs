//! The other database that rows go to: how to get there, and whether a table there takes them.

use uuid::Uuid;

use super::back::shows_some_only;
use super::lot::ExportError;
use super::{Job, reach};
use crate::engines::EngineError;
use crate::engines::parquet::Column;
use crate::engines::postgres::catalog::{FOREIGN_PART, UNLOGGED, no_table};
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::copies;
use crate::engines::postgres::publications::taking_in;
use crate::engines::postgres::{Identifier, RelationName, Row, Session, each, first};
use crate::execute::{LAST_PLACE, PLACES};
use crate::plan::postgres::only_for_its_owner;
use crate::plan::{Memory, Send, Walk};
use crate::values::wall_clock;

const COLUMNS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''";

const RELATED: &str = "WITH RECURSIVE below (oid, of) AS (
        SELECT r.oid, r.oid FROM (VALUES (pg_catalog.to_regclass($1)::oid), (pg_catalog.to_regclass($2)::oid)) AS r (oid)
        UNION SELECT i.inhrelid, b.of FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid)
    SELECT EXISTS (SELECT FROM below b WHERE (b.of = pg_catalog.to_regclass($1)::oid AND b.oid = pg_catalog.to_regclass($2)::oid)
        OR (b.of = pg_catalog.to_regclass($2)::oid AND b.oid = pg_catalog.to_regclass($1)::oid))";

/// Another target may be the same database by another name: then the table
/// must not be one that the rows are in already. Both sessions are in one
/// database if one cannot have the lock that the other has.
pub(super) async fn is_another(
    here: &Session,
    there: &Session,
    walk: &Walk,
    send: &Send,
) -> Result<(), ExportError> {
    let doing = "looking whether the other target is another database";
    let key = i64::from_be_bytes(Uuid::now_v7().as_u64_pair().1.to_be_bytes());
    here.query(doing, "SELECT pg_advisory_lock($1)", &[&key])
        .await?;
    let lock = "SELECT NOT pg_try_advisory_lock($1)";
    let tried = there.query(doing, lock, &[&key]).await;
    if tried.as_ref().is_ok_and(|tried| !is_true(tried)) {
        there
            .query(doing, "SELECT pg_advisory_unlock($1)", &[&key])
            .await?;
    }
    here.query(doing, "SELECT pg_advisory_unlock($1)", &[&key])
        .await?;
    if !is_true(&tried?) {
        return Ok(());
    }
    for table in [&send.source, &walk.table] {
        let answer = here.query(doing, RELATED, &[table, &send.into]).await?;
        if is_true(&answer) {
            return Err(ExportError::Proof(format!(
                "nothing was deleted: {} on target {} is the same table as {table}, or one of the two inherits from the other",
                send.into, send.target
            )));
        }
    }
    Ok(())
}

fn is_true(rows: &[Row]) -> bool {
    rows.first()
        .is_some_and(|row| matches!(row.get::<Option<bool>>(0), Ok(Some(true))))
}

/// Makes the table where it does not exist, and looks whether its columns are the same. Gives its id.
pub(super) async fn fits(here: &Session, there: &Session, send: &Send) -> Result<u32, ExportError> {
    let doing = "reading the columns there";
    let mut rows = there.query(doing, COLUMNS, &[&send.into]).await?;
    if rows.is_empty() {
        if let Some(why) = taking_in(there, &send.schema, &send.into).await? {
            let target = &send.target;
            let why = format!("nothing was deleted: on target {target}, {why}");
            return Err(ExportError::Proof(why));
        }
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname::text = $1)";
        let answer = there
            .query("looking for the schema", sql, &[&send.schema])
            .await?;
        if !is_true(&answer) {
            let sql = format!("CREATE SCHEMA {}", Identifier::new(&*send.schema));
            there.execute("making the schema there", &sql).await?;
        }
        let columns: Vec<String> = send
            .columns
            .iter()
            .map(|c| format!("{} {}", Identifier::new(&*c.name), c.pg_type))
            .collect();
        let sql = format!("CREATE TABLE {} ({})", send.into, columns.join(", "));
        there.execute("making the table there", &sql).await?;
        // Somebody may have confined it since the plan.
        if send.confined || shows_some_only(here, &[send.oid], &[]).await? {
            let closed = only_for_its_owner(&send.into);
            there.execute("closing the table there", &closed).await?;
        }
        rows = there.query(doing, COLUMNS, &[&send.into]).await?;
    }
    if let Some(kind) = unprovable(there, &send.into).await? {
        return Err(ExportError::Proof(format!(
            "nothing was deleted: {} on target {} is {kind}, and rows are proved where they are stored; name its table",
            send.into, send.target
        )));
    }
    let doing = "looking how lasting the table there is";
    let answer = there.query(doing, UNLOGGED, &[&send.into]).await?;
    if is_true(&answer) {
        return Err(emptied_by_a_crash(send));
    }
    let known: Vec<(String, String)> = each(&rows, |row| Ok((row.get(0)?, row.get(1)?)))?;
    for column in &send.columns {
        let found = known.iter().find(|(name, _)| *name == column.name);
        let found = found.map(|(_, pg_type)| pg_type);
        if found != Some(&column.pg_type) {
            return Err(ExportError::Proof(format!(
                "{} on target {} has no column {} of type {}",
                send.into, send.target, column.name, column.pg_type
            )));
        }
    }
    Ok(oid_of(there, &send.into).await?.unwrap_or_default())
}

pub(super) fn emptied_by_a_crash(send: &Send) -> ExportError {
    ExportError::Proof(format!(
        "nothing was deleted: {} on target {}, or a partition of it, is UNLOGGED: a crash of the server would empty it; ALTER TABLE … SET LOGGED",
        send.into, send.target
    ))
}

/// What stands there in the place of a table, or of a part of it.
async fn unprovable(there: &Session, into: &str) -> Result<Option<String>, EngineError> {
    let sql = "SELECT c.relkind::text FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1::text)";
    let found = there.query("looking what there is", sql, &[&into]).await?;
    let kind: Option<String> = first(&found, 0)?;
    if let Some(what) = kind.as_deref().and_then(no_table) {
        return Ok(Some(what.to_owned()));
    }
    let doing = "looking for foreign partitions";
    let rows = there.query(doing, FOREIGN_PART, &[&into]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let part = RelationName::new(row.get::<String>(0)?, row.get::<String>(1)?);
    Ok(Some(format!(
        "a table with a foreign table, {part}, as a partition"
    )))
}

/// The id of a table there, if there is one of this name.
pub(super) async fn oid_of(there: &Session, table: &str) -> Result<Option<u32>, EngineError> {
    let doing = "reading the id of the table there";
    let sql = "SELECT pg_catalog.to_regclass($1::text)::oid";
    let found = there.query(doing, sql, &[&table]).await?;
    Ok(first(&found, 0)?.flatten())
}

/// Roles whose code may run in the other database.
pub(super) fn trusted(target: &str, job: Job<'_>) -> Vec<String> {
    let target = job.execution.elsewhere.get(target);
    target.map(|t| t.trust_owners.clone()).unwrap_or_default()
}

/// Opens a session there.
pub(super) async fn connect(target: &str, job: Job<'_>) -> Result<Session, ExportError> {
    let dial = dial(target, job)?;
    let there = Session::open(&dial, &job.door.name).await?;
    if there.server.in_recovery {
        let server = dial.describe();
        return Err(EngineError::InRecovery { server }.into());
    }
    let copy = copies::only_one(&dial, &job.door.name, &there).await?;
    let history = &job.execution.history;
    let known = history.ask(history.store().memories(target, PLACES));
    let last = known.await.unwrap_or_default().remove(LAST_PLACE);
    let now = reach::place(&dial, &there, copy.as_ref(), last.as_ref()).await?;
    if let Some(now) = now.filter(|now| last.as_ref() != Some(now)) {
        let memory = Memory {
            key: LAST_PLACE.to_owned(),
            value: now,
        };
        history.remember(target, PLACES, wall_clock(), &[memory]);
    }
    there.take_any_bytes(false).await?;
    Ok(there)
}

/// How to get there.
pub(super) fn dial(target: &str, job: Job<'_>) -> Result<Dial, ExportError> {
    let known = &job.execution.elsewhere;
    let found = known.get(target).filter(|t| t.configured);
    let Some(found) = found else {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        return Err(ExportError::Proof(format!(
            "there is no target `{target}` with a url; known: {}",
            names.join(", ")
        )));
    };
    let env = |name: &str| std::env::var(name).ok();
    let url = found.url.as_ref().map(|url| url.expose());
    let dial = Dial::resolve(url, &env).map_err(EngineError::from)?;
    Ok(dial.following_the_primary())
}

/// The names of columns, quoted.
pub(super) fn names(columns: &[Column]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|c| Identifier::new(&*c.name).to_string())
        .collect();
    names.join(", ")
}

/// Columns as they are read for an archive.
pub(super) fn selected(columns: &[Column]) -> String {
    let all: Vec<String> = columns
        .iter()
        .map(|c| c.selected(&Identifier::new(&*c.name).to_string()))
        .collect();
    all.join(", ")
}
