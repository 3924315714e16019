use chrono::{DateTime, Utc};

/// Where the scheduler's time comes from.
pub trait Clock: Send + Sync {
    /// The time on the wall: it may step, in both directions.
    fn now(&self) -> DateTime<Utc>;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
