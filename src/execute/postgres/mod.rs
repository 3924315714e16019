//! How steps are carried out on PostgreSQL. The one gate for every statement
//! that changes a target is `gate.rs`.

pub(super) mod check;
pub(super) mod export;
pub(super) mod gate;
pub(super) mod monitor;
mod param;
pub(super) mod restore;
mod send;
pub(super) mod statements;
pub(super) mod walk;
pub(super) mod whole;

use super::{Event, Execution, Observer, step};
