//! What an error means for the attempt that met it.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::limits::{CLOCKS_DIFFER, first_limit};
use super::{Execution, Halt};
use crate::engines::EngineError;
use crate::engines::postgres::Fault;
use crate::values::with_causes;

/// Why it was not done, by the server's code and by what else is going on.
pub(in crate::execute::postgres) fn judge(
    error: EngineError,
    execution: &Execution,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Halt {
    let (ends, limit) = first_limit(execution, step_ends);
    if error.sqlstate() == Some("40001") {
        // serialization_failure; also on a standby, where what is read was
        // removed on the primary
        return Halt::Conflict(error);
    }
    match Fault::of(&error) {
        // Whoever raises it for a row may do so for ever.
        Fault::Locked if is_raised(&error) => Halt::Conflict(error),
        Fault::Locked => Halt::Locked {
            asked_to_skip: false,
            message: with_causes(&error),
        },
        Fault::Missing => Halt::Missing(error),
        Fault::NoSlot => Halt::NoSlot,
        // By whom?
        Fault::Cancelled if execution.stop.is_now() => Halt::Stopped,
        Fault::Cancelled if give_way.is_cancelled() => Halt::GaveWay,
        Fault::Cancelled if Instant::now() + CLOCKS_DIFFER >= ends => Halt::OutOfTime(limit),
        Fault::Cancelled | Fault::Forbidden | Fault::Damaged(_) | Fault::Lost | Fault::Broken => {
            Halt::Failed(error)
        }
    }
}

/// Whether the code of a function says so, and not the server.
fn is_raised(error: &EngineError) -> bool {
    matches!(error, EngineError::Statement { origin, .. } if origin.is_raised())
}
