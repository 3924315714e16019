//! Brings archived rows back: all of what is asked for, or nothing.

pub(in crate::execute) mod labels;
mod refused;
pub(in crate::execute) mod rights;
pub(in crate::execute) mod room;
pub(in crate::execute) mod site;

use bytes::Bytes;

use self::refused::{Situation, not_taken, without_partition};
use self::rights::{allowed, is_guarded, perhaps_hidden, unread};
use self::site::{TABLE, look, part_of};
use super::added::Added;
use super::back;
use super::deferred::settle;
use super::export::check;
use super::naming::Naming;
use super::returning::{Returning, files};
use crate::engines::EngineError;
use crate::engines::parquet::{Column, copy_line, rows};
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::heirs::Heirs;
use crate::engines::postgres::publications::taking_in;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::engines::storage::Storage;
use crate::plan::postgres::only_for_its_owner;
use crate::plan::{Manifest, Restored};
use crate::values::{wall_clock, with_causes};

/// Pieces of this size are handed to the server.
const PIECE: usize = 64 << 10;

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

/// What has come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// How many rows.
    pub rows: i64,
    /// Whether a crash of the server would empty the table.
    pub unlogged: bool,
    /// Archived columns that the table computes itself: their values are what it made of the others.
    pub computed: Vec<String>,
}

/// Copies the rows of these manifests into a table, in one transaction. A
/// table that does not exist is made. `note` writes down, before it commits,
/// that these manifests come back, with a mark for each. Restores of one archive come one after the
/// other: `still`, asked when it is this one's turn, says whether these are to
/// come back still.
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
) -> Result<Returned, EngineError> {
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
    let admitted = async {
        // First, since who may do nothing with the table may not even hold it.
        let site = look(session, how.into, manifests).await?;
        allowed(session, how.into, &site, how.disable_triggers).await?;
        trust::admit(session, &into, &uses, how.trust_owners).await
    };
    let mut restored = match admitted.await {
        Ok(()) => within(session, how, manifests).await,
        Err(error) => Err(error),
    };
    if let Ok((_, marks)) = &mut restored {
        // What is deferred has its last say here.
        let settled = settle(session).await;
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
    let error = match (restored, ended) {
        (Ok((back, _)), Ok(_)) => return Ok(back),
        (Err(error), _) | (Ok(_), Err(error)) => error,
    };
    let role = Identifier::new(&*session.server.role);
    let mut why = Situation::default();
    if matches!(error.sqlstate(), Some("42501" | "23514")) {
        why.guards = is_guarded(session, how.into).await;
        why.unread = unread(session, how.into).await;
        why.part_of = part_of(session, how.into).await;
    }
    Err(not_taken(error, how.into, &role, &why))
}

async fn within(
    session: &Session,
    how: Restore<'_>,
    manifests: &[Manifest],
) -> Result<(Returned, Vec<Restored>), EngineError> {
    let into = how.into;
    let site = look(session, into, manifests).await?;
    if site.oid.is_none() {
        let (schema, name) = (into.schema.raw(), into.to_string());
        if let Some(message) = taking_in(session, schema, &name).await? {
            return Err(EngineError::Published { message });
        }
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
    let added = Added::of(session, &into.to_string()).await?;
    let mut returning = Returning::open(session, into, oid).await?;
    let mut total = 0;
    for manifest in manifests {
        let done = one(&mut returning, into, manifest, &site.computed).await;
        let key = site.key.as_deref();
        total += done.map_err(|error| without_partition(error, into, key, manifests))?;
    }
    // What is deferred has its say before it is looked what is there; and a
    // table on which something is still to happen cannot be altered.
    settle(session).await?;
    session.put_back(&held).await?;
    if let Err(error) = returning.prove().await {
        return Err(perhaps_hidden(error, session, into).await);
    }
    if let Some(why) = added.more_than(session, total).await? {
        return Err(files(format!(
            "nothing was restored: {why}; `--disable-triggers` leaves triggers out"
        )));
    }
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
    let archived = |name: &String| site.columns.iter().any(|(one, _)| one == name);
    let returned = Returned {
        rows: total,
        unlogged: site.unlogged,
        computed: site
            .computed
            .iter()
            .filter(|n| archived(n))
            .cloned()
            .collect(),
    };
    Ok((returned, marks))
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

fn caused(error: &dyn std::error::Error) -> EngineError {
    EngineError::Files {
        message: with_causes(error),
    }
}
