//! By when a server has to have answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a run waits for its server to say, and until when that is nothing
/// strange. Whoever waits notes it here, and somebody else looks whether the
/// server is still there once the time is over: one that acknowledges what it
/// is sent and says nothing ends no wait by itself.
#[derive(Clone, Debug, Default)]
pub struct Awaited(Arc<Mutex<Waits>>);

#[derive(Debug, Default)]
struct Waits {
    last: u64,
    by: BTreeMap<u64, (Instant, &'static str)>,
}

/// One wait; over when it is dropped.
#[derive(Debug)]
pub struct Wait {
    all: Awaited,
    number: u64,
}

impl Awaited {
    /// How long questions without a limit of their own may take before
    /// somebody looks whether the server is there at all.
    pub const ASIDE: Duration = Duration::from_secs(60);

    /// Something should have an answer by then; `what` completes "the answer
    /// to … is overdue".
    pub fn by(&self, at: Instant, what: &'static str) -> Wait {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.last += 1;
        let number = waits.last;
        waits.by.insert(number, (at, what));
        Wait {
            all: self.clone(),
            number,
        }
    }

    /// The same for a question without a limit of its own.
    pub fn aside(&self, what: &'static str) -> Wait {
        self.by(Instant::now() + Awaited::ASIDE, what)
    }

    /// What should have had an answer before this.
    pub fn overdue(&self, at: Instant) -> Option<&'static str> {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = waits.by.values();
        all.find(|(by, _)| *by <= at).map(|(_, what)| *what)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waits = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_still_waits_is_overdue() {
        let awaited = Awaited::default();
        let now = Instant::now();
        let second = |n| now + Duration::from_secs(n);
        let early = awaited.by(second(1), "an early one");
        let late = awaited.by(second(3), "a late one");
        assert_eq!(awaited.overdue(now), None);
        assert_eq!(awaited.overdue(second(2)), Some("an early one"));
        drop(early);
        assert_eq!(awaited.overdue(second(2)), None);
        assert_eq!(awaited.overdue(second(3)), Some("a late one"));
        drop(late);
        assert_eq!(awaited.overdue(second(9)), None);
    }
}
