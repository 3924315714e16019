//! How steps are carried out on MongoDB. Every command that changes a target
//! passes `gate.rs`.

mod additions;
mod aggregate;
mod along;
mod archive;
mod batch;
mod compact;
mod copies;
mod dial;
mod door;
mod export;
mod files;
mod gate;
mod known;
mod look;
mod mover;
pub(crate) mod restore;
mod settle;
mod source;
mod strangers;
mod under_way;
mod vanished;
mod versions;
mod walk;
mod whereabouts;

pub(crate) use dial::dial;
pub(crate) use door::{Door, is_strangers};

use super::step::end;
use super::{Event, Execution};
use door::Job;
