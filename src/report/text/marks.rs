//! How runs and steps have ended, at a glance.

use super::Ink;
use crate::history::{RunStatus, StepStatus};

pub(super) fn run_ink(status: RunStatus) -> Ink {
    match status {
        RunStatus::Succeeded => Ink::Good,
        RunStatus::Failed | RunStatus::Partial | RunStatus::Interrupted => Ink::Bad,
        RunStatus::Incomplete | RunStatus::Cancelled | RunStatus::Skipped => Ink::Warning,
        RunStatus::Running => Ink::Plain,
    }
}

pub(super) fn run_mark(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Succeeded => "✓",
        RunStatus::Failed | RunStatus::Partial | RunStatus::Interrupted => "✗",
        RunStatus::Incomplete => "»",
        RunStatus::Cancelled => "■",
        RunStatus::Skipped => "–",
        RunStatus::Running => "•",
    }
}

pub(super) fn step_ink(status: StepStatus) -> Ink {
    match status {
        StepStatus::Succeeded => Ink::Good,
        StepStatus::Failed => Ink::Bad,
        StepStatus::Deferred | StepStatus::Cancelled => Ink::Warning,
        StepStatus::Skipped => Ink::Faint,
        StepStatus::Running => Ink::Plain,
    }
}

pub(super) fn step_mark(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Succeeded => "✓",
        StepStatus::Failed => "✗",
        StepStatus::Deferred => "»",
        StepStatus::Cancelled => "■",
        StepStatus::Skipped => "–",
        StepStatus::Running => "•",
    }
}
