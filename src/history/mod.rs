//! What ran, and what was learned from it.

mod record;

pub use record::{LockWait, RunRecord, RunStatus, StepRecord, StepStatus, Trigger};
