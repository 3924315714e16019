//! How a run ends for whoever called it.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Target, Task};
use crate::execute::{Stop, StopReason};
use crate::history::RunStatus;

/// How long the process may take to end after a signal: the longest grace of any task.
pub(in crate::cli) fn longest_grace(work: &[(Arc<Task>, Target)]) -> Duration {
    work.iter()
        .map(|(task, _)| task.limits.grace.get())
        .max()
        .unwrap_or_default()
}

/// Already running, or outside its window.
pub(in crate::cli) const NOT_STARTED: u8 = 4;

pub(in crate::cli) fn exit_code(status: &RunStatus, unreachable: bool, stop: &Stop) -> u8 {
    match (status, stop.reason()) {
        (RunStatus::Cancelled, _) => signal_code(stop),
        (RunStatus::Failed, _) if unreachable => 3,
        (RunStatus::Failed | RunStatus::Partial | RunStatus::Interrupted, _) => 1,
        (RunStatus::Skipped, _) => NOT_STARTED,
        _ => 0,
    }
}

/// 143 for SIGTERM, 130 for Ctrl-C.
pub(in crate::cli) fn signal_code(stop: &Stop) -> u8 {
    match stop.reason() {
        Some(StopReason::Signal(15)) => 143,
        _ => 130,
    }
}

/// The exit code of several runs: a signal before a failure before a
/// configuration that is wrong before an unreachable target before one not started.
pub(in crate::cli) fn worse(a: u8, b: u8) -> u8 {
    const ORDER: [u8; 7] = [143, 130, 1, 2, 3, NOT_STARTED, 0];
    ORDER
        .into_iter()
        .find(|code| *code == a || *code == b)
        .unwrap_or(a.max(b))
}
