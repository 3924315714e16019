//! Questions to PostgreSQL whose answers become findings, as data: what an answer means is said
//! before it is asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Finding, Query, Statement};

/// Questions to the target whose answers become findings. All are asked in
/// one transaction that may not write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// In order.
    pub questions: Vec<Question>,
    /// Added to the message of whatever is found; empty for nothing.
    pub whereabouts: String,
    /// What to suggest where the server itself says that something is damaged.
    pub repair: Option<String>,
    /// Carried out, each committed by itself, if nothing was found.
    pub when_clean: Vec<Statement>,
}

/// A question, and what its answer means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// What is asked. Where the server answers that data or an index is
    /// damaged, that is a finding, too.
    pub query: Query,
    /// What the answer means.
    pub answer: Answer,
}

/// What the answer to a [`Question`] means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One row of bigint, one column for each of these: raised unless it is 0
    /// or NULL, with `{n}` in the message replaced by the number. Without
    /// findings the answer does not matter.
    Counts(Vec<Finding>),
    /// A finding for each row of text: code, severity, object, message, suggestion.
    Findings,
}

impl Check {
    /// A check that asks nothing yet.
    pub fn new() -> Self {
        Check::default()
    }

    /// Asks for numbers that should all be 0.
    pub fn counting(mut self, query: Query, findings: Vec<Finding>) -> Self {
        self.questions.push(Question {
            query,
            answer: Answer::Counts(findings),
        });
        self
    }

    /// Asks for rows that are findings.
    pub fn listing(mut self, query: Query) -> Self {
        self.questions.push(Question {
            query,
            answer: Answer::Findings,
        });
        self
    }

    /// Asks something whose answer does not matter: the server complains by itself.
    pub fn asking(self, query: Query) -> Self {
        self.counting(query, Vec::new())
    }

    /// Says, after every message, where it was found.
    pub fn at(mut self, whereabouts: impl Into<String>) -> Self {
        self.whereabouts = whereabouts.into();
        self
    }

    /// What would mend damage that the server itself reports.
    pub fn repaired_by(mut self, statement: impl Into<String>) -> Self {
        self.repair = Some(statement.into());
        self
    }

    /// Carries `statement` out if nothing was found.
    pub fn then(mut self, statement: Statement) -> Self {
        self.when_clean.push(statement);
        self
    }

    /// All questions and statements as one text.
    pub fn text(&self) -> String {
        let asked = self.questions.iter().map(|q| q.query.sql.as_str());
        let then = self.when_clean.iter().map(|s| s.sql.as_str());
        asked.chain(then).collect::<Vec<_>>().join("; ")
    }
}
