//! A walk over rows that are found first: one question for all of them, and
//! batches that delete them by their places. Telling which rows go may cost
//! as much for few rows as for all, as where a large table of parents has to
//! be read; then it is not to be paid for every batch.
//!
//! Places are only a hint. Each batch asks the condition again, in its own
//! snapshot, for every row that it deletes.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::attempts::{Attempt, ends, until_done};
use super::gate::{self, Halt, Outcome};
use super::size::BatchSize;
use super::walked::batch;
use super::way::{MOST_ROUNDS, Way, Went, gone, may_go_on, tell};
use super::{Job, ask, end};
use crate::engines::EngineError;
use crate::engines::postgres::first;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{MOST_AT_ONCE, MOST_FOUND, Range, Spot, Walk, Without};

/// The last block that a table can have.
const LAST_BLOCK: i64 = 0xffff_fffe;

/// Deletes all rows that the walk is about; `false` where it ends before, and
/// the record says why.
pub(super) async fn carry_out(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
) -> Result<bool, EngineError> {
    if way.walk.once {
        return once(way, job, record, pace).await;
    }
    let mut known = way.walk.found.fresh();
    for _ in 0..MOST_ROUNDS {
        let before = record.rows;
        // What stays is met again in this round.
        way.forget_kept();
        let (missed, again) = match known.take() {
            Some(spots) => (these(way, job, record, pace, &spots).await?, true),
            None => (all(way, job, record, pace).await?, false),
        };
        match missed {
            None => return Ok(false),
            // Somebody changed rows between the question and the batch: they
            // are elsewhere, or may stay now.
            Some(true) if again || record.rows != before => {}
            Some(_) => break,
        }
    }
    Ok(true)
}

/// Deletes what one question has found, and nothing else. What was changed meanwhile is left for the next run.
async fn once(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
) -> Result<bool, EngineError> {
    let found = match way.walk.found.whatever() {
        Some(spots) => Some(spots),
        None => {
            let mut seek = Seek {
                walk: way.walk,
                range: &Range::Keys(None, None),
                most: MOST_AT_ONCE,
            };
            match until_done(&mut seek, ends(job), job, record).await? {
                Some(found) => found,
                None => return Ok(false),
            }
        }
    };
    let Some(spots) = found else {
        let why = "its condition reads the table itself, or rows that go along, so which rows go is asked once for all of them, and they are more than eight million: nothing was touched";
        end(record, StepStatus::Failed, why);
        return Ok(false);
    };
    let missed = these(way, job, record, pace, &spots).await?;
    Ok(missed.is_some())
}

/// Looks for rows, in parts where there are too many for one, and deletes
/// them. Whether some were missed; nothing where the walk ends before.
async fn all(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
) -> Result<Option<bool>, EngineError> {
    let (mut missed, mut from, mut width) = (false, 0, None);
    loop {
        job.hold(record).await?;
        if !may_go_on(job, record, pace.began, &gone(record)) {
            return Ok(None);
        }
        let to = width
            .map_or(LAST_BLOCK, |width: i64| from + width)
            .min(LAST_BLOCK);
        let range = match (from, to) {
            // Without bounds the server is free to choose its way.
            (0, LAST_BLOCK) => Range::Keys(None, None),
            (from, to) => Range::Blocks(from, to),
        };
        let mut seek = Seek {
            walk: way.walk,
            range: &range,
            most: MOST_FOUND,
        };
        let Some(found) = until_done(&mut seek, ends(job), job, record).await? else {
            return Ok(None);
        };
        let Some(spots) = found else {
            let narrower = match width {
                Some(width) => width / 2,
                None => blocks(way.walk, job).await? / 2,
            };
            width = Some(narrower.max(1));
            continue;
        };
        match these(way, job, record, pace, &spots).await? {
            Some(some) => missed |= some,
            None => return Ok(None),
        }
        if to == LAST_BLOCK {
            return Ok(Some(missed));
        }
        from = to;
        if from >= blocks(way.walk, job).await? {
            width = None;
        }
    }
}

async fn blocks(walk: &Walk, job: Job<'_>) -> Result<i64, EngineError> {
    let extent = Walk::extent(walk.oid);
    let answer = ask(job.session, "asking how large the table is", &extent).await?;
    Ok(first::<Option<i64>>(&answer, 0)?.flatten().unwrap_or(0))
}

/// Deletes rows by their places. Whether some of them have neither gone nor
/// stayed for a reason; nothing where the walk ends before.
async fn these(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    spots: &Arc<[Spot]>,
) -> Result<Option<bool>, EngineError> {
    let all = i64::try_from(spots.len()).unwrap_or(i64::MAX);
    let (mut rest, mut missed) = (&spots[..], false);
    while !rest.is_empty() {
        let size = usize::try_from(pace.now).unwrap_or(1).clamp(1, rest.len());
        let (now, later) = rest.split_at(size);
        let range = Range::Rows(now.iter().map(Spot::to_string).collect());
        let before = record.rows.unwrap_or(0) + way.stayed();
        match batch(way, job, record, pace, &range).await? {
            Went::On => {}
            Went::Again => continue,
            Went::NoFurther => return Ok(None),
        }
        let after = record.rows.unwrap_or(0) + way.stayed();
        missed |= after - before < i64::try_from(size).unwrap_or(i64::MAX);
        rest = later;
        let left = i64::try_from(rest.len()).unwrap_or(0);
        tell(job, record, all - left, all);
    }
    Ok(Some(missed))
}

/// Looks for the rows of a range that go.
struct Seek<'a> {
    walk: &'a Walk,
    range: &'a Range,
    /// So many are found at most.
    most: usize,
}

#[async_trait]
impl Attempt for Seek<'_> {
    /// None where there are too many.
    type Done = Option<Arc<[Spot]>>;

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Self::Done> {
        let (session, execution) = (job.session, job.execution);
        // Several processes only where the task may do several things at once.
        let begin = if execution.limits.jobs > 1 {
            "BEGIN READ ONLY"
        } else {
            "BEGIN READ ONLY; SET LOCAL max_parallel_workers_per_gather = 0"
        };
        let begun = session.execute("opening a transaction", begin).await;
        begun.map_err(Halt::Failed)?;
        let looked = self.look(job, step_ends, give_way).await;
        let ended = session.execute("ending the transaction", "ROLLBACK").await;
        let looked = looked?;
        ended.map_err(Halt::Failed)?;
        Ok(looked)
    }
}

impl Seek<'_> {
    async fn look(
        &self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Option<Arc<[Spot]>>> {
        let (session, execution) = (job.session, job.execution);
        if let Some(guard) = &job.step.body.guard {
            gate::keep(session, guard, execution, step_ends, give_way).await?;
        }
        gate::limit(session, execution, step_ends).await?;
        let mut query = self.walk.select("ctid", self.range, &Without::default());
        query.sql.push_str(&format!(" LIMIT {}", self.most + 1));
        tracing::debug!(question = query.sql, "asking");
        let params = gate::bound(&query.params);
        let mut spots = Vec::new();
        let looking = session.stream("looking which rows go", &query.sql, &params, |fields| {
            spots.extend(fields.first().copied().flatten().and_then(Spot::of));
            true
        });
        let looked = gate::until_stopped(session, looking, execution, step_ends, give_way).await;
        looked.map_err(|error| gate::judge(error, execution, step_ends, give_way))?;
        if spots.len() > self.most {
            return Ok(None);
        }
        spots.sort_unstable();
        Ok(Some(spots.into()))
    }
}
