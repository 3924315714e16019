//! The order of names as people see it: numbers within them count as numbers.

use std::cmp::Ordering;

/// Compares names as people do: `shard_2` before `shard_10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    while !a_rest.is_empty() && !b_rest.is_empty() {
        let (a_part, b_part) = (part(a_rest), part(b_rest));
        let order = match (number(a_part), number(b_part)) {
            (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            _ => a_part.cmp(b_part),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a_rest, b_rest) = (&a_rest[a_part.len()..], &b_rest[b_part.len()..]);
    }
    // `a01` and `a1` are two names.
    a_rest.len().cmp(&b_rest.len()).then_with(|| a.cmp(b))
}

/// The digits, or what is none, that a text begins with.
fn part(text: &str) -> &str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits);
    &text[..end.unwrap_or(text.len())]
}

/// Digits without zeros before them.
fn number(part: &str) -> Option<&str> {
    part.starts_with(|c: char| c.is_ascii_digit())
        .then(|| part.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers() {
        let mut names = [
            "shard_10",
            "shard_2",
            "app",
            "shard_1",
            "shard",
            "shard_02",
            "10",
            "9",
            "a1b10",
            "a1b9",
            "99999999999999999999999",
            "größe",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "9",
                "10",
                "99999999999999999999999",
                "a1b9",
                "a1b10",
                "app",
                "größe",
                "shard",
                "shard_1",
                "shard_02",
                "shard_2",
                "shard_10",
            ]
        );
    }
}
