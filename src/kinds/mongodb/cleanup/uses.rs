//! What a rule makes of fields, and what is said where no document has one.

/// What a rule makes of a field, and what comes of it where no document has that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// `keep`: nothing is kept.
    KeepsNone,
    /// `where`, by a condition that is met where there is no such field: every document goes.
    TakesAll,
    /// `orphaned`: nothing points at a parent.
    Points,
    /// `where`: none is taken.
    TakesNone,
    /// `keep`, by a condition that is met where there is no such field.
    KeepsAll,
}

impl Use {
    /// Whether a rule is not followed that names a field so, where no document has that, or, with
    /// `kinds`, none of these types; and what is said of it.
    pub(super) fn told(self, field: &str, object: &str, kinds: Option<&str>) -> (bool, String) {
        let (refused, why) = match self {
            Use::KeepsNone => (true, "which `keep` names: what is to be kept would go"),
            Use::TakesAll => (
                true,
                "and `where` holds for documents without it: every document would go",
            ),
            Use::Points => (true, "so nothing points at a parent"),
            Use::TakesNone => (false, "which `where` names: nothing meets that"),
            Use::KeepsAll => (
                false,
                "and `keep` holds for documents without it: more is kept than is meant",
            ),
        };
        let said = match kinds {
            Some(kinds) => format!(
                "no document of {object} has a value of type {kinds} in `{field}`, {why}. Write values of the type that the documents have: `true`, `{{ $date: … }}`, `{{ $oid: … }}`, text in quotes"
            ),
            None => format!(
                "no document of {object} has `{field}`, {why}. Look at its spelling; where none may have it, name it in `may_be_absent`"
            ),
        };
        (refused, said)
    }
}

/// What is said of a filter with an operator that hides which fields it names, where no document
/// meets a `keep`, or every one a `where`.
pub(super) fn hidden_told(used: Use, operator: &str, object: &str) -> String {
    let (met, comes) = match used {
        Use::TakesAll => (
            format!("every document of {object} meets `where`"),
            "every document would go",
        ),
        _ => (
            format!("no document of {object} meets a filter of `keep`"),
            "what is to be kept would go",
        ),
    };
    format!(
        "{met}, and with `{operator}` only the server knows which fields it names: where one is misspelt, {comes}. Write it without `{operator}`, or name `{operator}` in `may_be_absent` where this is meant"
    )
}
