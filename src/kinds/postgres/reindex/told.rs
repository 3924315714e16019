//! What is found about indexes that nothing is done to.

use super::facts::IndexFacts;
use crate::kinds::postgres::half_built;
use crate::plan::{Finding, Severity};

pub(super) fn and_more(indexes: &[&IndexFacts]) -> String {
    let first = indexes.first().map(|i| i.name()).unwrap_or_default();
    match indexes.len() {
        1 => first,
        n => format!("{first} (and {} more)", n - 1),
    }
}

pub(super) fn invalid_index(index: &IndexFacts) -> Finding {
    let name = index.name();
    let (helps, suggestion) = match &index.twin {
        Some(twin) => (
            half_built::redundant(twin),
            Some(format!("DROP INDEX CONCURRENTLY {name}")),
        ),
        None if index.unique => (half_built::TWICE.to_owned(), None),
        None => (
            "Rebuild it, or drop it".to_owned(),
            Some(format!("REINDEX INDEX CONCURRENTLY {name}")),
        ),
    };
    Finding {
        code: "index.invalid".to_owned(),
        severity: Severity::Warning,
        message: format!(
            "{name} on {} is invalid: a build of it failed or is under way. It costs every write and helps no query. {helps}",
            index.table_name()
        ),
        suggestion,
        object: name,
    }
}

pub(super) fn corrupting_version(version: &str) -> Finding {
    Finding {
        code: "server.reindex_corrupts".to_owned(),
        severity: Severity::Critical,
        object: format!("PostgreSQL {version}"),
        message: "concurrent index builds of 14.0 to 14.3 can leave rows out of the index \
                  (fixed in 14.4); nothing is rebuilt here"
            .to_owned(),
        suggestion: None,
    }
}
