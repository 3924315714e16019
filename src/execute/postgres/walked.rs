//! One batch of a walk, and whatever can become of it: it goes, it is too large, or rows of it stay.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::attempts::{ends, until_done};
use super::batch::Portion;
use super::bounds;
use super::export::Exporting;
use super::kept::{self, is_about_a_row, is_collision, is_reference};
use super::lot::Batch;
use super::pieces::{self, Pieces};
use super::send::Sending;
use super::size::BatchSize;
use super::statements::One;
use super::stayers;
use super::way::{Way, Went, gone, may_go_on, remember, too_large};
use super::weight;
use super::{Job, end};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Fate, Range, Without};

/// Deals with one batch and remembers the place behind it, if so many rows may go.
pub(super) async fn batch(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    range: &Range,
) -> Result<Went, EngineError> {
    job.hold(record).await?;
    if !may_go_on(job, record, pace.began, &gone(record)) {
        return Ok(Went::NoFurther);
    }
    let taken = match bounds::allow(way.walk, range, job).await? {
        Ok(taken) => taken,
        Err(finding) => {
            end(record, StepStatus::Failed, finding.message.clone());
            way.kept().beyond(finding);
            return Ok(Went::NoFurther);
        }
    };
    let before = record.rows.unwrap_or(0);
    let went = counted(way, job, record, pace, range).await;
    if let (Some(most), Some(taken)) = (&way.walk.most, taken) {
        let rows = record.rows.unwrap_or(0) - before;
        job.door.gone.settle(most, taken, rows);
    }
    went
}

/// Deals with one batch, once it may go.
pub(super) async fn counted(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    range: &Range,
) -> Result<Went, EngineError> {
    let walk = way.walk;
    if !may_go_on(job, record, pace.began, &gone(record)) {
        return Ok(Went::NoFurther);
    }
    let mut heavy = Vec::new();
    if way.weighed && !matches!(range, Range::Rows(_)) {
        let weight = weight::of(walk, way.columns(), range, job).await?;
        if weight.bytes > weight::BATCH_BYTES {
            if pace.now > 1 {
                pace.shrink();
                return Ok(Went::Again);
            }
            way.kept().heavy(&weight.heavy);
            let pieces = Pieces::by_weight(way, job, pace, range).await?;
            return in_pieces(way, job, record, pace, range, pieces).await;
        }
        way.kept().heavy(&weight.heavy);
        heavy = weight.heavy.into_iter().map(|(place, _)| place).collect();
    }
    let mut without = Without {
        referenced: way.referenced.load(Ordering::Relaxed),
        rows: heavy.clone(),
    };
    let known = match range {
        Range::Rows(places) => way.most_at_once(places.len()) < places.len(),
        _ => way.has_most(),
    };
    if known {
        let pieces = Pieces::by_number(way, job, pace, range, without).await?;
        return in_pieces(way, job, record, pace, range, pieces).await;
    }
    let (mut conflicts, mut left, mut looked, mut probed) = (0, None, false, false);
    let mut first = Some(Instant::now());
    if way.stay.swap(false, Ordering::Relaxed) {
        // Whatever is in the way of looking is met again, and judged, by the batch itself.
        if let Ok(found) = stayers::look(walk, range, &without, job).await {
            left = way.leave_out(found, &mut without);
        }
    }
    let (done, began, tried) = loop {
        let (began, tried) = (
            first.take().unwrap_or_else(Instant::now),
            record.attempts.max(1),
        );
        if left.as_ref().is_some_and(|left| left.all) {
            break (Some(Batch::Rows(0)), began, tried);
        }
        let before = record.status;
        let error = match one(way, (range, pace.now > 1), &without, job, record).await {
            // Waited for in vain, as often as is allowed: is it a few of the rows?
            Ok(None)
                if record.status == StepStatus::Failed
                    && !record.cut_off
                    && !looked
                    && way.kept().may_wait_again() =>
            {
                looked = true;
                // Where even that cannot be had, the whole table is held.
                let places = kept::locked(walk, range, &without, job).await;
                let places = places.unwrap_or_default();
                if places.is_empty() {
                    break (None, began, tried);
                }
                let why = record.error.take().unwrap_or_default();
                record.status = before;
                way.kept().locked(places.len(), why);
                without.rows.extend(places);
                continue;
            }
            Ok(done) => break (done, began, tried),
            Err(error) => error,
        };
        // What the server says of a foreign key may hold a name that cannot be read.
        let unread = error.sqlstate() == Some("22021");
        if (is_reference(&error) || unread) && !without.referenced && !walk.references.is_empty() {
            way.referenced.store(true, Ordering::Relaxed);
            without.referenced = true;
        } else if is_conflict(&error)
            // A trigger that raises it may mean one row, and always.
            && (conflicts < job.execution.limits.lock_retries || !is_about_a_row(&error))
        {
            conflicts += 1;
            if conflicts > job.execution.limits.lock_retries {
                return Err(error);
            }
            if pace.now > 1 {
                pace.conflict();
                return Ok(Went::Again);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else if matches!(error, EngineError::Stayed { .. }) && left.is_none() {
            let found = stayers::look(walk, range, &without, job).await?;
            left = way.leave_out(found, &mut without);
            if left.is_none() {
                return Err(error);
            }
        } else if is_about_a_row(&error) {
            if !probed {
                if pace.now > 1 {
                    pace.refused(way.stayed());
                    return Ok(Went::Again);
                }
                let mut kept = std::mem::take(&mut *way.kept());
                let found = kept.probe(way, range, &without, job).await;
                *way.kept() = kept;
                let found = found?;
                if way.kept().are_many() {
                    return Ok(Went::NoFurther);
                }
                probed = true;
                if !found.is_empty() {
                    without.rows.extend(found);
                    continue;
                }
            }
            // Each row that is left may go by itself: not beside another, or not so many at once.
            way.kept().silent(left.map_or(0, |left| left.rows));
            if is_collision(&error) {
                return match Pieces::apart(way, job, pace, range, without).await? {
                    Some(pieces) => in_pieces(way, job, record, pace, range, pieces).await,
                    None => Err(error),
                };
            }
            if !pieces::learn(way, range, &without, job).await? {
                return Err(error);
            }
            let pieces = Pieces::by_number(way, job, pace, range, without).await?;
            return in_pieces(way, job, record, pace, range, pieces).await;
        } else {
            return Err(error);
        }
    };
    let Some(done) = done else {
        let (why, so_far) = (record.error.take().unwrap_or_default(), gone(record));
        record.error = Some(match why.contains(&so_far) {
            true => why,
            false => format!("{why}; {so_far}"),
        });
        return Ok(Went::NoFurther);
    };
    let rows = match done {
        Batch::Rows(rows) => rows,
        Batch::TooLarge if pace.now == 1 => return Err(too_large()),
        Batch::TooLarge => {
            pace.too_large();
            return Ok(Went::Again);
        }
        Batch::SteppedBack => {
            pace.conflict();
            return Ok(Went::Again);
        }
    };
    let (stays, changed) = left.map_or((0, 0), |left| (left.rows, left.changed));
    way.kept().silent(stays);
    if without.referenced && !walk.references.is_empty() {
        let mut kept = std::mem::take(&mut *way.kept());
        let counted = kept.count(walk, range, job).await;
        *way.kept() = kept;
        counted?;
    }
    record.rows = Some(record.rows.unwrap_or(0).saturating_add(rows));
    if let Some(place) = range.behind() {
        remember(walk, job, place);
    }
    // A process that is killed here leaves the rows counted so far.
    let execution = job.execution;
    execution.history.step(execution.run, record);
    if way.kept().changed(changed, record.rows.unwrap_or(0)) {
        return Ok(Went::NoFurther);
    }
    pace.passed(way.stayed());
    pace.adapt(began.elapsed(), record.attempts - tried + 1);
    Ok(Went::On)
}

/// Deals with a range in pieces, each of which is a batch again.
fn in_pieces<'a>(
    way: Way<'a>,
    job: Job<'a>,
    record: &'a mut StepRecord,
    pace: &'a mut BatchSize,
    range: &'a Range,
    mut pieces: Pieces,
) -> BoxFuture<'a, Result<Went, EngineError>> {
    Box::pin(async move {
        while let Some(piece) = pieces.next(way) {
            pace.now = 1;
            job.hold(record).await?;
            match counted(way, job, record, pace, &piece).await? {
                Went::On => pieces.done(),
                Went::Again => {}
                Went::NoFurther => return Ok(Went::NoFurther),
            }
        }
        pieces.end(way, job, pace, range).await
    })
}

