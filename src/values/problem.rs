//! What is wrong in a file: where, what, and what to do about it, with passwords masked.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Invalid, redact_output, shown};

/// Of a long list of alternatives so many are shown.
const MOST_KNOWN: usize = 40;

/// A longer word of a text is shown by its beginning and its end, in characters.
const LONGEST_WORD: usize = 200;
/// The same of a text as a whole.
const LONGEST_TEXT: usize = 4_000;
/// Of a longer line what is around the place is shown.
const LONGEST_LINE: usize = 240;
/// So much of what comes before the place.
const BEFORE: usize = 80;

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
    /// The offending line without its secrets, or of a long one the part around the place, between
    /// `…`; empty where there is none.
    pub source_line: String,
    /// So many characters fewer are before the place there than in the file.
    #[serde(skip)]
    cut: usize,
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
            cut: 0,
            message: told(message.as_ref()),
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
        let masked = redact_output(line);
        let masked = masked.trim_end();
        if !masked.starts_with(&before) {
            // Something before the place was masked, so a caret would point at the wrong word.
            self.width = 0;
        }
        (self.source_line, self.cut) = around(masked, self.column.saturating_sub(1));
        self
    }

    /// The same problem with the alternatives that would have been right.
    #[must_use]
    pub fn known<S: Into<String>>(mut self, known: impl IntoIterator<Item = S>) -> Self {
        self.known = known.into_iter().map(|one| short(one.into())).collect();
        self
    }

    /// The same problem with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(told(hint.as_ref()));
        self
    }
}

/// A text without its passwords, and without what makes it too long to be read.
fn told(text: &str) -> String {
    short(redact_output(text))
}

/// The text as it is, or what is left of it without the middle of what is too long.
fn short(text: String) -> String {
    // Bytes are no fewer than characters.
    if text.len() <= LONGEST_WORD {
        return text;
    }
    let words = text.split_inclusive(char::is_whitespace);
    let words: String = words.map(|word| ends(word, LONGEST_WORD)).collect();
    ends(&words, LONGEST_TEXT)
}

/// The beginning and the end of a text that has more characters than this.
fn ends(text: &str, most: usize) -> String {
    let all = text.chars().count();
    if all <= most {
        return text.to_owned();
    }
    let (start, end) = (most * 2 / 3, most / 3);
    let first = text.chars().take(start);
    let last = text.chars().skip(all - end);
    first.chain(std::iter::once('…')).chain(last).collect()
}

