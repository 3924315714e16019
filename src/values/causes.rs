//! An error, and what led to it, as one text.

use std::error::Error;

/// The words of the error, then those of its causes, the nearest first; each
/// is said once.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        // What the PostgreSQL driver says for "see the next one".
        if said != "db error" && !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
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

    #[test]
    fn each_cause_is_said_once() {
        let said = |text, cause| Said {
            text,
            cause: Option::map(cause, Box::new),
        };
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
}
