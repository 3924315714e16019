//! Variables of the environment into the tree.
//!
//! This happens after parsing, so that a value cannot bring YAML of its own along.

use super::files::File;
use super::node::{Content, Node, Scalar, Span};
use crate::values::Filled;

/// Replaces `${VAR}` and `${VAR:-default}` in every value; `$${` stands for `${`.
///
/// As in a shell the default also replaces a variable that is empty. A variable that is not
/// set is reported, and so is one that leaves nothing of a value, unless its default says that
/// this is meant; the value is broken from then on.
pub(super) fn interpolate(
    node: &mut Node,
    file: &mut File,
    env: &dyn Fn(&str) -> Option<String>,
    may_be_empty: bool,
) {
    match &mut node.content {
        Content::List(items) => {
            for item in items {
                interpolate(item, file, env, may_be_empty);
            }
        }
        Content::Map(entries) => {
            for entry in entries.iter_mut() {
                interpolate(&mut entry.value, file, env, may_be_empty);
            }
        }
        Content::Scalar(scalar) if scalar.text.contains("${") => {
            match replace(&scalar.text, env, may_be_empty) {
                Ok((text, filled)) => {
                    *scalar = Scalar {
                        written: Some(std::mem::replace(&mut scalar.text, text)),
                        filled,
                        ..scalar.clone()
                    }
                }
                Err(wrong) => {
                    for (at, message, hint) in wrong {
                        if file.is_full() {
                            file.report(file.problem(node.span, message));
                            continue;
                        }
                        let span = place(file, node.span, at);
                        let problem = file.problem(span, message);
                        file.report(match hint {
                            Some(hint) => problem.hint(hint),
                            None => problem,
                        });
                    }
                    node.content = Content::Broken;
                }
            }
        }
        Content::Scalar(_) | Content::Broken => {}
    }
}

/// The piece of text that is wrong, why, and what to do.
type Wrong<'a> = (&'a str, String, Option<String>);

fn replace<'a>(
    text: &'a str,
    env: &dyn Fn(&str) -> Option<String>,
    may_be_empty: bool,
) -> Result<(String, Filled), Vec<Wrong<'a>>> {
    let (mut replaced, mut filled) = (String::new(), Filled::default());
    let mut wrong = Vec::new();
    let mut empty = None;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            replaced.push_str(&rest[..at]);
            replaced.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        replaced.push_str(&rest[..at]);
        let Some(length) = rest[at..].find('}') else {
            let hint = Some("write `$${` for the characters themselves".to_owned());
            wrong.push((&rest[at..], "`${` is not closed by `}`".to_owned(), hint));
            return Err(wrong);
        };
        let whole = &rest[at..=at + length];
        let inside = &whole[2..length];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            let message = format!("`{whole}` does not name a variable");
            wrong.push((
                whole,
                message,
                Some("write `${NAME}` or `${NAME:-default}`".to_owned()),
            ));
        } else {
            match (env(name), default) {
                (Some(value), None) => {
                    if value.is_empty() {
                        empty.get_or_insert((whole, name));
                    }
                    filled.add(&value, whole);
                    replaced.push_str(&value);
                }
                (Some(value), Some(_)) if !value.is_empty() => {
                    // A default may be as secret.
                    filled.add(&value, &format!("${{{name}}}"));
                    replaced.push_str(&value);
                }
                (_, Some(default)) => replaced.push_str(default),
                (None, None) => {
                    let message = format!("the environment variable `{name}` is not set");
                    let hint = format!("set it, or give a default: `${{{name}:-…}}`");
                    wrong.push((whole, message, Some(hint)));
                }
            }
        }
        rest = &rest[at + length + 1..];
    }
    replaced.push_str(rest);
    let empty = empty.filter(|_| replaced.is_empty() && wrong.is_empty() && !may_be_empty);
    if let Some((whole, name)) = empty {
        let message = format!("the environment variable `{name}` is empty");
        let hint = format!("set it, or write `${{{name}:-}}` where it may be empty");
        wrong.push((whole, message, Some(hint)));
    }
    if wrong.is_empty() {
        Ok((replaced, filled))
    } else {
        Err(wrong)
    }
}

fn is_name(text: &str) -> bool {
    let first = text.chars().next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The place of a piece of a value, or of the value where escapes or lines came in between.
fn place(file: &File, value: Span, piece: &str) -> Span {
    let line = file
        .text
        .lines()
        .nth(value.line.saturating_sub(1))
        .unwrap_or_default();
    let behind: String = line.chars().skip(value.column.saturating_sub(1)).collect();
    match behind.find(piece) {
        Some(at) => Span {
            column: value.column + behind[..at].chars().count(),
            width: piece.chars().count(),
            ..value
        },
        None => value,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn env(name: &str) -> Option<String> {
        match name {
            "NAME" => Some("x: [1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn replaces_variables_in_values() {
        for (text, value) in [
            ("${NAME}", "x: [1"),
            ("a-${NAME}-${MISSING:-d}", "a-x: [1-d"),
            ("a${EMPTY}", "a"),
            ("${EMPTY:-d}", "d"),
            ("${MISSING:-}", ""),
            ("$${NAME} and $NAME", "${NAME} and $NAME"),
            ("100%", "100%"),
        ] {
            assert_eq!(
                replace(text, &env, false).map(|(text, _)| text).as_deref(),
                Ok(value),
                "{text}"
            );
        }
    }

    #[test]
    fn names_the_place_of_a_missing_variable_and_no_value() {
        let mut file = File::new(
            "x.yaml",
            "a: \"${NAME} ${MISSING}\"\nb: \"${1}\"\nc: \"${NAME\"\nd: \"${EMPTY}\"\n",
        );
        let mut root = yaml::parse(&mut file).unwrap();
        interpolate(&mut root, &mut file, &env, false);
        let problems = file.into_problems();
        let shown: Vec<String> = problems
            .iter()
            .map(|p| format!("{}:{}+{} {}", p.line, p.column, p.width, p.message))
            .collect();
        assert_eq!(
            shown,
            [
                "1:13+10 the environment variable `MISSING` is not set",
                "2:5+4 `${1}` does not name a variable",
                "3:5+6 `${` is not closed by `}`",
                "4:5+8 the environment variable `EMPTY` is empty",
            ]
        );
        assert!(problems.iter().all(|p| !p.to_string().contains("x: [1")));
    }
}
