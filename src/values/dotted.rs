//! `schema.name` as people write it: a name that itself contains a dot or a
//! quote is put in double quotes, quotes in it doubled.

use super::text::Invalid;

/// The schema, where one is given, and the name. `expected` completes
/// "expected …" in the message.
///
/// # Errors
/// When it is neither `name` nor `schema.name`.
pub(super) fn split(text: &str, expected: &str) -> Result<(Option<String>, String), Invalid> {
    let wrong = |what: &str| Invalid::new(format!("`{text}` {what}; expected {expected}"));
    let mut before = Vec::new();
    let mut part = String::new();
    let mut quoted = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => before.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    if quoted {
        return Err(wrong("has a quote that is not closed"));
    }
    if part.is_empty() || before.iter().any(String::is_empty) {
        return Err(wrong("lacks a name"));
    }
    let schema = before.pop();
    if !before.is_empty() {
        return Err(
            wrong("has more than one dot").hint("put a name that contains a dot in double quotes")
        );
    }
    Ok((schema, part))
}
