//! The time of a task, shared out among the plans for all of its databases: pure, like every
//! decision.
//!
//! What comes first is the same within one plan and across many: what is urgent; then what earlier
//! runs have left, longest left first, and of that what was not even begun; then what wins most
//! bytes for each second that it is predicted to take. Work of which nobody knows what it wins
//! comes before that, in the order that its kind has given it: the first step of each plan, then
//! the second of each.

use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::expected::{Skip, Waited};
use super::{Need, Plan, Step};

/// Where a step stands among others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    urgent: bool,
    waited: Waited,
    /// Bytes won for each second.
    rate: Option<f64>,
}

impl Standing {
    pub(super) fn of<B>(step: &Step<B>) -> Standing {
        Standing {
            urgent: step.urgent,
            // What is urgent does not wait.
            waited: if step.urgent {
                Waited::default()
            } else {
                step.waited
            },
            rate: rate(step),
        }
    }

    /// Whether it is known what the step wins.
    pub(super) fn is_rated(&self) -> bool {
        self.rate.is_some()
    }

    /// The same where that does not count.
    pub(super) fn without_rate(self) -> Standing {
        Standing { rate: None, ..self }
    }

    /// The same within one plan, where what was begun is to be brought to its end.
    pub(super) fn within_a_plan(mut self) -> Standing {
        self.waited.untouched = 0;
        self
    }

    /// The one that comes first is the smaller one; equal where nothing tells them apart.
    pub(super) fn before(&self, other: &Standing) -> Ordering {
        let first = |of: &Standing| (!of.urgent, Reverse(of.waited));
        first(self)
            .cmp(&first(other))
            .then(match (self.rate, other.rate) {
                (Some(own), Some(others)) => others.total_cmp(&own),
                // What is known of the one says nothing of the other.
                _ => Ordering::Equal,
            })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn rate<B>(step: &Step<B>) -> Option<f64> {
    let won = step.estimate.bytes? - step.estimate.bytes_after?;
    let seconds = step.predicted_ms?.max(1) as f64 / 1_000.0;
    Some(won.max(0) as f64 / seconds)
}

/// The place of a step among many plans.
#[derive(Clone, Copy, Debug)]
struct Place {
    plan: usize,
    step: usize,
}

/// What the time of a task is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// The plans in the order of their first steps: where one begins matters most.
    pub order: Vec<usize>,
    /// By plan, the steps that there is time for, with the time that is kept for each.
    pub chosen: Vec<HashMap<Need, i64>>,
}

/// Shares `whole` out among the plans for the databases of one task, of which `at_once` steps are
/// at work at the same time.
pub fn share_out<B>(plans: &[&Plan<B>], whole: Duration, at_once: u32) -> Shares {
    let whole = i64::try_from(whole.as_millis()).unwrap_or(i64::MAX);
    let mut left = whole.saturating_mul(i64::from(at_once.max(1)));
    let mut places: Vec<Place> = Vec::new();
    for (plan, one) in plans.iter().enumerate() {
        places.extend((0..one.steps.len()).map(|step| Place { plan, step }));
    }
    let of = |place: &Place| {
        let plan = plans[place.plan];
        let standing = Standing::of(&plan.steps[place.step]);
        match plan.fixed_order {
            true => standing.without_rate(),
            false => standing,
        }
    };
    places.sort_by(|a, b| {
        let (mine, its) = (of(a), of(b));
        let unknown = |of: &Standing| of.rate.is_some();
        mine.before(&its)
            .then(unknown(&mine).cmp(&unknown(&its)))
            .then(match mine.rate {
                None => a.step.cmp(&b.step),
                Some(_) => Ordering::Equal,
            })
            .then(a.plan.cmp(&b.plan))
            .then(a.step.cmp(&b.step))
    });
    let mut shares = Shares {
        order: Vec::new(),
        chosen: plans.iter().map(|_| HashMap::new()).collect(),
    };
    let mut ordered = HashSet::new();
    for place in &places {
        if ordered.insert(place.plan) {
            shares.order.push(place.plan);
        }
        let Some(wanted) = with_needs(plans[place.plan], place.step, &shares.chosen[place.plan])
        else {
            continue;
        };
        let mut costs = Vec::new();
        let mut rest = left;
        for step in wanted {
            let takes = step.predicted_ms.unwrap_or(0).max(0);
            let cost = match step.keeps {
                // It uses what there is, and goes on next time.
                true => takes.min(rest).min(whole),
                false => takes,
            };
            let fits = cost <= rest && cost <= whole && (rest > 0 || takes == 0);
            if !fits {
                costs.clear();
                break;
            }
            rest -= cost;
            costs.push((identity(step), cost));
        }
        if !costs.is_empty() {
            left = rest;
            shares.chosen[place.plan].extend(costs);
        }
    }
    let without_steps = (0..plans.len()).filter(|plan| !ordered.contains(plan));
    shares.order.extend(without_steps);
    shares
}

/// Says in the forecast of each plan what there is time for now that all of them share it.
pub fn forecast_shared<B>(plans: &mut [&mut Plan<B>], shares: &Shares) {
    let many = plans.len();
    for (plan, chosen) in plans.iter_mut().zip(&shares.chosen) {
        let Some(forecast) = &mut plan.forecast else {
            continue;
        };
        forecast.shared_by = Some(many);
        let known = std::mem::take(&mut forecast.will_not_fit);
        let left = plan
            .steps
            .iter()
            .filter(|step| !chosen.contains_key(&identity(step)));
        forecast.will_not_fit = left
            .map(|step| {
                let said = known.iter().find(|skip| skip.object == step.object);
                said.cloned().unwrap_or_else(|| Skip {
                    object: step.object.clone(),
                    reason: GIVES_WAY.to_owned(),
                })
            })
            .collect();
    }
}

/// Why a step is left for another run although there is time for it.
pub const GIVES_WAY: &str = "the time that all databases of the task have together goes to work that comes first, or wins more for it";

/// The step, after those that it needs and that are not chosen yet. Nothing where it is chosen.
fn with_needs<'p, B>(
    plan: &'p Plan<B>,
    step: usize,
    chosen: &HashMap<Need, i64>,
) -> Option<Vec<&'p Step<B>>> {
    let mut wanted: Vec<&Step<B>> = Vec::new();
    let mut open = vec![plan.steps.get(step)?];
    while let Some(step) = open.pop() {
        let known = |one: &&Step<B>| identity(one) == identity(step);
        if chosen.contains_key(&identity(step)) || wanted.iter().any(known) {
            continue;
        }
        wanted.push(step);
        let needed = |one: &&Step<B>| step.needs.contains(&identity(one));
        open.extend(plan.steps.iter().filter(needed));
    }
    wanted.reverse();
    (!wanted.is_empty()).then_some(wanted)
}

/// What tells a step from others of its plan.
pub fn identity<B>(step: &Step<B>) -> Need {
    Need {
        action: step.action.clone(),
        object: step.object.clone(),
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
