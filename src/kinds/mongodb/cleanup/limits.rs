//! How much a rule may take at the most.

use super::rule::Rule;
use crate::values::{Percent, several};

/// Orphans may be half of the children where the rule says nothing.
pub(super) const ORPHANS: Percent = Percent::new(50.0);

/// The share that may go at the most; orphans have one even where the rule says nothing.
pub(super) fn share_of(rule: &Rule) -> Option<Percent> {
    rule.max_share
        .or_else(|| rule.orphaned.is_some().then_some(ORPHANS))
}

/// Whether it has to be known how many would go.
pub(super) fn is_limited(rule: &Rule) -> bool {
    let all = |share: Percent| share.share() >= 1.0;
    rule.max_rows.is_some()
        || rule
            .max_share
            .is_some_and(|share| rule.orphaned.is_none() || !all(share))
        || (rule.max_share.is_none() && rule.orphaned.is_some())
}

/// Up to so many documents are always counted.
const FEW: i64 = 1_000_000;

/// Whether so many of `all`, as the server says, are a share that is worth counting all: a tenth of the limit, or
/// a share of few.
pub(super) fn is_near(rule: &Rule, count: i64, all: i64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = count as f64 / all.max(1) as f64;
    count > 0
        && is_limited(rule)
        && share_of(rule).is_some_and(|most| all <= FEW || share > most.share() / 10.0)
}

/// How many may go at the most, where the rule limits that. Orphans are not many more than were counted, unless
/// the rule says how many may go: their parents may have gone for a moment only.
pub(super) fn most(rule: &Rule, all: i64, counted: Option<i64>) -> Option<i64> {
    let rows = rule.max_rows.and_then(|n| i64::try_from(n).ok());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a share of what fits; rounded down"
    )]
    let share = share_of(rule)
        .filter(|_| is_limited(rule))
        .map(|share| (share.share() * all as f64 + 1e-6) as i64);
    let silent = rule.orphaned.is_some() && rule.max_rows.is_none() && rule.max_share.is_none();
    let counted = counted.filter(|_| silent);
    let counted = counted.map(|n| n.saturating_mul(2).saturating_add(MORE));
    [rows, share, counted].into_iter().flatten().min()
}

/// Twice as many orphans as were counted, and so many more, may have come about since.
const MORE: i64 = 100;

pub(super) fn too_many(rule: &Rule, count: i64, all: i64) -> Option<String> {
    if let Some(most) = rule.max_rows
        && u64::try_from(count).unwrap_or(0) > most
    {
        return Some(format!(
            "{} would go, more than `max_rows` ({most})",
            several(count, "document")
        ));
    }
    if let Some(most) = share_of(rule) {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = count as f64 / all.max(count).max(1) as f64;
        if share > most.share() {
            let limit = match rule.max_share {
                Some(_) => format!("`max_share` ({most})"),
                None => format!("orphans may be ({most}) unless the rule says `max_share`"),
            };
            return Some(format!(
                "{count} of {} would go ({:.1} %), more than {limit}",
                several(all, "document"),
                share * 100.0
            ));
        }
    }
    None
}
