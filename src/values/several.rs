//! How many there are of something, in words.

use std::fmt::Display;

/// `1 row`, `3 rows`.
pub fn several<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    several_do(count, noun, ("", ""))
}

/// The same with what one does, and what many do: `1 row stays`, `3 rows stay`.
pub fn several_do<N: Display + PartialEq + From<u8>>(
    count: N,
    noun: &str,
    (one, many): (&str, &str),
) -> String {
    let (end, verb) = match count == N::from(1) {
        true => ("", one),
        false => ("s", many),
    };
    let gap = if verb.is_empty() { "" } else { " " };
    format!("{count} {noun}{end}{gap}{verb}")
}

/// The rows of a table that meet a rule, and what one of them does, or many do: `1 row of t meets the rule
/// and stays`.
pub fn that_meet<N: Display + PartialEq + From<u8>>(
    count: N,
    table: &str,
    (one, many): (&str, &str),
) -> String {
    let one = format!("of {table} meets the rule and {one}");
    let many = format!("of {table} meet the rule and {many}");
    several_do(count, "row", (&one, &many))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(several(1_i64, "row"), "1 row");
        assert_eq!(several(0_usize, "row"), "0 rows");
        assert_eq!(several(2_u64, "document"), "2 documents");
        assert_eq!(several_do(1_i64, "row", ("stays", "stay")), "1 row stays");
        assert_eq!(several_do(12_i64, "row", ("stays", "stay")), "12 rows stay");
        let stay = |n: i64| that_meet(n, "t", ("stays", "stay"));
        assert_eq!(stay(1), "1 row of t meets the rule and stays");
        assert_eq!(stay(2), "2 rows of t meet the rule and stay");
    }
}
