//! When an occurrence may begin, by the windows of its schedule and of its tasks.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::types::{Config, Schedule};
use crate::values::{Cron, Window};

/// A task of a schedule, and its own window if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskWindow {
    /// The task.
    pub task: String,
    /// When it may run.
    pub window: Option<Window>,
}

/// The enabled tasks of a schedule with their windows.
pub fn windows_of(config: &Config, schedule: &Schedule) -> Vec<TaskWindow> {
    let tasks = schedule.tasks.iter();
    tasks
        .filter_map(|name| config.tasks.get(name).filter(|task| task.enabled))
        .map(|task| TaskWindow {
            task: task.name.clone(),
            window: task.window.clone(),
        })
        .collect()
}

/// Whether an occurrence may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It may.
    Now,
    /// Then.
    At(DateTime<Utc>),
    /// Not in time; the text says which window was closed.
    Never(String),
}

/// From when to when something is open.
type Spans = Vec<(DateTime<Utc>, DateTime<Utc>)>;

/// When an occurrence may begin that has not begun at `now`.
///
/// It waits until all of its tasks may run that can before the `next` one is due; a later
/// occurrence does the others. Tasks that are never open together do not wait for each other: it
/// begins with the first. Where none can before the next one, it waits longer, and is done by the
/// next one when that comes first. Nothing begins after `latest`.
pub fn opening(
    window: Option<&Window>,
    tasks: &[TaskWindow],
    zone: Tz,
    now: DateTime<Utc>,
    next: Option<DateTime<Utc>>,
    latest: Option<DateTime<Utc>>,
) -> Opening {
    let windows = tasks.iter().filter_map(|one| one.window.as_ref());
    if windows.chain(window).all(|one| one.contains(now, zone)) {
        return Opening::Now;
    }
    let when = When::of(window, tasks, zone, now);
    let in_time = |at: &DateTime<Utc>| *at == now || latest.is_none_or(|latest| *at <= latest);
    let moments: Vec<DateTime<Utc>> = when.moments(now).into_iter().filter(in_time).collect();
    let before_next = |at: &&DateTime<Utc>| next.is_none_or(|next| **at < next);
    let soon: Vec<DateTime<Utc>> = moments.iter().filter(before_next).copied().collect();
    let can: Vec<&Spans> = when
        .tasks
        .iter()
        .filter(|task| soon.iter().any(|at| when.open(task, *at)))
        .collect();
    let together = |at: &&DateTime<Utc>| can.iter().all(|task| when.open(task, **at));
    let any = |at: &&DateTime<Utc>| when.tasks.iter().any(|task| when.open(task, **at));
    let begin = match can.is_empty() {
        true => moments.iter().find(any),
        false => soon.iter().find(together).or(soon.iter().find(any)),
    };
    match begin {
        Some(at) if *at == now => Opening::Now,
        Some(at) => Opening::At(*at),
        None => Opening::Never(match window.filter(|one| !one.contains(now, zone)) {
            Some(window) => format!("its window `{window}` was closed"),
            None => closed_tasks(tasks, zone, now),
        }),
    }
}

/// Whether a task could have run between the time of an occurrence and the next one, by its window
/// and that of the schedule. What could not is left to a later occurrence.
pub fn had_a_chance(
    window: Option<&Window>,
    task: &TaskWindow,
    zone: Tz,
    (at, next): (DateTime<Utc>, Option<DateTime<Utc>>),
) -> bool {
    let when = When::of(window, std::slice::from_ref(task), zone, at);
    let before_next = |at: &DateTime<Utc>| next.is_none_or(|next| *at < next);
    let mut moments = when.moments(at).into_iter().filter(before_next);
    moments.any(|at| when.tasks.iter().any(|task| when.open(task, at)))
}

fn closed_tasks(tasks: &[TaskWindow], zone: Tz, now: DateTime<Utc>) -> String {
    let closed = tasks.iter().filter_map(|one| {
        let window = one.window.as_ref().filter(|w| !w.contains(now, zone))?;
        Some(format!("the window `{window}` of `{}`", one.task))
    });
    let closed: Vec<String> = closed.collect();
    let verb = if closed.len() == 1 { "was" } else { "were" };
    format!("{} {verb} closed", closed.join(" and "))
}

