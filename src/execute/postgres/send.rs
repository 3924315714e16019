//! Rows go into a table of another database, and leave only when they are
//! proved to be there.
//!
//! Both servers name their transactions, and both names are written down
//! before either commits. The other one commits first. Whenever the process
//! dies, the server that deletes can be asked what became of its transaction:
//! where it was given back, the rows that the other transaction wrote are
//! known by their `xmin`, and taken back.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Job;
use super::aftermath::Before;
use super::again::Fields;
use super::attempts::Attempt;
use super::batch::SETTLE;
use super::export::{Batch, ExportError};
use super::gate::{self, Did, Halt, Outcome};
use super::naming::Naming;
use super::settle::{fate, put, remember};
use super::stored::Places;
use crate::engines::EngineError;
use crate::engines::parquet::{Checksum, Column, ParquetError, copy_line};
use crate::engines::postgres::catalog::UNLOGGED;
use crate::engines::postgres::connect::Dial;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::postgres::{Identifier, Row, Session, each};
use crate::plan::{Manifest, Range, Received, Send, Statement, Walk, Without, storing};

/// A batch is held in memory on its way, as text: bytes take two digits each.
const MOST_BYTES: usize = 40 << 20;
/// What happens to the table there: rows come in, and it may have to be made.
const TAKES_ROWS: &[Use] = &[Use::Insert, Use::Command];
/// Rows as the transaction `$1` has written them.
pub(super) const CAME: &str = "xmin::text = ($1::text::numeric % 4294967296)::text";
/// Pieces of this size are handed to the server.
const PIECE: usize = 64 << 10;

/// The way into another database, opened once for a walk.
pub(super) struct Sender<'a> {
    walk: &'a Walk,
    send: &'a Send,
    pub(super) there: Session,
    /// Of transactions here, and there.
    names: (Naming, Naming),
}

/// Rows on their way, in the text format of COPY.
struct Load {
    pieces: Vec<Bytes>,
    rows: i64,
    checksum: Checksum,
}

/// What came of a batch, or why the delete did not pass the gate.
type Sent = Outcome<Batch>;

/// One batch of a walk, to be sent.
pub(super) struct Sending<'a> {
    pub(super) sender: &'a Sender<'a>,
    pub(super) range: &'a Range,
    pub(super) without: &'a Without,
}

#[async_trait]
impl Attempt for Sending<'_> {
    type Done = Batch;

    fn shrinks(&self) -> bool {
        true
    }

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Batch> {
        let sender = self.sender;
        sender
            .pass(self.range, self.without, job, step_ends, give_way)
            .await
    }
}

