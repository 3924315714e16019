//! Moves the rows of a table's last blocks to its front, and lets a vacuum give
//! the empty end back. Whatever ends it in between, nothing is left to clear
//! away: every row is somewhere, and the next run goes on from what it finds.

mod portion;

use std::time::{Duration, Instant};

use self::portion::{Came, Portion, held_by};
use super::attempts::{ends, until_done};
use super::gate;
use super::size::BatchSize;
use super::statements::One;
use super::way::may_go_on;
use super::{Event, Job, ask, end, guarded, vanished};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, KeptBy, Query, Severity, Shrink, Walk};
use crate::values::several;

/// So often it is walked once more from the new end: rows that others have
/// locked are left out, and others write new ones there meanwhile.
const MOST_ROUNDS: u32 = 8;
/// So often in a row there may be no room in front although there should be.
const MOST_IN_VAIN: u32 = 3;
/// Before 15 a session tells what it has changed at most every half second.
const TELLS_AFTER: Duration = Duration::from_millis(600);
/// How often it is looked whether those who see old rows have gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A batch this small tells whether there is any room.
const FEW_BLOCKS: i64 = 8;
/// Less than this at the end, in blocks and as a share, no vacuum gives back.
const LEAST_BLOCKS: i64 = 1_000;
const LEAST_SHARE: i64 = 16;

/// Carries it out; `record.rows` counts the rows that have moved.
pub(super) async fn carry_out(
    shrink: &Shrink,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    // A batch that a crash of the server undoes has left its rows where they
    // were, so none has to wait for the disk.
    let session = job.session;
    let faster = "SET synchronous_commit = off";
    session.execute("setting up batches", faster).await?;
    let done = all(shrink, job, record, findings).await;
    // Not RESET: the role's own default may be `off`.
    let slower = "SET synchronous_commit = on";
    let ended = session.execute("ending batches", slower).await;
    done?;
    ended.map(drop)
}

async fn all(
    shrink: &Shrink,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.rows = Some(0);
    let mut state = State {
        shrink,
        job,
        pace: BatchSize::of_blocks(shrink.goal_ms),
        mark: mark(job).await?,
        marked: Instant::now(),
    };
    if !state.is_worth_while(record).await? || !state.may_be_moved(record).await? {
        return Ok(());
    }
    // Dead rows of before are no room for anybody while somebody sees them.
    if !state.alone(record, findings).await? || !state.vacuum(false, record).await? {
        return Ok(());
    }
    let Some(mut extent) = state.extent(record).await? else {
        return Ok(());
    };
    for _ in 0..MOST_ROUNDS {
        let Some(reached) = state.walk(extent, record, findings).await? else {
            return Ok(());
        };
        if reached >= extent {
            break;
        }
        state.mark = mark(job).await?;
        state.marked = Instant::now();
        if !state.alone(record, findings).await? || !state.vacuum(false, record).await? {
            return Ok(());
        }
        let Some(now) = state.extent(record).await? else {
            return Ok(());
        };
        let kept = now.saturating_sub(reached);
        let worth = would_go(kept, now);
        if now >= extent && worth && !state.occupied(reached).await? {
            record.kept_by = Some(KeptBy::Sessions);
            end(
                record,
                StepStatus::Deferred,
                format!(
                    "the last {kept} of {now} blocks are empty, but could not be given back, because others use the table all the time; the next run, or any vacuum, gives them back"
                ),
            );
            return Ok(());
        }
        extent = now;
        if !worth {
            break;
        }
    }
    counted(job).await?;
    let statement = shrink.analyze();
    let done = until_done(&mut One::new(&statement), ends(job), job, record).await?;
    if done.is_some() {
        record.status = StepStatus::Succeeded;
    }
    Ok(())
}

/// Whether a vacuum would give so many empty blocks at the end of so many back.
fn would_go(empty: i64, all: i64) -> bool {
    empty >= LEAST_BLOCKS || empty.saturating_mul(LEAST_SHARE) >= all
}

