//! What became of copies that were taken back, and what is said of those that stay.

use super::named;
use crate::engines::mongodb::{CopyMark, namespace};
use crate::plan::{Finding, Severity};

/// What became of copies that stood beside their originals.
#[derive(Default)]
pub(in crate::execute::mongodb) struct Taken {
    /// So many are no more there.
    pub(in crate::execute::mongodb) back: i64,
    /// Those that are not any more as they were written.
    pub(super) strangers: Vec<String>,
    /// Those whose original is gone, although nothing says that it was archived.
    pub(super) alone: Vec<String>,
    /// Those beside another document of their `_id`, where nothing proves that their original was not deleted.
    pub(super) doubtful: Vec<String>,
    /// Those that somebody else may have put there.
    pub(super) unsure: Vec<String>,
    /// The collection that they were put into is not to be found.
    pub(super) astray: bool,
    /// So many copies the mark still named; none where all originals were deleted before anybody could keep
    /// that from happening.
    pub(in crate::execute::mongodb) left: usize,
}

impl Taken {
    /// As before it was looked at what there is.
    pub(super) fn clear(&mut self) {
        for ids in [
            &mut self.strangers,
            &mut self.alone,
            &mut self.doubtful,
            &mut self.unsure,
        ] {
            ids.clear();
        }
    }

    /// The same where the batch is tried once more, which takes what is there for what it is.
    pub(in crate::execute::mongodb) fn tried_again(mut self) -> Taken {
        self.unsure.clear();
        self
    }

    /// What a person should know of it.
    pub(in crate::execute::mongodb) fn findings(&self, mark: &CopyMark) -> Vec<Finding> {
        let into = place_of(mark);
        let told = |severity, message| Finding {
            code: "archive.differs".to_owned(),
            severity,
            object: namespace(&mark.from.0, &mark.from.1),
            message,
            suggestion: None,
        };
        let mut findings = Vec::new();
        if !self.strangers.is_empty() {
            let message = format!(
                "{} copies in {into}, of a batch that was broken off, were changed since by somebody else, and stay there beside their originals: compare them, and keep one of each; their `_id`: {}",
                self.strangers.len(),
                named(&self.strangers)
            );
            findings.push(told(Severity::Warning, message));
        }
        if !self.alone.is_empty() {
            let message = format!(
                "{} in {into}, of a batch that was broken off, whose originals are not in {} any more: somebody has deleted or moved them since, or has changed the mark of the batch. The copies stay, as all there is of them; their `_id`: {}",
                copies(self.alone.len()),
                namespace(&mark.from.0, &mark.from.1),
                named(&self.alone)
            );
            findings.push(Finding {
                code: "archive.only_copy".to_owned(),
                ..told(Severity::Warning, message)
            });
        }
        if !self.doubtful.is_empty() {
            let message = format!(
                "{} in {into}, of a batch that was broken off, beside other documents of the same `_id` in {}, and nothing proves that what was copied was not deleted there: the marks of batches were restored, or put back. The copies stay, as they may be all there is of what was archived: compare them, and remove those that are of no use; their `_id`: {}",
                copies(self.doubtful.len()),
                namespace(&mark.from.0, &mark.from.1),
                named(&self.doubtful)
            );
            findings.push(Finding {
                code: "archive.only_copy".to_owned(),
                ..told(Severity::Warning, message)
            });
        }
        if !self.unsure.is_empty() {
            let message = format!(
                "{} in {into}, of a batch that was broken off while it was copied: somebody else may have put them there, and so they stay beside their originals. What the task takes is archived with them; remove the others, unless somebody has put them there; their `_id`: {}",
                copies(self.unsure.len()),
                named(&self.unsure)
            );
            findings.push(told(Severity::Warning, message));
        }
        if self.astray {
            let message = format!(
                "a batch was broken off after it had been copied into {into}, which was dropped or moved since: where it was moved to, copies of documents that are still in use are left"
            );
            findings.push(told(Severity::Warning, message));
        }
        findings
    }
}

fn copies(of: usize) -> String {
    match of {
        1 => "1 copy is".to_owned(),
        n => format!("{n} copies are"),
    }
}

/// Where the copies of a mark are, for people.
pub(in crate::execute::mongodb) fn place_of(mark: &CopyMark) -> String {
    let target = mark.target.as_ref();
    let target = target.map(|target| format!(" of target {target}"));
    format!(
        "{}{}",
        namespace(&mark.into.0, &mark.into.1),
        target.unwrap_or_default()
    )
}
