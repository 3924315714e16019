//! Conditions of the user's own: each stays inside its bracket.

/// Whether a condition has this column among its words.
pub(super) fn mentions(text: &str, column: &str) -> bool {
    let quoted = format!("\"{}\"", column.replace('"', "\"\""));
    let within = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let mut words = text.split(|c: char| !within(c));
    text.contains(&quoted) || words.any(|word| word.to_lowercase() == column)
}

/// Whether a text from the configuration is one condition: with brackets that
/// match, so that it cannot end the bracket it is put into, without a `;`, and without a
/// placeholder, which would get a value that is meant for another.
pub(super) fn one_condition(text: &str) -> Result<(), &'static str> {
    let mut rest = text;
    let mut depth = 0_u32;
    let mut empty = true;
    // Names may have a `$` behind their first letter.
    let mut in_name = false;
    while let Some(c) = rest.chars().next() {
        let skip = |end: &str, from: usize| {
            rest.get(from..)
                .and_then(|tail| tail.find(end))
                .map(|at| from + at + end.len())
        };
        let mut step = c.len_utf8();
        match c {
            '\'' | '"' => {
                empty = false;
                let end = if c == '\'' { "'" } else { "\"" };
                step = skip(end, 1).ok_or("has a quote that is not closed")?;
            }
            '-' if rest.starts_with("--") => step = skip("\n", 2).unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                step = skip("*/", 2).ok_or("has a comment that is not closed")?;
            }
            '$' if !in_name && dollar_tag(rest).is_some() => {
                let tag = dollar_tag(rest).unwrap_or("$$");
                step = skip(tag, tag.len()).ok_or("has a quote that is not closed")?;
                empty = false;
            }
            '$' if !in_name && rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => {
                return Err("has a placeholder (`$1`), for which there is no value");
            }
            ';' => return Err("has a `;`"),
            '(' => {
                depth += 1;
                empty = false;
            }
            ')' => depth = depth.checked_sub(1).ok_or("closes a bracket too many")?,
            _ => empty &= c.is_whitespace(),
        }
        in_name = c.is_alphanumeric() || matches!(c, '_' | '$');
        rest = rest.get(step..).unwrap_or_default();
    }
    match (depth, empty) {
        (0, false) => Ok(()),
        (0, true) => Err("is empty"),
        _ => Err("has a bracket that is not closed"),
    }
}

/// `$$` or `$tag$` at the beginning of a text.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text.get(1..)?.find('$')? + 2;
    let tag = text.get(..end)?;
    let name = tag.trim_matches('$');
    (name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit()))
    .then_some(tag)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_condition_stays_inside_its_bracket() {
        for good in [
            "a = 1",
            "(a) or (b)",
            "a = ')' -- )",
            "a = 'it''s)'",
            "\"odd)name\" > 0",
            "a = $$)$$ /* ) */",
            "a = $x$)$x$",
            "a = '$1' and b$1 > 0 and c = $$ $1 $$ -- $1",
            "a$x$ > 0 and b$x$ > 0",
        ] {
            assert_eq!(one_condition(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "  -- only this",
            "a) or (b",
            "(a",
            "a;b",
            "at < $1",
            "id=$2",
            "a$x$ > 0) or (b$x$ > 0",
            "'a",
            "a = E'\\')' or (true",
            "/* (",
        ] {
            assert!(one_condition(bad).is_err(), "{bad}");
        }
    }
}
