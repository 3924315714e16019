//! How long steps will take, judged by how long they took: pure, like every decision.
//!
//! What is known of the object itself counts most: the slowest of its last
//! three times, in proportion to rows or bytes. An object that was cut off
//! since takes a quarter longer than it had. Of one that was never worked on,
//! the slowest of the five objects nearest in size, worked on in the same way,
//! is taken; where there is none, a second and ten megabytes a second, or a
//! minute where not even its size is known.

pub mod fits;

use std::collections::HashMap;
use std::time::Duration;

use super::body::Body;
use super::expected::{Basis, Estimate, PastError, Waited};
use super::{KeptBy, Step};

/// How a step ended in an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastEnd {
    /// It was done.
    Done,
    /// Its time was up before it was done.
    CutOff,
    /// It was left for the next run.
    Left,
    /// It failed, was skipped or cancelled.
    Otherwise,
}

/// A step of an earlier run.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// The task of that run.
    pub task: String,
    /// What was done.
    pub action: String,
    /// What was worked on.
    pub object: String,
    /// How it ended.
    pub end: PastEnd,
    /// What kept it from being done.
    pub kept_by: Option<KeptBy>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// Size of the object before, in bytes.
    pub bytes: Option<i64>,
    /// Rows touched.
    pub rows: Option<i64>,
    /// How long it had been predicted to take.
    pub predicted_ms: Option<i64>,
}

/// How long a step will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// In milliseconds.
    pub ms: i64,
    /// What that rests on.
    pub basis: Basis,
    /// After how many milliseconds it was cut off before, where that is all that is known of it: it takes longer.
    pub cut_off_ms: Option<i64>,
}

/// Whether a step fits into what is left of a run's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits.
    Yes,
    /// Nothing is known of it that says it cannot be done, and the run has all
    /// its time before it: it is tried, or nothing would ever be known.
    OnTrial,
    /// It does not fit now; another run has more time.
    NotNow,
    /// It does not fit into a whole run.
    Never,
}

/// The time of a run when a step is to begin.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// What is left.
    pub left: Duration,
    /// What a whole run has, where that is known.
    pub whole: Option<Duration>,
    /// Whether something was begun in it.
    pub begun: bool,
}

const NEAREST: usize = 5;
const LATEST: usize = 3;
/// Objects that are so many times further away in size are not as near.
const SIMILAR: f64 = 4.0;
/// So many objects of an action are kept to judge others by.
const MOST_OTHERS: usize = 50;
/// What was cut off takes at least so much longer.
const LONGER: f64 = 1.25;
const UNKNOWN_SIZE_MS: i64 = 60_000;
const UNKNOWN_BYTES_PER_MS: i64 = 10_000;

#[derive(Clone, Debug)]
struct Sample {
    ms: i64,
    bytes: Option<i64>,
    rows: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Object {
    /// Newest first.
    done: Vec<Sample>,
    /// Since it was done last.
    cut_off: Vec<Sample>,
    /// In how many runs in a row the task has left it.
    waited: Waited,
    /// Whether that row has ended.
    counted: bool,
    /// In how many runs in a row something else than time has kept it out.
    kept_out: u32,
    /// Whether that row has ended.
    got_in: bool,
}

/// What earlier runs tell about the time of steps.
#[derive(Clone, Debug, Default)]
pub struct Predictor {
    objects: HashMap<String, HashMap<String, Object>>,
    others: HashMap<String, Vec<Sample>>,
    error: Option<PastError>,
}

impl Predictor {
    /// From steps of earlier runs on one target, newest first; `task` is whose
    /// left work comes first.
    pub fn of(past: &[Past], task: &str) -> Predictor {
        let mut predictor = Predictor::default();
        let (mut errors, mut factors) = (Vec::new(), Vec::new());
        for one in past {
            predictor.add(one, task);
            if let (PastEnd::Done, Some(predicted)) = (one.end, one.predicted_ms)
                && one.duration_ms > 0
            {
                errors.push(share((predicted - one.duration_ms).abs(), one.duration_ms));
                factors.push(share(one.duration_ms, predicted.max(1)));
            }
        }
        errors.sort_by(f64::total_cmp);
        factors.sort_by(f64::total_cmp);
        let middle = errors.len() / 2;
        let medians = errors.get(middle).zip(factors.get(middle));
        predictor.error = medians.map(|(median, factor)| PastError {
            predictions: u32::try_from(errors.len()).unwrap_or(u32::MAX),
            median: *median,
            factor: *factor,
        });
        predictor
    }

    fn add(&mut self, past: &Past, task: &str) {
        let sample = Sample {
            ms: past.duration_ms.max(1),
            bytes: past.bytes,
            rows: past.rows,
        };
        let objects = self.objects.entry(past.action.clone()).or_default();
        let object = objects.entry(past.object.clone()).or_default();
        if past.task == task && !object.counted {
            match past.end {
                PastEnd::CutOff => object.waited.runs += 1,
                PastEnd::Left => {
                    let waited = &mut object.waited;
                    waited.untouched += u32::from(waited.untouched == waited.runs);
                    waited.runs += 1;
                }
                PastEnd::Done | PastEnd::Otherwise => object.counted = true,
            }
        }
        if past.task == task && !object.got_in {
            match past.kept_by.and_then(KeptBy::code) {
                Some(_) => object.kept_out += 1,
                None => object.got_in = true,
            }
        }
        match past.end {
            PastEnd::Done if object.done.len() < LATEST => {
                if object.done.is_empty() {
                    let others = self.others.entry(past.action.clone()).or_default();
                    if others.len() < MOST_OTHERS {
                        others.push(sample.clone());
                    }
                }
                object.done.push(sample);
            }
            PastEnd::CutOff if object.done.is_empty() => object.cut_off.push(sample),
            _ => {}
        }
    }

