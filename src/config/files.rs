//! The files read so far, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::node::{Content, Node, Span};
use crate::values::{Filled, Invalid, Problem, Problems, read_regular};

/// One file, with what must not be shown of it.
#[derive(Default)]
pub(super) struct File {
    /// As the user would name it.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    secrets: Vec<Span>,
    /// What variables put into texts of the user's own, such as conditions and statements.
    pub filled: Filled,
    problems: Vec<Problem>,
    /// Problems beyond those that are kept.
    more: usize,
    /// Whether no line of it is shown: what a program writes may be anything.
    untold: bool,
    /// Whether the text could be taken apart; otherwise nobody knows where its secrets are.
    pub parsed: bool,
}

impl File {
    pub(super) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
            ..Self::default()
        }
    }

    /// What a program or a query answered: none of its lines is ever shown.
    pub(super) fn answered(from: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            untold: true,
            ..Self::new(from, text)
        }
    }

    /// Reads a file as text. The problem says why it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, Box<Problem>> {
        let bytes = read_regular(path, LARGEST).map_err(|why| Problem::new(path, why))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(
                path,
                text.strip_prefix('\u{feff}').unwrap_or(&text),
            )),
            Err(why) => {
                let good = &why.as_bytes()[..why.utf8_error().valid_up_to()];
                let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
                let problem = Problem::new(path, format!("is not UTF-8 text (line {line})"));
                Err(Box::new(problem.hint("save the file as UTF-8")))
            }
        }
    }

    /// A problem at a place.
    pub(super) fn problem(&self, span: Span, message: impl AsRef<str>) -> Problem {
        Problem::new(&self.path, message).at(span.line, span.column, span.width)
    }

    /// A value that does not read, at its place.
    pub(super) fn invalid(&self, span: Span, why: Invalid) -> Problem {
        Problem::invalid(&self.path, why).at(span.line, span.column, span.width)
    }

    pub(super) fn report(&mut self, problem: Problem) {
        match self.is_full() {
            true => self.more += 1,
            false => self.problems.push(problem),
        }
    }

    /// Gives a problem that has been reported at a place, and whose message begins so, a better hint.
    pub(super) fn advise(&mut self, span: Span, begins: &str, hint: &str) {
        let place = (span.line, span.column);
        let at = |problem: &Problem| (problem.line, problem.column) == place;
        for problem in &mut self.problems {
            if at(problem) && problem.message.starts_with(begins) {
                *problem = problem.clone().hint(hint);
            }
        }
    }

    /// Whether enough is wrong: who gets so many problems reads the first ones. Further ones are
    /// only counted, so that what is said about one need not be worked out.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= MOST_PROBLEMS
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// What stands there is never shown.
    pub(super) fn hide(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// Whether what stands there is not shown.
    pub(super) fn is_hidden(&self, span: Span) -> bool {
        let place = (span.line, span.column);
        self.untold
            || self
                .secrets
                .iter()
                .any(|secret| (secret.line, secret.column) == place)
    }

    /// No value at or below `node` is ever shown.
    pub(super) fn hide_all(&mut self, node: &Node) {
        match &node.content {
            Content::Scalar(_) => self.hide(node.span),
            Content::List(items) => items.iter().for_each(|item| self.hide_all(item)),
            Content::Map(entries) => entries.iter().for_each(|entry| self.hide_all(&entry.value)),
            Content::Broken => {}
        }
    }

    /// The same for a part of the file that no schema will look at: what its keys call a
    /// secret is one.
    pub(super) fn hide_by_key(&mut self, key: &str, node: &Node) {
        let key = key.to_ascii_lowercase();
        if ["ur", "dsn", "history", "replica", "pass", "secret", "token"]
            .iter()
            .any(|word| key.contains(word))
        {
            self.hide_all(node);
        }
        for entry in node.entries() {
            self.hide_by_key(&entry.key, &entry.value);
        }
    }

    /// Takes over what was found out about a part of this file in a trial.
    pub(super) fn absorb(&mut self, mut trial: File) {
        self.absorb_secrets(&mut trial);
        self.more += trial.more;
        for problem in trial.problems {
            self.report(problem);
        }
    }

    /// Takes over only what must not be shown.
    pub(super) fn absorb_secrets(&mut self, trial: &mut File) {
        self.secrets.append(&mut trial.secrets);
        self.filled.join(&trial.filled);
    }

    /// The problems with the lines they are on.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        let problems = std::mem::take(&mut self.problems);
        let wanted: BTreeSet<usize> = problems.iter().map(|problem| problem.line).collect();
        let lines: BTreeMap<usize, &str> = (1..)
            .zip(self.text.lines())
            .filter(|(n, _)| wanted.contains(n))
            .collect();
        let mut all: Vec<Problem> = problems
            .into_iter()
            .map(|problem| self.with_line(problem, &lines))
            .collect();
        if self.more > 0 {
            let message = format!("{} more problems, which are not told one by one", self.more);
            all.push(Problem::new(&self.path, message).at(usize::MAX, 0, 0));
        }
        all
    }

    fn with_line(&self, mut problem: Problem, lines: &BTreeMap<usize, &str>) -> Problem {
        // A line that long shows nobody anything.
        let Some(line) = lines
            .get(&problem.line)
            .filter(|line| line.len() <= LONGEST_LINE && !self.untold)
        else {
            return problem;
        };
        let masked = self.mask(line, problem.line);
        let before = |line: &str| line.chars().take(problem.column - 1).collect::<String>();
        if before(&masked) != before(line) {
            problem.width = 0;
        }
        problem.source(&masked)
    }

    /// The line without what is hidden; from the right, so that places stay true.
    fn mask(&self, line: &str, number: usize) -> String {
        let mut chars: Vec<char> = line.chars().collect();
        if !self.parsed {
            let line = line.to_owned();
            return match line.split_once("url:") {
                Some((before, secret)) if !secret.contains("${") => format!("{before}url: ***"),
                _ => line,
            };
        }
        let mut secrets: Vec<&Span> = self
            .secrets
            .iter()
            .filter(|span| span.line <= number && number <= span.end_line)
            .collect();
        secrets.sort_by_key(|span| std::cmp::Reverse(span.column));
        for span in secrets {
            let (from, to) = match (number == span.line, span.line == span.end_line) {
                (true, true) => (span.column - 1, span.column - 1 + span.width),
                (true, false) => (span.column - 1, chars.len()),
                (false, _) => (0, chars.len()),
            };
            let from = from.min(chars.len());
            chars.splice(from..to.clamp(from, chars.len()), "***".chars());
        }
        chars.into_iter().collect()
    }
}

/// The largest file of a configuration, in bytes: hundreds of times what people write.
const LARGEST: u64 = 1 << 20;
/// Of one file so many problems are told.
const MOST_PROBLEMS: usize = 100;
/// Bytes of a line that is still shown with its problem.
const LONGEST_LINE: usize = 2000;

/// Every file that was looked at.
#[derive(Default)]
pub(super) struct Files {
    problems: Vec<Problem>,
}

impl Files {
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Nothing more is to be said about a file.
    pub(super) fn close(&mut self, file: File) {
        self.problems.extend(file.into_problems());
    }

    /// Everything that is wrong, or nothing.
    pub(super) fn finish(self) -> Result<(), Problems> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Problems::new(self.problems))
        }
    }
}
