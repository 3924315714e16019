//! Names and texts from outside, as a terminal may have them.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::unreadable;

/// The text safe to print: control characters, line breaks and marks that
/// reverse the reading direction are escaped.
///
/// A table may be called anything, and what it is called reaches a terminal.
pub fn shown(text: &str) -> Cow<'_, str> {
    if unreadable::is_in(text) {
        let escaped = unreadable::escaped(text);
        return Cow::Owned(shown(&escaped).into_owned());
    }
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(safe, "\\x{:02x}", u32::from(c));
            }
            c if is_unsafe(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
