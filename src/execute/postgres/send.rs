//! Rows go into a table of another database, and leave only when they are
//! proved to be there.
//!
//! Both servers name their transactions, and both names are written down
//! before either commits. The other one commits first. Whenever the process
//! dies, the server that deletes can be asked what became of its transaction:
//! where it was given back, the rows that the other transaction wrote are
//! known by their `xmin`, and taken back.

mod filling;
mod labels;
mod takes;

use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::aftermath::Before;
use super::attempts::Attempt;
use super::came::take_back_by;
use super::deferred::settle_within;
use super::gate::{self, Did, Halt, Outcome};
use super::known::remember;
use super::lot::{Batch, ExportError, unless_over};
use super::naming::Naming;
use super::standing;
use super::there::{connect, dial, fits, is_another, names, trusted};
use super::{Job, beyond};
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::{self, Use};
use crate::plan::{Finding, Manifest, Range, Received, Send, Statement, Walk, Without};
use crate::values::wall_clock;

/// A batch is held in memory on its way, as text: bytes take two digits each.
const MOST_BYTES: usize = 40 << 20;
/// What happens to the table there: rows come in, and it may have to be made.
const TAKES_ROWS: &[Use] = &[Use::Insert, Use::Command];
/// How long the other server may take to be told to cancel.
const CANCELLED_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// The way into another database, opened once for a walk.
pub(super) struct Sender<'a> {
    walk: &'a Walk,
    send: &'a Send,
    there: Session,
    /// The id of the table there.
    into: u32,
    /// Of transactions here, and there.
    names: (Naming, Naming),
}

/// What came of a batch, or why the delete did not pass the gate.
type Sent = Outcome<Batch>;

/// One batch of a walk, to be sent.
pub(super) struct Sending<'a> {
    pub(super) sender: &'a Sender<'a>,
    pub(super) range: &'a Range,
    pub(super) without: &'a Without,
    /// Whether fewer rows can be tried.
    pub(super) splits: bool,
}