    /// Takes in a step that has just been done, so that the rest of the run is
    /// judged by it.
    pub fn done(&mut self, action: &str, sample: (i64, Option<i64>, Option<i64>)) {
        let (ms, bytes, rows) = sample;
        let others = self.others.entry(action.to_owned()).or_default();
        others.insert(
            0,
            Sample {
                ms: ms.max(1),
                bytes,
                rows,
            },
        );
        others.truncate(MOST_OTHERS);
    }

    /// How far earlier predictions were off.
    pub fn error(&self) -> Option<PastError> {
        self.error
    }

    /// In how many runs in a row this step was left for another one.
    pub fn waited<B>(&self, step: &Step<B>) -> Waited {
        self.object(step)
            .map_or_else(Waited::default, |object| object.waited)
    }

    /// How often in a row this was cut off, and not done since.
    pub fn cut_off(&self, action: &str, object: &str) -> usize {
        let known = self.objects.get(action).and_then(|all| all.get(object));
        known.map_or(0, |object| object.cut_off.len())
    }

    /// In how many of the latest runs in a row this was left, and nothing of it was begun.
    pub fn untouched(&self, action: &str, object: &str) -> u32 {
        let known = self.objects.get(action).and_then(|all| all.get(object));
        known.map_or(0, |object| object.waited.untouched)
    }

    /// In how many runs in a row something else than time has kept the task from this.
    pub fn kept_out(&self, action: &str, object: &str) -> u32 {
        let known = self.objects.get(action).and_then(|all| all.get(object));
        known.map_or(0, |object| object.kept_out)
    }

    fn object<B>(&self, step: &Step<B>) -> Option<&Object> {
        self.objects.get(&step.action)?.get(&step.object)
    }

    /// How long the step will take.
    pub fn predict<B: Body>(&self, step: &Step<B>) -> Prediction {
        let now = step.estimate;
        if let Some(object) = self.object(step) {
            // What keeps its place when it is cut off goes on from there.
            let cut_off = object
                .cut_off
                .iter()
                .filter(|_| !step.body.keeps_what_it_did());
            let at_least = cut_off.map(|one| {
                let ms = times(one.ms, LONGER * grown(one, now));
                (ms, Some(one.ms))
            });
            let took = object.done.iter();
            let took = took.map(|one| (times(one.ms, grown(one, now)), None));
            if let Some((ms, cut_off_ms)) = at_least.chain(took).max() {
                let basis = Basis::Itself;
                return Prediction {
                    ms,
                    basis,
                    cut_off_ms,
                };
            }
        }
        match self.by_others(&step.action, now) {
            Some(ms) => Prediction {
                ms,
                basis: Basis::Others,
                cut_off_ms: None,
            },
            None => Prediction {
                ms: now.bytes.map_or(UNKNOWN_SIZE_MS, |bytes| {
                    1_000 + bytes.max(0) / UNKNOWN_BYTES_PER_MS
                }),
                basis: Basis::Nothing,
                cut_off_ms: None,
            },
        }
    }

    fn by_others(&self, action: &str, now: Estimate) -> Option<i64> {
        let mut near: Vec<(f64, i64)> = self
            .others
            .get(action)?
            .iter()
            .map(|one| {
                let ratio = ratio(one, now);
                // A smaller object has the same overhead.
                let ms = times(one.ms, ratio.unwrap_or(1.0).max(1.0));
                (ratio.map_or(f64::INFINITY, |ratio| ratio.ln().abs()), ms)
            })
            .collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        // What is much smaller than others that are known says nothing of this one.
        let near_enough = near.first()?.0 + SIMILAR.ln();
        let near = near.iter().take_while(|(far, _)| *far <= near_enough);
        near.take(NEAREST).map(|(_, ms)| *ms).max()
    }
}

/// How many times as large it is now.
fn ratio(then: &Sample, now: Estimate) -> Option<f64> {
    let of = |now: Option<i64>, then: Option<i64>| match (now, then) {
        (Some(now), Some(then)) if now > 0 && then > 0 => Some(share(now, then)),
        _ => None,
    };
    of(now.rows, then.rows).or_else(|| of(now.bytes, then.bytes))
}

fn grown(then: &Sample, now: Estimate) -> f64 {
    ratio(then, now).unwrap_or(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(of: i64, all: i64) -> f64 {
    of as f64 / all.max(1) as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "milliseconds; a cast of a float stops at the ends"
)]
fn times(ms: i64, factor: f64) -> i64 {
    (ms as f64 * factor).ceil().max(1.0) as i64
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A time in words, in the two largest units.
pub fn human(ms: i64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{}.{} s", seconds, ms % 1_000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
#[path = "predict_tests.rs"]
mod tests;
