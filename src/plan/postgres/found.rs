//! Rows that were found by one question, by their places.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was found longer ago than this is looked for again.
const FRESH: Duration = Duration::from_secs(300);

/// So many rows are found at once: eight megabytes of places.
pub const MOST_FOUND: usize = 1 << 20;

/// So many at most where all have to be found by one question: sixty-four megabytes.
pub const MOST_AT_ONCE: usize = 8 << 20;

/// The place of a row: its block, and which of the block's items it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot(u64);

impl Spot {
    /// As the server sends a `tid`.
    pub fn of(sent: &[u8]) -> Option<Spot> {
        let sent: [u8; 6] = sent.try_into().ok()?;
        let number = sent
            .iter()
            .fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Some(Spot(number))
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.0 >> 16, self.0 & 0xffff)
    }
}

/// What was found while a plan was made: all rows of one table that would go,
/// where that had to be counted anyway. Not part of what the plan says: it
/// only saves the walk from asking the same once more, which asks the
/// condition again for every row that it deletes.
#[derive(Clone, Default)]
pub struct Found(Option<(Instant, Arc<[Spot]>)>);

impl Found {
    /// Found by a question that was asked at `when`.
    pub fn at(when: Instant, mut spots: Vec<Spot>) -> Found {
        spots.sort_unstable();
        Found(Some((when, spots.into())))
    }

    /// What was found, however long ago.
    pub fn whatever(&self) -> Option<Arc<[Spot]>> {
        self.0.as_ref().map(|(_, spots)| spots.clone())
    }

    /// What was found, if that was not long ago.
    pub fn fresh(&self) -> Option<Arc<[Spot]>> {
        let (when, spots) = self.0.as_ref()?;
        (when.elapsed() < FRESH).then(|| spots.clone())
    }
}

/// Two plans are the same whatever was found while they were made.
impl PartialEq for Found {
    fn eq(&self, _: &Found) -> bool {
        true
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.as_ref().map(|(_, spots)| spots.len());
        write!(f, "Found({rows:?})")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_spot_is_read_and_written() {
        let spot = |block: u32, item: u16| {
            let sent = [&block.to_be_bytes()[..], &item.to_be_bytes()[..]].concat();
            Spot::of(&sent).unwrap()
        };
        assert_eq!(spot(0, 1).to_string(), "(0,1)");
        assert_eq!(spot(u32::MAX, 291).to_string(), "(4294967295,291)");
        assert!(spot(1, 1) > spot(0, 291));
        assert_eq!(Spot::of(&[0; 5]), None);
        let found = Found::at(Instant::now(), vec![spot(2, 1), spot(1, 1)]);
        assert_eq!(*found.fresh().unwrap(), [spot(1, 1), spot(2, 1)]);
        assert_eq!(Found::default().fresh(), None);
    }
}
