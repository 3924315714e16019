//! A collection that is renamed, dropped or replaced while a step works on it: what is left was not
//! looked at, and nobody is to believe so.

use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Became, namespace};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Work, uuid_of};
use crate::plan::{Finding, Severity};
use crate::values::several;

/// Whether a step has ended for a reason of its own: nobody answers, or it gave way.
pub(super) fn gave_way(done: &Result<(), EngineError>, record: &StepRecord) -> bool {
    match done {
        Ok(()) => matches!(record.status, StepStatus::Deferred | StepStatus::Cancelled),
        Err(error) => error.is_unreachable(),
    }
}

/// The collection that a step works on, as it was when the plan was made.
pub(super) struct Begun<'a> {
    database: &'a str,
    collection: &'a str,
    /// Its identity when the plan was made; none of what has none, such as a view, and of what the
    /// task itself makes.
    uuid: Option<&'a str>,
}

impl<'a> Begun<'a> {
    pub(super) fn on(database: &'a str, collection: &'a str, job: Job<'a>) -> Begun<'a> {
        let known = job.step.body.relies_on.get(&uuid_of(database, collection));
        Begun {
            database,
            collection,
            uuid: known.map(String::as_str),
        }
    }

    /// What has become of it meanwhile; none where it is what it was, as far as that can be asked.
    pub(super) async fn became(&self, job: Job<'_>) -> Option<Became> {
        let uuid = self.uuid?;
        let asked = job.session.became(self.database, self.collection, uuid);
        asked.await.ok().flatten()
    }

    /// Ends a step that seems to have done its work, or has failed, and whose collection is not
    /// there any more, and says what is left: it is skipped. Where documents of it have gone before, or a
    /// result was made of it, it has failed: somebody has to look at them. Whether it was ended here.
    pub(super) async fn told(
        &self,
        done: Result<(), EngineError>,
        job: Job<'_>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<bool, EngineError> {
        if gave_way(&done, record) {
            return done.map(|()| false);
        }
        let Some(became) = self.became(job).await else {
            return done.map(|()| false);
        };
        let whole = namespace(self.database, self.collection);
        let (status, had) = match has_done(job, record) {
            Some(had) => (StepStatus::Failed, format!("; {had}")),
            None => (StepStatus::Skipped, String::new()),
        };
        let what = format!("vanished: {whole} {}{had}", became.said(self.database));
        record.error = None;
        end(record, status, what.clone());
        let helps = match became {
            Became::Renamed(name) => format!(
                "what is left is in {}, and was not looked at; if that name stays, correct it in the task file",
                namespace(self.database, &name)
            ),
            Became::Replaced => "the next run works on the one that has the name now".to_owned(),
            Became::Dropped => "if it does not come back, take it out of the task file".to_owned(),
        };
        findings.push(Finding {
            code: "collection.vanished".to_owned(),
            severity: Severity::Warning,
            object: whole,
            message: format!("{what}; {helps}"),
            suggestion: None,
        });
        Ok(true)
    }
}

/// What a step has done before what it goes by was no more what it was; none of one that has done nothing.
pub(super) fn has_done(job: Job<'_>, record: &StepRecord) -> Option<String> {
    match &job.step.body.work {
        Work::Aggregate(_) => (record.status == StepStatus::Succeeded).then(|| {
            "its result was made all the same, and may lack what was there: look at it".to_owned()
        }),
        _ => match record.rows {
            Some(rows @ 1..) => Some(format!("{} had gone before", several(rows, "document"))),
            _ => None,
        },
    }
}
