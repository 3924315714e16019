//! Documents that a walk meets by their `_id`, as many as fit into memory, and those that nobody can ask for
//! by it: they stay, keep no other from going, and are told.

use std::time::Instant;

use mongodb::bson::{Bson, Document, RawDocumentBuf};

use super::super::batch::key_of;
use super::super::end;
use super::super::gate::{Again, may_go_on};
use super::super::source::{askable_id, value_at};
use super::Going;
use crate::engines::EngineError;
use crate::engines::mongodb::{MongoError, namespace};
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, Severity};
use crate::values::several_do;

/// So many bytes are read of a page of ids.
const MOST_BYTES: usize = 8 << 20;
/// So many documents that stay are counted, and told as that or more.
const MOST_ASIDE: usize = 10_000;

/// A document of a page.
pub(super) struct Met {
    /// None where nobody can ask for it.
    pub(super) id: Option<Bson>,
    /// What it points at, where that is asked for.
    pub(super) value: Option<Bson>,
}

/// What was read of a page.
#[derive(Default)]
pub(super) struct Read {
    pub(super) all: Vec<Met>,
    /// Whether more may come behind than fitted.
    pub(super) cut: bool,
}

impl Going<'_> {
    /// Reads a page of documents, each with what it has in `field`; `None`: the step is over.
    pub(super) async fn meet(
        &mut self,
        record: &mut StepRecord,
        (doing, field): (&str, Option<&str>),
        find: &Document,
    ) -> Result<Option<Read>, EngineError> {
        let (began, mut again) = (Instant::now(), Again::default());
        let (found, cut) = loop {
            let Some(limit) = self.ends.left() else {
                let so_far = "nothing of this batch has gone";
                may_go_on(self.job, self.ends, record, so_far);
                return Ok(None);
            };
            let (mut found, mut bytes): (Vec<RawDocumentBuf>, usize) = (Vec::new(), 0);
            let session = self.job.session;
            let read = session.each(doing, &self.walk.database, find.clone(), limit, |one| {
                bytes += one.as_bytes().len();
                found.push(one);
                // The lower bound may be the first of them.
                bytes < MOST_BYTES || found.len() < 2
            });
            match read.await {
                Ok(()) => break (found, bytes >= MOST_BYTES),
                Err(error) => {
                    if !self.asks_again(error, began, &mut again, record).await? {
                        return Ok(None);
                    }
                }
            }
        };
        let mut read = Read {
            all: Vec::with_capacity(found.len()),
            cut,
        };
        for document in found {
            let id = askable_id(&document);
            if id.is_none() && self.aside.len() < MOST_ASIDE {
                self.aside.insert(key_of(&document));
            }
            // What it points at may be what cannot be read.
            if field.is_some() && id.is_some() && Document::try_from(&document).is_err() {
                let no_text = MongoError::NoText {
                    doing: doing.to_owned(),
                    namespace: namespace(&self.walk.database, &self.walk.collection),
                };
                return Err(no_text.into());
            }
            let value = field.and_then(|field| value_at(&document, field));
            read.all.push(Met { id, value });
        }
        Ok(Some(read))
    }

    /// Tells of documents that were to go and stay, as nobody can ask for them: the step has not done its work.
    pub(super) fn tell_aside(&self, record: &mut StepRecord, findings: &mut Vec<Finding>) {
        if self.aside.is_empty() {
            return;
        }
        let many = several_do(self.aside.len(), "document", ("stays", "stay"));
        let least = match self.aside.len() < MOST_ASIDE {
            true => "",
            false => "at least ",
        };
        let whole = namespace(&self.walk.database, &self.walk.collection);
        let why = format!(
            "{least}{many}: no `_id` of theirs can be asked for, as it is text that is not valid UTF-8, or holds a list whose places are not numbered 0, 1, 2, …, as only a faulty client writes it"
        );
        let gone = record.rows.unwrap_or(0);
        end(
            record,
            StepStatus::Failed,
            format!(
                "{why}; {} gone",
                several_do(gone, "document", ("has", "have"))
            ),
        );
        findings.push(Finding {
            code: "cleanup.unreadable".to_owned(),
            severity: Severity::Warning,
            object: whole,
            message: format!(
                "{why}. All others were dealt with. Give them another `_id`, or an index that begins with the field of the rule: along one they go"
            ),
            suggestion: None,
        });
    }
}
