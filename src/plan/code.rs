//! A word that reports, pages and JSON use, with what it means.

/// A word that reports, pages and JSON use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Code {
    /// As it is written.
    pub code: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Why that matters.
    pub matters: &'static str,
    /// What to do.
    pub todo: &'static str,
    /// What a task cannot do where this is found, if it keeps a task from anything.
    #[serde(skip)]
    pub keeps: Option<Keeps>,
}

/// What a finding keeps a task from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// From a part of what it is for; the rest is done.
    FromSome,
    /// From everything, on the object that the finding names.
    FromAll,
}

pub(super) const fn code(
    code: &'static str,
    meaning: &'static str,
    matters: &'static str,
    todo: &'static str,
) -> Code {
    Code {
        code,
        meaning,
        matters,
        todo,
        keeps: None,
    }
}

impl Code {
    /// Says that it keeps a task from work, so that whoever asks beforehand is told.
    pub(super) const fn keeps(self, what: Keeps) -> Self {
        Self {
            keeps: Some(what),
            ..self
        }
    }
}
