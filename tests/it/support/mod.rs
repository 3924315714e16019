//! What the tests share: real servers, a database of one's own, a folder of
//! configuration to run `maint` in.
#![allow(
    dead_code,
    reason = "a helper may wait for the first test that needs it"
)]

#[macro_use]
pub(crate) mod versions;
pub(crate) mod memory;
pub(crate) mod mongo;
pub(crate) mod patience;
pub(crate) mod s3;
mod selftest;
pub(crate) mod pooler;
pub(crate) mod servers;
pub(crate) mod standby;
pub(crate) mod wire;
pub(crate) mod workspace;
