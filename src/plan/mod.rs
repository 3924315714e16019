//! What a task would do now: pure data, and the trait by which a kind says so.

pub mod archived;
mod ageing;
mod body;
mod code;
pub mod codes;
#[cfg(test)]
mod doing;
mod drift;
mod expected;
mod finding;
mod kept_by;
mod kind;
mod kind_info;
pub mod mongodb;
#[expect(
    clippy::module_inception,
    reason = "the plan is what this room is about"
)]
mod plan;
pub mod postgres;
pub mod predict;
mod replacing;
mod saved;
mod share;
mod step;
mod unfit;
mod unmet;
mod unnamed;

pub use ageing::{Ageing, Gone};
pub use archived::{ArchivedFile, Flaw, folder};
pub use body::Body;
pub use expected::{Basis, Estimate, Forecast, PastError, Skip, Waited};
pub use finding::{Finding, Severity};
pub use kept_by::{KeptBy, tells_kept_out};
pub use kind::{AnyKind, Build, Entry, Kind, Moment, Scope, Site, Speaks};
pub use kind_info::KindInfo;
pub use plan::{Baseline, Measurement, Observation, Plan};
pub use postgres::{
    Answer, Check, Condition, Export, Fate, Found, Image, InVain, KeyColumn, LockWaiting, Looked,
    MOST_AT_ONCE, MOST_FOUND, Manifest, MonthOf, Most, Param, Path, QUIET, Query, Question, Range,
    Received, Reference, Required, RequiredPart, Restored, Retire, Send, Shrink, Spot, Statement,
    Sweep, There, Vain, Walk, Whole, Without, Work, block_of, block_of_place, folder_key, key_of,
    storing,
};
pub use predict::{Fit, Past, PastEnd, Prediction, Predictor, Time};
pub use replacing::{Replaced, Replacing};
pub use saved::{APPLIED, Made, SAVED_VERSION, Saved, SavedPlan, SavedStep};
pub use share::{GIVES_WAY, Shares, forecast_shared, identity, share_out};
pub use step::{Memory, Need, Place, Step};
pub use unfit::{Misfit, Part, Unfit};
pub(crate) use unmet::tell_schemas;
pub(crate) use unnamed::escape_finding;
