//! The ids of runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::{NoContext, Timestamp, Uuid};

use crate::values::wall_clock;

/// Milliseconds of the newest id.
static NEWEST_MS: AtomicU64 = AtomicU64::new(0);

/// A new id that no other of this process shares its first thirteen characters
/// with, which is how ids are printed: targets of a group begin in the same
/// millisecond.
pub(super) fn next() -> Uuid {
    let now_ms = u64::try_from(wall_clock().timestamp_millis()).unwrap_or(0);
    let next = |newest: u64| now_ms.max(newest.saturating_add(1));
    let newest = NEWEST_MS
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |newest| {
            Some(next(newest))
        })
        .unwrap_or(now_ms);
    let at = Duration::from_millis(next(newest));
    Uuid::new_v7(Timestamp::from_unix(
        NoContext,
        at.as_secs(),
        at.subsec_nanos(),
    ))
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn ids_of_one_moment_differ_where_they_are_printed() {
        let ids: Vec<String> = (0..500)
            .map(|_| next().to_string()[..13].to_owned())
            .collect();
        let mut sorted = ids.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(ids, sorted);
    }
}
