//! Whether there is room on the disk for a rebuild beside what is there.

use std::sync::atomic::Ordering;

use super::{Job, end, load};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::KeptBy;
use crate::values::{Bytes, with_causes};

/// What a rebuild may need, as a multiple of what comes of it: the new copy, what is sorted for it,
/// and the log of it.
const TIMES: u64 = 3;

/// Whether a rebuild may begin; otherwise the record says why not. Where nobody knows how much is free,
/// that is said once in a run.
pub(super) async fn is_there(job: Job<'_>, record: &mut StepRecord) -> Result<bool, EngineError> {
    if !job.step.body.yields_to_wraparound_vacuum {
        return Ok(true);
    }
    // What is bloated becomes smaller; where it is not known how much, it is taken as it is.
    let before = record.bytes_before;
    let after = job.step.estimate.bytes_after.filter(|after| *after > 0);
    let size = after.into_iter().chain(before).min();
    let Some(size) = size.and_then(|bytes| u64::try_from(bytes).ok()) else {
        return Ok(true);
    };
    let query = job.execution.throttle.free_disk_query();
    let free = match load::free_disk(job.session, query).await {
        Ok(free) => free,
        Err(error) if error.is_unreachable() => return Err(error),
        Err(error) => Err(with_causes(&error)),
    };
    let free = match free {
        Ok(free) => free,
        Err(why) => {
            if !job.door.room_unknown.swap(true, Ordering::Relaxed) {
                tracing::info!(
                    "how much is free on the disk of the server is not known, and rebuilds begin without looking: {why}"
                );
            }
            return Ok(true);
        }
    };
    let needed = size.saturating_mul(TIMES);
    if free.bytes >= needed {
        return Ok(true);
    }
    record.kept_by = Some(KeptBy::Server);
    let why = format!(
        "not begun, since it may need {} on the disk of the server (twice its size once rebuilt, and its log), and {} are free ({})",
        Bytes(needed),
        Bytes(free.bytes),
        free.place
    );
    end(record, StepStatus::Deferred, why);
    Ok(false)
}
