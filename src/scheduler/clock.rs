//! Where the scheduler's time comes from: apart, so that tests may have another.

use crate::values::wall_clock;
use chrono::{DateTime, Utc};

/// Where the scheduler's time comes from.
pub trait Clock: Send + Sync {
    /// The time on the wall: it may step, in both directions.
    fn now(&self) -> DateTime<Utc>;

    /// Whether it is meant to show what other clocks show. One that is not, such as one that runs
    /// faster, is compared with none.
    fn is_on_the_wall(&self) -> bool {
        true
    }
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        wall_clock()
    }
}
