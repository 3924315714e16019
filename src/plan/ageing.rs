//! What a task takes by its age alone, as its options say it.

use crate::values::CalendarSpan;

/// Rows or documents of one object that leave it once they are old enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ageing {
    /// The table or collection, the same for every task that means it.
    pub object: String,
    /// How old they are then.
    pub after: CalendarSpan,
    /// What becomes of them.
    pub fate: Gone,
}

/// What becomes of what is old enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It is kept elsewhere.
    Kept,
    /// All of it is nowhere any more.
    Lost,
}