#[async_trait]
impl Attempt for Sending<'_> {
    type Done = Batch;

    fn shrinks(&self) -> bool {
        true
    }

    fn less(&self) -> Option<Batch> {
        self.splits.then_some(Batch::SteppedBack)
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
        // Each batch asks the same few questions there, and planning one takes longer than answering it.
        let once = "SET plan_cache_mode = force_generic_plan";
        there.execute("having questions planned once", once).await?;
        let trusted = trusted(&send.target, job);
        there
            .execute("opening a transaction there", "BEGIN")
            .await?;
        trust::admit(&there, &send.into, TAKES_ROWS, &trusted).await?;
        let into = fits(job.session, &there, send).await?;
        let stage = format!(
            "CREATE TEMPORARY TABLE maint_batch ON COMMIT DELETE ROWS AS SELECT {} FROM {} WHERE false",
            names(&send.columns),
            send.into
        );
        there.execute("making a table for batches", &stage).await?;
        there.execute("committing there", "COMMIT").await?;
        let names = (
            Naming::with(job.door.another().await?).await?,
            Naming::beside(&dial(&send.target, job)?, &job.door.name, &there).await?,
        );
        Ok(Sender {
            walk,
            send,
            there,
            into,
            names,
        })
    }

    /// Looks whether what came there before is there still.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(super) async fn look(&self, job: Job<'_>) -> Result<Option<Finding>, ExportError> {
        beyond::look(&self.there, self.send, self.into, job).await
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
        let opened = standing::open(begin, self.walk, job, step_ends, give_way).await;
        if let Err(halt) = opened {
            return Ok(Err(halt));
        }
        if let Some(guard) = &job.step.body.guard
            && let Err(error) = guard.take(session).await
        {
            session.execute("rolling back", "ROLLBACK").await?;
            return Err(error.into());
        }
        let looked = standing::look(self.walk, job, step_ends, give_way).await;
        if let Err(halt) = looked {
            session.execute("rolling back", "ROLLBACK").await?;
            return Ok(Err(halt));
        }
        let mut noted = None;
        let result = self
            .within(range, without, job, step_ends, give_way, &mut noted)
            .await;
        let commit = gate::commit(session, job.execution, step_ends, give_way);
        let result = match result {
            Ok(Ok(Batch::Rows(rows))) => match commit.await {
                Ok(()) => Ok(Ok(Batch::Rows(rows))),
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
        // One that says nothing keeps nothing locked here.
        let (here, there) = futures_util::future::join(
            session.execute("rolling back", "ROLLBACK"),
            self.there.execute("rolling back there", "ROLLBACK"),
        )
        .await;
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
        let there = &self.there;
        let filling = async {
            there
                .execute("opening a transaction there", "BEGIN")
                .await?;
            let trusted = trusted(&self.send.target, job);
            trust::admit(there, &self.send.into, TAKES_ROWS, &trusted).await?;
            self.fill(range, without, job).await
        };
        let load = match unless_over(filling, job, step_ends, give_way).await {
            Ok(load) => load?,
            Err(halt) => {
                // The rest of the answer is of no use, and would keep the transaction open.
                let (here, ()) =
                    futures_util::future::join(job.session.cancel(), self.stop_there()).await;
                here?;
                return Ok(Err(halt));
            }
        };
        let Some(load) = load else {
            return Ok(Ok(Batch::TooLarge));
        };
        if load.rows == 0 {
            there.execute("rolling back there", "ROLLBACK").await?;
            return Ok(Ok(Batch::Rows(0)));
        }
        let (rows, checksum) = (load.rows, load.checksum);
        let before = match self.walk.fires {
            true => Some(Before::of(job.session, self.walk).await?),
            false => None,
        };
        // What cannot go from here is known before anything is kept there, and the other way round:
        // the one server deletes while the other one stores, and neither has committed.
        let storing = unless_over(self.store(load), job, step_ends, give_way);
        let deleting = self.delete(range, without, rows, before, job, step_ends, give_way);
        let (stored, gone) = futures_util::future::join(storing, deleting).await;
        match stored {
            Ok(stored) => stored?,
            Err(halt) => {
                self.stop_there().await;
                return Ok(Err(halt));
            }
        }
        if let Err(halt) = gone? {
            return Ok(Err(halt));
        }
        if job.execution.stop.is_now() {
            return Ok(Err(Halt::Stopped));
        }
        let naming = unless_over(self.names.1.name(there), job, step_ends, give_way);
        let (here, beyond) =
            futures_util::future::join(self.names.0.name(job.session), naming).await;
        let here = here?;
        let beyond = match beyond {
            Ok(beyond) => beyond?,
            Err(halt) => return Ok(Err(halt)),
        };
        let manifest = Manifest {
            id: Uuid::now_v7(),
            run: job.execution.run,
            maint: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: wall_clock(),
            settled: false,
            doubted: false,
            source: self.send.source.clone(),
            oid: Some(self.send.oid),
            table: self.walk.table.clone(),
            table_oid: Some(self.walk.oid),
            condition: job.execution.filled.over(&self.walk.condition),
            columns: self.send.columns.clone(),
            rows,
            transaction: here.id,
            server: Some(here.server),
            since: Some(here.since),
            storage: String::new(),
            received: Some(Received {
                target: self.send.target.clone(),
                table: self.send.into.clone(),
                transaction: beyond.id,
                server: Some(beyond.server),
                since: Some(beyond.since),
                database_oid: Some(there.server.database_oid),
                oid: Some(self.into),
                checksum: Some(checksum.to_string()),
            }),
            whole: None,
            target: Some(job.execution.target.clone()),
            database: Some(job.session.server.database.clone()),
            database_oid: Some(job.session.server.database_oid),
            restored: Vec::new(),
            files: Vec::new(),
        };
        // From here on the next run knows what to look for. Unlike the rest
        // of the history, the work depends on it.
        remember(job, &manifest).await?;
        *noted = Some(manifest);
        gate::commit(there, job.execution, step_ends, give_way).await?;
        Ok(Ok(Batch::Rows(rows)))
    }

    /// Deletes the rows of a batch here, all that were read and no other, in the transaction that is open.
    #[expect(
        clippy::too_many_arguments,
        reason = "which rows, how many, and how long it may take"
    )]
    async fn delete(
        &self,
        range: &Range,
        without: &Without,
        rows: i64,
        before: Option<Before>,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Result<Outcome<()>, ExportError> {
        let pass = async |statement: Statement| {
            gate::pass(job.session, &statement, job.execution, step_ends, give_way).await
        };
        match pass(self.walk.delete(range, without)).await {
            Ok(did) if i64::try_from(did.rows) == Ok(rows) => {}
            Ok(Did { rows: gone, .. }) => return Err(ExportError::Stayed { rows, gone }),
            Err(halt) => return Ok(Err(halt)),
        }
        if let Err(halt) = settle_within(job.session, job.execution, step_ends, give_way).await {
            return Ok(Err(halt));
        }
        if let Some(before) = before {
            before.compare(job.session, self.walk, rows).await?;
        }
        Ok(Ok(()))
    }

    /// Has the other server give up what it is at, so that it can be taken back there.
    async fn stop_there(&self) {
        if let Ok(Err(error)) = tokio::time::timeout(CANCELLED_WITHIN, self.there.cancel()).await {
            tracing::warn!(%error, "could not cancel a statement there");
        }
    }
}