/// The line, or of a long one what is around a place, and how many characters fewer are before that
/// then.
fn around(line: &str, place: usize) -> (String, usize) {
    let all = line.chars().count();
    if all <= LONGEST_LINE {
        return (line.to_owned(), 0);
    }
    let from = place.min(all).saturating_sub(BEFORE);
    // It may as well begin at the beginning.
    let from = if from < 2 { 0 } else { from };
    let to = (from + LONGEST_LINE).min(all);
    let mut shown = String::new();
    if from > 0 {
        shown.push('…');
    }
    shown.extend(line.chars().skip(from).take(to - from));
    if to < all {
        shown.push('…');
    }
    (shown, from.saturating_sub(1))
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
        write!(f, "error: {}", shown(&self.file.display().to_string()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", shown(&self.message))?;
        if self.line > 0 && !self.source_line.is_empty() {
            let number = self.line.to_string();
            // One character for each, so that the carets stand where they should.
            let seen = |c: char| match c == '\t'
                || shown(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8()
            {
                true => c,
                false => char::REPLACEMENT_CHARACTER,
            };
            let line: String = self.source_line.chars().map(seen).collect();
            write!(f, "\n  {number} | {line}")?;
            if self.width > 0 {
                // A tab in the line keeps its width in the line of carets.
                let place = self.column.saturating_sub(1).saturating_sub(self.cut);
                let before: String = self
                    .source_line
                    .chars()
                    .take(place)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                let left = self.source_line.chars().count() - before.chars().count();
                let carets = "^".repeat(self.width.min(left).max(1));
                write!(f, "\n  {:1$} | {before}{carets}", "", number.len())?;
            }
        }
        if let Some(more @ 1..) = self.known.len().checked_sub(MOST_KNOWN) {
            let known = self.known[..MOST_KNOWN].join(", ");
            write!(f, "\n  known: {}, … and {more} more", shown(&known))?;
        } else if !self.known.is_empty() {
            write!(f, "\n  known: {}", shown(&self.known.join(", ")))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", shown(hint))?;
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
    fn no_secret_of_a_line_or_a_word_is_shown() {
        let problem = Problem::new(
            "t.yaml",
            "unknown place `s3://b/p?secret_access_key=S3cret`",
        )
        .at(2, 3, 5)
        .source("  token: S3cret")
        .hint("write `[curl, -H, 'Authorization: S3cret']`");
        let problem = format!("{problem:?}");
        assert!(!problem.contains("S3cret"), "{problem}");
    }

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
    fn what_is_too_long_is_shown_around_its_place() {
        let line = format!("{}bad: 1{}", "ä".repeat(1_000), "y".repeat(1_000));
        let problem = Problem::new("s.yaml", "wrong")
            .at(3, 1_001, 3)
            .source(&line);
        let told = problem.to_string();
        let lines: Vec<&str> = told.lines().collect();
        let carets = lines[2].chars().position(|c| c == '^');
        let place = lines[1].chars().position(|c| c == 'b');
        assert_eq!((carets, place.is_some()), (place, true), "{told}");
        assert!(lines[2].ends_with("^^^") && lines[0].ends_with(":3:1001: wrong"));
        assert_eq!(problem.source_line.chars().count(), LONGEST_LINE + 2);
        // Nothing is cut off where it would be no shorter, and a place may be near either end.
        for (line, column) in [("x".repeat(LONGEST_LINE), 240), ("x".repeat(1_000), 82)] {
            let problem = Problem::new("s.yaml", "wrong")
                .at(1, column, 1)
                .source(&line);
            assert!(problem.source_line.starts_with('x'), "{problem}");
            let told = problem.to_string();
            let at = told
                .lines()
                .nth(2)
                .and_then(|l| l.chars().position(|c| c == '^'));
            assert_eq!(at, Some("  1 | ".len() + column - 1), "{told}");
        }
        let last = Problem::new("s.yaml", "wrong")
            .at(1, 1_000, 9)
            .source(&"x".repeat(1_000));
        let told = last.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[2].chars().count(), lines[1].chars().count(), "{told}");

        let long = format!("`{}` is no `{}`", "a".repeat(100_000), "b".repeat(100_000));
        let problem = Problem::new("s.yaml", &long)
            .hint(&long)
            .known([long.clone()]);
        for text in [
            &problem.message,
            problem.hint.as_ref().unwrap_or(&long),
            &problem.known[0],
        ] {
            assert!(text.chars().count() < 500, "{}", text.len());
            assert!(
                text.starts_with("`aaa")
                    && text.ends_with("bbb`")
                    && text.contains("aaa` is no `bbb"),
                "{text}"
            );
        }
        let many = Problem::new("s.yaml", "many words ".repeat(100_000));
        assert!(many.message.chars().count() <= LONGEST_TEXT + 1);
    }

    #[test]
    fn comes_sorted_and_without_repetition() {
        let at = |file: &str, line| Problem::new(file, "wrong").at(line, 1, 0);
        let problems = Problems::new(vec![at("b", 1), at("a", 10), at("a", 9), at("b", 1)]);
        let places: Vec<_> = problems.iter().map(|p| (p.file.to_str(), p.line)).collect();
        assert_eq!(places, [(Some("a"), 9), (Some("a"), 10), (Some("b"), 1)]);
    }
}
