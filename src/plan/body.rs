//! What a step of an engine says of itself, whatever the engine.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// What a step of one engine is made of: what is done, and what is asked
/// around it. Data, like everything in a plan.
pub trait Body: Clone + std::fmt::Debug + Default + Serialize + Send + Sync + 'static {
    /// What is done, as one text: shown to people, and recorded.
    fn text(&self) -> String;

    /// The same as long as the same would be done, whenever that is: a limit that moves with the
    /// time is written as it is reckoned, so that a plan that was saved can be compared.
    fn at_any_time(&self) -> String {
        self.text()
    }

    /// What else tells the objects that it works on, or relies on, from others of their names: an
    /// id, or an object of ids by what they are of; null where nothing does.
    fn identity(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// What it changes besides its own rows, without numbers, which move with the time.
    fn sets_off(&self) -> Vec<String> {
        Vec::new()
    }

    /// When it has to have ended, whatever time the run has: it blocks others, and may do so only
    /// until then.
    fn until(&self) -> Option<DateTime<Utc>>;

    /// Where it keeps, or reads, what it works on besides the target: another server, a bucket, a
    /// folder; for people. One that says nothing is not waited for.
    fn elsewhere(&self) -> Option<String>;

    /// Whether what it did is kept when it is cut off, and gone on from: then
    /// it may begin however little time is left.
    fn keeps_what_it_did(&self) -> bool;

    /// Whether it takes away what does not come back by itself: rows, documents, relations. That it
    /// begins is then on disk before it does.
    fn destroys(&self) -> bool;

    /// Whether it may leave something half made where it fails, once more with each try.
    fn piles_up(&self) -> bool {
        false
    }
}

/// What the name of an object's id begins with among what a step relies on.
pub(super) const ID_OF: &str = "the id of ";

/// The same of the number for what an object is defined as.
pub(super) const DEFINITION_OF: &str = "the definition of ";

/// The same of the number that tells a column from others that had its name.
pub(super) const NUMBER_OF_COLUMN: &str = "the number of column ";
