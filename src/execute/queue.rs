//! Which step may begin next.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::history::StepStatus;
use crate::plan::{Body, Need, Step};

/// In so many lanes something half-made was left when it is taken for no matter of one table.
const SEVERAL: usize = 2;

/// The steps that have not begun.
pub(super) struct Queue<B> {
    waiting: VecDeque<Step<B>>,
    busy: HashSet<String>,
    /// Steps of the plan that somebody may need, and how they ended.
    known: HashMap<Need, Option<StepStatus>>,
    /// Lanes in which something half-made was left, each with what was done there: what may leave
    /// one more is not begun there, and nowhere after [`SEVERAL`] of them.
    shut: Vec<(String, Need)>,
    /// Nothing that is left has enough time.
    over: bool,
}

/// What may happen next.
pub(super) enum Next<B> {
    /// This step may begin.
    Ready(Step<B>),
    /// This step cannot begin any more; the text says why.
    InVain(Step<B>, String),
    /// This step is left for another run; the text says why.
    Shut(Step<B>, String),
    /// The time that is left does not suffice for this step, nor for any other.
    NoTime(Step<B>),
    /// Nothing before a running step ends.
    Later,
}

/// Whether there is time for a step.
pub(super) enum Room {
    /// There is.
    Enough,
    /// There is not; where that is no more than a guess, and somebody has to
    /// be the first, it may be tried.
    None { guess_ms: Option<i64> },
}

impl<B: Body> Queue<B> {
    pub(super) fn new(steps: Vec<Step<B>>) -> Queue<B> {
        let known = steps.iter().map(|step| (identity(step), None)).collect();
        Queue {
            waiting: steps.into(),
            busy: HashSet::new(),
            known,
            shut: Vec::new(),
            over: false,
        }
    }

