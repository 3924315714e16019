//! A range that is too much for one batch, and cannot be cut along its path: its rows go some at a
//! time, by their places.

use std::sync::PoisonError;
use std::time::Instant;

use futures_util::future::BoxFuture;

use super::size::BatchSize;
use super::walked::counted;
use super::way::{Way, Went, remember};
use super::{Job, ask, weight};
use crate::engines::EngineError;
use crate::history::StepRecord;
use crate::plan::{Range, Walk, Without};

/// Deals with the rows of a range that cannot be made smaller, as many at a time as memory holds.
pub(super) fn by_weight<'a>(
    way: Way<'a>,
    job: Job<'a>,
    record: &'a mut StepRecord,
    pace: &'a mut BatchSize,
    range: &'a Range,
) -> BoxFuture<'a, Result<Went, EngineError>> {
    Box::pin(async move {
        for piece in weight::pieces(way.walk, way.columns(), range, job).await? {
            loop {
                pace.now = 1;
                job.hold(record).await?;
                match counted(way, job, record, pace, &piece).await? {
                    Went::On => break,
                    Went::Again => {}
                    Went::NoFurther => return Ok(Went::NoFurther),
                }
            }
        }
        pace.now = 1;
        Ok(behind(way, job, range))
    })
}

/// Every row of a range was dealt with: the walk goes on behind it.
fn behind(way: Way<'_>, job: Job<'_>, range: &Range) -> Went {
    if let Some(place) = range.behind() {
        remember(way.walk, job, place);
    }
    Went::On
}

/// The same where what hangs on the table refuses more than so many rows at once, which an earlier
/// batch has learned: whatever the pace, no statement takes more.
pub(super) fn by_number<'a>(
    way: Way<'a>,
    job: Job<'a>,
    record: &'a mut StepRecord,
    pace: &'a mut BatchSize,
    range: &'a Range,
    without: Without,
) -> BoxFuture<'a, Result<Went, EngineError>> {
    Box::pin(async move {
        let (size, began) = (pace.now, Instant::now());
        let places = places(way.walk, range, &without, job).await?;
        let mut rest = &places[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(way.most_at_once(rest.len()));
            pace.now = 1;
            job.hold(record).await?;
            let piece = Range::Rows(now.to_vec());
            match counted(way, job, record, pace, &piece).await? {
                Went::On => rest = later,
                // Fewer, as it has learned.
                Went::Again => {}
                Went::NoFurther => return Ok(Went::NoFurther),
            }
        }
        referenced(way, job, range, &without).await?;
        pace.now = size;
        pace.learned();
        pace.adapt(began.elapsed(), 1);
        Ok(behind(way, job, range))
    })
}

/// The same for rows each of which may go by itself, and not all beside each other: in halves, until
/// only those stay whose place another one has taken. `None` where there are no two of them.
pub(super) fn apart<'a>(
    way: Way<'a>,
    job: Job<'a>,
    record: &'a mut StepRecord,
    pace: &'a mut BatchSize,
    range: &'a Range,
    without: Without,
) -> BoxFuture<'a, Result<Option<Went>, EngineError>> {
    Box::pin(async move {
        let began = Instant::now();
        let places = places(way.walk, range, &without, job).await?;
        if places.len() < 2 {
            return Ok(None);
        }
        let (one, other) = places.split_at(places.len() / 2);
        for half in [one, other] {
            let piece = Range::Rows(half.to_vec());
            loop {
                pace.now = 1;
                job.hold(record).await?;
                match counted(way, job, record, pace, &piece).await? {
                    Went::On => break,
                    Went::Again => {}
                    Went::NoFurther => return Ok(Some(Went::NoFurther)),
                }
            }
        }
        referenced(way, job, range, &without).await?;
        pace.now = 1;
        pace.adapt(began.elapsed(), 1);
        Ok(Some(behind(way, job, range)))
    })
}

/// Counts rows that were left out of the pieces because others point at them.
async fn referenced(
    way: Way<'_>,
    job: Job<'_>,
    range: &Range,
    without: &Without,
) -> Result<(), EngineError> {
    if !without.referenced || way.walk.references.is_empty() {
        return Ok(());
    }
    let mut kept = std::mem::take(&mut *way.kept());
    let counted = kept.count(way.walk, range, job).await;
    *way.kept() = kept;
    counted
}

/// How many rows the batches to come may take at once, after one of so many was refused each row
/// of which may go by itself; `false` where that is no matter of the number.
pub(super) async fn learn(
    way: Way<'_>,
    range: &Range,
    without: &Without,
    job: Job<'_>,
) -> Result<bool, EngineError> {
    let rows = places(way.walk, range, without, job).await?.len();
    if rows < 2 {
        return Ok(false);
    }
    *way.most.lock().unwrap_or_else(PoisonError::into_inner) = Some(rows / 2);
    Ok(true)
}

async fn places(
    walk: &Walk,
    range: &Range,
    without: &Without,
    job: Job<'_>,
) -> Result<Vec<String>, EngineError> {
    let places = walk.select("ctid::text", range, without);
    let rows = ask(job.session, "looking which rows are left", &places).await?;
    rows.iter().map(|row| row.get(0)).collect()
}
