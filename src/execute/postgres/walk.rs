//! Work that is a walk: cut out a batch, delete it, remember the place, and
//! let the time the batch took decide the size of the next.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::again;
use super::attempts::ends;
use super::export::Exporter;
use super::image;
use super::kept::Kept;
use super::lot::ExportError;
use super::seek;
use super::send::Sender;
use super::size::BatchSize;
use super::vanished;
use super::walked::batch;
use super::way::{MOST_ROUNDS, Way, Went, gone, keep, may_go_on, remember, tell};
use super::weight;
use super::{Job, gate, guarded, naming};
use crate::engines::EngineError;
use crate::engines::postgres::first;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Fate, Finding, Image, InVain, KeyColumn, Path, Range, Walk, block_of, key_of};
use crate::values::wall_clock;

/// Whether the rows of the table are there again where a crash undoes that they went: else they would
/// be neither there nor where they moved to.
const SURVIVES: &str =
    "SELECT c.relpersistence = 'p' FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.oid";

/// Carries the walk out; `record.rows` counts what has gone and is committed.
pub(super) async fn carry_out(
    walk: &Walk,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let undone_as_one = match walk.fate {
        Fate::Delete => true,
        Fate::Move { .. } => survives(walk, job).await?,
        Fate::Export(_) | Fate::Send(_) => false,
    };
    if !undone_as_one {
        return all(walk, job, record, findings).await;
    }
    // A batch that a crash of the server undoes is simply dealt with again, so
    // none has to wait for the disk, and hold its row locks meanwhile.
    let session = job.session;
    let faster = "SET synchronous_commit = off";
    session.execute("setting up batches", faster).await?;
    let done = all(walk, job, record, findings).await;
    // A commit that waits, waits for all before it: what is recorded as gone
    // is gone for good.
    let durable = async {
        // Not RESET: the role's own default may be `off`.
        let wait = "SET synchronous_commit = on";
        session.execute("ending batches", wait).await?;
        let flush = naming::flush(session);
        let no_matter_who = CancellationToken::new();
        gate::until_stopped(session, flush, job.execution, ends(job), &no_matter_who).await
    };
    match (done, durable.await) {
        (Ok(()), Err(error)) => Err(error),
        (done, _) => done,
    }
}

async fn survives(walk: &Walk, job: Job<'_>) -> Result<bool, EngineError> {
    let doing = "looking what a crash leaves of the table";
    let rows = job.session.query(doing, SURVIVES, &[&walk.oid]).await?;
    Ok(first::<bool>(&rows, 0)?.unwrap_or(false))
}