impl<'a> Sender<'a> {
    /// Connects, and looks whether the table there takes rows as they are.
    pub(super) async fn open(
        walk: &'a Walk,
        send: &'a Send,
        job: Job<'_>,
    ) -> Result<Sender<'a>, ExportError> {
        let there = connect(&send.target, job).await?;
        is_another(job.session, &there, walk, send).await?;
        let trusted = trusted(&send.target, job);
        there
            .execute("opening a transaction there", "BEGIN")
            .await?;
        trust::admit(&there, &send.into, TAKES_ROWS, &trusted).await?;
        fits(&there, send).await?;
        let stage = format!(
            "CREATE TEMPORARY TABLE maint_batch ON COMMIT DELETE ROWS AS SELECT {} FROM {} WHERE false",
            names(&send.columns),
            send.into
        );
        there.execute("making a table for batches", &stage).await?;
        there.execute("committing there", "COMMIT").await?;
        let names = (
            Naming::open(&job.door.dial, &job.door.name).await?,
            Naming::open(&dial(&send.target, job)?, &job.door.name).await?,
        );
        Ok(Sender {
            walk,
            send,
            there,
            names,
        })
    }

    /// Sends one batch.
    async fn pass(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Batch> {
        for session in [job.session, &self.there] {
            gate::limit(session, job.execution, step_ends).await?;
        }
        match self.batch(range, without, job, step_ends, give_way).await {
            Ok(sent) => sent,
            Err(error) => Err(error.judge(job, step_ends, give_way)),
        }
    }

    async fn batch(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Result<Sent, ExportError> {
        let session = job.session;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        session.execute("opening a transaction", begin).await?;
        if let Some(guard) = &job.step.body.guard
            && let Err(error) = guard.take(session).await
        {
            session.execute("rolling back", "ROLLBACK").await?;
            return Err(error.into());
        }
        let mut noted = None;
        let result = self
            .within(range, without, job, step_ends, give_way, &mut noted)
            .await;
        let result = match result {
            Ok(Ok(Batch::Rows(rows))) => match session.execute("committing", "COMMIT").await {
                Ok(_) => Ok(Ok(Batch::Rows(rows))),
                // The server's word that nothing has gone from here.
                Err(error) if !error.is_unreachable() => Err(error.into()),
                // The next run asks what came of it.
                Err(error) => return Err(error.into()),
            },
            other => other,
        };
        if let Ok(Ok(Batch::Rows(rows))) = result {
            if let Some(manifest) = noted {
                let settled = Manifest {
                    settled: true,
                    ..manifest
                };
                remember(job, &settled).await?;
            }
            return Ok(Ok(Batch::Rows(rows)));
        }
        // Where the other server is out of reach, the next run takes back.
        let there = self.there.execute("rolling back there", "ROLLBACK").await;
        let here = session.execute("rolling back", "ROLLBACK").await;
        if let (Some(manifest), Ok(_), Ok(_)) = (noted, &here, &there)
            && let Err(error) = take_back_by(&self.there, &manifest, job).await
        {
            tracing::warn!(%error, "rows of a batch that was given back remain there for now");
            if result.is_ok() {
                return Err(error);
            }
        }
        if result.is_ok() {
            here?;
            there?;
        }
        result
    }

    async fn within(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
        noted: &mut Option<Manifest>,
    ) -> Result<Sent, ExportError> {
        let Some(load) = self.read(range, without, job).await? else {
            return Ok(Ok(Batch::TooLarge));
        };
        if load.rows == 0 {
            return Ok(Ok(Batch::Rows(0)));
        }
        let (rows, there) = (load.rows, &self.there);
        there
            .execute("opening a transaction there", "BEGIN")
            .await?;
        let trusted = trusted(&self.send.target, job);
        trust::admit(there, &self.send.into, TAKES_ROWS, &trusted).await?;
        self.store(load).await?;
        let before = match self.walk.fires {
            true => Some(Before::of(job.session, self.walk).await?),
            false => None,
        };
        // What cannot go from here is known before anything is kept there.
        for statement in [self.walk.delete(range, without), Statement::brief(SETTLE)] {
            let outcome =
                gate::pass(job.session, &statement, job.execution, step_ends, give_way).await;
            match outcome {
                Ok(_) if statement.sql == SETTLE => {}
                Ok(did) if i64::try_from(did.rows) == Ok(rows) => {}
                Ok(Did { rows: gone, .. }) => {
                    return Err(ExportError::Stayed { rows, gone });
                }
                Err(halt) => return Ok(Err(halt)),
            }
        }
        if let Some(before) = before {
            before.compare(job.session, self.walk).await?;
        }
        if job.execution.stop.is_now() {
            return Ok(Err(Halt::Stopped));
        }
        let (here, beyond) = (
            self.names.0.name(job.session).await?,
            self.names.1.name(there).await?,
        );
        let manifest = Manifest {
            id: Uuid::now_v7(),
            run: job.execution.run,
            maint: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: Utc::now(),
            settled: false,
            source: self.send.source.clone(),
            oid: Some(self.send.oid),
            table: self.walk.table.clone(),
            condition: self.walk.condition.clone(),
            columns: self.send.columns.clone(),
            rows,
            transaction: here.id,
            server: Some(here.server),
            storage: String::new(),
            received: Some(Received {
                target: self.send.target.clone(),
                table: self.send.into.clone(),
                transaction: beyond.id,
                server: Some(beyond.server),
            }),
            whole: None,
            target: Some(job.execution.target.clone()),
            database: Some(job.session.server.database.clone()),
            restored: Vec::new(),
            files: Vec::new(),
        };
        // From here on the next run knows what to look for. Unlike the rest
        // of the history, the work depends on it.
        remember(job, &manifest).await?;
        *noted = Some(manifest);
        there.execute("committing there", "COMMIT").await?;
        Ok(Ok(Batch::Rows(rows)))
    }

    /// Whether the table there takes one row as it is, by its place here. It
    /// is not kept there.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn takes(&self, place: &str, job: Job<'_>) -> Result<(), EngineError> {
        let range = Range::Rows(vec![place.to_owned()]);
        let read = self.read(&range, &Without::default(), job).await;
        let Some(load) = read.map_err(ExportError::into_engine)? else {
            return Ok(());
        };
        let there = &self.there;
        there
            .execute("opening a transaction there", "BEGIN")
            .await?;
        let trusted = trusted(&self.send.target, job);
        let stored = match trust::admit(there, &self.send.into, TAKES_ROWS, &trusted).await {
            Ok(()) => self.store(load).await,
            Err(error) => Err(error.into()),
        };
        there.execute("rolling back there", "ROLLBACK").await?;
        stored.map_err(ExportError::into_engine)
    }

    async fn read(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
    ) -> Result<Option<Load>, ExportError> {
        let columns = &self.send.columns;
        let query = self.walk.select(&selected(columns), range, without);
        let params = gate::bound(&query.params);
        let mut load = Load {
            pieces: Vec::new(),
            rows: 0,
            checksum: Checksum::default(),
        };
        let (mut piece, mut size) = (String::new(), 0);
        let mut failed: Option<ParquetError> = None;
        let reading = job
            .session
            .stream("reading rows", &query.sql, &params, |fields| {
                load.checksum.add(columns, fields.iter().copied());
                load.rows += 1;
                let row = fields.iter().map(|f| f.map(<[u8]>::to_vec)).collect();
                if let Err(error) = copy_line(columns, &row, &mut piece) {
                    failed = Some(error);
                    return false;
                }
                if piece.len() >= PIECE {
                    size += piece.len();
                    load.pieces.push(Bytes::from(std::mem::take(&mut piece)));
                }
                size <= MOST_BYTES
            });
        tokio::select! {
            result = reading => result?,
            () = job.execution.stop.now() => job.session.cancel().await?,
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        if size > MOST_BYTES {
            return Ok(None);
        }
        load.pieces.push(Bytes::from(piece));
        Ok(Some(load))
    }

    /// Writes the rows there, and compares what was stored with what was read.
    async fn store(&self, load: Load) -> Result<(), ExportError> {
        let (columns, into) = (&self.send.columns, &self.send.into);
        let mut pieces = load.pieces.into_iter();
        let copy = "COPY pg_temp.maint_batch FROM STDIN";
        self.there
            .copy_in("writing rows there", copy, || pieces.next())
            .await?;
        let names = names(columns);
        let insert = format!(
            "WITH stored AS ({} RETURNING tableoid AS leaf, ctid AS place)
            SELECT leaf::regclass::text, min(place)::text, max(place)::text FROM stored GROUP BY leaf",
            storing(into, &names, "pg_temp.maint_batch")
        );
        let held = self.there.hold().await?;
        let places = self.there.query("storing rows there", &insert, &[]).await?;
        self.there.execute("settling there", SETTLE).await?;
        self.there.put_back(&held).await?;
        let (mut rows, mut checksum) = (0, Checksum::default());
        if !places.is_empty() {
            let stored = Places::of(&places)?.select(&selected(columns));
            self.there
                .stream(
                    "reading back what was stored there",
                    &stored,
                    &[],
                    |fields| {
                        checksum.add(columns, fields.iter().copied());
                        rows += 1;
                        true
                    },
                )
                .await?;
        }
        if (rows, checksum) != (load.rows, load.checksum) {
            return Err(ExportError::Proof(format!(
                "nothing was deleted: {into} stored {rows} rows with checksum {checksum}, not {} with {}; a trigger or rule changes them",
                load.rows, load.checksum
            )));
        }
        Ok(())
    }
}

/// Removes the rows of a batch whose delete was given back.
pub(super) async fn take_back(manifest: &Manifest, job: Job<'_>) -> Result<(), ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(());
    };
    let there = connect(&received.target, job).await?;
    take_back_by(&there, manifest, job).await
}