    /// The first step that may begin, and for which there is time. Where there
    /// is for none, and one has to be tried, it is the one of the shortest guess.
    pub(super) fn next(&mut self, room: &dyn Fn(&Step<B>) -> Room) -> Next<B> {
        let mut without = None;
        let mut guessed: Option<(i64, usize)> = None;
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
            if let Some(why) = self.shut_to(step) {
                return self.shut_out(n, why).unwrap_or(Next::Later);
            }
            let met = |need: &Need| !matches!(self.known.get(need), Some(None));
            if !self.busy.contains(&step.lane) && step.needs.iter().all(met) {
                if self.over {
                    return self.no_time(n).unwrap_or(Next::Later);
                }
                match room(step) {
                    Room::Enough => return self.begin(n),
                    Room::None { guess_ms } => {
                        without.get_or_insert(n);
                        let shorter = |ms: &i64| guessed.is_none_or(|(least, _)| *ms < least);
                        if let Some(ms) = guess_ms.filter(shorter) {
                            guessed = Some((ms, n));
                        }
                    }
                }
            }
        }
        if self.busy.is_empty() {
            if let Some((_, n)) = guessed {
                return self.begin(n);
            }
            if let Some(n) = without {
                self.over = true;
                return self.no_time(n).unwrap_or(Next::Later);
            }
            // Nothing runs and nothing may begin: the steps wait for each other.
            let why = "needs a step that in turn needs it".to_owned();
            return self.in_vain(0, why).unwrap_or(Next::Later);
        }
        Next::Later
    }

    fn begin(&mut self, n: usize) -> Next<B> {
        let Some(step) = self.take(n) else {
            return Next::Later;
        };
        self.busy.insert(step.lane.clone());
        Next::Ready(step)
    }

    fn no_time(&mut self, n: usize) -> Option<Next<B>> {
        let step = self.take(n)?;
        self.known
            .insert(identity(&step), Some(StepStatus::Deferred));
        Some(Next::NoTime(step))
    }

    fn in_vain(&mut self, n: usize, why: String) -> Option<Next<B>> {
        let step = self.take(n)?;
        self.known
            .insert(identity(&step), Some(StepStatus::Skipped));
        Some(Next::InVain(step, why))
    }

    fn shut_out(&mut self, n: usize, why: String) -> Option<Next<B>> {
        let step = self.take(n)?;
        self.known
            .insert(identity(&step), Some(StepStatus::Deferred));
        Some(Next::Shut(step, why))
    }

    /// Notes that what a step had half made could not be cleared away.
    pub(super) fn piled_up(&mut self, step: &Step<B>) {
        self.shut.push((step.lane.clone(), identity(step)));
    }

    /// Why this step is not begun, after what others left.
    fn shut_to(&self, step: &Step<B>) -> Option<String> {
        if !step.body.piles_up() {
            return None;
        }
        let here = self.shut.iter().find(|(lane, _)| *lane == step.lane);
        let (before, whose) = match here {
            Some((_, before)) => (before, "here"),
            None if self.shut.len() >= SEVERAL => (&self.shut.last()?.1, "here, too"),
            None => return None,
        };
        Some(format!(
            "not begun, as it might leave something half built {whose}: {} of {} did, and it could not be removed yet",
            before.action, before.object
        ))
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
    use crate::plan::postgres::{Body, Query, Sweep};

    fn step(object: &str, lane: &str) -> Step {
        Step::new("refresh", object, lane)
    }

    fn enough(_: &Step) -> Room {
        Room::Enough
    }

    fn ready(queue: &mut Queue<Body>) -> Option<Step> {
        match queue.next(&enough) {
            Next::Ready(step) => Some(step),
            Next::Later => None,
            Next::InVain(step, why) => panic!("{}: {why}", step.object),
            Next::Shut(step, why) => panic!("{}: {why}", step.object),
            Next::NoTime(step) => panic!("no time for {}", step.object),
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
            let Next::InVain(step, why) = queue.next(&enough) else {
                panic!("{object} should not begin");
            };
            assert_eq!(step.object, object);
            assert_eq!(why, format!("needs refresh of {cause}"));
        }
        assert_eq!(ready(&mut queue).map(|s| s.object).as_deref(), Some("d"));
    }

    #[test]
    fn what_may_leave_one_more_is_not_begun_where_something_was_left() {
        let piling = |object: &str, lane: &str| {
            let mut step: Step = Step::new("reindex", object, lane);
            step.body.on_abort = Some(Sweep {
                query: Query::new("SELECT", []),
                piles_up: true,
            });
            step
        };
        let mut queue = Queue::new(vec![
            piling("a", "1"),
            piling("b", "1"),
            piling("c", "2"),
            step("d", "1"),
            piling("e", "3"),
        ]);
        for (begins, then) in [
            (
                "a",
                "b not begun, as it might leave something half built here: reindex of a did, and it could not be removed yet",
            ),
            ("c", "d begins"),
        ] {
            let step = ready(&mut queue).unwrap_or_else(|| panic!("{begins} is ready"));
            assert_eq!(step.object, begins);
            queue.piled_up(&step);
            queue.ended(&step, StepStatus::Failed);
            assert_eq!(named(queue.next(&enough)), then);
        }
        let e = "e not begun, as it might leave something half built here, too: reindex of c did, and it could not be removed yet";
        assert_eq!(named(queue.next(&enough)), e);
        assert_eq!(named(queue.next(&enough)), "later");
    }

    #[test]
    fn a_circle_of_needs_ends() {
        let mut queue = Queue::new(vec![
            step("a", "1").after("refresh", "b"),
            step("b", "2").after("refresh", "a"),
        ]);
        for _ in 0..2 {
            let Next::InVain(..) = queue.next(&enough) else {
                panic!("neither may begin");
            };
        }
        assert!(matches!(queue.next(&enough), Next::Later));
    }

    /// So many milliseconds are left; `b*` took long before, the others are guessed.
    fn room(left: i64, begun: bool) -> impl Fn(&Step) -> Room {
        move |step| {
            let ms = step.predicted_ms.unwrap_or(0);
            match ms <= left {
                true => Room::Enough,
                false if begun || step.object.starts_with('b') => Room::None { guess_ms: None },
                false => Room::None { guess_ms: Some(ms) },
            }
        }
    }

    fn named(next: Next<Body>) -> String {
        match next {
            Next::Ready(step) => format!("{} begins", step.object),
            Next::InVain(step, why) | Next::Shut(step, why) => format!("{} {why}", step.object),
            Next::NoTime(step) => format!("{} has no time", step.object),
            Next::Later => "later".to_owned(),
        }
    }

    fn long(object: &str, ms: i64) -> Step {
        let mut step = step(object, object);
        step.predicted_ms = Some(ms);
        step
    }

    #[test]
    fn what_fits_goes_before_what_does_not() {
        let steps = vec![
            long("big", 900),
            long("a", 50),
            long("c", 60).after("refresh", "big"),
        ];
        let mut queue = Queue::new(steps);
        assert_eq!(named(queue.next(&room(100, false))), "a begins");
        assert_eq!(named(queue.next(&room(100, true))), "later");
        queue.ended(&long("a", 50), StepStatus::Succeeded);
        assert_eq!(named(queue.next(&room(50, true))), "big has no time");
        assert_eq!(
            named(queue.next(&room(50, true))),
            "c needs refresh of big, which ended as deferred"
        );
        assert_eq!(named(queue.next(&room(50, true))), "later");
    }

    #[test]
    fn where_nothing_is_known_the_shortest_guess_is_tried() {
        let mut queue = Queue::new(vec![long("big", 300), long("a", 900), long("c", 500)]);
        assert_eq!(named(queue.next(&room(100, false))), "c begins");
        queue.ended(&long("c", 500), StepStatus::Deferred);
        assert_eq!(named(queue.next(&room(0, true))), "big has no time");
        assert_eq!(named(queue.next(&room(0, true))), "a has no time");
    }
}
