//! Which step may begin next.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::history::StepStatus;
use crate::plan::{Need, Step};

/// The steps that have not begun.
pub(super) struct Queue<B> {
    waiting: VecDeque<Step<B>>,
    busy: HashSet<String>,
    /// Steps of the plan that somebody may need, and how they ended.
    known: HashMap<Need, Option<StepStatus>>,
}

/// What may happen next.
pub(super) enum Next<B> {
    /// This step may begin.
    Ready(Step<B>),
    /// This step cannot begin any more; the text says why.
    InVain(Step<B>, String),
    /// Nothing before a running step ends.
    Later,
}

impl<B> Queue<B> {
    pub(super) fn new(steps: Vec<Step<B>>) -> Queue<B> {
        let known = steps.iter().map(|step| (identity(step), None)).collect();
        Queue {
            waiting: steps.into(),
            busy: HashSet::new(),
            known,
        }
    }

    pub(super) fn next(&mut self) -> Next<B> {
        for n in 0..self.waiting.len() {
            let step = &self.waiting[n];
            let missed = step
                .needs
                .iter()
                .find_map(|need| match self.known.get(need) {
                    Some(Some(status)) if *status != StepStatus::Succeeded => Some((need, *status)),
                    _ => None,
                });
            if let Some((need, status)) = missed {
                let why = format!(
                    "needs {} of {}, which ended as {status}",
                    need.action, need.object
                );
                return self.in_vain(n, why).unwrap_or(Next::Later);
            }
            let met = |need: &Need| !matches!(self.known.get(need), Some(None));
            if !self.busy.contains(&step.lane) && step.needs.iter().all(met) {
                self.busy.insert(step.lane.clone());
                return self.take(n).map_or(Next::Later, Next::Ready);
            }
        }
        if self.busy.is_empty() {
            // Nothing runs and nothing may begin: the steps wait for each other.
            let why = "needs a step that in turn needs it".to_owned();
            return self.in_vain(0, why).unwrap_or(Next::Later);
        }
        Next::Later
    }

    fn in_vain(&mut self, n: usize, why: String) -> Option<Next<B>> {
        let step = self.take(n)?;
        self.known
            .insert(identity(&step), Some(StepStatus::Skipped));
        Some(Next::InVain(step, why))
    }

    /// Notes the end of a step that was given out as ready.
    pub(super) fn ended(&mut self, step: &Step<B>, status: StepStatus) {
        self.busy.remove(&step.lane);
        self.known.insert(identity(step), Some(status));
    }

    fn take(&mut self, n: usize) -> Option<Step<B>> {
        self.waiting.remove(n)
    }
}

fn identity<B>(step: &Step<B>) -> Need {
    Need {
        action: step.action.clone(),
        object: step.object.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::plan::postgres::Body;

    fn step(object: &str, lane: &str) -> Step {
        Step::new("refresh", object, lane)
    }

    fn ready(queue: &mut Queue<Body>) -> Option<Step> {
        match queue.next() {
            Next::Ready(step) => Some(step),
            Next::Later => None,
            Next::InVain(step, why) => panic!("{}: {why}", step.object),
        }
    }

    #[test]
    fn steps_wait_for_their_lane_and_their_needs() {
        let mut queue = Queue::new(vec![
            step("b", "1").after("refresh", "a"),
            step("a", "2"),
            step("c", "2"),
            step("d", "3").after("refresh", "not in the plan"),
        ]);
        let a = ready(&mut queue).unwrap_or_else(|| panic!("a is ready"));
        assert_eq!(a.object, "a");
        assert_eq!(ready(&mut queue).map(|s| s.object).as_deref(), Some("d"));
        assert_eq!(ready(&mut queue), None);
        queue.ended(&a, StepStatus::Succeeded);
        assert_eq!(ready(&mut queue).map(|s| s.object).as_deref(), Some("b"));
        assert_eq!(ready(&mut queue).map(|s| s.object).as_deref(), Some("c"));
        assert_eq!(ready(&mut queue), None);
    }

    #[test]
    fn a_failure_takes_down_only_what_depends_on_it() {
        let mut queue = Queue::new(vec![
            step("a", "1"),
            step("b", "2").after("refresh", "a"),
            step("c", "3").after("refresh", "b"),
            step("d", "4"),
        ]);
        let a = ready(&mut queue).unwrap_or_else(|| panic!("a is ready"));
        queue.ended(&a, StepStatus::Failed);
        for (object, cause) in [
            ("b", "a, which ended as failed"),
            ("c", "b, which ended as skipped"),
        ] {
            let Next::InVain(step, why) = queue.next() else {
                panic!("{object} should not begin");
            };
            assert_eq!(step.object, object);
            assert_eq!(why, format!("needs refresh of {cause}"));
        }
        assert_eq!(ready(&mut queue).map(|s| s.object).as_deref(), Some("d"));
    }

    #[test]
    fn a_circle_of_needs_ends() {
        let mut queue = Queue::new(vec![
            step("a", "1").after("refresh", "b"),
            step("b", "2").after("refresh", "a"),
        ]);
        for _ in 0..2 {
            let Next::InVain(..) = queue.next() else {
                panic!("neither may begin");
            };
        }
        assert!(matches!(queue.next(), Next::Later));
    }
}
