//! What a step on PostgreSQL is made of: statements, checks, walks and
//! partitions that leave as a whole.

mod archive;
mod body;
mod building;
mod check;
pub(super) mod codes;
mod examine;
mod found;
mod going;
mod locks;
mod outside;
mod retire;
mod shrink;
mod speaks;
mod statement;
mod walk;
mod work;

use super::Finding;

pub use archive::{
    Export, Fate, Looked, Lost, Manifest, MonthOf, Received, Restored, Send, Settle, Whole,
    folder_key, only_for_its_owner,
};
pub use body::{Body, Under};
pub use check::{Answer, Check, Question};
pub use found::{Found, MOST_AT_ONCE, MOST_FOUND, Spot};
pub use going::{Reference, Without};
pub use locks::locks;
pub use outside::out_of_its_table;
pub use retire::Retire;
pub use shrink::{QUIET, Shrink, block_of_place};
pub use statement::{
    Condition, LockWaiting, Param, Query, Required, RequiredPart, Statement, Sweep, There,
};
pub use walk::{
    Image, InVain, KeyColumn, Most, Path, Range, Vain, Walk, block_of, key_of, storing,
};
pub use work::Work;