/// Everything's windows around an instant.
struct When {
    /// `None`: always.
    schedule: Option<Spans>,
    /// Of each task; an empty one is never open.
    tasks: Vec<Spans>,
}

/// What no window bounds is open for ever.
fn always() -> Spans {
    vec![(DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC)]
}

fn open(spans: &Spans, at: DateTime<Utc>) -> bool {
    spans.iter().any(|(from, to)| *from <= at && at < *to)
}

impl When {
    fn of(window: Option<&Window>, tasks: &[TaskWindow], zone: Tz, now: DateTime<Utc>) -> When {
        let spans = |window: &Window| window.openings(now, zone);
        let mut each: Vec<Spans> = tasks
            .iter()
            .map(|one| one.window.as_ref().map_or_else(always, spans))
            .collect();
        if each.is_empty() {
            // What has no tasks, such as a report, goes by the window of the schedule.
            each.push(always());
        }
        When {
            schedule: window.map(spans),
            tasks: each,
        }
    }

    /// Whether a task may run.
    fn open(&self, task: &Spans, at: DateTime<Utc>) -> bool {
        self.schedule.as_ref().is_none_or(|spans| open(spans, at)) && open(task, at)
    }

    /// Now, and whenever something opens later.
    fn moments(&self, now: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
        let all = self.schedule.iter().chain(&self.tasks);
        let opens = all.flatten().map(|(from, _)| *from);
        opens.filter(|at| *at > now).chain([now]).collect()
    }
}

/// How often, and in which steps, the weeks ahead are looked through: past every change of the
/// clocks.
const LOOKS: i32 = 14;
const STEP: TimeDelta = TimeDelta::days(28);
/// Occurrences within one opening that are looked at: the first ones tell.
const WITHIN: usize = 4;

/// Tasks that no occurrence of a schedule finds open: their windows and that of the schedule are
/// never open together, or an occurrence begins with another task, and theirs is closed then.
pub(super) fn never_open<'t>(
    (cron, window): (&Cron, Option<&Window>),
    tasks: &'t [TaskWindow],
    zone: Tz,
    now: DateTime<Utc>,
) -> Vec<&'t TaskWindow> {
    let mut left: Vec<&TaskWindow> = tasks.iter().filter(|one| one.window.is_some()).collect();
    let mut look = now;
    for _ in 0..LOOKS {
        if left.is_empty() {
            break;
        }
        let when = When::of(window, tasks, zone, look);
        left.retain(|one| {
            let both: Vec<&Window> = window.into_iter().chain(&one.window).collect();
            let open = |at: DateTime<Utc>| both.iter().all(|one| one.contains(at, zone));
            let moments = when.moments(look).into_iter();
            !moments.filter(|at| open(*at)).any(|opens| {
                let begins = beginnings((cron, window), tasks, zone, opens);
                begins.into_iter().any(open)
            })
        });
        look = look.checked_add_signed(STEP).unwrap_or(look);
    }
    left
}

/// When the occurrences begin that are due when something opens, or soon after.
fn beginnings(
    (cron, window): (&Cron, Option<&Window>),
    tasks: &[TaskWindow],
    zone: Tz,
    opens: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let mut begins = Vec::new();
    let mut fires = cron
        .latest_at_or_before(opens, zone)
        .or_else(|| cron.next_after(opens, zone));
    for _ in 0..WITHIN {
        let Some(at) = fires else { break };
        fires = cron.next_after(at, zone);
        let begin = match opening(window, tasks, zone, at, fires, None) {
            Opening::Now => at,
            Opening::At(later) => later,
            Opening::Never(_) => continue,
        };
        // Otherwise the next one has taken its place by then.
        if fires.is_none_or(|next| begin < next) {
            begins.push(begin);
        }
    }
    begins
}
