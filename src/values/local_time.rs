//! From what clocks show to an instant, also where they skip or repeat an hour: windows and
//! schedules have to agree on it.

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// The first instant at which the clocks of `zone` show `local` or later.
///
/// A time that is repeated is taken the first time; one that is skipped is the end of the gap.
pub fn first_instant(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
        LocalResult::None => end_of_gap(local, zone),
    }
}

/// The instant at which the clocks jump over `local`, which they never show.
pub(super) fn end_of_gap(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    // Gaps begin and end on full minutes; the longest there was left out a whole day (Samoa).
    (1..=24 * 60 + 1).find_map(|minutes| {
        let whole = local.checked_add_signed(TimeDelta::minutes(minutes))?;
        let at = zone.from_local_datetime(&whole).earliest()?.to_utc();
        // `whole` may lie behind the end of the gap by less than a minute's seconds only.
        at.checked_sub_signed(TimeDelta::seconds(i64::from(chrono::Timelike::second(
            &whole,
        ))))
    })
}
