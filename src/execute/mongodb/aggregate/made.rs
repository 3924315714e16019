//! What an aggregation has made of its result, as it is told.

use mongodb::bson::doc;

use super::Holds;
use crate::engines::mongodb::{Json, namespace};
use crate::plan::mongodb::{Aggregate, Measure, shell_name, shell_stages};
use crate::plan::{Finding, Severity};
use crate::values::several;

/// A result that was made.
pub(super) struct Made<'a> {
    pub(super) result: &'a Measure,
    pub(super) before: Holds,
    pub(super) after: Holds,
    /// Whether it took the place of what was there.
    pub(super) replaces: bool,
}

impl Made<'_> {
    pub(super) fn told(&self) -> String {
        match (self.before.exists, self.after.exists) {
            (false, false) => "there is no result".to_owned(),
            (false, true) => format!("it holds {}", several(self.after.documents, "document")),
            _ => format!(
                "it held {}, and holds {}",
                several(self.before.documents, "document"),
                self.after.documents
            ),
        }
    }

    /// Whether nothing was written to a result that is there: it is the same as before, or the
    /// pipeline gives nothing.
    pub(super) fn is_untouched(&self) -> bool {
        let same = self.before.writes == self.after.writes || self.after.writes.is_none();
        !self.replaces && self.after.exists && same
    }

    /// What should be known, where the pipeline gave nothing.
    pub(super) fn finding(&self, nothing: bool, work: &Aggregate) -> Option<Finding> {
        let object = namespace(&self.result.database, &self.result.collection);
        let (severity, message) = if !self.after.exists {
            (
                Severity::Info,
                format!(
                    "{object} does not exist after its pipeline has run: no document was to be kept"
                ),
            )
        } else if self.replaces && self.after.documents == 0 && self.before.documents > 0 {
            (
                Severity::Warning,
                format!(
                    "the pipeline gave no document: {object} is empty now, and held {} before",
                    self.before.documents
                ),
            )
        } else if self.after.documents == 0 && (self.replaces || nothing) {
            // Told until it gives something: what was lost in an earlier run is lost still.
            let still = if self.before.exists { "still " } else { "" };
            (
                Severity::Warning,
                format!("the pipeline gave no document: {object} is {still}empty"),
            )
        } else if nothing {
            (
                Severity::Warning,
                format!(
                    "the pipeline gave no document: {object} still holds the {} of before",
                    self.after.documents
                ),
            )
        } else {
            return None;
        };
        let last = Json::of(&doc! { "$limit": 1 });
        let kept = work.pipeline.len().saturating_sub(1);
        let stages = work.pipeline.iter().take(kept).chain([&last]);
        Some(Finding {
            code: "refresh.nothing".to_owned(),
            severity,
            object,
            message,
            suggestion: Some(format!(
                "{}.aggregate({})",
                shell_name(&work.database, &work.collection),
                shell_stages(stages)
            )),
        })
    }
}
