//! Is this index bloated, and how do we know?

use super::estimate::fresh_bytes;
use super::facts::IndexFacts;
use crate::kinds::postgres::common::rows;
use crate::plan::Baseline;
use crate::values::Bytes;

/// Changed rows beyond which statistics are too old to rebuild anything on
/// their word.
const STALE_SHARE: f64 = 0.05;
const STALE_ROWS: f64 = 1_000.0;

/// A build over no rows leaves less, whatever the access method (a hash index has some buckets, a GIN index a root).
const EMPTY_BYTES: f64 = 65_536.0;

pub(super) enum Verdict {
    /// Rebuild it.
    Bloated {
        /// Expected size afterwards.
        ideal_bytes: i64,
        /// With the numbers.
        reason: String,
    },
    /// Leave it.
    Fine,
    /// It may be bloated, but an ANALYZE has to tell.
    Undecided(String),
    /// Nothing is known to compare it with.
    Unknown(String),
}

impl IndexFacts {
    /// Whether key columns have no statistics, and an ANALYZE would gather some.
    pub(super) fn lacks_statistics(&self) -> bool {
        self.columns.iter().all(|c| c.statistics.is_none())
            && self.columns.iter().any(|c| !c.never_gathered)
    }

    /// Whether its size cannot be judged because the role sees no statistics.
    pub(super) fn is_blind(&self) -> bool {
        self.hides_statistics() && !self.toast && self.access_method == "btree"
    }

    /// Whether the role may not see the statistics of the table's columns.
    pub(super) fn hides_statistics(&self) -> bool {
        self.unread || self.filtered
    }

    /// Whether that leaves no formula for its size either; keys of a fixed
    /// length need no statistics.
    pub(super) fn cannot_be_judged(&self) -> bool {
        self.is_blind() && fresh_bytes(self, self.tuples.max(0.0)).is_none()
    }

    /// Share of the index that a rebuild would save, from 0 to 1, without
    /// reading its pages. `None` where statistics are missing or out of date,
    /// or the size of such an index cannot be foreseen.
    pub(in super::super) fn estimated_bloat(&self, baseline: Option<&Baseline>) -> Option<f64> {
        if !self.valid || self.stale() {
            return None;
        }
        let (ideal, _) = expected(self, baseline, self.tuples)?;
        Some(share(self, ideal).clamp(0.0, 1.0))
    }

    fn stale(&self) -> bool {
        let changed = self.changed as f64;
        self.tuples < 0.0
            || !self.counted
            || changed > (self.table_rows.max(0.0) * STALE_SHARE).max(STALE_ROWS)
    }
}

/// Judges one index. `min_share` is the bloat from which on it is rebuilt;
/// in round 1 an index whose statistics are too old is left undecided.
pub(super) fn judge(
    index: &IndexFacts,
    baseline: Option<&Baseline>,
    min_share: f64,
    round: u32,
) -> Verdict {
    if min_share == 0.0 {
        return whatever_the_bloat(index, baseline);
    }
    if let Some(ideal) = index.measured_ideal_bytes {
        // Of no entries there is no density: a build leaves one page.
        let ideal = if ideal.is_finite() { ideal } else { 8_192.0 };
        // What a build itself leaves free is no bloat.
        return match left_by_a_build(index, baseline, ideal) {
            Some(left) => compare(index, left, min_share, "by its size after the last rebuild"),
            None => compare(index, ideal, min_share, "measured page by page"),
        };
    }
    let undecided = round == 1 && !index.toast && index.stale();
    if undecided {
        // Even if every changed row were gone, would there be enough to win?
        let fewest = (index.tuples.max(0.0) - index.changed as f64).max(0.0);
        return match expected(index, baseline, fewest) {
            Some((ideal, _)) if share(index, ideal) < min_share => Verdict::Fine,
            None if index.tuples >= 0.0 && !index.lacks_statistics() => unknown(index),
            _ => Verdict::Undecided("its statistics are out of date".to_owned()),
        };
    }
    if index.tuples < 0.0 {
        return Verdict::Unknown(
            "its entries were never counted: it needs a VACUUM or ANALYZE first".to_owned(),
        );
    }
    if !index.counted {
        return Verdict::Unknown(
            "the server counts changes anew (a crash, another server, or a reset of statistics), and its table was neither analyzed nor vacuumed since"
                .to_owned(),
        );
    }
    match expected(index, baseline, index.tuples) {
        Some((ideal, basis)) => compare(index, ideal, min_share, basis),
        // Of no rows there are no statistics, however often they are gathered.
        None if index.tuples == 0.0 && index.table_rows == 0.0 => {
            let ideal = EMPTY_BYTES.min(index.bytes as f64);
            compare(index, ideal, min_share, "its table has no rows")
        }
        None if round == 1 && !index.toast && index.lacks_statistics() => {
            Verdict::Undecided("its columns have no statistics".to_owned())
        }
        None => unknown(index),
    }
}

