//! How much is told while no history counts it.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// When this process told something by itself, in the last hour.
#[derive(Clone, Debug, Default)]
pub(super) struct Alone(Arc<Mutex<Vec<DateTime<Utc>>>>);

impl Alone {
    /// Whether one more message may go out, which then counts.
    pub(super) fn may_tell(&self, now: DateTime<Utc>, most_per_hour: u32) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|at| now - *at < TimeDelta::hours(1));
        let may = u32::try_from(told.len()).is_ok_and(|lately| lately < most_per_hour);
        if may {
            told.push(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn so_many_go_out_in_an_hour_and_no_more() {
        let at = |minute: i64| {
            Utc.timestamp_opt(minute * 60, 0)
                .single()
                .unwrap_or_default()
        };
        let alone = Alone::default();
        let told = [0, 1, 2, 59, 61, 62].map(|minute| alone.clone().may_tell(at(minute), 2));
        assert_eq!(told, [true, true, false, false, true, true]);
    }
}