/// Has the server take note of the rows that have moved. A session tells that
/// once in a while; told after the ANALYZE, they would count as changed since.
async fn counted(job: Job<'_>) -> Result<(), EngineError> {
    let session = job.session;
    let sql = if session.server.major() >= 15 {
        "SELECT pg_catalog.pg_stat_force_next_flush()"
    } else {
        tokio::time::sleep(TELLS_AFTER).await;
        "SELECT 1"
    };
    let told = session.execute("having moved rows counted", sql).await;
    told.map(drop)
}

/// A transaction id: whoever saw the world before it is older.
async fn mark(job: Job<'_>) -> Result<String, EngineError> {
    let doing = "taking a transaction id";
    let sql = "SELECT pg_catalog.pg_current_xact_id()::xid::text";
    let rows = ask(job.session, doing, &Query::new(sql, [])).await?;
    match rows.first() {
        Some(row) => row.get(0),
        None => Ok(String::new()),
    }
}

struct State<'a> {
    shrink: &'a Shrink,
    job: Job<'a>,
    pace: BatchSize,
    /// Whoever is older than this transaction keeps dead rows alive.
    mark: String,
    marked: Instant,
}

impl State<'_> {
    /// How many blocks it has; where it is gone, the step has ended with that.
    async fn extent(&self, record: &mut StepRecord) -> Result<Option<i64>, EngineError> {
        vanished::extent(&Walk::extent(self.shrink.oid), self.job, record).await
    }

    /// Whether rows may still be moved, as when the plan was made. Where they may not, the step has ended.
    async fn may_be_moved(&self, record: &mut StepRecord) -> Result<bool, EngineError> {
        let Some(held) = &self.shrink.held_by_now else {
            return Ok(true);
        };
        let doing = "looking what would fire by now";
        let why = held_by(&ask(self.job.session, doing, held).await?)?;
        Ok(match why {
            Some(why) => {
                end(record, StepStatus::Deferred, why);
                false
            }
            None => true,
        })
    }

    /// Whether there is still something to give back: somebody may have rewritten the table since the plan was
    /// made, and rows that move would only make it larger. Where there is nothing, the step has ended.
    async fn is_worth_while(&self, record: &mut StepRecord) -> Result<bool, EngineError> {
        let (Some(now), goal) = (self.extent(record).await?, self.shrink.goal_blocks) else {
            return Ok(false);
        };
        let worth = would_go(now.saturating_sub(goal), now);
        if !worth {
            let why = format!(
                "it is not bloated any more: {} now, and the plan was for {}; somebody has rewritten it meanwhile",
                several(now, "block"),
                several(goal, "block")
            );
            end(record, StepStatus::Skipped, why);
        }
        Ok(worth)
    }

    /// Whether somebody has rows at this block or behind.
    async fn occupied(&self, from: i64) -> Result<bool, EngineError> {
        let doing = "looking whether the end is empty";
        let rows = guarded(self.job, doing, &self.shrink.occupied(from)).await?;
        match rows.first() {
            Some(row) => row.get(0),
            None => Ok(false),
        }
    }

    /// Lets a vacuum pass; `false` where the step has ended with it.
    async fn vacuum(&self, all: bool, record: &mut StepRecord) -> Result<bool, EngineError> {
        gate::aside(self.job.session, self.job.execution).await?;
        let statement = self.shrink.vacuum(all);
        let ends = ends(self.job);
        let done = until_done(&mut One::new(&statement), ends, self.job, record).await?;
        Ok(done.is_some())
    }

    /// Who still sees what died before the mark.
    async fn holder(&self) -> Result<Option<(String, Option<String>)>, EngineError> {
        let doing = "looking who may still see what has died";
        let session = self.job.session;
        let rows = ask(session, doing, &self.shrink.held_by(&self.mark)).await?;
        let mut worst = None;
        let mut here = false;
        for row in &rows {
            let who: (String, Option<String>) = (row.get(0)?, row.get(1)?);
            here |= !row.get::<bool>(2)?;
            worst.get_or_insert(who);
        }
        // Somebody in another database only matters through those in this one.
        Ok(worst.filter(|_| here))
    }

    /// Waits until nobody sees what died before the mark any more, as long as a
    /// concurrent rebuild would; `false` where the step has ended with it.
    async fn alone(
        &self,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<bool, EngineError> {
        let patience = self.job.execution.limits.transaction_wait;
        loop {
            let Some((who, suggestion)) = self.holder().await? else {
                return Ok(true);
            };
            if !may_go_on(self.job, record, self.pace.began, &moved(record)) {
                return Ok(false);
            }
            if self.marked.elapsed() >= patience.get() {
                self.held_back(&who, suggestion, record, findings);
                return Ok(false);
            }
            let (seq, phase) = (self.job.step.seq, &format!("waits for {who}"));
            let (done, total) = (0, 0);
            self.job.execution.observer.on(Event::Progress {
                seq,
                phase,
                done,
                total,
            });
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn held_back(
        &self,
        who: &str,
        suggestion: Option<String>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) {
        let patience = self.job.execution.limits.transaction_wait;
        let so_far = moved(record);
        record.kept_by = Some(KeptBy::Transaction);
        end(
            record,
            StepStatus::Deferred,
            format!(
                "{who} may still see what has died, and was there longer than `limits.transaction_wait` ({patience}): moving rows would only make the table larger; {so_far}"
            ),
        );
        findings.push(Finding {
            code: "vacuum.held_back".to_owned(),
            severity: Severity::Warning,
            object: self.job.step.object.clone(),
            message: format!(
                "{} cannot be made smaller while {who} may still read its dead rows; find out what it is for",
                self.shrink.table
            ),
            suggestion,
        });
    }

    /// Walks from the end to the front until there is no room in front of it.
    /// Answers with the block from which on the table should be empty; `None`
    /// where the step has ended.
    async fn walk(
        &mut self,
        extent: i64,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<i64>, EngineError> {
        let patience = self.job.execution.limits.transaction_wait.get();
        let (mut to, mut in_vain) = (extent, 0);
        while to > 0 {
            self.job.hold(record).await?;
            if !may_go_on(self.job, record, self.pace.began, &moved(record)) {
                return Ok(None);
            }
            // Who came after we began, and has stayed.
            if self.marked.elapsed() >= patience {
                if let Some((who, suggestion)) = self.holder().await? {
                    self.held_back(&who, suggestion, record, findings);
                    return Ok(None);
                }
                self.mark = mark(self.job).await?;
                self.marked = Instant::now();
            }
            let from = to.saturating_sub(self.pace.now).max(0);
            let mut portion = Portion {
                shrink: self.shrink,
                from,
                to,
            };
            let (began, tried) = (Instant::now(), record.attempts.max(1));
            let done = until_done(&mut portion, ends(self.job), self.job, record).await?;
            match done {
                None => {
                    let (why, so_far) = (record.error.take().unwrap_or_default(), moved(record));
                    record.error = Some(match why.contains(&so_far) {
                        true => why,
                        false => format!("{why}; {so_far}"),
                    });
                    return Ok(None);
                }
                Some(Came::Moved(rows)) => {
                    record.rows = Some(record.rows.unwrap_or(0).saturating_add(rows));
                    self.pace
                        .adapt(began.elapsed(), record.attempts - tried + 1);
                    (to, in_vain) = (from, 0);
                    let execution = self.job.execution;
                    // A process that is killed here leaves the rows counted so far.
                    execution.history.step(execution.run, record);
                    let total = extent.saturating_sub(self.shrink.goal_blocks).max(1);
                    execution.observer.on(Event::Progress {
                        seq: self.job.step.seq,
                        phase: &moved(record),
                        done: extent.saturating_sub(to).min(total),
                        total,
                    });
                }
                // Fewer rows are locked for a shorter time.
                Some(Came::SteppedBack) => self.pace.conflict(),
                Some(Came::NoRoom) => {
                    in_vain += 1;
                    let least = FEW_BLOCKS.min(to);
                    let at_the_goal = to <= self.shrink.goal_blocks && self.pace.now <= least;
                    if at_the_goal || in_vain >= MOST_IN_VAIN {
                        break;
                    }
                    // What was learned of free space may be gone since a crash, and
                    // others have taken some.
                    self.pace.now = least;
                    if to > self.shrink.goal_blocks && !self.vacuum(in_vain > 1, record).await? {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(to))
    }
}

fn moved(record: &StepRecord) -> String {
    format!("{} moved", several(record.rows.unwrap_or(0), "row"))
}
