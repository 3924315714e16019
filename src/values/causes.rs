//! An error, and what led to it: the one place where that is made text.

use std::error::Error;

/// The words of the error, then those of its causes, the nearest first; each is said once.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause);
    }
    text
}

/// What led to an error, the nearest first, without what has been said already.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        // What the PostgreSQL driver says for "see the next one".
        if text != "db error" && !is_said(&said, &text) {
            said.push('\n');
            said.push_str(&text);
            causes.push(text);
        }
        cause = next.source();
    }
    causes
}

/// Whether the text is there already, be it without its severity: `FATAL: …`.
fn is_said(said: &str, text: &str) -> bool {
    let is_severity = |word: &str| !word.is_empty() && word.chars().all(char::is_alphabetic);
    let bare = match text.split_once(": ") {
        Some((word, rest)) if is_severity(word) && !rest.is_empty() => rest,
        _ => text,
    };
    said.contains(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Said {
        text: &'static str,
        #[source]
        cause: Option<Box<Said>>,
    }

    fn said(text: &'static str, cause: Option<Said>) -> Said {
        Said {
            text,
            cause: cause.map(Box::new),
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let root = said("connection refused", None);
        let middle = said("db error", Some(root));
        let top = said("cannot connect", Some(middle));
        assert_eq!(with_causes(&top), "cannot connect: connection refused");
        let whole = said("lost: connection refused", Some(top));
        assert_eq!(
            with_causes(&whole),
            "lost: connection refused: cannot connect"
        );
    }

    #[test]
    fn what_the_server_said_is_not_repeated_for_its_severity() {
        let server = said("FATAL: sorry, too many clients already", None);
        let driver = said("db error", Some(server));
        let told = "no free connection: sorry, too many clients already";
        assert_eq!(with_causes(&said(told, Some(driver))), told);
        // In whatever language it speaks.
        let server = said("ВАЖНО: роль не существует", None);
        assert_eq!(causes(&said("cannot log in", Some(server))).len(), 1);
    }

    #[test]
    fn the_deepest_cause_is_told() {
        let deep = ["three", "two", "one", "zero"]
            .into_iter()
            .fold(said("root", None), |cause, text| said(text, Some(cause)));
        assert_eq!(with_causes(&deep), "zero: one: two: three: root");
        assert_eq!(causes(&deep), ["one", "two", "three", "root"]);
    }
}
