//! What is said of documents that never expire, or should have expired by now.

use super::super::super::common::{Collection, Index};
use super::super::age::{BEFORE, HELPS, undated};
use super::{Look, Ttl};
use crate::plan::mongodb::{Body, shell_document, shell_key, shell_name};
use crate::plan::{Finding, Plan, Severity};
use crate::values::several;

impl Ttl {
    /// Why nothing would ever expire, if so. An index says that somebody knows the field, which may
    /// be in no document today.
    pub(super) fn never(
        &self,
        object: &str,
        collection: &Collection,
        look: &Look,
    ) -> Option<String> {
        let known = collection.indexes.iter().flat_map(|index| &index.keys);
        let known = known.into_iter().any(|(name, _)| *name == self.field);
        let kinds: Vec<String> = look.types.iter().map(|(k, n)| format!("{n} {k}")).collect();
        (look.told == Some(false) && !known).then(|| {
            format!(
                "nothing can expire: no document of {object} has a date in `{}` ({}). Look at the spelling of the field; numbers and texts never expire",
                self.field,
                kinds.join(", ")
            )
        })
    }

    /// What is said where the server would remove at once what may have no time at all.
    pub(super) fn timeless(&self, database: &str, object: &str) -> Finding {
        Finding {
            code: "ttl.wrong_type".to_owned(),
            severity: Severity::Critical,
            object: object.to_owned(),
            message: format!(
                "no document of {object} is let expire: some dates in `{}` are {BEFORE}, and the server would remove those documents at once. They stay; {HELPS}",
                self.field
            ),
            suggestion: Some(format!(
                "{}.find({})",
                shell_name(database, &self.collection),
                shell_document(&undated(&self.field))
            )),
        }
    }

    /// What finds the documents that never expire.
    pub(super) fn undated(&self, database: &str) -> String {
        format!(
            "{}.find({{{}: {{$not: {{$type: \"date\"}}}}}})",
            shell_name(database, &self.collection),
            shell_key(&self.field)
        )
    }

    /// Documents expire by a part of them at most. What that leaves out may be meant to stay, which no
    /// run decides.
    pub(super) fn in_part(
        &self,
        (database, object): (&str, &str),
        partial: Option<&Index>,
        beside: Option<i32>,
        plan: &mut Plan<Body>,
    ) {
        let (code, message) = match partial {
            Some(index) => (
                "ttl.partial",
                format!(
                    "the TTL index `{}` on `{}` covers only documents that match {}: no other document of {object} ever expires by it, and `ttl` says that all do. Make an index for all of them, or leave the entry out if only those are to expire: `snapshot` looks at every TTL index",
                    index.name,
                    self.field,
                    covered(index)
                ),
            ),
            None => (
                "ttl.conflict",
                format!(
                    "documents of {object} do not expire: partial indexes on `{}` go in both directions, and before MongoDB 5.0 there is no third. One of them has to be dropped",
                    self.field
                ),
            ),
        };
        plan.undone(Finding {
            code: code.to_owned(),
            severity: Severity::Critical,
            object: object.to_owned(),
            message,
            suggestion: beside.map(|way| self.beside(database, way)),
        });
    }

    pub(super) fn findings(
        &self,
        database: &str,
        object: &str,
        look: &Look,
        plan: &mut Plan<Body>,
    ) {
        let mut say = |code: &str, severity, message: String, suggestion: Option<String>| {
            plan.findings.push(Finding {
                code: code.to_owned(),
                severity,
                object: object.to_owned(),
                message,
                suggestion,
            });
        };
        if look.monitor == Some(false) {
            say(
                "ttl.monitor_off",
                Severity::Critical,
                "the server's TTL monitor is off: nothing expires in any collection".to_owned(),
                Some("db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})".to_owned()),
            );
        }
        if look.overdue > 0 {
            let least = if look.overdue >= 1000 {
                "at least "
            } else {
                ""
            };
            let many = format!("{least}{}", several(look.overdue, "document"));
            let are = if look.overdue == 1 { "is" } else { "are" };
            say(
                "ttl.stalled",
                Severity::Critical,
                format!(
                    "{many} should have expired more than {} ago and {are} still there: the TTL monitor is off, held up by a long index build or by load, or every member that could be primary is not",
                    self.max_overdue
                ),
                Some("db.serverStatus().metrics.ttl".to_owned()),
            );
        }
        self.types_told(database, object, look, plan);
    }

    /// Documents without a date never expire: that should be known.
    pub(super) fn types_told(
        &self,
        database: &str,
        object: &str,
        look: &Look,
        plan: &mut Plan<Body>,
    ) {
        let all: i64 = look.types.iter().map(|(_, n)| n).sum();
        let wrong = look.types.iter();
        let wrong: Vec<&(String, i64)> = wrong
            .filter(|(kind, _)| !matches!(kind.as_str(), "date" | "array"))
            .collect();
        let n: i64 = wrong.iter().map(|(_, n)| n).sum();
        if n == 0 {
            return;
        }
        let kinds = wrong.iter().map(|(kind, n)| format!("{n} {kind}"));
        plan.findings.push(Finding {
            code: "ttl.wrong_type".to_owned(),
            severity: Severity::Warning,
            object: object.to_owned(),
            message: format!(
                "of {} looked at, {n} without a date in `{}` ({}): what has none never expires",
                several(all, "document"),
                self.field,
                kinds.collect::<Vec<_>>().join(", ")
            ),
            suggestion: Some(self.undated(database)),
        });
    }
}

/// Which documents a partial index has.
fn covered(index: &Index) -> String {
    let filter = index.whole.get_document("partialFilterExpression");
    filter.map_or_else(|_| "its filter".to_owned(), shell_document)
}
