//! Is this table bloated, where, and how do we know?

use super::estimate::{heap_bytes, toast_bytes};
use super::facts::TableFacts;
use crate::plan::Baseline;
use crate::values::Bytes;

/// Changed rows beyond which statistics are too old to move anything on their
/// word.
const STALE_SHARE: f64 = 0.05;
const STALE_ROWS: f64 = 1_000.0;

/// Below this share of its rows a table is due again that is no larger than it was.
const SHED: f64 = 0.9;

/// Estimates are no better than that, and those of small tables than that many bytes.
const NOTHING_TO_WIN: f64 = 0.02;
const LITTLE: f64 = 0.1;
const LITTLE_BYTES: i64 = 4 * PAGE_BYTES;
/// The least by which a table can become smaller.
const PAGE_BYTES: i64 = 8_192;

/// What would be won, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waste {
    /// Expected size of the table alone.
    pub(super) heap_after: i64,
    /// Expected size of its TOAST table.
    pub(super) toast_after: i64,
    /// With the numbers.
    pub(super) reason: String,
}

impl Waste {
    /// Expected size of both.
    pub(super) fn after(&self) -> i64 {
        self.heap_after.saturating_add(self.toast_after)
    }

    /// What of it is lost in the TOAST table.
    pub(super) fn in_toast(&self, table: &TableFacts) -> i64 {
        table.toast_bytes.saturating_sub(self.toast_after)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Bloated(Waste),
    Fine,
    /// It may be bloated, but an ANALYZE has to tell.
    Undecided(String),
    /// Nothing is known to compare it with.
    Unknown(String),
    /// The role sees no statistics of its columns.
    Unseen,
}

impl TableFacts {
    /// Whether values of varying length have no statistics, and an ANALYZE
    /// would gather some.
    fn lacks_statistics(&self) -> bool {
        let mut varying = self.columns.iter().filter(|c| !c.dropped && c.length <= 0);
        varying.any(|c| c.statistics.is_none() && !c.never_gathered)
    }

    fn stale(&self) -> bool {
        self.rows < 0.0
            || !self.counted
            || self.changed as f64 > (self.rows.max(0.0) * STALE_SHARE).max(STALE_ROWS)
    }

    /// Whether its rows are counted well enough to learn from its size.
    pub(super) fn is_counted(&self) -> bool {
        !self.stale()
    }
}

/// Judges one table; in round 1 one whose statistics are too old is left undecided.
pub(super) fn judge(
    table: &TableFacts,
    baseline: Option<&Baseline>,
    min_share: f64,
    round: u32,
) -> Verdict {
    let learned = baseline.filter(|b| b.rebuilt);
    if min_share == 0.0
        && let Some(b) = learned
        && table.bytes() <= b.bytes
        && !(table.is_counted() && table.rows < b.tuples * SHED)
    {
        return Verdict::Fine;
    }
    let toast_after = toast_after(table);
    if let Some(heap) = table.measured_bytes {
        return compare(table, heap, toast_after, min_share, "measured page by page");
    }
    if (table.unread || table.filtered) && learned.is_none() && lengths_vary(table) {
        return Verdict::Unseen;
    }
    if round == 1 && (table.stale() || table.lacks_statistics()) {
        // Even if every changed row were gone, would there be enough to win?
        let fewest = (table.rows.max(0.0) - table.changed as f64).max(0.0);
        return match expected(table, learned, fewest) {
            Some((heap, basis)) if table.rows >= 0.0 && table.counted => {
                match compare(table, heap, toast_after, min_share, basis) {
                    Verdict::Fine => Verdict::Fine,
                    _ => Verdict::Undecided("its statistics are out of date".to_owned()),
                }
            }
            _ => Verdict::Undecided("its statistics are out of date".to_owned()),
        };
    }
    if table.rows < 0.0 || !table.counted {
        return Verdict::Unknown(
            "its rows were never counted, or not since the server counts anew: it needs a VACUUM or ANALYZE first".to_owned(),
        );
    }
    match expected(table, learned, table.rows) {
        Some((heap, basis)) => match compare(table, heap, toast_after, min_share, basis) {
            // Would it be worth it, if nothing of it were needed?
            Verdict::Fine
                if table.toast_chunks < 0.0
                    && compare(table, heap, 0.0, min_share, basis) != Verdict::Fine =>
            {
                Verdict::Unknown(
                    "what its TOAST table holds was never counted, which ANALYZE does not do: it needs a VACUUM first".to_owned(),
                )
            }
            judged => judged,
        },
        None => Verdict::Unknown(
            "nobody gathers statistics for its columns (SET STATISTICS 0, or no rows)".to_owned(),
        ),
    }
}

fn lengths_vary(table: &TableFacts) -> bool {
    table.columns.iter().any(|c| !c.dropped && c.length <= 0)
}

/// Where chunks were never counted, or take all the room there is, nothing of
/// it is thought to be lost.
fn toast_after(table: &TableFacts) -> f64 {
    let now = table.toast_bytes as f64;
    if table.toast_chunks < 0.0 {
        return now;
    }
    toast_bytes(table.toast_chunks).min(now)
}

/// The expected size of the table alone, and how it is known. What a repack
/// gave is better than any formula.
fn expected(
    table: &TableFacts,
    learned: Option<&Baseline>,
    rows: f64,
) -> Option<(f64, &'static str)> {
    // A table that was nearly empty says nothing about rows.
    let learned = learned.filter(|b| b.tuples >= 1_000.0);
    let formula = heap_bytes(table, rows);
    if let Some(b) = learned {
        let all = b.bytes as f64 / b.tuples * rows;
        let heap = (all - table.toast_bytes as f64).max(0.0);
        // With large values a row says little about its size.
        if table.toast_bytes == 0 {
            return Some((heap, "by its size after the last repack"));
        }
    }
    formula.map(|bytes| (bytes, "estimated from statistics"))
}

fn compare(table: &TableFacts, heap: f64, toast: f64, min_share: f64, basis: &str) -> Verdict {
    let heap = (heap as i64).clamp(0, table.heap_bytes);
    let toast = (toast as i64).clamp(0, table.toast_bytes);
    let waste = Waste {
        heap_after: heap,
        toast_after: toast,
        reason: String::new(),
    };
    let share = share(table.bytes(), waste.after());
    // Of nothing there is nothing to win, whatever share that is.
    if share < min_share || table.bytes() == 0 {
        return Verdict::Fine;
    }
    // Where it would be as large as it is, moving rows can only make it larger.
    let won = table.bytes().saturating_sub(waste.after());
    if share < NOTHING_TO_WIN || won < PAGE_BYTES || (share < LITTLE && won <= LITTLE_BYTES) {
        return Verdict::Fine;
    }
    let in_toast = if table.toast_bytes - toast > table.heap_bytes - heap {
        ", most of it in TOAST"
    } else {
        ""
    };
    let reason = format!(
        "{:.0}% bloat{in_toast}: {} now, {} after a repack ({basis})",
        share * 100.0,
        bytes(table.bytes()),
        bytes(waste.after())
    );
    Verdict::Bloated(Waste { reason, ..waste })
}

/// The share of `now` that is more than `after`.
pub(super) fn share(now: i64, after: i64) -> f64 {
    1.0 - after as f64 / now.max(1) as f64
}

/// A size as people read it.
pub(super) fn bytes(bytes: i64) -> String {
    Bytes(u64::try_from(bytes).unwrap_or(0)).to_string()
}