/// The rows of a batch in the other database, by the transaction that wrote them; or why they
/// cannot be had.
pub(super) async fn rows_there(
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<Result<Vec<Fields>, String>, ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(Err("it is not in another database".to_owned()));
    };
    let there = connect(&received.target, job).await?;
    let was = fate(&there, &received.transaction, received.server.as_deref()).await?;
    let same = was.as_deref() == Some("committed");
    there
        .execute("opening a transaction there", "BEGIN")
        .await?;
    let trusted = trusted(&received.target, job);
    trust::admit(&there, &received.table, &[Use::Read], &trusted).await?;
    let sql = format!(
        "SELECT {} FROM {} WHERE {CAME}",
        selected(&manifest.columns),
        received.table
    );
    let mut rows: Vec<Fields> = Vec::new();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&received.transaction];
    there
        .stream("reading archived rows there", &sql, &params, |fields| {
            rows.push(fields.iter().map(|f| f.map(<[u8]>::to_vec)).collect());
            true
        })
        .await?;
    there.execute("rolling back there", "ROLLBACK").await?;
    // It has lost them as well: nothing can be there twice.
    if !same && rows.is_empty() {
        return Ok(Ok(rows));
    }
    if i64::try_from(rows.len()) != Ok(manifest.rows) {
        return Ok(Err(format!(
            "{} rows came into {}, and {} of them are still as they came",
            manifest.rows,
            received.table,
            rows.len()
        )));
    }
    Ok(Ok(rows))
}

