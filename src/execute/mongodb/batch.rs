//! A batch of documents on its way into an archive, and what may keep it from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mongodb::bson::{Bson, RawDocumentBuf};
use mongodb::error::Error;
use sha2::{Digest, Sha256};

use crate::engines::EngineError;
use crate::engines::mongodb::MongoError;

/// How long giving back may take that comes after the end of a step: what cannot be reached is left
/// to the next run.
pub(super) const CLEARING: Duration = Duration::from_secs(5);

/// Why nothing came of a batch.
pub(super) enum BatchError {
    /// What the driver says; the same may succeed in a moment.
    Driver(Error),
    /// A question that was not answered; it may be in a moment.
    Asking(MongoError),
    /// Documents do not stay, or are already, where they are to go.
    Misplaced(String),
    /// Something else.
    Engine(EngineError),
    /// The run was stopped.
    Stopped,
    /// The time of the step was up, or the run was stopped, while a batch was under way.
    CutOff,
}

impl From<Error> for BatchError {
    fn from(error: Error) -> Self {
        BatchError::Driver(error)
    }
}

impl From<MongoError> for BatchError {
    fn from(error: MongoError) -> Self {
        BatchError::Asking(error)
    }
}

impl From<EngineError> for BatchError {
    fn from(error: EngineError) -> Self {
        BatchError::Engine(error)
    }
}

/// What came of a batch.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) gone: i64,
    /// There are documents left, and none of them may go.
    pub(super) too_many: bool,
    /// The place that it came to; none at the end.
    pub(super) last: Option<Bson>,
    /// Ids at that place that were left where they are.
    pub(super) left: Vec<Bson>,
    /// Ids of which the destination holds another document.
    pub(super) differing: Vec<String>,
    /// Ids of which the destination holds an equal document that may be another source's.
    pub(super) doubled: Vec<String>,
    /// Those sources, for people.
    pub(super) sources: String,
    /// Ids of copies of batches that have not come to their end.
    pub(super) copies: Vec<String>,
    /// Ids of copies that somebody else has removed before they could be compared.
    pub(super) taken: Vec<String>,
    /// Documents whose `_id` is no valid text, by what tells it from others: where they are.
    pub(super) unreadable: BTreeMap<[u8; 32], String>,
    /// Those that the destination did not take.
    pub(super) rejected: Vec<String>,
    /// Documents that the collection there does not take as they are.
    pub(super) refused: Vec<String>,
    /// Documents that the server there is too old for: it refuses the names of their fields.
    pub(super) misnamed: Vec<String>,
    /// By which codes the server refused them.
    pub(super) codes: BTreeSet<i32>,
}

/// What tells one `_id` from every other.
pub(super) type Key = [u8; 32];

/// By the bytes of its `_id`, which the server stores first; two that have
/// none differ all the same.
pub(super) fn key_of(document: &RawDocumentBuf) -> Key {
    let first = document.iter_elements().next().and_then(Result::ok);
    let bytes = document.as_bytes();
    let id = first
        .filter(|element| element.key().as_str() == "_id")
        // The length of the document, the type, the name.
        .and_then(|element| bytes.get(4..4 + 1 + 4 + element.size()));
    Sha256::digest(id.unwrap_or(bytes)).into()
}
