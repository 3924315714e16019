//! What is wrong in a file: where, what, and what to do about it, with passwords masked.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Invalid, redact};

/// Of a long list of alternatives so many are shown.
const MOST_KNOWN: usize = 40;

/// Something wrong in a file, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// The file as the user would name it, or `--set`.
    pub file: PathBuf,
    /// Line from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// Column from 1, in characters; 0 where the file as a whole is meant.
    pub column: usize,
    /// How many characters are wrong; 0 where that is unknown.
    pub width: usize,
    /// The offending line without its secrets; empty where there is none.
    pub source_line: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What could have been written instead.
    pub known: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a file as a whole. Passwords in the message are masked.
    pub fn new(file: impl Into<PathBuf>, message: impl AsRef<str>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            width: 0,
            source_line: String::new(),
            message: redact(message.as_ref()),
            known: Vec::new(),
            hint: None,
        }
    }

    /// The same problem at a place in the file.
    #[must_use]
    pub fn at(mut self, line: usize, column: usize, width: usize) -> Self {
        (self.line, self.column, self.width) = (line, column, width);
        self
    }

    /// The same problem with the line it is on. Passwords in it are masked.
    #[must_use]
    pub fn source(mut self, line: &str) -> Self {
        let before: String = line.chars().take(self.column.saturating_sub(1)).collect();
        self.source_line = redact(line).trim_end().to_owned();
        if !self.source_line.starts_with(&before) {
            // Something before the place was masked, so a caret would point at the wrong word.
            self.width = 0;
        }
        self
    }

    /// The same problem with the alternatives that would have been right.
    #[must_use]
    pub fn known<S: Into<String>>(mut self, known: impl IntoIterator<Item = S>) -> Self {
        self.known = known.into_iter().map(Into::into).collect();
        self
    }

    /// The same problem with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(redact(hint.as_ref()));
        self
    }
}

impl Problem {
    /// A problem with a value that does not read.
    pub fn invalid(file: impl Into<PathBuf>, why: Invalid) -> Self {
        let problem = Self::new(file, why.message);
        match why.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if self.line > 0 && !self.source_line.is_empty() {
            let number = self.line.to_string();
            write!(f, "\n  {number} | {}", self.source_line)?;
            if self.width > 0 {
                // A tab in the line keeps its width in the line of carets.
                let before: String = self
                    .source_line
                    .chars()
                    .take(self.column.saturating_sub(1))
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                let left = self.source_line.chars().count() - before.chars().count();
                let carets = "^".repeat(self.width.min(left).max(1));
                write!(f, "\n  {:1$} | {before}{carets}", "", number.len())?;
            }
        }
        if let Some(more @ 1..) = self.known.len().checked_sub(MOST_KNOWN) {
            let shown = self.known[..MOST_KNOWN].join(", ");
            write!(f, "\n  known: {shown}, … and {more} more")?;
        } else if !self.known.is_empty() {
            write!(f, "\n  known: {}", self.known.join(", "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Every problem of all files, sorted by file, line and column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems in order of their places; what is reported twice is kept once.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| {
            (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
        });
        problems.dedup();
        for problem in &mut problems {
            // Only to come last in its file.
            if problem.line == usize::MAX {
                problem.line = 0;
            }
        }
        Self(problems)
    }

    /// The problems in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_place_the_alternatives_and_the_advice() {
        let problem = Problem::new(
            "tasks/orders.yaml",
            "unknown option `min_bloat_pct` for kind `reindex`",
        )
        .at(7, 3, 13)
        .source("  min_bloat_pct: 30%")
        .known(["exclude", "include", "min_bloat", "min_size"])
        .hint("did you mean `min_bloat`?");
        assert_eq!(
            problem.to_string(),
            "error: tasks/orders.yaml:7:3: unknown option `min_bloat_pct` for kind `reindex`\n  \
               7 |   min_bloat_pct: 30%\n    \
                 |   ^^^^^^^^^^^^^\n  \
               known: exclude, include, min_bloat, min_size\n  \
               hint: did you mean `min_bloat`?"
        );
        assert_eq!(
            Problem::new("x.yaml", "gone").to_string(),
            "error: x.yaml: gone"
        );
    }

    #[test]
    fn masks_the_line_and_then_points_nowhere() {
        let line = "app: { url: \"postgres://u:pw@h/d\", engin: postgres }";
        let problem = Problem::new("s.yaml", "unknown").at(1, 36, 5).source(line);
        assert!(!problem.to_string().contains("pw"));
        assert!(!problem.to_string().contains('^'));
    }

    #[test]
    fn comes_sorted_and_without_repetition() {
        let at = |file: &str, line| Problem::new(file, "wrong").at(line, 1, 0);
        let problems = Problems::new(vec![at("b", 1), at("a", 10), at("a", 9), at("b", 1)]);
        let places: Vec<_> = problems.iter().map(|p| (p.file.to_str(), p.line)).collect();
        assert_eq!(places, [(Some("a"), 9), (Some("a"), 10), (Some("b"), 1)]);
    }
}