/// Whether it may go another time.
fn is_conflict(error: &EngineError) -> bool {
    matches!(error.sqlstate(), Some("40001" | "55P03" | "40P01"))
}

/// Tries one batch, of which fewer rows can be tried or not, in the way of the walk; what is set in the session afterwards is what was.
async fn one(
    way: Way<'_>,
    batch: (&Range, bool),
    without: &Without,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<Option<Batch>, EngineError> {
    let done = tried(way, batch, without, job, record).await;
    if let (Some(held), true) = (
        way.held,
        !done.as_ref().is_err_and(EngineError::is_unreachable),
    ) {
        job.session.put_back(held).await?;
    }
    done
}

async fn tried(
    way: Way<'_>,
    (range, splits): (&Range, bool),
    without: &Without,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<Option<Batch>, EngineError> {
    let (walk, ends) = (way.walk, ends(job));
    if let Some(exporter) = way.exporter {
        let mut exporting = Exporting {
            exporter,
            range,
            without,
            splits,
        };
        return until_done(&mut exporting, ends, job, record).await;
    }
    if let Some(sender) = way.sender {
        let mut sending = Sending {
            sender,
            range,
            without,
            splits,
        };
        return until_done(&mut sending, ends, job, record).await;
    }
    let alone = walk.fate == Fate::Delete
        && walk.stands.is_none()
        && !walk.snapshot
        && !walk.fires
        && walk.obstructed.is_empty()
        && job.step.body.guard.is_none();
    if alone && *without == Without::default() {
        // Nothing can come of it but what the server answers.
        let statement = walk.delete(range, without);
        let done = until_done(&mut One::new(&statement), ends, job, record).await?;
        let done = done.map(Option::unwrap_or_default);
        return Ok(done.map(|did| Batch::Rows(i64::try_from(did.rows).unwrap_or(i64::MAX))));
    }
    let mut portion = Portion {
        walk,
        range,
        without,
        image: way.image,
        kept: 0,
        splits,
    };
    let done = until_done(&mut portion, ends, job, record).await;
    way.kept().silent(portion.kept);
    done
}
