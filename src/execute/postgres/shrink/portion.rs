//! Rows of some blocks are moved to the front, in a transaction of their own.

use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::super::Job;
use super::super::attempts::Attempt;
use super::super::gate::{self, Halt, Outcome};
use super::super::vanished;
use crate::engines::EngineError;
use crate::engines::postgres::{Row, each};
use crate::plan::{QUIET, Query, Shrink, block_of_place};
use crate::values::unreadable;

/// A row leaves its block once that is full, and no block has more rows.
const MOST_PASSES: u32 = 300;

/// What came of a batch.
pub(super) enum Came {
    /// So many rows are in front of it now.
    Moved(i64),
    /// There was no room for all of them; nothing has changed.
    NoRoom,
    /// Others waited for it; nothing has changed.
    SteppedBack,
}

/// One batch in a transaction of its own.
pub(super) struct Portion<'a> {
    pub(super) shrink: &'a Shrink,
    pub(super) from: i64,
    pub(super) to: i64,
}

#[async_trait]
impl Attempt for Portion<'_> {
    type Done = Came;

    fn less(&self) -> Option<Came> {
        (self.to - self.from > 1).then_some(Came::SteppedBack)
    }

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Came> {
        let session = job.session;
        let begun = session.execute("opening a transaction", "BEGIN").await;
        begun.map_err(Halt::Failed)?;
        let passed = self.within(job, step_ends, give_way).await;
        let halt = match passed {
            Ok(_) if job.execution.stop.is_now() => Err(Halt::Stopped),
            Ok(Came::Moved(rows)) => {
                match gate::commit(session, job.execution, step_ends, give_way).await {
                    Ok(()) => return Ok(Came::Moved(rows)),
                    Err(error) => Err(gate::judge(error, job.execution, step_ends, give_way)),
                }
            }
            other => other,
        };
        match (session.execute("rolling back", "ROLLBACK").await, halt) {
            // What went wrong first is what matters.
            (Err(_), Err(Halt::Failed(first))) => Err(Halt::Failed(first)),
            (Err(error), _) => Err(Halt::Failed(error)),
            (Ok(_), halt) => halt,
        }
    }
}

/// Why no row can be moved by now, where none can.
pub(super) fn held_by(answer: &[Row]) -> Result<Option<String>, EngineError> {
    let why = match answer.first() {
        Some(row) => row.get::<Option<String>>(0)?,
        None => Some("the table is gone, or another has its name".to_owned()),
    };
    Ok(why.map(|why| {
        format!(
            "rows cannot be moved any more: {}; that is new since the plan was made, and the next run decides anew",
            unreadable::escaped(&why)
        )
    }))
}

impl Portion<'_> {
    async fn within(
        &self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Came> {
        let (session, execution) = (job.session, job.execution);
        let places = async |query: Query| -> Outcome<Vec<String>> {
            let rows = gate::ask(session, &query, execution, step_ends, give_way).await?;
            each(&rows, |row| row.get(0)).map_err(Halt::Failed)
        };
        if self.shrink.quiet {
            let quiet = session.execute("keeping triggers quiet", QUIET).await;
            quiet.map_err(Halt::Failed)?;
        }
        if let Some(guard) = &job.step.body.guard {
            gate::keep(session, guard, execution, step_ends, give_way).await?;
        }
        if self.shrink.held_by_now.is_some() {
            let lock = self.shrink.settle();
            gate::pass(session, &lock, execution, step_ends, give_way).await?;
        }
        let mut here = places(self.shrink.lock(self.from, self.to)).await?;
        // The lock goes by the name, and keeps it: what has it by now may be another table.
        let (oid, name) = (self.shrink.oid, self.shrink.table.as_str());
        let gone = vanished::is_gone(session, &[oid], name).await;
        if gone.map_err(Halt::Failed)? {
            return Err(Halt::Vanished(vanished::said(job.step)));
        }
        // What the plan saw may have changed since, and between two batches.
        if let Some(held) = &self.shrink.held_by_now {
            let answer = gate::ask(session, held, execution, step_ends, give_way).await?;
            if let Some(why) = held_by(&answer).map_err(Halt::Failed)? {
                return Err(Halt::Changed(why));
            }
        }
        // One that somebody changed in between is locked where it is now.
        here.retain(|place| {
            block_of_place(place).is_some_and(|block| (self.from..self.to).contains(&block))
        });
        let rows = i64::try_from(here.len()).unwrap_or(i64::MAX);
        for _ in 0..MOST_PASSES {
            if here.is_empty() {
                return Ok(Came::Moved(rows));
            }
            let now = places(self.shrink.rewrite(&here)).await?;
            if now.len() != here.len() {
                // Locked rows neither change nor go: something keeps them from being written.
                return Err(Halt::LeftOut(format!(
                    "of {} rows only {} were written: a trigger, rule or policy keeps the others",
                    here.len(),
                    now.len()
                )));
            }
            here.clear();
            for place in now {
                match block_of_place(&place) {
                    Some(block) if block < self.from => {}
                    Some(block) if block < self.to => here.push(place),
                    _ => return Ok(Came::NoRoom),
                }
            }
        }
        Ok(Came::NoRoom)
    }
}
