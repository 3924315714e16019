//! Values as YAML, whatever is in them.

use std::fmt::Write as _;

/// Words that YAML takes for something else than text.
const WORDS: [&str; 8] = ["null", "true", "false", "yes", "no", "on", "off", "y"];

/// A text as one value: plain where everybody reads it so, else in double quotes. What could stand
/// for a variable stands for itself.
pub(super) fn scalar(text: &str) -> String {
    let mut chars = text.chars();
    let plain = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && !matches!(text, "n" | "N");
    if plain { text.to_owned() } else { quoted(text) }
}

/// A text in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // What is not printed, or turns the reading direction.
            c if c.is_control()
                || matches!(u32::from(c), 0x61c | 0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff0..=0xffff) =>
            {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Comment lines of readable width.
pub(crate) fn comment(indent: usize, text: &str) -> String {
    let begin = format!("{}# ", " ".repeat(indent));
    let mut out = String::new();
    for paragraph in text.split('\n') {
        for line in crate::report::text::wrapped(paragraph, Some(96 - indent)) {
            out.push_str(format!("{begin}{line}").trim_end());
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_name_is_one_value() {
        for (text, yaml) in [
            ("public.orders", "public.orders"),
            ("on", "\"on\""),
            ("N", "\"N\""),
            ("a b", "\"a b\""),
            ("a: {b}\n- \"c\"", "\"a: {b}\\n- \\\"c\\\"\""),
            ("${HOME}", "\"$${HOME}\""),
            ("\u{7f}\u{85}\u{202e}x", "\"\\u007F\\u0085\\u202Ex\""),
            ("größe", "\"größe\""),
            ("", "\"\""),
            ("12", "\"12\""),
        ] {
            assert_eq!(scalar(text), yaml);
        }
    }
}
