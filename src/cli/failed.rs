//! How it is told that a command failed: to people, or as JSON.

use super::{Failure, Output, documents};
use crate::pipeline::NotAnswered;

pub(super) fn tell(failure: &Failure, output: Output) {
    if output == Output::Json {
        let problems = match failure {
            Failure::Problems(problems) | Failure::NotAnswered(NotAnswered { problems, .. }) => {
                Some(problems)
            }
            _ => None,
        };
        let said = failure.to_string();
        let (error, hint) = match said.split_once("\n  hint: ") {
            Some((error, hint)) => (error, Some(hint.to_owned())),
            None => (said.as_str(), None),
        };
        documents::print(&documents::Error {
            error: error.to_owned(),
            because: causes(failure),
            hint: failure.hint().or(hint),
            problems,
        });
        return;
    }
    match failure {
        // Problems say `error:` themselves, each with its place.
        Failure::Problems(problems) | Failure::NotAnswered(NotAnswered { problems, .. }) => {
            errln!("{problems}");
        }
        _ => {
            errln!("error: {}", lines(&failure.to_string()));
            for cause in causes(failure) {
                errln!("  because: {}", lines(&cause));
            }
        }
    }
    if let Some(hint) = failure.hint() {
        errln!("  hint: {}", lines(&hint));
    }
}

/// What could not be read of the command line, as the document that any other failure is told by.
pub(super) fn tell_usage(said: &str) {
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let (error, hint) = match said.split_once("\n  hint: ") {
        Some((error, hint)) => (error, Some(hint.to_owned())),
        None => (said, None),
    };
    documents::print(&documents::Error {
        error: error.to_owned(),
        because: Vec::new(),
        hint,
        problems: None,
    });
}

/// What is said in lines, each safe to print.
fn lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(crate::values::shown).collect();
    lines.join("\n")
}

/// What led to the failure, the nearest first, without what it says itself.
fn causes(failure: &Failure) -> Vec<String> {
    let causes = crate::values::causes(failure).into_iter();
    causes.map(|cause| crate::values::redact(&cause)).collect()
}
