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
    /// A size that was refused, until as much has passed in smaller pieces.
    refused: Option<Refused>,
    /// Whether a batch has come to its end.
    pub(super) got_on: bool,
    pub(super) began: Instant,
}

/// A batch that was refused: because of its rows, or because of their number?
#[derive(Clone, Copy, Debug)]
struct Refused {
    size: i64,
    /// How much of it has passed since.
    passed: i64,
    /// How many rows had stayed before.
    stayed: i64,
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
        let mut now = size;
        if walk.careful {
            (now, least) = (1, 1);
        }
        BatchSize {
            now,
            least,
            most,
            goal: Duration::from_millis(walk.goal_ms.max(1)),
            calm: 0,
            refused: None,
            got_on: false,
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
            refused: None,
            got_on: false,
            began: Instant::now(),
        }
    }

    fn halve(&mut self) {
        self.now = (self.now / 2).max(self.bounds().0);
    }

    /// The least and the most that a batch may be for now.
    fn bounds(&self) -> (i64, i64) {
        let (least, most) = match self.calm {
            0 => (self.least, self.most),
            _ => (1, self.now),
        };
        match self.refused {
            None => (least, most),
            Some(refused) => (1, most.min(refused.size / 2).max(1)),
        }
    }

    /// A batch was refused; until then so many rows had stayed.
    pub(super) fn refused(&mut self, stayed: i64) {
        self.refused = Some(Refused {
            size: self.now,
            passed: 0,
            stayed,
        });
        self.shrink();
    }

    /// How many rows may go at once is known, whatever the size.
    pub(super) fn learned(&mut self) {
        self.refused = None;
    }

    /// A batch of this size has passed, and by now so many rows have stayed. Where all of what was
    /// refused passes in smaller batches, none is that large again.
    pub(super) fn passed(&mut self, stayed: i64) {
        let Some(refused) = &mut self.refused else {
            return;
        };
        refused.passed += self.now;
        if refused.passed < refused.size {
            return;
        }
        if refused.stayed == stayed {
            self.most = (refused.size / 2).max(1);
            self.least = self.least.min(self.most);
        }
        self.refused = None;
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
        self.got_on = true;
        if attempts > 1 {
            // Most of the time went into waiting. Fewer rows meet fewer others.
            self.halve();
            return;
        }
        let size = towards(self.goal, self.now, took);
        let (least, most) = self.bounds();
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
            refused: None,
            got_on: false,
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

    #[test]
    fn a_size_is_learned_once() {
        let mut batch = BatchSize::of_blocks(250);
        let fast = |batch: &mut BatchSize, stayed| {
            batch.passed(stayed);
            batch.adapt(Duration::ZERO, 1);
        };
        // More than eight are refused, whichever they are.
        for _ in 0..3 {
            batch.refused(0);
        }
        assert_eq!(batch.now, 8);
        for _ in 0..10 {
            fast(&mut batch, 0);
            assert_eq!(batch.now, 8);
        }
        // One row of a batch is refused: behind it, they grow again.
        let mut batch = BatchSize::of_blocks(250);
        batch.refused(0);
        fast(&mut batch, 1);
        assert_eq!(batch.now, 32);
        fast(&mut batch, 1);
        assert_eq!(batch.now, 64);
    }
}
