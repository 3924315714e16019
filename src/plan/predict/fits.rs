//! What fits into the time of a run, in which order, and what is said of what does not.

use std::collections::HashMap;
use std::time::Duration;

use super::super::body::Body;
use super::super::expected::{Basis, Forecast, Skip};
use super::super::share::Standing;
use super::super::{Plan, Step};
use super::{Fit, Prediction, Predictor, Time, human, millis};

/// Whether a step that takes so long fits into the time of a run. `waited`:
/// in how many runs it was left; `kept`: what it did is kept when it is cut off,
/// so that every portion of it fits, and it gets done in as many runs as it takes.
pub fn fit(prediction: Prediction, waited: u32, kept: bool, time: Time) -> Fit {
    let left = millis(time.left);
    if prediction.ms <= left || (kept && left > 0) {
        return Fit::Yes;
    }
    let known = prediction.basis == Basis::Itself;
    match time.whole.map(millis) {
        Some(whole) if known && !kept && prediction.ms > whole => Fit::Never,
        _ if !known && waited > 0 && !time.begun => Fit::OnTrial,
        _ => Fit::NotNow,
    }
}

impl<B: Body> Plan<B> {
    /// Writes into each step how long it will take and how long it has waited, and puts first what
    /// earlier runs have left, longest left first. What is urgent stays before it. Then comes what
    /// wins most for each second; where that is not known of a step it keeps its place. Steps of
    /// one lane stay in their order.
    pub fn arranged(mut self, by: &Predictor) -> Self {
        for step in &mut self.steps {
            let prediction = by.predict(step);
            step.predicted_ms = Some(prediction.ms);
            step.predicted_from = Some(prediction.basis);
            step.waited = by.waited(step);
            step.keeps = step.body.keeps_what_it_did();
        }
        if self.fixed_order {
            return self;
        }
        let standing: Vec<Standing> = self
            .steps
            .iter()
            .map(|step| Standing::of(step).within_a_plan())
            .collect();
        let mut order: Vec<usize> = (0..self.steps.len()).collect();
        order.sort_by(|a, b| {
            standing[*a]
                .without_rate()
                .before(&standing[*b].without_rate())
        });
        let places: Vec<usize> = (0..order.len())
            .filter(|place| standing[order[*place]].is_rated())
            .collect();
        let mut rated: Vec<usize> = places.iter().map(|place| order[*place]).collect();
        rated.sort_by(|a, b| standing[*a].before(&standing[*b]));
        for (place, step) in places.into_iter().zip(rated) {
            order[place] = step;
        }
        // Which places a lane has is new; who comes first in it is not.
        let mut lanes: HashMap<&str, Vec<usize>> = HashMap::new();
        for (n, step) in self.steps.iter().enumerate().rev() {
            lanes.entry(&step.lane).or_default().push(n);
        }
        let order: Vec<usize> = order
            .iter()
            .filter_map(|n| lanes.get_mut(self.steps.get(*n)?.lane.as_str())?.pop())
            .collect();
        let mut steps: Vec<Option<Step<B>>> = self.steps.into_iter().map(Some).collect();
        self.steps = order
            .into_iter()
            .filter_map(|n| steps.get_mut(n)?.take())
            .collect();
        self
    }

    /// What a run with so much time would get done, `jobs` steps at once.
    pub fn forecast(&self, by: &Predictor, whole: Option<Duration>, jobs: u32) -> Forecast {
        let mut ends = vec![0_i64; usize::try_from(jobs.max(1)).unwrap_or(1)];
        let mut will_not_fit = Vec::new();
        let mut guess: Option<(i64, usize)> = None;
        for step in &self.steps {
            let prediction = by.predict(step);
            let begun = ends.iter().any(|end| *end > 0);
            let Some(next) = ends.iter_mut().min() else {
                continue;
            };
            let fit = match whole {
                None => Fit::Yes,
                Some(whole) => {
                    let passed = Duration::from_millis(u64::try_from(*next).unwrap_or(0));
                    let time = Time {
                        left: whole.saturating_sub(passed),
                        whole: Some(whole),
                        begun,
                    };
                    fit(
                        prediction,
                        by.waited(step).runs,
                        step.body.keeps_what_it_did(),
                        time,
                    )
                }
            };
            match whole {
                Some(whole) if matches!(fit, Fit::NotNow | Fit::Never) => {
                    let left = match fit {
                        Fit::Never => whole,
                        _ => whole.saturating_sub(Duration::from_millis(
                            u64::try_from(*next).unwrap_or(0),
                        )),
                    };
                    if prediction.basis != Basis::Itself
                        && guess.is_none_or(|(least, _)| prediction.ms < least)
                    {
                        guess = Some((prediction.ms, will_not_fit.len()));
                    }
                    will_not_fit.push(Skip {
                        object: step.object.clone(),
                        reason: too_long(prediction, fit, left),
                    });
                }
                _ => *next = next.saturating_add(prediction.ms),
            }
        }
        // Where nothing fits, the shortest guess is tried.
        if let (Some((_, n)), true) = (guess, ends.iter().all(|end| *end == 0)) {
            will_not_fit.remove(n);
        }
        let all: i64 = self
            .steps
            .iter()
            .filter_map(|step| step.predicted_ms)
            .fold(0, i64::saturating_add);
        Forecast {
            predicted_ms: all / i64::from(jobs.max(1)),
            available_ms: whole.map(millis),
            shared_by: None,
            will_not_fit,
            error: by.error(),
        }
    }
}

/// Why a step is not begun, for people.
pub fn too_long(prediction: Prediction, fit: Fit, time: Duration) -> String {
    let about = human(prediction.ms);
    let time = human(millis(time));
    let rests = match (prediction.basis, prediction.cut_off_ms) {
        (Basis::Itself, None) => "as long as it took before".to_owned(),
        (Basis::Itself, Some(ms)) => {
            format!("it was not done when it was cut off after {}", human(ms))
        }
        (Basis::Others, _) => "judged by others of its size".to_owned(),
        (Basis::Nothing, _) => "nothing is known of it yet".to_owned(),
    };
    match fit {
        Fit::Never => {
            format!("takes about {about} ({rests}), more than the {time} that a whole run has")
        }
        _ => format!("takes about {about} ({rests}), more than the {time} that are left"),
    }
}
