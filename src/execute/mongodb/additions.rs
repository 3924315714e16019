//! What adds to its result is marked before, and is not made where it was cut off.

use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Added, Addition, MongoError, namespace};
use crate::history::{StepRecord, StepStatus};
use crate::plan::Finding;
use crate::plan::mongodb::{Aggregate, Measure, adding, cut_off};
use crate::values::with_causes;

/// An addition that is being made.
pub(super) struct Adding {
    mark: Addition,
    /// This attempt, which nobody else makes.
    step: String,
}

impl Adding {
    /// Marks it; none where an earlier one was cut off: the step is over, and the record says why.
    /// Of what is `empty` nothing would be there twice.
    pub(super) async fn begin(
        work: &Aggregate,
        into: &Measure,
        empty: bool,
        job: Job<'_>,
        record: &mut StepRecord,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Adding>, EngineError> {
        let session = job.session;
        let owner = session.name().to_owned();
        let step = format!("{owner} {}", job.step.seq);
        let memory = job.step.remember.as_ref();
        let mark = Addition {
            id: work.mark(into),
            from: work.from(),
            into: namespace(&into.database, &into.collection),
            owner,
            since: None,
            added: Added::Now,
            memory: memory.map(|memory| memory.value.clone()),
        };
        if empty {
            session.nothing_left(&mark.from, &mark.into).await?;
        }
        if session.begin_addition(&mark, &step).await? {
            return Ok(Some(Adding { mark, step }));
        }
        let all = session.additions(std::slice::from_ref(&mark.into)).await?;
        let open = all.into_iter().find(|other| other.id == mark.id);
        match open {
            Some(open) if open.added == Added::CutOff => {
                let finding = cut_off(&open, session.database());
                end(record, StepStatus::Failed, finding.message.clone());
                findings.push(finding);
            }
            Some(open) => end(record, StepStatus::Deferred, adding(&open)),
            None => end(
                record,
                StepStatus::Deferred,
                "another run adds to it just now",
            ),
        }
        Ok(None)
    }

    /// Notes what came of it: the `whole` was added, or `nothing`. In between nobody knows, and a
    /// person has to look.
    pub(super) async fn end(
        self,
        whole: bool,
        nothing: bool,
        job: Job<'_>,
        findings: &mut Vec<Finding>,
    ) {
        let session = job.session;
        let noted = match (whole, nothing) {
            (_, true) => session.nothing_added(&self.mark.id, &self.step).await,
            (true, false) => session.addition_made(&self.mark.id, &self.step).await,
            (false, false) => {
                findings.push(cut_off(&self.mark, session.database()));
                return;
            }
        };
        if let Err(error) = noted {
            findings.push(unnoted(&self.mark, whole, session.database(), &error));
        }
    }
}

/// It is known what became of it, and the next run will not know.
fn unnoted(mark: &Addition, whole: bool, database: &str, error: &MongoError) -> Finding {
    let finding = cut_off(mark, database);
    let what = match whole {
        true => "all of it was added",
        false => "nothing was added",
    };
    Finding {
        message: format!(
            "{what}, and its mark could not say so ({}). {}",
            with_causes(error),
            finding.message
        ),
        ..finding
    }
}
