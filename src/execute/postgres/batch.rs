//! A batch in a transaction of its own, which commits only when what was to
//! happen has happened: rows that move are where they moved to, as they were.

use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Job;
use super::added::Added;
use super::aftermath::Before;
use super::attempts::Attempt;
use super::deferred::settle_within;
use super::gate::{self, Halt, Outcome};
use super::lot::{Batch, ExportError};
use super::standing;
use super::stored::Places;
use crate::engines::EngineError;
use crate::engines::postgres::Row;
use crate::plan::{Fate, Image, Query, Range, Walk, Without};
use crate::values::several;

/// One batch of rows that are deleted or move within the database.
pub(super) struct Portion<'a> {
    pub(super) walk: &'a Walk,
    pub(super) range: &'a Range,
    pub(super) without: &'a Without,
    /// How rows that move are compared.
    pub(super) image: &'a Image,
    /// Rows that were told to go, and have not gone.
    pub(super) kept: i64,
    /// Whether fewer rows can be tried.
    pub(super) splits: bool,
}

#[async_trait]
impl Attempt for Portion<'_> {
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
        self.kept = 0;
        let session = job.session;
        let counted = !self.walk.obstructed.is_empty();
        let begin = match (self.walk.snapshot || counted, self.walk.sought) {
            // Judging each of these rows by itself costs the least, which a
            // server that is told how many they are does not always believe.
            (_, true) => {
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL plan_cache_mode = force_generic_plan"
            }
            (true, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            (false, false) => "BEGIN",
        };
        standing::open(begin, self.walk, job, step_ends, give_way).await?;
        let passed = self.within(job, counted, step_ends, give_way).await;
        let halt = match passed {
            Ok(_) if job.execution.stop.is_now() => Halt::Stopped,
            Ok((gone, kept)) => {
                match gate::commit(session, job.execution, step_ends, give_way).await {
                    Ok(()) => {
                        self.kept = kept;
                        return Ok(Batch::Rows(gone));
                    }
                    Err(error) => gate::judge(error, job.execution, step_ends, give_way),
                }
            }
            Err(halt) => halt,
        };
        match (session.execute("rolling back", "ROLLBACK").await, halt) {
            // What went wrong first is what matters.
            (Err(_), Halt::Failed(first)) => Err(Halt::Failed(first)),
            (Err(error), _) => Err(Halt::Failed(error)),
            (Ok(_), halt) => Err(halt),
        }
    }
}

impl Portion<'_> {
    /// How many rows have gone, and how many have not although they were told to.
    async fn within(
        &self,
        job: Job<'_>,
        counted: bool,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<(i64, i64)> {
        let (session, execution, walk) = (job.session, job.execution, self.walk);
        let ask =
            async |query: Query| gate::ask(session, &query, execution, step_ends, give_way).await;
        if let Some(guard) = &job.step.body.guard {
            gate::keep(session, guard, execution, step_ends, give_way).await?;
        }
        standing::look(walk, job, step_ends, give_way).await?;
        let before = match walk.fires || matches!(walk.fate, Fate::Move { .. }) {
            true => Some(Before::of(session, walk).await.map_err(Halt::Failed)?),
            false => None,
        };
        let meant = if counted {
            let all = walk.select("count(*)", self.range, self.without);
            Some(number(&ask(all).await?, 0)?)
        } else {
            None
        };
        let settle = async |gone: i64| {
            settle_within(session, execution, step_ends, give_way).await?;
            match &before {
                Some(before) => before
                    .compare(session, walk, gone)
                    .await
                    .map_err(Halt::Failed),
                None => Ok(()),
            }
        };
        let gone = if let Fate::Move { into, columns } = &walk.fate {
            let added = Added::of(session, into).await.map_err(Halt::Failed)?;
            let answer = ask(walk.moving(self.range, self.without, self.image)).await?;
            let (went, stored): (Vec<_>, Vec<_>) = answer
                .into_iter()
                .partition(|row| matches!(row.get::<Option<String>>(0), Ok(None)));
            let gone = number(&went, 3)?;
            settle(gone).await?;
            let places = Places::of(&stored).map_err(Halt::Failed)?;
            let there = if stored.is_empty() {
                Sums::default()
            } else {
                let rows = places.select(&self.image.row_of(columns));
                let (sums, rows) = (self.image.sums(), self.image.hashed(&rows));
                let fleeting = places.fleeting();
                let sums = Query::new(
                    format!("SELECT {sums}, {fleeting} AS fleeting FROM {rows}"),
                    [],
                );
                let answer = ask(sums).await?;
                if first(&answer, |row| row.named("fleeting"))? {
                    return Err(Halt::Failed(emptied_by_a_crash(into)));
                }
                sums_of(&answer, 0)?
            };
            if gone > 0 && there != sums_of(&went, 3)? {
                return Err(Halt::Failed(changed(into, gone, there.0)));
            }
            let more = added.more_than(session, gone).await;
            if let Some(why) = more.map_err(Halt::Failed)? {
                let why = ExportError::Proof(format!("nothing was moved: {why}"));
                return Err(Halt::Failed(why.into_engine()));
            }
            gone
        } else {
            let delete = walk.delete(self.range, self.without);
            let passed = gate::pass(session, &delete, execution, step_ends, give_way);
            let gone = i64::try_from(passed.await?.rows).unwrap_or(i64::MAX);
            settle(gone).await?;
            gone
        };
        let Some(meant) = meant else {
            return Ok((gone, 0));
        };
        let kept = (meant - gone).max(0);
        if let (true, Some(before)) = (kept > 0, &before) {
            let changed = before.changed(session, walk, gone).await;
            if changed.map_err(Halt::Failed)? {
                return Err(Halt::Failed(EngineError::Stayed {
                    message: format!(
                        "{} has {} to go, and {gone} of them would have gone: what hangs on the table changes rows instead, and nothing was deleted",
                        walk.table,
                        several(meant, "row")
                    ),
                }));
            }
        }
        // What a rule puts in, and the same statement deletes, was not meant.
        Ok((gone.min(meant), kept))
    }
}

fn changed(into: &str, gone: i64, there: i64) -> EngineError {
    let held = if there == gone {
        "holds them with other values".to_owned()
    } else {
        format!("holds {there} of them")
    };
    ExportError::Proof(format!(
        "nothing was moved: of {}, {into} {held}; a trigger, rule or policy there keeps rows out or changes them",
        several(gone, "row")
    ))
    .into_engine()
}

/// Of a table that somebody has made so since the plan.
fn emptied_by_a_crash(into: &str) -> EngineError {
    ExportError::Proof(format!(
        "nothing was moved: {into}, or a partition of it, is UNLOGGED by now: a crash of the server would empty it; ALTER TABLE … SET LOGGED"
    ))
    .into_engine()
}

type Sums = (i64, String, String);

fn sums_of(rows: &[Row], column: usize) -> Outcome<Sums> {
    let read = |row: &Row| Ok((row.get(column)?, row.get(column + 1)?, row.get(column + 2)?));
    first(rows, read)
}

fn number(rows: &[Row], column: usize) -> Outcome<i64> {
    first(rows, |row| row.get(column))
}

fn first<T: Default>(
    rows: &[Row],
    read: impl FnOnce(&Row) -> Result<T, EngineError>,
) -> Outcome<T> {
    let found = rows.first().map(read).transpose();
    found.map(Option::unwrap_or_default).map_err(Halt::Failed)
}
