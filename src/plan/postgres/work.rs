//! What a step on PostgreSQL can be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Retire, Settle, Shrink, Statement, Walk};

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Statements in order, each committed by itself; the first failure ends
    /// the step. One that could not get its lock is tried again alone.
    Each(Vec<Statement>),
    /// Statements in one transaction: all or nothing. When a lock cannot be
    /// had, the whole is tried again.
    Together(Vec<Statement>),
    /// Questions whose answers become findings. The step has succeeded when
    /// all were answered, whatever the answers are.
    Check(Check),
    /// Deletes many rows in small transactions.
    Walk(Box<Walk>),
    /// Finds out what became of batches of an archive whose end nobody saw,
    /// and removes the files of those that were not deleted.
    Settle(Box<Settle>),
    /// Detaches a partition, exports it, and drops it.
    Retire(Box<Retire>),
    /// Moves rows from the end of a table to its front, and gives the end back.
    Shrink(Box<Shrink>),
}

impl Work {
    /// All statements as one text, as shown and recorded.
    pub fn text(&self) -> String {
        match self {
            Work::Each(statements) => joined(statements),
            Work::Together(statements) => format!("BEGIN; {}; COMMIT", joined(statements)),
            Work::Check(check) => check.text(),
            Work::Walk(walk) => walk.text(),
            Work::Retire(retire) => retire.text(),
            Work::Shrink(shrink) => shrink.text(),
            Work::Settle(settle) => settle.text(),
        }
    }
}

impl Work {
    /// The same as long as the same would be done: which way a walk takes, and when something is
    /// marked, is another matter each time.
    pub fn at_any_time(&self) -> String {
        let joined = |statements: &[Statement]| {
            let texts: Vec<&str> = statements.iter().map(Statement::at_any_time).collect();
            texts.join("; ")
        };
        match self {
            Work::Each(statements) => joined(statements),
            Work::Together(statements) => format!("BEGIN; {}; COMMIT", joined(statements)),
            Work::Walk(walk) => walk.at_any_time(),
            Work::Check(_) | Work::Retire(_) | Work::Shrink(_) | Work::Settle(_) => self.text(),
        }
    }

    /// Whether it takes away what does not come back by itself. Statements of which it is not known
    /// do.
    pub(super) fn destroys(&self) -> bool {
        let lets_all_stay = |statement: &Statement| {
            let word = statement.sql.split_whitespace().next().unwrap_or_default();
            REPEATABLE.contains(&word)
        };
        match self {
            Work::Check(_) | Work::Shrink(_) => false,
            Work::Each(statements) => !statements.iter().all(lets_all_stay),
            Work::Together(_) | Work::Walk(_) | Work::Retire(_) | Work::Settle(_) => true,
        }
    }
}

/// What statements begin with that may be given again and again: there are thousands of them in a
/// run, each as short as a commit of the history.
const REPEATABLE: [&str; 4] = ["ANALYZE", "REFRESH", "REINDEX", "VACUUM"];

fn joined(statements: &[Statement]) -> String {
    let texts: Vec<&str> = statements.iter().map(|s| s.sql.as_str()).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_are_not_known_destroy() {
        let each = |sql: &[&str]| Work::Each(sql.iter().map(|s| Statement::brief(*s)).collect());
        assert!(!each(&["ANALYZE app.t"]).destroys());
        assert!(!each(&["REINDEX INDEX CONCURRENTLY app.i", "ANALYZE app.t"]).destroys());
        assert!(each(&["ANALYZE app.t", "DROP INDEX CONCURRENTLY app.i"]).destroys());
        assert!(each(&["CALL app.forget()"]).destroys());
        assert!(Work::Together(vec![Statement::brief("ANALYZE app.t")]).destroys());
    }
}
