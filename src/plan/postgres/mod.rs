//! What a step on PostgreSQL is made of: statements, checks, walks and
//! partitions that leave as a whole.

mod archive;
mod body;
mod check;
mod statement;
mod walk;
mod work;

use super::Finding;

pub use archive::{
    ArchivedFile, Export, Fate, Manifest, MonthOf, Received, Retire, Send, Whole, folder,
};
pub use body::{Body, Under};
pub use check::{Answer, Check, Question};
pub use statement::{Condition, LockWaiting, Param, Query, Statement, Sweep};
pub use walk::{KeyColumn, Path, Range, Walk, block_of, key_of};
pub use work::Work;
