//! Missed occurrences of one schedule, told together.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::shown;

/// Occurrences that have one record together: that of the last.
pub(super) struct Folded {
    first: DateTime<Utc>,
    pub(super) last: DateTime<Utc>,
    pub(super) count: usize,
    pub(super) paused: bool,
}

impl Folded {
    /// Adds one that is later than all before it. What was paused stays apart from what was not.
    pub(super) fn add(all: &mut Vec<Folded>, at: DateTime<Utc>, paused: bool) {
        match all.last_mut().filter(|last| last.paused == paused) {
            Some(last) => {
                last.last = at;
                last.count += 1;
            }
            None => all.push(Folded {
                first: at,
                last: at,
                count: 1,
                paused,
            }),
        }
    }

    pub(super) fn alone(at: DateTime<Utc>) -> Folded {
        Folded {
            first: at,
            last: at,
            count: 1,
            paused: false,
        }
    }

    /// What the record says besides why.
    pub(super) fn others(&self, zone: Tz) -> String {
        match self.count {
            1 => String::new(),
            many => format!(
                " (the same goes for the {} before it, from {} on)",
                many - 1,
                shown(self.first, zone)
            ),
        }
    }
}
