//! How much time a run has, and until when it works.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Request;
use crate::values::{Window, wall_clock};

/// Until when a run works that has `looked` for so long at what there is to do: a look that takes
/// most of a budget would else be all that ever happens. A window is never exceeded.
pub(super) fn deadline(request: &Request<'_>, looked: Duration) -> Option<Instant> {
    let budget = request.task.limits.budget.as_ref();
    let budget = budget.filter(|_| request.shared.is_none());
    let budget = budget.map(|budget| for_work(budget.get(), looked));
    let window = request
        .closes_at
        .map(|closes| (closes - wall_clock()).to_std().unwrap_or(Duration::ZERO));
    budget
        .into_iter()
        .chain(window)
        .map(|left| Instant::now() + left)
        .chain(request.shared.map(|shared| shared.deadline()))
        .min()
}

/// What is left for work of a time of which looking took so much: half of it at least.
pub(super) fn for_work(whole: Duration, looked: Duration) -> Duration {
    whole.saturating_sub(looked).max(whole / 2)
}

/// How much time a run has that begins when it should: the budget, or the
/// window from the occurrence on. Nothing is said of a window that somebody
/// has begun to use late.
pub(super) fn whole(request: &Request<'_>, began: DateTime<Utc>) -> Option<Duration> {
    if let Some(shared) = request.shared {
        return Some(shared.whole());
    }
    let task = request.task;
    let budget = task.limits.budget.as_ref().map(|budget| budget.get());
    let window = task.window.as_ref().filter(|_| request.closes_at.is_some());
    let since_occurrence = request
        .closes_at
        .zip(request.scheduled_for)
        .and_then(|(closes, at)| (closes - at.min(began)).to_std().ok());
    let spans = budget.into_iter().chain(window.map(Window::length));
    spans.chain(since_occurrence).min()
}
