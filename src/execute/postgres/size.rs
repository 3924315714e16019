//! How large the next batch of a walk is: the time that the last one took decides.

use std::time::{Duration, Instant};

use crate::execute::goal::towards;
use crate::plan::{Fate, Path, Walk};

/// Blocks of the first batch: half a megabyte, which no server takes long for.
const FIRST_BLOCKS: i64 = 64;
/// Rows of the first batch along a key.
const FIRST_ROWS: i64 = 500;
/// However quick a server is, a batch holds its row locks until it commits.
const MOST_BLOCKS: i64 = 131_072;
const MOST_ROWS: i64 = 50_000;
/// So many batches do not grow after others changed rows of one.
const CALM: u32 = 8;

/// How large a batch is.
pub(super) struct BatchSize {
    pub(super) now: i64,
    /// However slow a store is, files of a few rows each would be of no use.
    least: i64,
    most: i64,
    goal: Duration,
    /// For so many batches the size does not grow.
    calm: u32,
    pub(super) began: Instant,
}

impl BatchSize {
    pub(super) fn of(walk: &Walk) -> BatchSize {
        let (size, mut most) = match walk.path {
            _ if walk.sought => (FIRST_ROWS, MOST_ROWS),
            Path::Blocks { .. } => (FIRST_BLOCKS, MOST_BLOCKS),
            Path::Key(_) => (FIRST_ROWS, MOST_ROWS),
        };
        let mut least = 1;
        if matches!(walk.fate, Fate::Export(_) | Fate::Send(_)) {
            // One file each: their size in bytes is the limit.
            most *= 20;
            least = size;
        }
        BatchSize {
            now: size,
            least,
            most,
            goal: Duration::from_millis(walk.goal_ms.max(1)),
            calm: 0,
            began: Instant::now(),
        }
    }

    /// The pace of a walk along blocks, each batch of which takes so long.
    pub(super) fn of_blocks(goal_ms: u64) -> BatchSize {
        BatchSize {
            now: FIRST_BLOCKS,
            least: 1,
            most: MOST_BLOCKS,
            goal: Duration::from_millis(goal_ms.max(1)),
            calm: 0,
            began: Instant::now(),
        }
    }

    fn halve(&mut self) {
        self.now = (self.now / 2).max(self.least);
    }

    /// Fewer rows meet fewer others; for a while, no more are tried.
    pub(super) fn conflict(&mut self) {
        self.shrink();
        self.calm = CALM;
    }

    /// Half as much, whatever is worth while.
    pub(super) fn shrink(&mut self) {
        self.now = (self.now / 2).max(1);
    }

    /// A size that did not fit is not tried again.
    pub(super) fn too_large(&mut self) {
        self.now = (self.now / 2).max(1);
        self.least = self.least.min(self.now);
        self.most = self.now;
    }

    /// The size of the next batch, after one that took so long in so many attempts.
    pub(super) fn adapt(&mut self, took: Duration, attempts: u32) {
        if attempts > 1 {
            // Most of the time went into waiting. Fewer rows meet fewer others.
            self.halve();
            return;
        }
        let size = towards(self.goal, self.now, took);
        let least = if self.calm > 0 { 1 } else { self.least };
        let most = if self.calm > 0 { self.now } else { self.most };
        self.calm = self.calm.saturating_sub(1);
        self.now = size.clamp(least, most.max(least));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_time() {
        let mut batch = BatchSize {
            now: 100,
            least: 1,
            most: 1_000,
            goal: Duration::from_millis(250),
            calm: 0,
            began: Instant::now(),
        };
        batch.adapt(Duration::from_millis(1), 1);
        assert_eq!(batch.now, 200);
        batch.adapt(Duration::from_millis(200), 1);
        assert_eq!(batch.now, 200);
        batch.adapt(Duration::from_millis(400), 1);
        assert_eq!(batch.now, 100);
        batch.adapt(Duration::from_secs(60), 1);
        assert_eq!(batch.now, 10);
        batch.adapt(Duration::from_secs(60), 2);
        assert_eq!(batch.now, 5);
        for _ in 0..20 {
            batch.adapt(Duration::ZERO, 1);
        }
        assert_eq!(batch.now, 1_000);
    }
}