async fn all(
    walk: &Walk,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.rows = Some(0);
    let mut pace = BatchSize::of(walk);
    let exporter = match &walk.fate {
        Fate::Export(export) => Some(
            Exporter::open(walk, export, job)
                .await
                .map_err(ExportError::into_engine)?,
        ),
        _ => None,
    };
    let sender = match &walk.fate {
        Fate::Send(send) => {
            let opened = async {
                let sender = Sender::open(walk, send, job).await?;
                findings.extend(sender.look(job).await?);
                Ok(sender)
            };
            Some(opened.await.map_err(ExportError::into_engine)?)
        }
        _ => None,
    };
    again::first(walk, job, findings).await?;
    let (referenced, kept) = (AtomicBool::new(walk.guarded), Mutex::default());
    let (stay, most) = (AtomicBool::new(false), Mutex::default());
    let held = match walk.fires || matches!(walk.fate, Fate::Move { .. }) {
        true => Some(job.session.hold().await?),
        false => None,
    };
    let image = match &walk.fate {
        Fate::Move { into, columns } => image::of(walk, into, columns, job).await?,
        _ => Image::default(),
    };
    let weighed = exporter.is_some() || sender.is_some();
    let weighed = weighed && weight::can_be_heavy(walk, job).await?;
    let way = Way {
        walk,
        exporter: exporter.as_ref(),
        sender: sender.as_ref(),
        image: &image,
        weighed,
        referenced: &referenced,
        kept: &kept,
        stay: &stay,
        most: &most,
        held: held.as_ref(),
    };
    let mut finished = match &walk.path {
        _ if walk.sought => seek::carry_out(way, job, record, &mut pace).await?,
        Path::Blocks { extent } => {
            let Some(all) = vanished::extent(extent, job, record).await? else {
                return Ok(());
            };
            let start = walk.start.as_ref().and_then(block_of).unwrap_or(0);
            // What an earlier walk did not come to, then what came in behind its back.
            let start = start.clamp(0, all);
            let mut done = blocks(way, job, record, &mut pace, (start, all), all).await?
                && blocks(way, job, record, &mut pace, (0, start), all).await?;
            // Rows that somebody changed meanwhile have moved behind the end.
            let mut to = all;
            for _ in 0..MOST_ROUNDS {
                if !done {
                    break;
                }
                let Some(now) = vanished::extent(extent, job, record).await? else {
                    done = false;
                    break;
                };
                if now <= to {
                    break;
                }
                done = blocks(way, job, record, &mut pace, (to, now), now).await?;
                to = now;
            }
            done
        }
        Path::Key(columns) => {
            let start = walk.start.as_ref().and_then(|p| key_of(p, columns.len()));
            let from_start = keys(way, columns, job, record, &mut pace, start.clone(), None);
            from_start.await?
                && (start.is_none()
                    || keys(way, columns, job, record, &mut pace, None, start).await?)
        }
    };
    // Rows of the table that pointed at others have gone by now.
    let own = !walk.once && walk.references.iter().any(|reference| reference.own);
    let mut backward = true;
    while finished && own && way.kept().referenced() > 0 {
        let before = record.rows;
        *way.kept() = Kept::default();
        finished = once_more(way, job, record, &mut pace, backward).await?;
        backward = !backward;
        // Neither from the one end nor from the other.
        if record.rows == before && backward {
            break;
        }
    }
    findings.extend(way.kept().take_beyond());
    // What did not end in the time of a run would not in that of the next either.
    let cut_off = !finished && record.cut_off && !pace.got_on;
    if cut_off != walk.careful && (cut_off || pace.got_on) {
        let key = Walk::cut_off_under(&walk.progress);
        keep(job, &key, if cut_off { true.into() } else { Value::Null });
    }
    if finished {
        remember(walk, job, Value::Null);
        record.status = StepStatus::Succeeded;
    }
    if finished || way.kept().is_in_vain() || way.kept().are_many() {
        let gone = record.rows.unwrap_or(0);
        if let Some(vain) = &walk.vain
            && gone == 0
            && let Some((rows, why)) = way.kept().only_changed(walk)
        {
            let value = InVain {
                print: vain.print.clone(),
                times: vain.before.saturating_add(1),
                all: finished,
                rows,
                why,
                at: wall_clock(),
            };
            keep(
                job,
                &vain.key,
                serde_json::to_value(value).unwrap_or_default(),
            );
        }
        way.kept().tell(walk, record, findings);
    }
    Ok(())
}

/// Goes through all blocks again, from the one end or from the other.
async fn once_more(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    backward: bool,
) -> Result<bool, EngineError> {
    let extent = Walk::extent(way.walk.oid);
    let Some(all) = vanished::extent(&extent, job, record).await? else {
        return Ok(false);
    };
    if !backward {
        return blocks(way, job, record, pace, (0, all), all).await;
    }
    let mut to = all;
    while to > 0 {
        let from = to.saturating_sub(pace.now).max(0);
        match batch(way, job, record, pace, &Range::Blocks(from, to)).await? {
            Went::On => to = from,
            Went::Again => {}
            Went::NoFurther => return Ok(false),
        }
        tell(job, record, all - to, all);
    }
    Ok(true)
}

async fn blocks(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    (mut from, end): (i64, i64),
    all: i64,
) -> Result<bool, EngineError> {
    while from < end {
        let to = from.saturating_add(pace.now).min(end);
        match batch(way, job, record, pace, &Range::Blocks(from, to)).await? {
            Went::On => from = to,
            Went::Again => {}
            Went::NoFurther => return Ok(false),
        }
        tell(job, record, from, all);
    }
    Ok(true)
}

/// Goes from behind `after` up to, and with, `end`.
async fn keys(
    way: Way<'_>,
    columns: &[KeyColumn],
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    mut after: Option<Vec<String>>,
    end: Option<Vec<String>>,
) -> Result<bool, EngineError> {
    loop {
        if !may_go_on(job, record, pace.began, &gone(record)) {
            return Ok(false);
        }
        let rest = Range::Keys(after, end.clone());
        let query = way.walk.bound(columns, &rest, pace.now);
        let doing = "looking where the next batch ends";
        let answer = guarded(job, doing, &query).await?;
        let last: Option<Vec<String>> = match answer.first() {
            Some(row) => Some(
                (0..columns.len())
                    .map(|n| row.get(n))
                    .collect::<Result<_, _>>()?,
            ),
            None => None,
        };
        let Range::Keys(begin, _) = rest else {
            return Ok(false);
        };
        let range = Range::Keys(begin.clone(), last.clone().or_else(|| end.clone()));
        match batch(way, job, record, pace, &range).await? {
            Went::On => {}
            Went::Again => {
                after = begin;
                continue;
            }
            Went::NoFurther => return Ok(false),
        }
        tell(
            job,
            record,
            record.rows.unwrap_or(0),
            way.walk.rows.unwrap_or(0),
        );
        if last.is_none() {
            return Ok(true);
        }
        after = last;
    }
}
