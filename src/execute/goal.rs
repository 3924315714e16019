//! How much is done at once, so that it takes about as long as it should.

use std::time::Duration;

/// The size of the next batch, of which one of `size` took so long. Aims at four fifths of the goal,
/// because batches differ; at most twice the size of the last, because that one may have been an
/// easy one.
pub(super) fn towards(goal: Duration, size: i64, took: Duration) -> i64 {
    let factor = (goal.as_secs_f64() * 0.8 / took.as_secs_f64().max(0.000_1)).clamp(0.1, 2.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "sizes are far below 2^52"
    )]
    let next = (size as f64 * factor) as i64;
    next
}