fn unknown(index: &IndexFacts) -> Verdict {
    Verdict::Unknown(match index.access_method.as_str() {
        "btree" if index.columns.iter().any(|c| c.never_gathered) => {
            "nobody gathers statistics for its columns (SET STATISTICS 0, or no rows)".to_owned()
        }
        "btree" => "the role sees no statistics for its columns".to_owned(),
        method => format!(
            "there is no formula for the size of a {method} index, and maint has not seen it smaller yet; \
             `--set min_bloat=0%` rebuilds it once and remembers"
        ),
    })
}

/// The expected size of a fresh build, and how it is known. What a rebuild
/// gave is better than any formula; what was merely seen is better than a
/// formula that expects more.
fn expected(
    index: &IndexFacts,
    baseline: Option<&Baseline>,
    tuples: f64,
) -> Option<(f64, &'static str)> {
    // An index that was nearly empty says nothing about entries.
    let learned = baseline
        .filter(|b| b.tuples >= 1_000.0)
        .map(|b| (b.bytes as f64 / b.tuples * tuples, b.rebuilt));
    let formula = fresh_bytes(index, tuples);
    match (learned, formula) {
        (Some((bytes, true)), _) => Some((bytes, "by its size after the last rebuild")),
        (Some((seen, false)), Some(formula)) if formula <= seen => {
            Some((formula, "estimated from statistics"))
        }
        // Nothing tells it from a healthy one: what was seen may have been as bloated.
        (Some((_, false)), None) if index.is_blind() => None,
        (Some((seen, false)), _) => Some((seen, "by the best size seen")),
        (None, Some(formula)) => Some((formula, "estimated from statistics")),
        (None, None) => None,
    }
}

/// What a rebuild would leave, as far as the last one tells, where that is more than is measured.
///
/// Entries are counted by VACUUM, which is also what frees the room that is measured: the two go
/// together, however many rows have changed since.
fn left_by_a_build(index: &IndexFacts, baseline: Option<&Baseline>, ideal: f64) -> Option<f64> {
    let rebuilt = baseline.filter(|b| b.rebuilt)?;
    let left = if rebuilt.tuples >= 1_000.0 {
        rebuilt.bytes as f64 / rebuilt.tuples * index.tuples.max(0.0)
    } else if index.bytes <= rebuilt.bytes {
        // It held next to nothing then, and takes no more now.
        rebuilt.bytes as f64
    } else {
        return None;
    };
    let left = match index.access_method.as_str() {
        // A build fills leaves evenly: more is left only where entries were longer then.
        "btree" => left.min(ideal * 1.1 + 4.0 * 8_192.0),
        _ => left,
    };
    (left > ideal).then_some(left)
}

fn share(index: &IndexFacts, ideal: f64) -> f64 {
    1.0 - ideal / index.bytes.max(1) as f64
}

fn compare(index: &IndexFacts, ideal: f64, min_share: f64, basis: &str) -> Verdict {
    let share = share(index, ideal);
    if share < min_share {
        return Verdict::Fine;
    }
    Verdict::Bloated {
        ideal_bytes: ideal as i64,
        reason: format!(
            "{:.0}% bloat: {} now, {} after a rebuild ({basis})",
            share * 100.0,
            bytes(index.bytes),
            bytes(ideal as i64)
        ),
    }
}

/// Below this share of its entries an index is due again that is no larger than it was built.
const SHED: f64 = 0.9;

/// The size that is left to an index of which entries have gone since it was built; none where as many are there, or
/// nobody knows. Others than B-trees count rows at one time, and entries at another.
fn shed(index: &IndexFacts, built: &Baseline) -> Option<i64> {
    let known = index.access_method == "btree" && !index.stale() && built.tuples > 0.0;
    let share = index.tuples / built.tuples;
    (known && share < SHED).then(|| ((built.bytes as f64 * share) as i64).max(8_192))
}

fn whatever_the_bloat(index: &IndexFacts, baseline: Option<&Baseline>) -> Verdict {
    match baseline.filter(|b| b.rebuilt) {
        Some(b) if index.bytes <= b.bytes => match shed(index, b) {
            Some(ideal) => Verdict::Bloated {
                ideal_bytes: ideal,
                reason: format!(
                    "has {} entries, and had {} after its last rebuild",
                    rows(index.tuples),
                    rows(b.tuples)
                ),
            },
            None => Verdict::Fine,
        },
        Some(b) => Verdict::Bloated {
            ideal_bytes: b.bytes,
            reason: format!(
                "grew from {} to {} since its last rebuild",
                bytes(b.bytes),
                bytes(index.bytes)
            ),
        },
        None => Verdict::Bloated {
            ideal_bytes: index.bytes,
            reason: "rebuilt whatever its bloat; maint has not rebuilt it before".to_owned(),
        },
    }
}

fn bytes(bytes: i64) -> String {
    Bytes(u64::try_from(bytes).unwrap_or(0)).to_string()
}
