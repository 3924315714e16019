//! Whether a step fits into what is left of the run's time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::queue::Room;
use super::shared::Part;
use crate::history::{StepRecord, StepStatus};
use crate::plan::predict::fits::{fit, too_long};
use crate::plan::predict::human;
use crate::plan::{Body, Finding, Fit, GIVES_WAY, Prediction, Predictor, Severity, Step, Time};
use crate::values::wall_clock;

/// The time of a run, and what is known of the time that its steps take.
/// There is one for all rounds of a run.
pub struct Pace {
    predictor: Mutex<Predictor>,
    deadline: Option<Instant>,
    whole: Option<Duration>,
    begun: Arc<AtomicBool>,
    /// Steps that keep what they did when they are cut off, by action and object.
    keeping: Mutex<HashSet<(String, String)>>,
    /// Of what the databases of the task have together.
    part: Option<Part>,
}

impl Pace {
    /// For a run that ends at `deadline`; `whole` is the time of one that
    /// begins when it should.
    pub fn new(predictor: Predictor, deadline: Option<Instant>, whole: Option<Duration>) -> Pace {
        Pace {
            predictor: Mutex::new(predictor),
            deadline,
            whole,
            begun: Arc::default(),
            keeping: Mutex::default(),
            part: None,
        }
    }

    /// The same with a part of the time that the databases of a task have together.
    pub fn sharing(self, part: Option<Part>) -> Pace {
        let begun = part.as_ref().map(Part::begun);
        Pace {
            begun: begun.unwrap_or_default(),
            part,
            ..self
        }
    }

    /// A step begins, or never will: no time is kept for it any more.
    pub(super) fn over<B: Body>(&self, step: &Step<B>) {
        if step.body.keeps_what_it_did() {
            let keeping = self.keeping.lock();
            let mut keeping = keeping.unwrap_or_else(PoisonError::into_inner);
            keeping.insert((step.action.clone(), step.object.clone()));
        }
        if let Some(part) = &self.part {
            part.over(step);
        }
    }

    /// Whether the step gives way to work in other databases.
    fn gives_way<B>(&self, step: &Step<B>) -> bool {
        self.part.as_ref().is_some_and(|part| !part.is_chosen(step))
    }

    /// Whether the step may begin.
    pub(super) fn room<B: Body>(&self, step: &Step<B>) -> Room {
        let Some((fit, prediction, left)) = self.look(step) else {
            return Room::Enough;
        };
        match fit {
            Fit::Yes | Fit::OnTrial => Room::Enough,
            Fit::Never => Room::None { guess_ms: None },
            Fit::NotNow => {
                let may_try = prediction.basis != crate::plan::Basis::Itself
                    && !left.is_zero()
                    && !self.begun.load(Ordering::Relaxed);
                Room::None {
                    guess_ms: may_try.then_some(prediction.ms),
                }
            }
        }
    }

    fn look<B: Body>(&self, step: &Step<B>) -> Option<(Fit, Prediction, Duration)> {
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Whoever may block others only for a while has no more time than that.
        let until = step.body.until();
        let until = until.map(|until| (until - wall_clock()).to_std().unwrap_or_default());
        let left = left.into_iter().chain(until).min()?;
        let left = match &self.part {
            Some(part) => part.left(step, left),
            None => left,
        };
        let predictor = self.predictor.lock();
        let predictor = predictor.unwrap_or_else(PoisonError::into_inner);
        let prediction = predictor.predict(step);
        let time = Time {
            left,
            whole: self.whole,
            begun: self.begun.load(Ordering::Relaxed),
        };
        let waited = predictor.waited(step).runs;
        let fit = fit(prediction, waited, step.body.keeps_what_it_did(), time);
        Some((fit, prediction, left))
    }

    /// Why the step is left for another run, and what is to be told of it.
    pub(super) fn why_not<B: Body>(&self, step: &Step<B>) -> (String, Option<Finding>) {
        match (self.look(step), self.whole) {
            (Some((Fit::Never, prediction, _)), Some(whole)) => {
                let why = too_long(prediction, Fit::Never, whole);
                let finding = Finding {
                    code: "time.never_fits".to_owned(),
                    severity: Severity::Warning,
                    object: step.object.clone(),
                    message: format!("{} of {} {why}: it is not tried", step.action, step.object),
                    suggestion: Some(format!(
                        "a window, or `limits.budget`, of more than {}; or once by hand: maint run TASK --now --set limits.budget={}min",
                        human(prediction.ms),
                        prediction.ms.saturating_mul(2) / 60_000 + 1
                    )),
                };
                (why, Some(finding))
            }
            _ if self.gives_way(step) && self.deadline.is_some_and(|end| Instant::now() < end) => {
                (GIVES_WAY.to_owned(), None)
            }
            (Some((_, prediction, left)), _) if !left.is_zero() => {
                (too_long(prediction, Fit::NotNow, left), None)
            }
            _ => ("no time was left".to_owned(), None),
        }
    }

    /// In how many runs in a row something else than time has kept the task from this.
    pub fn kept_out(&self, action: &str, object: &str) -> u32 {
        let predictor = self.predictor.lock();
        let predictor = predictor.unwrap_or_else(PoisonError::into_inner);
        predictor.kept_out(action, object)
    }

    /// In how many runs in a row, with this one, a step that was left got no further for want of
    /// time; `idle`: nothing was begun in this one. None where it got further, or may next time.
    pub fn stands_still(&self, left: &StepRecord, idle: bool) -> u32 {
        let predictor = self.predictor.lock();
        let predictor = predictor.unwrap_or_else(PoisonError::into_inner);
        let (action, object) = (&left.action, &left.object);
        let before = if left.cut_off {
            let keeping = self.keeping.lock();
            let keeping = keeping.unwrap_or_else(PoisonError::into_inner);
            let keeps = keeping.contains(&(action.clone(), object.clone()));
            if keeps && left.rows != Some(0) {
                return 0;
            }
            u32::try_from(predictor.cut_off(action, object)).unwrap_or(u32::MAX)
        } else if idle {
            predictor.untouched(action, object)
        } else {
            return 0;
        };
        before.saturating_add(1)
    }

    /// A step begins.
    pub(super) fn begins(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// A step has ended: the rest is judged by it, too.
    pub(super) fn ended(&self, record: &StepRecord) {
        if record.status == StepStatus::Succeeded {
            let sample = (
                record.duration_ms,
                record.planned_bytes.or(record.bytes_before),
                record.rows,
            );
            let predictor = self.predictor.lock();
            let mut predictor = predictor.unwrap_or_else(PoisonError::into_inner);
            predictor.done(&record.action, sample);
        }
    }
}
