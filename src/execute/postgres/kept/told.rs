//! What is told of rows that stayed.

use super::super::end;
use super::Kept;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, Severity, Walk};
use crate::values::{several, several_do, that_meet};

impl Kept {
    /// Says what has stayed: a foreign key that keeps rows is as it should be
    /// and is told, a row that refused to go is a failure.
    pub(in crate::execute::postgres) fn tell(
        &self,
        walk: &Walk,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) {
        if self.referenced > 0 {
            let keys: Vec<String> = walk
                .references
                .iter()
                .zip(&self.by_key)
                .filter(|(_, rows)| **rows > 0)
                .map(|(r, rows)| format!("{rows} by {} of {}", r.constraint, r.child))
                .collect();
            findings.push(Finding {
                code: "rows.referenced".to_owned(),
                severity: Severity::Warning,
                object: walk.table.clone(),
                message: format!(
                    "{}, because rows that stay point there: {}",
                    that_meet(self.referenced, &walk.table, ("stays", "stay")),
                    keys.join(", ")
                ),
                suggestion: None,
            });
        }
        if !self.heavy.is_empty() {
            self.tell_heavy(walk, record, findings);
        }
        if self.locked > 0 {
            self.tell_locked(walk, record, findings);
        }
        let refused = self.refused + self.silent;
        if refused == 0 {
            return;
        }
        let why = self.why(walk);
        findings.push(Finding {
            code: "rows.refused".to_owned(),
            severity: Severity::Critical,
            object: walk.table.clone(),
            message: format!(
                "{}: {why}. What is to stay is said with `keep`",
                that_meet(refused, &walk.table, ("refused to go", "refused to go"))
            ),
            suggestion: None,
        });
        end(
            record,
            StepStatus::Failed,
            format!(
                "{} refused to go ({why}); {} went",
                several(refused, "row"),
                record.rows.unwrap_or(0)
            ),
        );
    }

    /// Why rows refused to go.
    pub(super) fn why(&self, walk: &Walk) -> String {
        let why = match (&self.said, walk.obstructed.is_empty()) {
            (Some(said), true) => said.clone(),
            (Some(said), false) => format!("{said}; {}", walk.obstructed.join(", ")),
            (None, true) => "kept by a trigger or rule".to_owned(),
            (None, false) => format!("kept by {}", walk.obstructed.join(", ")),
        };
        let why = match self.by_rule.len() {
            0 | 1 => why,
            _ => {
                let each = self.by_rule.iter();
                let each = each.map(|(rule, rows)| format!("{rows} because of {rule}"));
                format!("{}; the first, {why}", each.collect::<Vec<_>>().join(", "))
            }
        };
        let why = match self.are_many() {
            true => format!(
                "{why}; after so many no more were tried, and the next run goes on from there"
            ),
            false => why,
        };
        match (self.changed, self.in_vain) {
            (0, _) => why,
            (_, false) => format!("{why}, which changes them instead; that was given back"),
            (_, true) => format!(
                "{why}, which changes them instead; that was given back, and nothing more was tried where so many only change"
            ),
        }
    }

    /// How many rows would only be changed, and by what, where that is all that was met.
    pub(in crate::execute::postgres) fn only_changed(&self, walk: &Walk) -> Option<(i64, String)> {
        let only = self.changed > 0 && self.changed == self.all() && self.heavy.is_empty();
        only.then(|| (self.changed, self.why(walk)))
    }

    fn tell_locked(&self, walk: &Walk, record: &mut StepRecord, findings: &mut Vec<Finding>) {
        let why = self.locker.as_deref().unwrap_or("somebody holds them");
        findings.push(Finding {
            code: "rows.locked".to_owned(),
            severity: Severity::Warning,
            object: walk.table.clone(),
            message: format!(
                "{}: {why}",
                that_meet(
                    self.locked,
                    &walk.table,
                    (
                        "is locked, and stays for now",
                        "are locked, and stay for now"
                    )
                )
            ),
            suggestion: None,
        });
        end(
            record,
            StepStatus::Failed,
            format!(
                "{} locked ({why}); {} went",
                several_do(self.locked, "row", ("is", "are")),
                record.rows.unwrap_or(0)
            ),
        );
    }

    fn tell_heavy(&self, walk: &Walk, record: &mut StepRecord, findings: &mut Vec<Finding>) {
        let shown: Vec<String> = self
            .heavy
            .iter()
            .take(5)
            .map(|(place, bytes)| format!("ctid {place} with {} MB", bytes >> 20))
            .collect();
        let more = if self.heavy.len() > shown.len() {
            ", …"
        } else {
            ""
        };
        let (are, stay) = match self.heavy.len() {
            1 => ("is", "stays"),
            _ => ("are", "stay"),
        };
        let why = format!(
            "{} of {} {are} larger than the {} MB that are kept in memory, and {stay}: {}{more}",
            several(self.heavy.len(), "row"),
            walk.table,
            super::super::weight::MOST_ROW_BYTES >> 20,
            shown.join(", ")
        );
        findings.push(Finding {
            code: "rows.too_large".to_owned(),
            severity: Severity::Critical,
            object: walk.table.clone(),
            message: format!(
                "{why}. A table of the same database as destination takes rows of any size"
            ),
            suggestion: None,
        });
        end(record, StepStatus::Failed, why);
    }
}