async fn take_back_by(
    there: &Session,
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<(), ExportError> {
    let Some(received) = &manifest.received else {
        return Ok(());
    };
    let was = fate(there, &received.transaction, received.server.as_deref()).await?;
    match was.as_deref() {
        Some("aborted") => {}
        Some("committed") => {
            let sql = format!("DELETE FROM {} WHERE {CAME}", received.table);
            there
                .execute("opening a transaction there", "BEGIN")
                .await?;
            let (gives, trusted) = (&[Use::Delete], trusted(&received.target, job));
            if let Err(error) = trust::admit(there, &received.table, gives, &trusted).await {
                there.execute("rolling back there", "ROLLBACK").await?;
                return Err(error.into());
            }
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&received.transaction];
            let gone = there
                .execute_with("taking rows back", &sql, &params)
                .await?
                .rows;
            // A take-back that was itself interrupted before it was noted.
            if gone != 0 && i64::try_from(gone) != Ok(manifest.rows) {
                there.execute("rolling back there", "ROLLBACK").await?;
                return Err(ExportError::Proof(format!(
                    "{} rows came into {}, and {gone} of them are still as they came: somebody has changed them; see to them by hand",
                    manifest.rows, received.table
                )));
            }
            there.execute("committing there", "COMMIT").await?;
        }
        other => {
            return Err(ExportError::Proof(format!(
                "what became of transaction {} on target {} is not known ({})",
                received.transaction,
                received.target,
                other.unwrap_or("too long ago")
            )));
        }
    }
    put(job, &manifest.key(), serde_json::Value::Null).await
}

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
async fn is_another(
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

/// Makes the table where it does not exist, and looks whether its columns are the same.
async fn fits(there: &Session, send: &Send) -> Result<(), ExportError> {
    let doing = "reading the columns there";
    let mut rows = there.query(doing, COLUMNS, &[&send.into]).await?;
    if rows.is_empty() {
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
        rows = there.query(doing, COLUMNS, &[&send.into]).await?;
    }
    let doing = "looking how lasting the table there is";
    let answer = there.query(doing, UNLOGGED, &[&send.into]).await?;
    if is_true(&answer) {
        return Err(ExportError::Proof(format!(
            "nothing was deleted: {} on target {}, or a partition of it, is UNLOGGED: a crash of the server would empty it; ALTER TABLE … SET LOGGED",
            send.into, send.target
        )));
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
    Ok(())
}

/// Roles whose code may run in the other database.
pub(super) fn trusted(target: &str, job: Job<'_>) -> Vec<String> {
    let target = job.execution.elsewhere.get(target);
    target.map(|t| t.trust_owners.clone()).unwrap_or_default()
}

async fn connect(target: &str, job: Job<'_>) -> Result<Session, ExportError> {
    let there = Session::open(&dial(target, job)?, &job.door.name).await?;
    there.take_any_bytes(false).await?;
    Ok(there)
}

fn dial(target: &str, job: Job<'_>) -> Result<Dial, ExportError> {
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
    Ok(Dial::resolve(url, &env).map_err(EngineError::from)?)
}

fn names(columns: &[Column]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|c| Identifier::new(&*c.name).to_string())
        .collect();
    names.join(", ")
}

fn selected(columns: &[Column]) -> String {
    let all: Vec<String> = columns
        .iter()
        .map(|c| c.selected(&Identifier::new(&*c.name).to_string()))
        .collect();
    all.join(", ")
}
