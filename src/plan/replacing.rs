//! What a task puts in the place of what is there, as its options say it.

/// A table or collection whose contents a run replaces, be they its own or another task's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacing {
    /// The table or collection, as it is written.
    pub object: String,
    /// Whether it is in the target's own database, so that of many databases each has its own.
    pub own: bool,
    /// How much of what is there is replaced.
    pub much: Replaced,
}

/// How much of what is there is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// All of it.
    All,
    /// What has the same key.
    SameKeys,
    /// Nothing: it is added to, or completed.
    Nothing,
}

impl Replaced {
    /// Whether two that write to one place take from each other what they have made.
    pub fn clashes(self, other: Replaced) -> bool {
        match (self, other) {
            (Replaced::All, _) | (_, Replaced::All) => true,
            (Replaced::SameKeys, Replaced::SameKeys) => true,
            (Replaced::Nothing, _) | (_, Replaced::Nothing) => false,
        }
    }
}
