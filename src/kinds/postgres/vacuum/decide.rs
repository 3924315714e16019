//! Which tables a vacuum is for, why, and which it could do nothing for.

use super::super::common::{of_rows, rows};
use super::super::horizon::{self, Holder, Vacuumed};
use super::facts::{Facts, Heap, TableFacts};
use super::{Vacuum, uncleaned};
use crate::engines::postgres::RelationName;
use crate::plan::Moment;

/// Under which key it is remembered who kept the dead rows of a table.
pub(super) fn kept_by(table: &RelationName) -> String {
    format!("kept_by {table}")
}

pub(super) struct Want<'a> {
    pub(super) table: &'a TableFacts,
    pub(super) reasons: Vec<String>,
    /// The age that asks for freezing; 0 where none does.
    pub(super) freeze_age: i64,
    pub(super) main: bool,
    /// For its dead rows.
    pub(super) dead: bool,
}

pub(super) enum Decision<'a> {
    Leave,
    HeldBack(&'a Holder, String, InVain),
    /// What the server counts is not dead rows, and stays.
    Uncleaned(String),
    Work(Want<'a>),
}

/// What a vacuum cannot do as long as somebody is there.
pub(super) enum InVain {
    /// Remove dead rows.
    Dead,
    /// Freeze old ids.
    Old,
}

impl Vacuum {
    pub(super) fn decide<'a>(
        &self,
        table: &'a TableFacts,
        facts: &'a Facts,
        at: &Moment,
    ) -> Decision<'a> {
        let round = at.round;
        let mut want = Want {
            table,
            reasons: Vec::new(),
            freeze_age: 0,
            main: false,
            dead: false,
        };
        let mut in_vain: Option<(&Holder, String, InVain)> = None;
        let mut stays = None;
        let heaps = [("", Some(&table.heap)), ("TOAST: ", table.toast.as_ref())];
        for (prefix, heap) in heaps {
            let Some(heap) = heap else { continue };
            let before = want.reasons.len();
            if let Some(reason) = self.why_freeze(heap, facts) {
                match horizon::blocks_freezing(&facts.holders, heap.xid_age) {
                    Some(holder) => {
                        in_vain = Some((holder, format!("{prefix}{reason}"), InVain::Old));
                    }
                    None => {
                        want.freeze_age = want.freeze_age.max(heap.xid_age).max(heap.multixact_age);
                        want.reasons.push(format!("{prefix}{reason}"));
                    }
                }
            }
            // Catalogs are autovacuum's business until their age endangers everybody.
            if !table.system {
                if let Some(reason) = self.why_dead(heap)
                    && self.stays(table, heap, at)
                {
                    stays = Some(uncleaned::reason(&format!("{prefix}{reason}")));
                } else if let Some(reason) = self.why_dead(heap) {
                    let vacuumed = Vacuumed {
                        at: heap.last_vacuum,
                        in_vain: round > 1,
                        kept_by: at.memories.get(&kept_by(&table.name)),
                    };
                    match horizon::blocks_removal(&facts.holders, &vacuumed) {
                        Some(holder) => {
                            in_vain = Some((holder, format!("{prefix}{reason}"), InVain::Dead));
                        }
                        None => {
                            want.dead = true;
                            want.reasons.push(format!("{prefix}{reason}"));
                        }
                    }
                }
                // Also after a crash, when dead rows are there and counted by nobody.
                if prefix.is_empty()
                    && round == 1
                    && table.uncounted
                    && heap.last_vacuum.is_none()
                    && heap.bytes > 0
                    && heap.live != 0.0
                    && (heap.dead, heap.inserted) == (0, 0)
                {
                    want.reasons.push(
                        "the server counts anew (a crash, another server, or a reset of statistics), so nobody knows its dead rows".to_owned(),
                    );
                }
                if prefix.is_empty() {
                    want.reasons.extend(self.why_inserted(heap));
                }
            }
            want.main |= prefix.is_empty() && want.reasons.len() > before;
        }
        match (want.reasons.is_empty(), in_vain) {
            (false, _) => Decision::Work(want),
            (true, Some((holder, reason, what))) => Decision::HeldBack(
                holder,
                format!("{reason}; but a vacuum could do nothing while {holder} is open"),
                what,
            ),
            (true, None) => stays.map_or(Decision::Leave, Decision::Uncleaned),
        }
    }

    fn why_freeze(&self, heap: &Heap, facts: &Facts) -> Option<String> {
        let limit = |own: Option<u32>, server: i64| own.map_or(server * 3 / 4, i64::from);
        let xids = limit(self.freeze_age, facts.freeze_max_age);
        let multixacts = limit(self.freeze_multixact_age, facts.freeze_max_multixact_age);
        let past = |what: &str, age: i64, limit: i64| {
            let (age, limit) = (rows(age as f64), rows(limit as f64));
            format!("oldest {what} is {age} old, from {limit} on it is frozen")
        };
        if heap.xid_age >= xids {
            Some(past("transaction id", heap.xid_age, xids))
        } else if heap.multixact_age >= multixacts {
            Some(past("multixact id", heap.multixact_age, multixacts))
        } else {
            None
        }
    }

    pub(super) fn why_dead(&self, heap: &Heap) -> Option<String> {
        let total = heap.live.max(0.0) + heap.dead as f64;
        let threshold = (total * self.min_dead.share()).max(self.min_dead_rows.max(1) as f64);
        (heap.dead as f64 >= threshold).then(|| {
            format!(
                "{} dead rows beside {} live ones",
                rows(heap.dead as f64),
                rows(heap.live.max(0.0))
            )
        })
    }

    /// Whether what is counted as dead rows is what a vacuum that leaves the indexes alone has left of such.
    fn stays(&self, table: &TableFacts, heap: &Heap, at: &Moment) -> bool {
        let died = uncleaned::died_since(table, heap, at);
        died.is_some_and(|died| {
            let dead = Heap {
                dead: died,
                ..heap.clone()
            };
            self.why_dead(&dead).is_none()
        })
    }

    fn why_inserted(&self, heap: &Heap) -> Option<String> {
        let threshold = (heap.live.max(0.0) * self.min_inserted.share())
            .max(self.min_inserted_rows.max(1) as f64);
        (heap.inserted as f64 >= threshold).then(|| {
            format!(
                "{} inserted since the last vacuum",
                of_rows(heap.inserted as f64)
            )
        })
    }
}
