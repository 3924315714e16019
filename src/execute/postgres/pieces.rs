//! A range that is too much for one batch, and cannot be cut along its path: its rows go some at a
//! time, by their places.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

use super::size::BatchSize;
use super::way::{Way, Went, remember};
use super::{Job, ask, weight};
use crate::engines::EngineError;
use crate::plan::{Range, Walk, Without};

/// A range in pieces, each of which is a batch again.
pub(super) struct Pieces {
    cut: Cut,
    /// What the batch leaves out, where its rows were told by their places.
    without: Option<Without>,
    /// The size of the batch before it was cut.
    size: i64,
    began: Instant,
}

/// What is left of a range, and how it is cut.
enum Cut {
    /// As many rows at a time as memory holds.
    ByWeight(VecDeque<Range>),
    /// No more rows at once than an earlier batch has learned, so many of them in the piece at work.
    ByNumber(Vec<String>, usize),
    /// In halves.
    Apart(VecDeque<Range>),
}

impl Pieces {
    /// The rows of a range that cannot be made smaller, as many at a time as memory holds.
    pub(super) async fn by_weight(
        way: Way<'_>,
        job: Job<'_>,
        pace: &BatchSize,
        range: &Range,
    ) -> Result<Pieces, EngineError> {
        let began = Instant::now();
        let pieces = weight::pieces(way.walk, way.columns(), range, job).await?;
        Ok(Pieces {
            cut: Cut::ByWeight(pieces.into()),
            without: None,
            size: pace.now,
            began,
        })
    }

    /// The same where what hangs on the table refuses more than so many rows at once, which an earlier
    /// batch has learned: whatever the pace, no statement takes more.
    pub(super) async fn by_number(
        way: Way<'_>,
        job: Job<'_>,
        pace: &BatchSize,
        range: &Range,
        without: Without,
    ) -> Result<Pieces, EngineError> {
        let began = Instant::now();
        let places = places(way.walk, range, &without, job).await?;
        Ok(Pieces {
            cut: Cut::ByNumber(places, 0),
            without: Some(without),
            size: pace.now,
            began,
        })
    }

    /// The same for rows each of which may go by itself, and not all beside each other: in halves, until
    /// only those stay whose place another one has taken. `None` where there are no two of them.
    pub(super) async fn apart(
        way: Way<'_>,
        job: Job<'_>,
        pace: &BatchSize,
        range: &Range,
        without: Without,
    ) -> Result<Option<Pieces>, EngineError> {
        let began = Instant::now();
        let places = places(way.walk, range, &without, job).await?;
        if places.len() < 2 {
            return Ok(None);
        }
        let (one, other) = places.split_at(places.len() / 2);
        let halves = [one, other].map(|half| Range::Rows(half.to_vec()));
        Ok(Some(Pieces {
            cut: Cut::Apart(halves.into()),
            without: Some(without),
            size: pace.now,
            began,
        }))
    }

    /// The piece whose turn it is: the same again until it is done, or fewer rows of it where fewer may go
    /// at once by now.
    pub(super) fn next(&mut self, way: Way<'_>) -> Option<Range> {
        match &mut self.cut {
            Cut::ByWeight(waiting) | Cut::Apart(waiting) => waiting.front().cloned(),
            Cut::ByNumber(waiting, taken) => {
                *taken = way.most_at_once(waiting.len()).min(waiting.len());
                let now = waiting.get(..*taken).filter(|now| !now.is_empty())?;
                Some(Range::Rows(now.to_vec()))
            }
        }
    }

    /// The piece whose turn it was is done.
    pub(super) fn done(&mut self) {
        match &mut self.cut {
            Cut::ByWeight(waiting) | Cut::Apart(waiting) => drop(waiting.pop_front()),
            Cut::ByNumber(waiting, taken) => drop(waiting.drain(..*taken)),
        }
    }

    /// Every row of the range was dealt with: the walk goes on behind it.
    pub(super) async fn end(
        self,
        way: Way<'_>,
        job: Job<'_>,
        pace: &mut BatchSize,
        range: &Range,
    ) -> Result<Went, EngineError> {
        if let Some(without) = &self.without {
            referenced(way, job, range, without).await?;
        }
        match self.cut {
            Cut::ByWeight(_) => pace.now = 1,
            Cut::ByNumber(..) => {
                pace.now = self.size;
                pace.learned();
                pace.adapt(self.began.elapsed(), 1);
            }
            Cut::Apart(_) => {
                pace.now = 1;
                pace.adapt(self.began.elapsed(), 1);
            }
        }
        if let Some(place) = range.behind() {
            remember(way.walk, job, place);
        }
        Ok(Went::On)
    }
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
