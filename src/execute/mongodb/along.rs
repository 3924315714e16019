//! An index that is dropped, hidden or made otherwise while a step goes along it: what is left was not looked
//! at, and nobody is to believe so.

use mongodb::bson::doc;

use super::vanished::{gave_way, has_done};
use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, namespace};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{ALONG, Path, Walk, index_described};
use crate::plan::{Finding, Severity};

/// The index that a step goes along, as it was when the plan was made.
pub(super) struct Along<'a> {
    walk: &'a Walk,
    index: &'a str,
    known: &'a str,
}

impl<'a> Along<'a> {
    /// None of a step that goes along none.
    pub(super) fn of(walk: &'a Walk, job: Job<'a>) -> Option<Along<'a>> {
        let Path::Range { index, .. } = &walk.path else {
            return None;
        };
        let known = job.step.body.relies_on.get(ALONG)?;
        Some(Along { walk, index, known })
    }

    /// What has become of it meanwhile; none where it is what it was, as far as that can be asked.
    pub(super) async fn became(&self, job: Job<'_>) -> Option<&'static str> {
        let list = doc! { "listIndexes": &self.walk.collection };
        let doing = "looking at the index that is gone along";
        let asked = job
            .session
            .all(doing, &self.walk.database, list, Limit::ASIDE);
        let all = asked.await.ok()?;
        let named =
            |index: &&mongodb::bson::Document| index.get_str("name").ok() == Some(self.index);
        let Some(index) = all.iter().find(named) else {
            return Some("was dropped meanwhile");
        };
        match index.get_bool("hidden").unwrap_or(false) {
            true => Some("was hidden meanwhile"),
            false if index_described(index) != self.known => {
                Some("was made anew meanwhile, with other keys or options")
            }
            false => None,
        }
    }

    /// Ends a step that seems to have done its work, or has failed, and whose index is not what it was: the
    /// step is skipped, or has failed where documents have gone before, and says why.
    pub(super) async fn told(
        &self,
        done: Result<(), EngineError>,
        job: Job<'_>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<(), EngineError> {
        let skipped = done.is_ok() && record.status == StepStatus::Skipped;
        if skipped || gave_way(&done, record) {
            return done;
        }
        let Some(became) = self.became(job).await else {
            return done;
        };
        let whole = namespace(&self.walk.database, &self.walk.collection);
        let (status, had) = match has_done(job, record) {
            Some(had) => (StepStatus::Failed, format!("; {had}")),
            None => (StepStatus::Skipped, String::new()),
        };
        let what = format!(
            "the index `{}` of {whole}, which this step goes along, {became}{had}",
            self.index
        );
        record.error = None;
        end(record, status, what.clone());
        findings.push(Finding {
            code: "cleanup.index".to_owned(),
            severity: Severity::Warning,
            object: whole,
            message: format!(
                "{what}. What is left was not looked at: the next run goes along another index, or says which it needs"
            ),
            suggestion: None,
        });
        Ok(())
    }
}
