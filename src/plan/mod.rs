//! What a task would do now: pure data, and the trait by which a kind says so.

mod check;
mod archive;
mod finding;
mod kind;
mod kind_info;
#[expect(
    clippy::module_inception,
    reason = "the plan is what this room is about"
)]
mod plan;
mod step;
mod walk;

pub use archive::{
    ArchivedFile, Export, Fate, Manifest, MonthOf, Received, Retire, Send, Whole, folder,
};
pub use check::{Answer, Check, Question};
pub use finding::{Finding, Severity};
pub use kind::{AnyKind, Build, Entry, Kind, Moment, Site};
pub use kind_info::KindInfo;
pub use plan::{Baseline, Measurement, Observation, Plan, Skip};
pub use step::{
    Condition, Estimate, LockWaiting, Memory, Need, Param, Place, Query, Statement, Step, Sweep,
    Work,
};
pub use walk::{KeyColumn, Path, Range, Walk, block_of, key_of};
